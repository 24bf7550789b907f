// Rules for If, Loop and Scan; import.cc has turned their subgraphs into attributes.
#include <algorithm>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "graph/graph.h"
#include "onnx/node_importer.h"
#include "onnx/rules.h"

namespace octet::onnx_io {
namespace {

// A result that stands for reals would have to carry its quant through the node's outputs.
absl::Status RefuseQuantizedOutputs(const NodeImporter& node) {
  for (const auto& [key, attribute] : node.attributes) {
    const auto* sub = std::get_if<std::shared_ptr<const graph::Graph>>(&attribute);
    if (sub == nullptr) continue;
    for (graph::ValueId id : (*sub)->outputs) {
      const graph::Value& value = (*sub)->value(id);
      if (!value.quant.has_value()) continue;
      return absl::UnimplementedError(absl::StrCat(
          "output ", Quoted(value.name), " of '", key,
          "' is quantized, expected a DequantizeLinear inside the subgraph"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status TranslateControlFlow(NodeImporter& node) {
  if (node.op() == "Scan" && node.opset() < 9) {
    return absl::UnimplementedError("Scan of opset 8 (with a batch axis) is not supported");
  }
  OCTET_RETURN_IF_ERROR(RefuseQuantizedOutputs(node));
  if (node.op() == "Loop") node.inputs.resize(std::max<size_t>(node.inputs.size(), 2), graph::kNoValue);
  return node.EmitControlFlow();
}

}  // namespace octet::onnx_io
