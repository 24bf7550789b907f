// Shape-independent rewrites of a canonical graph on its way to a program. Each keeps the graph valid and inferred.
#ifndef OCTET_ENGINE_PASSES_PASSES_H_
#define OCTET_ENGINE_PASSES_PASSES_H_

#include "absl/status/status.h"
#include "engine/pass_log.h"
#include "graph/graph.h"

namespace octet::engine {

// Replaces nodes whose inputs are all constant by constants, computed with the kernels of inference. Results that
// would be larger than both 1 MiB and four times their inputs stay nodes (a file must not unfold into the memory).
absl::Status FoldConstants(graph::Graph* graph);

// Folds what follows a Conv, Gemm or MatMul with constant f32 weights into them:
// - BatchNormalization: W' = W g / sqrt(v + e), b' = (b - m) g / sqrt(v + e) + beta;
// - Add of a per-channel constant: bias (of a rounded product, too, whose rounding is dropped when the sum is rounded);
// - Mul or Div by a per-channel constant: weights and bias.
// BatchNormalization that stands elsewhere becomes Mul and Add. Gemm's beta is folded into its bias.
// A MatMul of higher rank gets its bias as a third operand [N], which ONNX does not have (compress/ takes it off again).
absl::Status FoldAffine(graph::Graph* graph, PassLog* log = nullptr);

// Makes equal constants and equal nodes one, drops casts to the own type, turns divisions by powers of two into products.
void Simplify(graph::Graph* graph, PassLog* log = nullptr);

// Graph-level patterns: normalizations, element functions, attention (patterns.h). Requires inferred shapes.
absl::Status FusePatterns(graph::Graph* graph, PassLog* log = nullptr);

// Makes integer products of ConvInteger and MatMulInteger with constant weights: with the Cast, the scales and the bias
// behind them one DynamicConv or DynamicMatMul with an f32 result, alone one with the s32 accumulator.
void FuseIntegerProducts(graph::Graph* graph);

// Takes the zero points out of constant s8 weights of products on 8-bit sources, which then run on integers:
//   src (w - z[n]) = src w - z[n] rowsum(src)
// The row sums are a product of their own with weights of 1. One zero point of a matrix stays: its kernel subtracts it.
absl::Status SplitWeightZeroPoints(graph::Graph* graph);

// Lets operators that only move or select elements (Reshape, Transpose, MaxPool, Slice, Concat, ...) work on stored
// integers: forward, an unquantized result of such a node takes over the quant of its source; backward, a source that
// only this node reads takes over the quant of the result. Neither adds a rounding.
void SpreadQuantization(graph::Graph* graph, PassLog* log = nullptr);

// Runs products that share weights as one on their stacked sources, and keeps stacked what follows them alike: Concat, one
// node for several, Split. Leaves graphs with subgraphs alone. Requires: the graph is inferred and proven batchable
// (graph/batching.h), so that axis 0 of what is computed is the batch everywhere; afterwards it is not provable any more.
void StackSiblings(graph::Graph* graph, PassLog* log = nullptr);

// All of the above but the last behind FoldConstants and the proof of batching, in their order; the graph is valid afterwards.
absl::Status RunPasses(graph::Graph* graph, PassLog* log);

// ---- shared by passes

// True when a node has a subgraph.
bool HasBodies(const graph::Graph& graph);

// Kahn's algorithm, earliest position first. Requires: no bodies (what they capture is no edge here), no cycle.
void SortNodes(graph::Graph* graph);

}  // namespace octet::engine

#endif  // OCTET_ENGINE_PASSES_PASSES_H_
