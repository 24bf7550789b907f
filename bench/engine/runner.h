// One network opened by one engine with fixed inputs: what measurements alternate between.
#ifndef OCTET_BENCH_ENGINE_RUNNER_H_
#define OCTET_BENCH_ENGINE_RUNNER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "engine/program.h"

namespace octet::bench {

// Used by one thread.
class Runner {
 public:
  virtual ~Runner() = default;
  virtual const std::string& engine() const = 0;  // "octet", "onnxruntime 1.21.0"

  // Puts the inputs where Run reads them; not measured. Both engines then find them in the cache.
  virtual absl::Status Prepare() = 0;
  virtual absl::Status Run() = 0;

  // The outputs of the last Run as f32.
  virtual absl::StatusOr<std::vector<std::vector<float>>> Outputs() = 0;
};

class OctetRunner : public Runner {
 public:
  virtual engine::MemoryReport Memory() const = 0;
  virtual int64_t multiply_adds() const = 0;  // of convolutions and products
  virtual const engine::Specialisation& specialisation() const = 0;
};

// Specialises for the inputs' shapes and a team of `threads`; the initializers are released, as in the server.
absl::StatusOr<std::unique_ptr<OctetRunner>> MakeOctetRunner(engine::Program& program, std::vector<Tensor> inputs,
                                                             int threads);

}  // namespace octet::bench

#endif  // OCTET_BENCH_ENGINE_RUNNER_H_
