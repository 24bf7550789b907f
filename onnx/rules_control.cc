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

// Opset 8 scans axis 1 of every row of a batch: a Scan over axis 0 whose body is the Scan of today.
absl::Status TranslateBatchedScan(NodeImporter& node) {
  if (node.has_input(0)) return absl::UnimplementedError("Scan with sequence_lens is not supported");
  if (node.inputs.empty()) return absl::InvalidArgumentError("expected scan inputs, found none");
  node.inputs.erase(node.inputs.begin());
  const auto it = node.attributes.find("body");
  if (it == node.attributes.end()) return absl::InvalidArgumentError("attribute 'body' is missing");
  graph::Node scan;
  scan.op = "Scan";
  scan.attributes = node.attributes;
  scan.attributes.erase("directions");
  if (const auto* directions = node.Ints("directions")) {
    scan.attributes["scan_input_directions"] = *directions;
  }
  graph::Graph rows;
  for (graph::ValueId id : node.inputs) {
    if (id == graph::kNoValue) return absl::InvalidArgumentError("an input is missing");
    graph::Value row;
    row.name = node.Fresh("row");
    row.dtype = node.value(id).dtype;
    scan.inputs.push_back(rows.AddValue(std::move(row)));
  }
  rows.inputs = scan.inputs;
  const auto& body = std::get<std::shared_ptr<const graph::Graph>>(it->second);
  for (size_t i = 0; i < body->outputs.size(); ++i) {
    graph::Value result;
    result.name = node.Fresh("row_result");
    scan.outputs.push_back(rows.AddValue(std::move(result)));
  }
  rows.outputs = scan.outputs;
  for (const auto& [name, id] : node.captured) {
    graph::Value outer = node.value(id);
    outer.data.reset();
    rows.AddValue(std::move(outer));
  }
  rows.nodes.push_back(std::move(scan));
  node.attributes.clear();
  node.attributes["num_scan_inputs"] = static_cast<int64_t>(node.inputs.size());
  node.attributes["body"] =
      std::shared_ptr<const graph::Graph>(std::make_shared<graph::Graph>(std::move(rows)));
  return node.EmitControlFlow();
}

}  // namespace

absl::Status TranslateControlFlow(NodeImporter& node) {
  OCTET_RETURN_IF_ERROR(RefuseQuantizedOutputs(node));
  if (node.op() == "Scan" && node.opset() < 9) return TranslateBatchedScan(node);
  if (node.op() == "Loop") node.inputs.resize(std::max<size_t>(node.inputs.size(), 2), graph::kNoValue);
  return node.EmitControlFlow();
}

}  // namespace octet::onnx_io
