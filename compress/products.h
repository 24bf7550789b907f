// The products of a graph that can be compressed: what schemes are chosen for.
#ifndef OCTET_COMPRESS_PRODUCTS_H_
#define OCTET_COMPRESS_PRODUCTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace octet::compress {

// A Conv, or a Gemm or MatMul with a constant f32 matrix. Value ids stay valid while nodes move.
struct Product {
  int node = -1;         // index into graph.nodes of the graph it was found in
  std::string name, op;  // the node's name, or its result's where it has none
  graph::ValueId src = graph::kNoValue;
  graph::ValueId output = graph::kNoValue;  // of the node itself: identifies it in graphs made from this one
  graph::ValueId result = graph::kNoValue;  // behind the activation that follows it: what a report compares
  int64_t weights_elements = 0;
  int64_t rows = 0, inputs = 0;  // output channels; input channels of one conv group
  bool first = false;      // no other product is on the way from the graph's inputs to it
  bool last = false;       // none is on the way from it to the graph's outputs
  bool depthwise = false;  // a convolution with one input channel per group
};

std::vector<Product> FindProducts(const graph::Graph& graph);

// Element functions that run inside the product before them (and cost nothing there).
bool IsActivation(const graph::Node& node);

// The value that stands for `id` after a single activation that follows it. `consumers`: of the graph.
graph::ValueId BehindActivation(const graph::Graph& graph, const std::vector<std::vector<int>>& consumers,
                                graph::ValueId id);

// The node that makes `output`, or its index into graph.nodes. Requires: there is one.
int ProducerIndex(const graph::Graph& graph, graph::ValueId output);
const graph::Node& ProducerOf(const graph::Graph& graph, graph::ValueId output);
graph::Node& ProducerOf(graph::Graph& graph, graph::ValueId output);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_PRODUCTS_H_
