// Rewrites of a graph that compute nothing: they establish the canonical form of graph.h.
#ifndef OCTET_GRAPH_REWRITES_H_
#define OCTET_GRAPH_REWRITES_H_

#include "absl/status/status.h"
#include "graph/graph.h"

namespace octet::graph {

// Removes Identity and inference-mode Dropout (also between constants and their readers).
void RemoveIdentities(Graph* graph);

// Turns Quantize/Dequantize pairs around operators into quant on values:
// - a reader of Dequantize(xq) reads xq itself when it computes on reals (every operator but shape queries that look at
//   the type); the Dequantize stays only for graph outputs;
// - Dequantize of a constant becomes a constant value with quant (s8 weights, s32 biases, s4 blocks);
// - a value y that is read only by equal Quantize nodes takes over their quant, so its producer writes it directly.
// The rounding of every value in the file is kept; none is added.
void AbsorbQuantization(Graph* graph);

// A u8 or u4 constant as s8 or s4 with its zero points lowered alike: the same reals. Also of a
// constant without quant, where the caller lowers the zero points. Requires: the constant is
// present and of one of these types.
void MakeSigned(Value* value);

// MakeSigned of every constant that only products read, as their weights: what kernels read.
void SignWeights(Graph* graph);

// Computed s8 values with one scale become u8, 128 higher: what kernels read on the left. Values whose integers somebody
// sees (inputs, outputs, Reinterpret, subgraphs) and right sides of products, also behind moves, stay.
void UnsignActivations(Graph* graph);

// Transpose of a quantized constant becomes a quantized constant; scales and axis move along.
void TransposeQuantizedConstants(Graph* graph);

}  // namespace octet::graph

#endif  // OCTET_GRAPH_REWRITES_H_
