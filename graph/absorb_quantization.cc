// Turns Quantize and Dequantize nodes around operators into quant on values.
//
// Four steps, each one walk over the nodes: constants are quantized, equal Quantize nodes merged,
// reads moved from dequantized values to the quantized ones, writes moved from f32 values to the
// quantized ones.
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "graph/constant_quantization.h"
#include "graph/rewrites.h"
#include "graph/value_alias.h"

namespace octet::graph {
namespace {

bool Is(const Node& node, absl::string_view op) { return node.domain.empty() && node.op == op; }

// Operators that look at types or storage, and those whose bodies see their operands by name.
bool SeesStorage(const Node& node) {
  static const auto& ops = *new absl::flat_hash_set<absl::string_view>{
      "Cast", "CastLike",   "ConvInteger", "Dequantize", "DynamicQuantizeLinear", "If",
      "Loop", "MatMulInteger", "Quantize", "Reinterpret", "Scan"};
  return !node.domain.empty() || ops.contains(node.op);
}

// From this operand on, the operator wants plain f32 parameters (kernels and rules read their
// content).
size_t FirstParameter(const Node& node) {
  static const auto& first =
      *new absl::flat_hash_map<absl::string_view, size_t>{{"BatchNormalization", 1},
                                                          {"Clip", 1},
                                                          {"CumSum", 1},
                                                          {"Dropout", 1},
                                                          {"GroupNormalization", 1},
                                                          {"GRU", 1},
                                                          {"InstanceNormalization", 1},
                                                          {"LayerNormalization", 1},
                                                          {"LSTM", 1},
                                                          {"OneHot", 1},
                                                          {"Pad", 2},
                                                          {"PRelu", 1},
                                                          {"Range", 0},
                                                          {"Resize", 1},
                                                          {"RNN", 1},
                                                          {"TopK", 1}};
  const auto it = first.find(node.op);
  return it == first.end() ? node.inputs.size() : it->second;
}

// Operators that do not compute a real result that could be rounded on the way out.
bool WritesReals(const Node& node) {
  static const auto& ops = *new absl::flat_hash_set<absl::string_view>{
      "ConstantOfShape", "EyeLike", "GRU", "LSTM", "OneHot", "RNN", "Range", "TopK"};
  return !SeesStorage(node) && !ops.contains(node.op);
}

// What activations may store: 8 bits, one scale. Other quantized activations keep their explicit
// nodes.
bool IsActivationQuant(const Value& value) {
  return value.quant.has_value() && value.quant->per_tensor() &&
         (value.dtype == DType::kU8 || value.dtype == DType::kS8);
}

bool IsBias(const Node& node, size_t operand) {
  return operand == 2 && (node.op == "Conv" || node.op == "ConvTranspose" || node.op == "Gemm");
}

// What constants may store: weights 4 or 8 bits, biases s32 (the accumulator's type). Others become
// f32.
bool IsConstantQuant(const Value& value, bool bias) {
  return bias ? value.dtype == DType::kS32 : BitsOf(value.dtype) <= 8;
}

class Absorber {
 public:
  explicit Absorber(Graph* graph)
      : graph_(*graph), alias_(graph->values.size()), captured_(graph->Captured()) {
    is_output_.resize(graph_.values.size());
    for (ValueId id : graph_.outputs) is_output_[static_cast<size_t>(id)] = true;
  }

  void Run() {
    QuantizeConstants();
    MergeQuantize();
    MoveReads();
    graph_.RemoveDead();  // or unread Dequantize nodes would count as readers
    MoveWrites();
    graph_.RemoveDead();
  }

 private:
  // Values added on the way are constants: neither outputs nor captured.
  bool Fixed(ValueId id) const {
    const size_t i = static_cast<size_t>(id);
    return i < is_output_.size() && (is_output_[i] || captured_[i]);
  }

  void QuantizeConstants() {
    std::vector<bool> removed(graph_.nodes.size());
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      const Tensor* reals = graph_.ConstantInput(node, 0);
      if (!Is(node, "Quantize") || reals == nullptr) continue;
      Value& out = graph_.value(node.outputs[0]);
      if (!out.quant.has_value() || graph_.value(node.inputs[0]).quant.has_value()) continue;
      std::optional<Tensor> stored = QuantizeTensor(*reals, out.dtype, *out.quant);
      if (!stored.has_value()) continue;
      out.shape = stored->shape();
      out.data = *std::move(stored);
      removed[i] = true;
    }
    EraseNodes(&graph_, removed);
  }

