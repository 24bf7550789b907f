// Which nodes run as one kernel: activations and residual additions behind products, for concrete shapes.
#ifndef OCTET_ENGINE_FUSE_H_
#define OCTET_ENGINE_FUSE_H_

#include <vector>

#include "absl/types/span.h"
#include "engine/builder.h"

namespace octet::engine {

// Groups the nodes `live` (indices into graph.nodes, in topological order) in execution order. Behind a Conv, Gemm or
// MatMul whose result only the next node reads, an activation or the Add of a value of the same shape and storage size
// is absorbed, repeatedly (an intermediate rounding in front of Add, Relu or Clip is dropped, never one added); behind a binary node, an activation; behind a normalization whose reals are
// read, too, the Quantize that reads them. A group runs at the place of
// its last node. The residual of an Add is overwritten, so it must be read by nobody later.
// `log` gets what was fused and, of an activation or addition behind a product that was not, the reason.
std::vector<FusedNode> FuseNodes(const graph::Graph& graph, absl::Span<const ValueInfo> infos,
                                 absl::Span<const int> live, PassLog* log = nullptr);

}  // namespace octet::engine

#endif  // OCTET_ENGINE_FUSE_H_
