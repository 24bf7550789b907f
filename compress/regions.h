// Which values of a float graph are stored as 8-bit integers: the quantized regions of static activations.
#ifndef OCTET_COMPRESS_REGIONS_H_
#define OCTET_COMPRESS_REGIONS_H_

#include <string>
#include <vector>

#include "compress/products.h"
#include "graph/graph.h"

namespace octet::compress {

struct Regions {
  std::vector<Product> products;  // those whose sources are stored as integers
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

// Rules: the sources of `products` are u8; so are both sides of additions, poolings and moves between such values, and, of
// scaled dot-product attention, the queries and the probabilities (keys and values are s8; scores and softmax stay real).
// A result that only an activation reads stays real (the activation's result is rounded instead). Graph outputs stay f32.
// `exclude` lists nodes that stay f32, by name.
Regions FindRegions(const graph::Graph& graph, std::vector<Product> products, const std::vector<std::string>& exclude);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_REGIONS_H_
