// The readers behind OpenSamples, one per kind of source.
#ifndef OCTET_DATA_READERS_H_
#define OCTET_DATA_READERS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/byte_source.h"
#include "data/sample_reader.h"

namespace octet::data {

inline constexpr int64_t kMaxSampleBytes = int64_t{1} << 30;

// One array of samples per model input. Floats other than f32 are converted to f32, the rest keeps
// its type.
struct ArrayInput {
  std::string name;  // of the array; empty for a .npy
  std::unique_ptr<ByteSource> source;
};
absl::StatusOr<std::unique_ptr<SampleReader>> OpenArrays(const std::string& path,
                                                         std::vector<ArrayInput> arrays);

// IDX images [N, H, W].
absl::StatusOr<std::unique_ptr<SampleReader>> OpenIdxImages(const std::string& path,
                                                            std::unique_ptr<ByteSource> source,
                                                            const ImageOptions& options);

// A folder of images or of .npy files; it keeps their paths and nothing else.
absl::StatusOr<std::unique_ptr<SampleReader>> OpenFolder(const std::string& path,
                                                         const ImageOptions& options);

// One image.
std::unique_ptr<SampleReader> OpenImageFile(const std::string& path, const ImageOptions& options);

// The tensor as a model input takes it: f64, f16 and bf16 become f32.
Tensor AsModelInput(Tensor tensor);

}  // namespace octet::data

#endif  // OCTET_DATA_READERS_H_
