// Sample files as a stream of tensors, one sample at a time: .npy, .npz, IDX (plain or gz), folders
// of images.
#ifndef OCTET_DATA_SAMPLE_READER_H_
#define OCTET_DATA_SAMPLE_READER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/tensor.h"

namespace octet::data {

// How an image file (or an IDX image) becomes a tensor.
struct ImageOptions {
  int64_t resize_short_side = 0;  // 0: no resize before the crop
  int64_t width = 0, height = 0;  // of the result; 0: as the image is
  enum class Fit : uint8_t {
    kCrop,
    kStretch
  } fit = Fit::kCrop;  // centre crop, or resize to width x height
  enum class Channels : uint8_t { kRgb, kBgr, kGray } channels = Channels::kRgb;
  enum class Order : uint8_t { kNchw, kNhwc } order = Order::kNchw;
  float scale = 1.0f / 255;  // x = (pixel * scale - mean[c]) / std[c]
  std::array<float, 3> mean = {0, 0, 0};
  std::array<float, 3> std = {1, 1, 1};

  // Parses
  // "size=224,short=256,channels=bgr,scale=1,mean=104:117:123,std=1:1:1,order=nhwc,fit=stretch".
  // Errors: kInvalidArgument naming the key. size is N or WIDTHxHEIGHT;
  // mean and std take one number or three.
  static absl::StatusOr<ImageOptions> Parse(absl::string_view text);
};

// One sample: one f32 (or integer) tensor per model input, without batch axis; `name` identifies it
// in messages
// ("train-images.gz[17]", "photos/cat.jpg").
struct Sample {
  std::string name;
  std::vector<Tensor> inputs;
};

// A bounded, repeatable, streaming source: memory does not grow with the number of samples.
// Thread-compatible.
class SampleReader {
 public:
  virtual ~SampleReader() = default;
  virtual int64_t size() const = 0;
  // Sample i in [0, size()). Errors name the sample: kInvalidArgument, kDataLoss, kNotFound.
  virtual absl::StatusOr<Sample> Read(int64_t i) = 0;
};

// What a path turns out to hold (told by its first bytes, not by its name):
//   .npy             axis 0 counts samples; one input; read by position
//   .npz             one array per model input, matched by name (or the only one); axis 0 counts
//   samples IDX, plain or gz [N, H, W] bytes as images with one channel: shape [1, H, W], scaled,
//   mean[0] and std[0] an image         one sample folder           of images (.jpg .jpeg .png,
//   recursively, sorted by path) or of .npy files, one sample each
// f64, f16 and bf16 become f32, integers and bools keep their type. Images are resized as Pillow's
// antialiased BILINEAR does. Values are not checked for NaN. Memory: gz and deflated content is
// kept decompressed up to 256 MB in all, beyond that it is decompressed as it is read, best in
// ascending order; a sample has at most 1 GB. `input_names` are the model's inputs in order.
// Errors: kNotFound, kInvalidArgument (empty set, unknown format, mixed folder), kDataLoss (cut
// off), naming the path.
absl::StatusOr<std::unique_ptr<SampleReader>> OpenSamples(
    const std::string& path, const ImageOptions& options,
    const std::vector<std::string>& input_names);

// Labels: *idx1-ubyte[.gz], .npy of integers, or a text/CSV file with one integer per line (last
// column).
absl::StatusOr<std::vector<int64_t>> ReadLabels(const std::string& path);

// Writes a tensor as .npy (version 1.0), atomically; bf16 as f32 and 4-bit integers in 8 bits,
// which numpy lacks.
absl::Status WriteNpy(const std::string& path, const Tensor& tensor);
// A whole .npy file. Errors: as OpenSamples; Fortran order and big-endian are kInvalidArgument.
absl::StatusOr<Tensor> ReadNpy(const std::string& path);

}  // namespace octet::data

#endif  // OCTET_DATA_SAMPLE_READER_H_
