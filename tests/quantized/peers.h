// Runs the bytes of one ONNX model in Octet and in ONNX Runtime.
#ifndef OCTET_TESTS_QUANTIZED_PEERS_H_
#define OCTET_TESTS_QUANTIZED_PEERS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "engine/program.h"

namespace octet {

enum class Optimize : uint8_t { kNo, kYes };

// Outputs in the file's order.
absl::StatusOr<std::vector<Tensor>> RunOnnxRuntime(const std::string& bytes,
                                                   const std::vector<Tensor>& inputs,
                                                   Optimize optimize = Optimize::kYes);

struct OctetRun {
  std::vector<Tensor> outputs;
  std::vector<engine::StepInfo> steps;
  bool batchable = false;
  std::string mixing;  // why it is not
};
absl::StatusOr<OctetRun> RunOctet(const std::string& bytes, const std::vector<Tensor>& inputs);

// A model made ready once for many runs; inputs of one shape.
class Peer {
 public:
  virtual ~Peer() = default;
  virtual absl::StatusOr<std::vector<Tensor>> Run(const std::vector<Tensor>& inputs) = 0;
};
absl::StatusOr<std::unique_ptr<Peer>> MakeOnnxRuntime(const std::string& bytes,
                                                       Optimize optimize = Optimize::kYes);
absl::StatusOr<std::unique_ptr<Peer>> MakeOctet(const std::string& bytes);

// Products that read floats, and the share of multiply-adds whose step reads u8 or s8.
struct Int8Share {
  double share = 0;
  std::vector<std::string> floats;      // "node: types"
  std::vector<std::string> references;  // steps of products that run oneDNN's reference or ours
};
Int8Share ShareOf(const std::vector<engine::StepInfo>& steps);

}  // namespace octet

#endif  // OCTET_TESTS_QUANTIZED_PEERS_H_
