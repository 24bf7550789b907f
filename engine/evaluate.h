// Runs one node on constants: constant folding, with the same kernels as inference.
#ifndef OCTET_ENGINE_EVALUATE_H_
#define OCTET_ENGINE_EVALUATE_H_

#include <vector>

#include "absl/status/statusor.h"
#include "engine/builder.h"

namespace octet::engine {

// True for operators that exist only at compile time: their result follows from shapes or constants and has no kernel
// (Shape, Size, ConstantOfShape, Range).
bool IsShapeOperator(const graph::Node& node);

// Outputs of `node`, whose inputs are all constant in `infos` (of Shape and Size only the shape must be known). Output
// entries of `infos` must hold the inferred dtype and shape. Values with quant come out as their stored integers.
// Errors: as the lowering and the kernel; kResourceExhausted when a result would have more than max_bytes.
absl::StatusOr<std::vector<Tensor>> EvaluateNode(const graph::Graph& graph, const graph::Node& node,
                                                 absl::Span<const ValueInfo> infos, int64_t max_bytes);

// Runs the single node of `alone` on the content of its operands (one per input, not valid() where omitted); small ones
// and those that decide shapes become constants of the kernel, which is made for this call. Not for control flow.
// Errors: as above, and kUnimplemented when the result's shape does not follow from the operands.
absl::StatusOr<std::vector<Tensor>> RunNodeAlone(const graph::Graph& alone, absl::Span<const Tensor> operands,
                                                 int64_t max_bytes);

}  // namespace octet::engine

#endif  // OCTET_ENGINE_EVALUATE_H_
