// Inputs of a model, as its signature wants them: from samples, at random, joined to batches.
#ifndef OCTET_CLI_INPUTS_H_
#define OCTET_CLI_INPUTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/tensor.h"
#include "client/types.h"
#include "engine/program.h"

namespace octet::cli {

// What a server's metadata says of its inputs. Types that we do not hold become kInvalid.
std::vector<engine::Signature> SignaturesOf(const std::vector<client::TensorSpec>& specs);

// "1x3x224x224;1x10". Errors: kInvalidArgument quoting the text.
absl::StatusOr<std::vector<Shape>> ParseShapes(const std::string& text);

// The tensors of one sample with a batch axis and the model's types. Errors: kInvalidArgument naming the input.
absl::StatusOr<std::vector<Tensor>> FitSample(absl::Span<const engine::Signature> inputs,
                                              const std::vector<Tensor>& sample);

// Tensors of equal shapes joined along axis 0. Requires: at least one.
absl::StatusOr<Tensor> JoinRows(const std::vector<Tensor>& rows);

// `batch` fitted samples from number `first` on, going round, joined. Requires: samples not empty.
absl::StatusOr<std::vector<Tensor>> BatchOf(absl::Span<const engine::Signature> inputs,
                                            const std::vector<std::vector<Tensor>>& samples, int64_t first,
                                            int64_t batch);

// The inputs' shapes with `batch` for a free axis 0, or `given` where it is not empty. Errors: kInvalidArgument naming
// the input with another free axis.
absl::StatusOr<std::vector<Shape>> ShapesFor(absl::Span<const engine::Signature> inputs, int64_t batch,
                                             const std::vector<Shape>& given);

// Random contents, the same for the same seed and stream: floats uniform in [0, 1), integers and bools 0 or 1 (valid as
// most indices). Errors: kInvalidArgument for types without such contents.
absl::StatusOr<std::vector<Tensor>> RandomInputs(absl::Span<const engine::Signature> inputs,
                                                 absl::Span<const Shape> shapes, uint64_t seed, uint64_t stream);

}  // namespace octet::cli

#endif  // OCTET_CLI_INPUTS_H_
