// Static activations of a graph.
#include "compress/quantize_graph.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet::compress {
namespace {

using graph::Graph;
using graph::kNoValue;
using graph::Node;
using graph::ValueId;

ValueId RootOf(const Regions& regions, ValueId id) {
  while (regions.same_as[static_cast<size_t>(id)] != kNoValue) id = regions.same_as[static_cast<size_t>(id)];
  return id;
}

// A value that stays real is read by some through a quantized copy; the Quantize that makes it.
Node MakeCopy(const Regions::Copy& copy, Graph* g) {
  graph::Value quantized = g->value(copy.value);
  quantized.name = g->UniqueName(absl::StrCat(quantized.name, quantized.dtype == DType::kS8 ? "_s8" : "_u8"));
  quantized.dim_names.clear();
  const ValueId id = g->AddValue(std::move(quantized));
  g->value(copy.value).quant.reset();
  g->value(copy.value).dtype = DType::kF32;
  for (int reader : copy.readers) {
    for (ValueId& read : g->nodes[static_cast<size_t>(reader)].inputs) {
      if (read == copy.value) read = id;
    }
  }
  Node n;
  n.op = "Quantize";
  n.inputs = {copy.value};
  n.outputs = {id};
  return n;
}

// Puts copies behind what makes their sources.
void InsertCopies(const Regions& regions, Graph* g) {
  absl::flat_hash_map<ValueId, Node> copies;
  for (const Regions::Copy& copy : regions.copies) copies[copy.value] = MakeCopy(copy, g);
  std::vector<Node> nodes;
  const auto insert_behind = [&](ValueId id) {
    if (const auto it = copies.find(id); it != copies.end()) nodes.push_back(it->second);
  };
  for (ValueId input : g->inputs) insert_behind(input);
  for (Node& node : g->nodes) {
    const std::vector<ValueId> outputs = node.outputs;
    nodes.push_back(std::move(node));
    for (ValueId id : outputs) insert_behind(id);
  }
  g->nodes = std::move(nodes);
}

}  // namespace

absl::StatusOr<Graph> QuantizeActivations(Graph graph, const Regions& regions, const ActivationParams& params) {
  for (ValueId id : regions.values) {
    const ValueId root = RootOf(regions, id);
    const auto it = params.find(root);
    if (it == params.end()) return absl::InternalError(absl::StrCat("no range of '", graph.value(root).name, "'"));
    graph::Value& v = graph.value(id);
    v.quant = it->second;
    v.dtype = regions.symmetric[static_cast<size_t>(root)] ? DType::kS8 : DType::kU8;
  }
  InsertCopies(regions, &graph);
  return graph;
}

void SplitMatMulBias(Graph* graph) {
  std::vector<Node> nodes;
  for (Node& node : graph->nodes) {
    if (node.op != "MatMul" || !node.domain.empty() || !node.has_input(2)) {
      nodes.push_back(std::move(node));
      continue;
    }
    graph::Value product = graph->value(node.outputs[0]);
    product.name = graph->UniqueName(product.name + "_product");
    product.quant.reset();
    product.dtype = DType::kF32;
    product.dim_names.clear();
    const ValueId id = graph->AddValue(std::move(product));
    Node add;
    add.op = "Add";
    add.inputs = {id, node.inputs[2]};
    add.outputs = node.outputs;
    node.inputs.resize(2);
    node.outputs = {id};
    nodes.push_back(std::move(node));
    nodes.push_back(std::move(add));
  }
  graph->nodes = std::move(nodes);
}

}  // namespace octet::compress
