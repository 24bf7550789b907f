// Generated and compressed ONNX files in the cache folder.
#ifndef OCTET_BENCH_GENERATE_FILES_H_
#define OCTET_BENCH_GENERATE_FILES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "graph/graph.h"

namespace octet::bench {

// $XDG_CACHE_HOME/octet/bench, or ~/.cache/octet/bench; made when absent.
absl::StatusOr<std::string> CacheFolder();

// The float file of a generated network; made when absent or when `fresh`.
absl::StatusOr<std::string> GeneratedFile(const std::string& name, bool fresh);

// The int8 form of `float_file` by Octet's own compressor; made when absent, older than the float file, or `fresh`.
// Calibration inputs vary `sample` (one tensor per input, batch of 1): scaled, shifted and with noise, six of them.
absl::StatusOr<std::string> CompressedFile(const std::string& name, const std::string& float_file,
                                           const std::vector<Tensor>& sample, int threads, bool fresh);

}  // namespace octet::bench

#endif  // OCTET_BENCH_GENERATE_FILES_H_
