// Differences between opset 22, which graphs speak, and the opsets that export writes.
#include "onnx/export_opset.h"

#include "absl/strings/match.h"

namespace octet::onnx_io {
namespace {

using graph::Graph;
using graph::Node;
using graph::Value;

constexpr int64_t kBase = 17, kNew = 21;

// Reductions whose axes became an input in opset 18 (ReduceSum's did in 13).
bool IsLateReduction(const Node& node) {
  return node.domain.empty() && absl::StartsWith(node.op, "Reduce") && node.op != "ReduceSum";
}

// Opset 17 splits into equal parts only.
bool SplitsEvenly(const Graph& graph, const Node& node) {
  const std::optional<Shape>& shape = graph.value(node.inputs[0]).shape;
  if (!shape.has_value()) return false;
  const int64_t rank = static_cast<int64_t>(shape->size());
  int64_t axis = node.GetInt("axis", 0);
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) return false;
  const int64_t dim = (*shape)[static_cast<size_t>(axis)];
  return dim != kUnknownDim && dim % static_cast<int64_t>(node.outputs.size()) == 0;
}

bool NeedsNew(const Graph& graph, const Node& node) {
  if (!node.domain.empty()) return false;
  if (IsLateReduction(node)) {
    if (node.has_input(1)) return graph.ConstantInput(node, 1) == nullptr;
    return node.GetInt("noop_with_empty_axes", 0) != 0;
  }
  if (node.op == "Split") return node.Has("num_outputs") && !SplitsEvenly(graph, node);
  if (node.op == "Pad") return node.has_input(3) || node.GetString("mode", "") == "wrap";
  if (node.op == "Resize") {
    return node.Has("axes") || node.Has("keep_aspect_ratio_policy") ||
           node.GetString("coordinate_transformation_mode", "") == "half_pixel_symmetric";
  }
  if (node.op == "AveragePool") return node.Has("dilations");
  if (node.op == "ScatterElements" || node.op == "ScatterND") {
    const std::string reduction = node.GetString("reduction", "none");
    return reduction == "max" || reduction == "min";
  }
  return node.op == "Mish" || node.op == "Gelu";
}

bool NeedsNew(const Value& value) {
  if (value.quant.has_value() && !value.quant->levels.empty()) return false;  // DecodeWeights needs no type of its own
  const int bits = BitsOf(value.dtype);
  return bits == 4 || (value.quant.has_value() && (value.quant->block > 0 || bits == 16));
}

}  // namespace

int64_t RequiredOpset(const Graph& graph) {
  for (const Value& value : graph.values) {
    if (NeedsNew(value)) return kNew;
  }
  for (const Node& node : graph.nodes) {
    if (NeedsNew(graph, node)) return kNew;
    for (const auto& [key, attribute] : node.attributes) {
      const auto* subgraph = std::get_if<std::shared_ptr<const Graph>>(&attribute);
      if (subgraph != nullptr && RequiredOpset(**subgraph) == kNew) return kNew;
    }
  }
  return kBase;
}

bool InputBecomesAttribute(const Graph& graph, const Node& node, size_t input, int64_t opset) {
  return opset < 18 && IsLateReduction(node) && input == 1 &&
         graph.ConstantInput(node, 1) != nullptr;
}

AttributeMap AttributesForOpset(const Graph& graph, const Node& node, int64_t opset) {
  AttributeMap attributes = node.attributes;
  if (opset >= 18) return attributes;
  if (IsLateReduction(node)) {
    attributes.erase("noop_with_empty_axes");
    const Tensor* axes = graph.ConstantInput(node, 1);
    // An empty list of axes means all, as does no list.
    if (axes != nullptr && axes->num_elements() > 0) attributes["axes"] = axes->ToS64();
  }
  if (node.op == "Split") attributes.erase("num_outputs");
  return attributes;
}

}  // namespace octet::onnx_io
