// Which nodes run as one kernel: activations and residual additions behind products, for concrete shapes.
#ifndef OCTET_ENGINE_FUSE_H_
#define OCTET_ENGINE_FUSE_H_

#include <vector>

#include "absl/types/span.h"
#include "engine/builder.h"

namespace octet::engine {

// Groups the nodes `live` (indices into graph.nodes, in topological order) in execution order. Behind a Conv, Gemm or
// MatMul whose result only the next node reads, an activation or the Add of a value of the same shape and storage size
// is absorbed, repeatedly (an intermediate rounding in front of Add, Relu or Clip is dropped, never one added); behind a binary node, an activation. A group runs at the place of
// its last node. The residual of an Add is overwritten, so it must be read by nobody later.
std::vector<FusedNode> FuseNodes(const graph::Graph& graph, absl::Span<const ValueInfo> infos,
                                 absl::Span<const int> live);

}  // namespace octet::engine

#endif  // OCTET_ENGINE_FUSE_H_
