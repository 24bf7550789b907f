// The signs that kernels read: u8 activations, s8 weights.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "graph/rewrites.h"

namespace octet::graph {
namespace {

bool ReadsAsWeights(const Node& node, ValueId id) {
  const bool product = node.op == "Conv" || node.op == "ConvTranspose" || node.op == "Gemm" ||
                       node.op == "MatMul";
  return node.domain.empty() && product && node.inputs.size() > 1 && node.inputs[0] != id &&
         node.inputs[1] == id;
}

}  // namespace

void MakeSigned(Value* value) {
  const bool half = value->dtype == DType::kU4;
  const int32_t shift = half ? 8 : 128;
  const uint8_t flip = half ? 0x88 : 0x80;  // of each code, its highest bit
  const Tensor from = *value->data;
  const size_t size = static_cast<size_t>(from.size_bytes());
  auto bytes = std::make_shared<std::vector<std::byte>>(from.data(), from.data() + size);
  for (std::byte& b : *bytes) b ^= std::byte{flip};
  value->dtype = half ? DType::kS4 : DType::kS8;
  const std::byte* data = bytes->data();
  value->data = Tensor(value->dtype, from.shape(), data, std::move(bytes));
  if (!value->quant.has_value()) return;
  std::vector<int32_t>& zeros = value->quant->zero_point;
  zeros.resize(value->quant->scale.size());  // absent ones are 0
  bool all_zero = true;
  for (int32_t& z : zeros) {
    z -= shift;
    all_zero = all_zero && z == 0;
  }
  if (all_zero) zeros.assign(value->quant->per_tensor() ? 1 : 0, 0);
}

void SignWeights(Graph* graph) {
  const std::vector<std::vector<int>> consumers = graph->Consumers();
  const std::vector<bool> captured = graph->Captured();
  for (size_t i = 0; i < consumers.size(); ++i) {
    const ValueId id = static_cast<ValueId>(i);
    Value& value = graph->value(id);
    const bool is_unsigned = value.dtype == DType::kU8 || value.dtype == DType::kU4;
    if (!is_unsigned || !value.quant.has_value() || !value.is_constant()) continue;
    if (!value.quant->levels.empty()) continue;  // codes are no numbers
    const bool only_weights =
        !consumers[i].empty() && !captured[i] && !graph->IsOutput(id) &&
        std::all_of(consumers[i].begin(), consumers[i].end(), [&](int reader) {
          return ReadsAsWeights(graph->nodes[static_cast<size_t>(reader)], id);
        });
    if (only_weights) MakeSigned(&value);
  }
}

namespace {

bool OnlyMoves(const Node& node) {
  static const auto& ops = *new absl::flat_hash_set<absl::string_view>{
      "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Slice", "Split", "Concat", "Identity"};
  return node.domain.empty() && ops.contains(node.op);
}

}  // namespace

void UnsignActivations(Graph* graph) {
  std::vector<bool> fixed = graph->Captured();
  for (ValueId id : graph->inputs) fixed[static_cast<size_t>(id)] = true;
  for (ValueId id : graph->outputs) fixed[static_cast<size_t>(id)] = true;
  const auto fix = [&](ValueId id) {
    if (id != kNoValue) fixed[static_cast<size_t>(id)] = true;
  };
  for (const Node& node : graph->nodes) {
    const bool stored = !node.domain.empty() || node.op == "Reinterpret" || node.op == "If" ||
                        node.op == "Loop" || node.op == "Scan";
    if (stored) {
      for (ValueId id : node.inputs) fix(id);
      for (ValueId id : node.outputs) fix(id);
    } else if ((node.op == "MatMul" || node.op == "Gemm") && node.inputs.size() > 1) {
      fix(node.inputs[1]);  // right sides are signed
    }
  }
  // Where a fixed value is only moved from, its source keeps the same integers.
  for (size_t n = graph->nodes.size(); n-- > 0;) {
    const Node& node = graph->nodes[n];
    if (!OnlyMoves(node) || node.outputs.empty()) continue;
    for (ValueId out : node.outputs) {
      if (out == kNoValue || !fixed[static_cast<size_t>(out)]) continue;
      for (ValueId in : node.inputs) {
        if (in != kNoValue && graph->value(in).quant == graph->value(out).quant) fix(in);
      }
    }
  }
  for (size_t i = 0; i < graph->values.size(); ++i) {
    Value& value = graph->values[i];
    if (fixed[i] || value.dtype != DType::kS8 || value.is_constant()) continue;
    if (!value.quant.has_value() || !value.quant->per_tensor()) continue;
    value.dtype = DType::kU8;
    const int32_t zero = value.quant->zero_point_at(0) + 128;
    value.quant->zero_point.assign(1, zero);
  }
}

}  // namespace octet::graph
