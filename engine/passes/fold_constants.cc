// Constant folding over a graph.
#include <algorithm>

#include "base/status.h"
#include "engine/evaluate.h"
#include "engine/host_nodes.h"
#include "engine/passes/passes.h"
#include "graph/control_flow.h"
#include "graph/shape_inference.h"

namespace octet::engine {
namespace {

constexpr int64_t kAlwaysSmallBytes = 1 << 20;

std::vector<ValueInfo> InfosOf(const graph::Graph& graph) {
  std::vector<ValueInfo> infos(graph.values.size());
  for (size_t i = 0; i < infos.size(); ++i) {
    const graph::Value& value = graph.values[i];
    infos[i].dtype = value.dtype;
    if (value.shape.has_value()) infos[i].shape = *value.shape;
    if (value.is_constant()) {
      infos[i].constant = &*value.data;
      infos[i].is_constant = true;
      infos[i].shape = value.data->shape();
    }
  }
  return infos;
}

// Every input constant, or a Shape of a concrete value.
bool Foldable(const graph::Graph& graph, const graph::Node& node) {
  const bool host = IsHostOperator(node);
  if (!host && !IsShapeOperator(node) && FindLowering(node.domain, node.op) == nullptr) return false;
  const bool by_shape = node.op == "Shape" || node.op == "Size";
  for (graph::ValueId id : node.inputs) {
    if (id == graph::kNoValue) continue;
    const graph::Value& value = graph.value(id);
    if (value.is_constant()) continue;
    if (by_shape && value.shape.has_value() && IsConcrete(*value.shape)) continue;
    return false;
  }
  for (graph::ValueId id : node.outputs) {
    if (id == graph::kNoValue) continue;
    const graph::Value& value = graph.value(id);
    if (!host && (!value.shape.has_value() || !IsConcrete(*value.shape))) return false;
  }
  // Dequantized weights stay integers in memory: whoever reads them as reals unpacks them.
  return node.op != "Dequantize" && !node.outputs.empty();
}

int64_t InputBytes(const graph::Graph& graph, const graph::Node& node) {
  int64_t bytes = 0;
  for (graph::ValueId id : node.inputs) {
    if (id != graph::kNoValue && graph.value(id).is_constant()) bytes += graph.value(id).data->size_bytes();
  }
  return bytes;
}

}  // namespace

absl::Status FoldConstants(graph::Graph* graph) {
  std::vector<graph::Node> kept;
  // A folded result lets the shapes behind it become known only when inference runs again: repeat until nothing folds.
  for (bool changed = true; changed;) {
    changed = false;
    OCTET_ASSIGN_OR_RETURN(const bool inlined, graph::InlineConstantIfs(graph));
    changed = changed || inlined;
    OCTET_RETURN_IF_ERROR(graph::InferShapes(graph));
    kept.clear();
    for (graph::Node& node : graph->nodes) {
      if (!Foldable(*graph, node)) {
        kept.push_back(std::move(node));
        continue;
      }
      const int64_t limit = std::max(kAlwaysSmallBytes, 4 * InputBytes(*graph, node));
      absl::StatusOr<std::vector<Tensor>> results = EvaluateNode(*graph, node, InfosOf(*graph), limit);
      if (!results.ok()) {
        if (absl::IsInvalidArgument(results.status())) return results.status();
        kept.push_back(std::move(node));  // it may still run, or its refusal is better told when it is compiled
        continue;
      }
      for (size_t i = 0; i < node.outputs.size(); ++i) {
        if (node.outputs[i] != graph::kNoValue) graph->value(node.outputs[i]).data = (*results)[i];
      }
      changed = true;
    }
    graph->nodes.swap(kept);
  }
  graph->RemoveDead();
  return absl::OkStatus();
}

}  // namespace octet::engine
