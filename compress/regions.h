// Which values of a float graph are stored as 8-bit integers: the quantized regions of the static int8 scheme.
#ifndef OCTET_COMPRESS_REGIONS_H_
#define OCTET_COMPRESS_REGIONS_H_

#include <vector>

#include "graph/graph.h"

namespace octet::compress {

// A product whose weights become s8.
struct QuantizedProduct {
  int node = -1;                // index into graph.nodes
  int weights_axis = 0;         // output channels in the weights operand
  graph::ValueId src = graph::kNoValue;
  graph::ValueId result = graph::kNoValue;  // behind the activation that follows it: what a report compares
};

struct Regions {
  std::vector<QuantizedProduct> products;
  // Values that become u8. `same_as[v]` >= 0: v takes over the parameters of that value (results of moves and parts of
  // a Concat), which is itself in `values`; else -1: v has a range of its own.
  std::vector<graph::ValueId> values;
  std::vector<graph::ValueId> same_as;  // index: ValueId
};

// Rules: the source of every Conv, and of every Gemm or MatMul of matrices with constant f32 weights, is u8; so are both
// sides of additions, poolings and moves between such values. A result that only an activation reads stays real (the
// activation's result is rounded instead). Graph outputs stay f32. `exclude` lists node names that stay f32.
Regions FindRegions(const graph::Graph& graph, const std::vector<std::string>& exclude);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_REGIONS_H_
