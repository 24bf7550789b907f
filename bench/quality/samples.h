// Samples of the tasks: photos, labelled sets, stored tensors and their variations.
#ifndef OCTET_BENCH_QUALITY_SAMPLES_H_
#define OCTET_BENCH_QUALITY_SAMPLES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "data/image.h"

namespace octet::bench {

struct Labelled {
  std::vector<Tensor> samples;
  std::vector<int64_t> labels;
};

// The first `count` images (0: all) of an IDX file and, where labels_path is not empty, their labels.
absl::StatusOr<Labelled> ReadIdx(const std::string& images_path, const std::string& labels_path, int64_t count);

// A folder with one folder of images per class, classes and images in the order of their names: image i of a class goes
// to the first set when i < per_class, else to the second.
absl::StatusOr<std::pair<Labelled, Labelled>> ReadClassFolders(const std::string& folder, int64_t per_class,
                                                               const data::ImageOptions& options);

// How a photo becomes a sample: `options`, after a letterbox where its side is not 0: the photo is scaled to fit a
// square of that side, at the upper left, the rest gray (114).
struct PhotoOptions {
  data::ImageOptions image;
  int64_t letterbox_side = 0;
};

// The photos of a folder whose labels.csv (file, class index, ..., split) says split "calibration" and "evaluation".
absl::StatusOr<std::pair<Labelled, Labelled>> ReadPhotos(const std::string& folder, const PhotoOptions& options);

// A tensor in ONNX's test format, without its batch axis of 1.
absl::StatusOr<Tensor> ReadStoredSample(const std::string& path);

// Variations of one recording of speech [T], seeded by `seed` and their number: a rotation in time, a gain of 0.25 to
// 1.75, for every second one a second rotation mixed in at 0 to 0.6 (two speakers), for every third white noise of
// standard deviation 0 to 0.02.
std::vector<Tensor> VarySpeech(const Tensor& speech, int64_t count, uint64_t seed);

// Variations of one image [C, H, W]: rotations along H and W, contrast of 0.6 to 1.1.
std::vector<Tensor> VaryImage(const Tensor& image, int64_t count, uint64_t seed);

// Independent numbers, uniform in [0, 1).
std::vector<Tensor> UniformNoise(const Shape& shape, int64_t count, uint64_t seed);

}  // namespace octet::bench

#endif  // OCTET_BENCH_QUALITY_SAMPLES_H_
