// DrawWeights of domain ai.octet: the constant behind it becomes a distribution (docs/format.md).
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "graph/draws.h"
#include "onnx/decode_weights.h"
#include "onnx/quant_operands.h"
#include "onnx/rules.h"

namespace octet::onnx_io {
namespace {

// The value whose reals `id` holds; nullptr when it is not the result of a Dequantize of a constant.
graph::Value* CodesBehind(NodeImporter& node, graph::ValueId id) {
  std::vector<graph::Node>& nodes = node.state().graph.nodes;
  for (size_t i = nodes.size(); i-- > 0;) {
    if (nodes[i].outputs[0] != id) continue;
    if (nodes[i].op != "Dequantize") return nullptr;
    graph::Value& codes = node.state().graph.value(nodes[i].inputs[0]);
    return codes.is_constant() ? &codes : nullptr;
  }
  return nullptr;
}

absl::StatusOr<Tensor> StepsOf(const NodeImporter& node, const Shape& shape) {
  const Tensor* steps = node.ConstantInput(1);
  if (steps == nullptr) return absl::UnimplementedError("input 1 (steps) is computed, expected a constant");
  const int64_t bits = node.Int("bits", 8);
  if (bits == 8) return *steps;  // CheckAlternatives looks at type and shape
  if (bits != 4) return absl::InvalidArgumentError(absl::StrCat("bits: expected 4 or 8, found ", bits));
  const Shape packed = {ByteSize(DType::kS4, shape)};
  if (steps->dtype() != DType::kU8 || steps->shape() != packed) {
    return absl::InvalidArgumentError(absl::StrCat("steps: expected u8", ShapeString(packed), ", found ",
                                                   NameOf(steps->dtype()), ShapeString(steps->shape())));
  }
  auto owner = std::make_shared<const Tensor>(*steps);
  return Tensor(DType::kS4, shape, owner->data(), owner);
}

}  // namespace

absl::Status TranslateDrawWeights(NodeImporter& node) {
  graph::Value* codes = CodesBehind(node, node.inputs[0]);
  if (codes == nullptr) {
    return absl::InvalidArgumentError("input 0 (weights) is no constant with quantization, whose codes could be drawn");
  }
  if (codes->alternatives.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat("'", codes->name, "' has a distribution already"));
  }
  const int64_t stream = node.Int("stream", 0);
  if (stream < 0 || stream > UINT32_MAX) {
    return absl::InvalidArgumentError(absl::StrCat("stream: expected 32 bits, found ", stream));
  }
  OCTET_ASSIGN_OR_RETURN(Tensor steps, StepsOf(node, codes->data->shape()));
  codes->alternatives = graph::Alternatives{std::move(steps), static_cast<uint32_t>(stream)};
  OCTET_RETURN_IF_ERROR(graph::CheckAlternatives(*codes));
  return node.Alias(0, node.inputs[0]);
}

}  // namespace octet::onnx_io
