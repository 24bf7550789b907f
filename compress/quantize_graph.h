// Writes static activations into a graph: values get quant, values that stay real get quantized copies.
#ifndef OCTET_COMPRESS_QUANTIZE_GRAPH_H_
#define OCTET_COMPRESS_QUANTIZE_GRAPH_H_

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/quantization.h"
#include "compress/regions.h"
#include "graph/graph.h"

namespace octet::compress {

// Parameters of every value of `regions` that has a range of its own (Regions::same_as < 0), by value.
using ActivationParams = absl::flat_hash_map<graph::ValueId, QuantParams>;

// The graph with u8 and s8 values as `regions` says; weights stay as they are. Value ids keep their meaning; a value that
// stays real is followed by a Quantize node whose result the integer readers read.
// Errors: kInternal when parameters are missing.
absl::StatusOr<graph::Graph> QuantizeActivations(graph::Graph graph, const Regions& regions,
                                                 const ActivationParams& params);

// ONNX's MatMul has no bias: a third operand becomes an Add behind the product. What FoldAffine made is undone so.
void SplitMatMulBias(graph::Graph* graph);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_QUANTIZE_GRAPH_H_
