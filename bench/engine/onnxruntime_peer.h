// ONNX Runtime through its C API, from a shared library that is opened at run time: several versions live side by side.
#ifndef OCTET_BENCH_ENGINE_ONNXRUNTIME_PEER_H_
#define OCTET_BENCH_ENGINE_ONNXRUNTIME_PEER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "bench/engine/runner.h"

namespace octet::bench {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

// Thread-compatible. Outlives the runners it opened; never unloaded (its threads and statics would be left behind).
class OnnxRuntime {
 public:
  virtual ~OnnxRuntime() = default;

  // `path`: a file, or a name that the loader finds ("libonnxruntime.so.1.21"). Symbols stay local to it.
  // Errors: kNotFound with the loader's message; kUnimplemented when it is older than the C API this was built with.
  static absl::StatusOr<std::unique_ptr<OnnxRuntime>> Load(const std::string& path);

  virtual const std::string& version() const = 0;

  // A session with all graph optimizations, sequential execution, `threads` intra-operator threads that spin (the
  // library's default), denormals flushed to zero. Outputs are allocated by the first run and reused by the others. `optimised_path` not empty: the
  // optimised graph is written there.
  virtual absl::StatusOr<std::unique_ptr<Runner>> Open(const std::string& model_path, std::vector<NamedTensor> inputs,
                                                       int threads, const std::string& optimised_path) = 0;
};

}  // namespace octet::bench

#endif  // OCTET_BENCH_ENGINE_ONNXRUNTIME_PEER_H_