  // The second of two Quantize nodes that do the same goes; compared with the last alike one only.
  void MergeQuantize() {
    std::map<std::tuple<ValueId, DType, float, int32_t>, ValueId> seen;
    std::vector<bool> removed(graph_.nodes.size());
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      if (!Is(node, "Quantize")) continue;
      const Value& out = graph_.value(node.outputs[0]);
      if (!out.quant.has_value()) continue;
      const auto key = std::make_tuple(node.inputs[0], out.dtype, out.quant->scale[0],
                                       out.quant->zero_point_at(0));
      const auto [it, fresh] = seen.try_emplace(key, node.outputs[0]);
      if (fresh || !SameQuant(graph_.value(it->second), out)) {
        it->second = node.outputs[0];
      } else if (!Fixed(node.outputs[0])) {
        alias_.Set(node.outputs[0], it->second);
        removed[i] = true;
      }
    }
    alias_.Apply(&graph_);
    EraseNodes(&graph_, removed);
  }

  static bool SameQuant(const Value& a, const Value& b) {
    return a.dtype == b.dtype && a.quant == b.quant;
  }

  // A reader of Dequantize(xq) reads xq.
  void MoveReads() {
    const std::vector<int> producers = graph_.Producers();
    std::vector<bool> removed(graph_.nodes.size());
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      Node& node = graph_.nodes[i];
      for (size_t k = 0; k < node.inputs.size(); ++k) {
        ValueId& read = node.inputs[k];
        read = alias_.Resolve(read);
        if (read == kNoValue || static_cast<size_t>(read) >= producers.size()) continue;
        const int producer = producers[static_cast<size_t>(read)];
        if (producer < 0 || !Is(graph_.nodes[static_cast<size_t>(producer)], "Dequantize"))
          continue;
        read = Substitute(node, k, read, graph_.nodes[static_cast<size_t>(producer)].inputs[0]);
      }
      if (!Is(node, "Quantize") || Fixed(node.outputs[0])) continue;
      if (SameQuant(graph_.value(node.inputs[0]), graph_.value(node.outputs[0]))) {
        alias_.Set(node.outputs[0], node.inputs[0]);  // Quantize(Dequantize(x)) with equal quant
        removed[i] = true;
      }
    }
    alias_.Apply(&graph_);
    EraseNodes(&graph_, removed);
  }

  // What operand k of `node` reads instead of x = Dequantize(xq).
  ValueId Substitute(const Node& node, size_t k, ValueId x, ValueId xq) {
    const Value& stored = graph_.value(xq);
    if (!stored.quant.has_value() || graph_.value(x).dtype != DType::kF32) return x;
    const bool accepts = (!SeesStorage(node) || Is(node, "Quantize")) && k < FirstParameter(node);
    if (stored.is_constant()) {
      return accepts && IsConstantQuant(stored, IsBias(node, k)) ? xq : RealConstant(xq, x);
    }
    return accepts && IsActivationQuant(stored) ? xq : x;
  }

  // The f32 form of constant `xq`, made once; `x` when its parameters are broken.
  ValueId RealConstant(ValueId xq, ValueId x) {
    const auto known = reals_.find(xq);
    if (known != reals_.end()) return known->second;
    absl::StatusOr<Tensor> reals = DequantizeTensor(*graph_.value(xq).data, *graph_.value(xq).quant);
    if (!reals.ok()) return x;
    if (names_.empty()) {
      for (const Value& value : graph_.values) names_.insert(value.name);
    }
    std::string name = absl::StrCat(graph_.value(xq).name, "/f32");
    while (!names_.insert(name).second) absl::StrAppend(&name, "_");
    return reals_[xq] = graph_.AddConstant(std::move(name), *std::move(reals));
  }

  // The producer of a value that only Quantize reads (and shape queries) writes its result.
  void MoveWrites() {
    const std::vector<int> producers = graph_.Producers();
    const std::vector<std::vector<int>> consumers = graph_.Consumers();
    std::vector<bool> removed(graph_.nodes.size());
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      if (!Is(node, "Quantize") || !IsActivationQuant(graph_.value(node.outputs[0]))) continue;
      const ValueId y = node.inputs[0], yq = node.outputs[0];
      const int producer = producers[static_cast<size_t>(y)];
      if (producer < 0 || Fixed(y) || graph_.value(y).dtype != DType::kF32) continue;
      if (!WritesReals(graph_.nodes[static_cast<size_t>(producer)])) continue;
      bool only = true;
      for (int reader : consumers[static_cast<size_t>(y)]) {
        const Node& other = graph_.nodes[static_cast<size_t>(reader)];
        only = only && (reader == static_cast<int>(i) || Is(other, "Shape") || Is(other, "Size"));
      }
      if (!only) continue;
      for (ValueId& id : graph_.nodes[static_cast<size_t>(producer)].outputs) {
        if (id == y) id = yq;
      }
      alias_.Set(y, yq);
      removed[i] = true;
    }
    alias_.Apply(&graph_);
    EraseNodes(&graph_, removed);
  }

  Graph& graph_;
  ValueAlias alias_;
  const std::vector<bool> captured_;
  std::vector<bool> is_output_;
  absl::flat_hash_map<ValueId, ValueId> reals_;
  absl::flat_hash_set<std::string> names_;
};

}  // namespace

void AbsorbQuantization(Graph* graph) { Absorber(graph).Run(); }

}  // namespace octet::graph
