// Writes a scheme's decisions into a graph: values get quant, weights and biases become integers.
#ifndef OCTET_COMPRESS_QUANTIZE_GRAPH_H_
#define OCTET_COMPRESS_QUANTIZE_GRAPH_H_

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "compress/calibrate.h"
#include "compress/compress.h"
#include "compress/regions.h"
#include "graph/graph.h"

namespace octet::compress {

// The graph with u8 values and s8 products as `regions` says. Graph inputs that a region starts at get a Quantize node;
// a bias is added to a product that has none when correction needs one.
//
// Bias correction: rounding the weights shifts a product's mean by E[(W - W') x] = sum_i (W - W')[o, i] E[x_i]; the
// shift is added to the bias (arXiv:1906.04721, section 4.2, with measured instead of analytic means).
absl::StatusOr<graph::Graph> QuantizeGraph(
    const graph::Graph& graph, const Regions& regions,
    const absl::flat_hash_map<graph::ValueId, ValueStatistics>& statistics, const CompressOptions& options);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_QUANTIZE_GRAPH_H_
