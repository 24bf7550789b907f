// Nodes whose result's size depends on the content of their operands: they run on the host, on whole tensors.
#ifndef OCTET_ENGINE_HOST_NODES_H_
#define OCTET_ENGINE_HOST_NODES_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/tensor.h"
#include "graph/graph.h"

namespace octet::engine {

// NonZero, Compress, Unique, NonMaxSuppression.
bool IsHostOperator(const graph::Node& node);

// One result per output of `node`; `operands` per input, not valid() where omitted. Errors: kInvalidArgument.
absl::StatusOr<std::vector<Tensor>> RunHostNode(const graph::Node& node, absl::Span<const Tensor> operands);

}  // namespace octet::engine

#endif  // OCTET_ENGINE_HOST_NODES_H_
