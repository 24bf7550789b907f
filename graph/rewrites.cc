// Removal of identities. The absorption of Quantize and Dequantize is in absorb_quantization.cc.
#include "graph/rewrites.h"

#include <utility>
#include <vector>

#include "graph/value_alias.h"

namespace octet::graph {
namespace {

bool IsIdentity(const Graph& graph, const Node& node, const std::vector<bool>& read) {
  if (!node.domain.empty() || !node.has_input(0) || node.outputs.empty()) return false;
  if (node.op == "Identity") return node.outputs[0] != kNoValue;
  if (node.op != "Dropout" || node.outputs[0] == kNoValue) return false;
  if (node.outputs.size() > 1 && node.outputs[1] != kNoValue &&
      read[static_cast<size_t>(node.outputs[1])]) {
    return false;  // somebody reads the mask
  }
  if (!node.has_input(2)) return true;
  const Tensor* training = graph.ConstantInput(node, 2);
  return training != nullptr && training->num_elements() == 1 && training->ToS64()[0] == 0;
}

}  // namespace

void RemoveIdentities(Graph* graph) {
  std::vector<bool> read(graph->values.size()), fixed = graph->Captured();
  for (ValueId id : graph->outputs) read[static_cast<size_t>(id)] = true;
  const std::vector<bool> is_output = read;
  for (const Node& node : graph->nodes) {
    for (ValueId id : node.inputs) {
      if (id != kNoValue) read[static_cast<size_t>(id)] = true;
    }
  }
  std::vector<int> producers = graph->Producers();
  ValueAlias alias(graph->values.size());
  std::vector<bool> removed(graph->nodes.size());
  for (size_t i = 0; i < graph->nodes.size(); ++i) {
    Node& node = graph->nodes[i];
    if (!IsIdentity(*graph, node, read)) continue;
    const ValueId x = alias.Resolve(node.inputs[0]), y = node.outputs[0];
    const size_t xi = static_cast<size_t>(x), yi = static_cast<size_t>(y);
    if (fixed[yi] || graph->value(y).quant != graph->value(x).quant) continue;
    if (!is_output[yi]) {
      alias.Set(y, x);
    } else if (producers[xi] >= 0 && !is_output[xi] && !fixed[xi]) {
      // An output keeps its name: the producer of x writes y instead.
      for (ValueId& id : graph->nodes[static_cast<size_t>(producers[xi])].outputs) {
        if (id == x) id = y;
      }
      producers[yi] = producers[xi];
      alias.Set(x, y);
    } else {
      continue;
    }
    removed[i] = true;
  }
  alias.Apply(graph);
  EraseNodes(graph, removed);
}

}  // namespace octet::graph
