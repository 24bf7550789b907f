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
  // Roots that become s8 with zero point 0 instead: the right sides of products of two computed values.
  std::vector<bool> symmetric;          // index: ValueId
  // Values that stay real and get a quantized copy, which the given nodes read: graph inputs, and normalizations whose
  // reals feed an addition, too.
  struct Copy {
    graph::ValueId value;
    std::vector<int> readers;  // indices into graph.nodes
  };
  std::vector<Copy> copies;
};

// Rules: the source of every Conv, and of every Gemm or MatMul with a constant f32 matrix, is u8; so are both sides of
// additions, poolings and moves between such values, and, of scaled dot-product attention, the queries and the
// probabilities (keys and values are s8; scores and softmax stay real). A result that only an activation reads stays real (the
// activation's result is rounded instead). Graph outputs stay f32. `exclude` lists node names that stay f32.
Regions FindRegions(const graph::Graph& graph, const std::vector<std::string>& exclude);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_REGIONS_H_
