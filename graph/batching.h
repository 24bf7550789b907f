// Proof that axis 0 of every input reaches axis 0 of every output without mixing rows, so that requests may be merged.
#ifndef OCTET_GRAPH_BATCHING_H_
#define OCTET_GRAPH_BATCHING_H_

#include <string>

#include "absl/status/statusor.h"
#include "graph/graph.h"

namespace octet::graph {

struct BatchProof {
  bool batchable = false;
  bool freed = false;     // the file fixed axis 0 at 1 and FreeBatch made it free
  std::string obstacle;   // when not batchable: the node that mixes rows, or the input without a batch axis, and why
};

// Pure analysis on an inferred graph: follows axis 0 forward from the inputs. A node keeps rows apart when its rule
// says so (Conv, pooling, elementwise with broadcast constants of lower rank, MatMul with constant right side, Reshape
// that keeps dimension 0, Transpose that leaves axis 0, reductions and Softmax on other axes, ...); an operator
// without a rule mixes. A dynamic per-tensor quantization mixes. An axis 0 of fixed size is an obstacle: see FreeBatch.
BatchProof ProveBatchable(const Graph& graph);

// Where axis 0 of every input is fixed at 1 and the proof holds with it free, rewrites the graph so (Reshape targets
// that name the 1 get 0 or -1 there, Resize sizes leave it out, declared input and output shapes get kUnknownDim) and
// infers it again. Leaves the graph as it was when not provable, and where axis 0 is free already (the proof is then
// ProveBatchable's).
BatchProof FreeBatch(Graph* graph);

}  // namespace octet::graph

#endif  // OCTET_GRAPH_BATCHING_H_
