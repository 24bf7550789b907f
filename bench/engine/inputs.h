// Inputs of a network: the stored sample where one lies beside the file, else seeded noise.
#ifndef OCTET_BENCH_ENGINE_INPUTS_H_
#define OCTET_BENCH_ENGINE_INPUTS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "engine/program.h"

namespace octet::bench {

// One tensor per input. `shapes` (may be empty: from the signature, free dimensions but the batch are refused) are those
// of batch 1; axis 0 becomes `batch`. `folder` not empty: input_K.pb there (ONNX test format) is used when its shape is
// that of batch 1, repeated along the batch.
// Errors: kInvalidArgument naming an input whose shape is not known.
absl::StatusOr<std::vector<Tensor>> MakeInputs(const std::vector<engine::Signature>& signature,
                                               const std::vector<Shape>& shapes, int64_t batch,
                                               const std::string& folder);

}  // namespace octet::bench

#endif  // OCTET_BENCH_ENGINE_INPUTS_H_
