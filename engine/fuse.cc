// Fusion of post-ops.
#include "engine/fuse.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

namespace octet::engine {
namespace {

using graph::Node;
using graph::ValueId;

// Operators whose result may be the same memory as their input: a residual must not be one end of such a pair. Reals
// and integers never share memory.
bool MayView(const graph::Graph& g, const Node& n) {
  if (n.op == "Quantize" || n.op == "Dequantize") {
    return g.value(n.inputs[0]).quant.has_value() == g.value(n.outputs[0]).quant.has_value();
  }
  static const auto* const kOps = new absl::flat_hash_set<std::string>{
      "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Transpose", "Max", "Min",
      "Cast", "Reinterpret"};
  return kOps->contains(n.op);
}

bool IsProduct(const Node& n) {
  return n.domain.empty() && (n.op == "Conv" || n.op == "Gemm" || n.op == "MatMul" || n.op == "DynamicConv" ||
                               n.op == "DynamicMatMul");
}

bool IsArithmetic(const Node& n) {
  return n.domain.empty() && n.inputs.size() == 2 &&
         (n.op == "Add" || n.op == "Sub" || n.op == "Mul" || n.op == "Div");
}

class Fuser {
 public:
  Fuser(const graph::Graph& graph, absl::Span<const ValueInfo> infos, absl::Span<const int> live, PassLog* log)
      : graph_(graph), infos_(infos), live_(live), log_(log), producer_(graph.values.size(), -1),
        readers_(graph.values.size()) {
    for (size_t i = 0; i < live_.size(); ++i) {
      for (ValueId id : NodeAt(i).outputs) {
        if (id != graph::kNoValue) producer_[static_cast<size_t>(id)] = static_cast<int>(i);
      }
      for (ValueId id : NodeAt(i).inputs) {
        if (id != graph::kNoValue) readers_[static_cast<size_t>(id)].push_back(static_cast<int>(i));
      }
    }
  }

  std::vector<FusedNode> Run() {
    std::vector<FusedNode> groups(live_.size());
    std::vector<size_t> end(live_.size());  // position of a group's last node
    std::vector<bool> absorbed(live_.size(), false);
    for (size_t i = 0; i < live_.size(); ++i) {
      if (absorbed[i]) continue;
      FusedNode& group = groups[i];
      group.node = &NodeAt(i);
      group.output = group.node->outputs.empty() ? graph::kNoValue : group.node->outputs[0];
      end[i] = i;
      while (true) {
        std::string why;
        const int next = Extend(group, &why);
        // A node that is already inside another group cannot be absorbed twice.
        if (next < 0 || absorbed[static_cast<size_t>(next)]) {
          if (next >= 0) why = "another product has taken it";
          if (!why.empty()) NoteRefusal(group, why);
          break;
        }
        Note(NodeAt(static_cast<size_t>(next)), absl::StrCat("runs inside ", Describe(graph_, *group.node)));
        Absorb(&group, next);
        absorbed[static_cast<size_t>(next)] = true;
        end[i] = static_cast<size_t>(next);
      }
      if (const int copy = CopyOf(group); copy >= 0 && !absorbed[static_cast<size_t>(copy)]) {
        const Node& quantize = NodeAt(static_cast<size_t>(copy));
        Note(quantize, absl::StrCat("is written by ", Describe(graph_, *group.node), " beside its reals"));
        group.copy = quantize.outputs[0];
        group.absorbed.push_back(&quantize);
        absorbed[static_cast<size_t>(copy)] = true;
      }
    }
    std::vector<size_t> order;
    for (size_t i = 0; i < live_.size(); ++i) {
      if (!absorbed[i]) order.push_back(i);
    }
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return end[a] < end[b]; });
    std::vector<FusedNode> out;
    for (size_t i : order) out.push_back(std::move(groups[i]));
    return out;
  }

 private:
  const Node& NodeAt(size_t i) const { return graph_.nodes[static_cast<size_t>(live_[i])]; }
  const ValueInfo& Info(ValueId id) const { return infos_[static_cast<size_t>(id)]; }

  void Note(const Node& node, std::string text) {
    if (log_ != nullptr) log_->Fired("fuse", Describe(graph_, node), std::move(text));
  }
  // About the first node behind the group.
  void NoteRefusal(const FusedNode& group, std::string why) {
    if (log_ == nullptr) return;
    const std::vector<int>& readers = readers_[static_cast<size_t>(group.output)];
    log_->Refused("fuse", Describe(graph_, readers.empty() ? *group.node : NodeAt(static_cast<size_t>(readers[0]))),
                  std::move(why));
  }

  // The Quantize that a normalization can serve beside its reals, or -1.
  int CopyOf(const FusedNode& group) const {
    const Node& node = *group.node;
    if (!node.domain.empty() || (node.op != "LayerNormalization" && node.op != "RMSNormalization")) return -1;
    if (graph_.value(group.output).quant.has_value()) return -1;
    for (int reader : readers_[static_cast<size_t>(group.output)]) {
      const Node& next = NodeAt(static_cast<size_t>(reader));
      if (next.op != "Quantize" || !next.domain.empty()) continue;
      const graph::Value& to = graph_.value(next.outputs[0]);
      const bool int8 = to.quant.has_value() && to.quant->per_tensor() && (to.dtype == DType::kU8 || to.dtype == DType::kS8);
      if (int8 && !graph_.IsOutput(next.outputs[0])) return reader;
    }
    return -1;
  }

  // The position of the node that can follow the group, or -1, with the reason where one nearly could.
  int Extend(const FusedNode& group, std::string* why) const {
    if (!IsProduct(*group.node) && !IsArithmetic(*group.node)) return -1;
    const bool rounded = graph_.value(group.output).quant.has_value();
    if (!IsFloat(Info(group.output).dtype) && !rounded) return -1;
    const std::vector<int>& readers = readers_[static_cast<size_t>(group.output)];
    if (readers.empty()) return -1;
    const Node& next = NodeAt(static_cast<size_t>(readers[0]));
    const bool add = next.op == "Add" && next.domain.empty() && IsProduct(*group.node);
    const bool activation = ActivationOf(next, infos_).has_value() && next.inputs[0] == group.output;
    if (!add && !activation) return -1;
    const std::string name = absl::StrCat("'", graph_.value(group.output).name, "'");
    if (graph_.IsOutput(group.output)) {
      *why = absl::StrCat(name, " is an output of the graph");
      return -1;
    }
    if (readers.size() != 1) {
      *why = absl::StrCat(name, " has ", readers.size(), " readers");
      return -1;
    }
    // A rounding between a product and what it is fused with is dropped: the sum or the activation rounds once, later.
    if (rounded && !(IsProduct(*group.node) && (add || next.op == "Relu" || next.op == "Clip"))) {
      *why = absl::StrCat(name, " is rounded to integers in between");
      return -1;
    }
    if (activation) return readers[0];
    *why = WhyNotAdd(group, next, readers[0]);
    return why->empty() ? readers[0] : -1;
  }

  // Empty when the group can take the addition.
  std::string WhyNotAdd(const FusedNode& group, const Node& add, int position) const {
    const ValueId residual = add.inputs[0] == group.output ? add.inputs[1] : add.inputs[0];
    if (residual == group.output) return "it adds the value to itself";
    const std::string name = absl::StrCat("the other operand '", graph_.value(residual).name, "'");
    if (Info(residual).is_constant) return absl::StrCat(name, " is a constant");
    // The sum is written over the residual while the product still reads its operands.
    const std::vector<ValueId>& operands = group.node->inputs;
    if (std::find(operands.begin(), operands.end(), residual) != operands.end()) {
      return absl::StrCat(name, " is an operand of the product, too");
    }
    if (!graph_.value(residual).quant.has_value() && Info(residual).dtype != DType::kF32) {
      return absl::StrCat(name, " is stored as ", NameOf(Info(residual).dtype));
    }
    for (const FusedPostOp& op : group.post_ops) {
      if (op.kind == kernels::PostOp::Kind::kAdd) return "the product has a residual already";
    }
    if (Info(residual).shape != Info(group.output).shape ||
        Info(residual).shape != Info(add.outputs[0]).shape) {
      return absl::StrCat(name, " broadcasts");
    }
    if (StorageBytes(residual) != FinalBytes(add)) return absl::StrCat(name, " has another element size than the sum");
    if (graph_.IsOutput(residual)) return absl::StrCat(name, " is an output of the graph");
    const int made_at = producer_[static_cast<size_t>(residual)];
    if (made_at < 0) return absl::StrCat(name, " is an input of the graph");
    // A product's result that another group still has to absorb is not there yet: its own Add comes later.
    if (MayView(graph_, NodeAt(static_cast<size_t>(made_at)))) {
      return absl::StrCat(name, " may share the memory of what ", NodeAt(static_cast<size_t>(made_at)).op, " reads");
    }
    for (int reader : readers_[static_cast<size_t>(residual)]) {
      const Node& other = NodeAt(static_cast<size_t>(reader));
      // Groups run where they end: a reader inside a group that ends after this Add would read overwritten memory.
      if (reader == position) continue;
      if (reader > position || EndOfGroupOf(reader) > position) {
        return absl::StrCat(name, " is read later by ", Describe(graph_, other));
      }
      if (MayView(graph_, other)) return absl::StrCat(name, " may share its memory with the result of ", Describe(graph_, other));
    }
    return "";
  }

  // Where the group that node `position` starts will end at the latest: follows single float readers that could fuse.
  int EndOfGroupOf(int position) const {
    int end = position;
    const Node* node = &NodeAt(static_cast<size_t>(position));
    if (!IsProduct(*node) && !IsArithmetic(*node)) return end;
    while (!node->outputs.empty()) {
      const ValueId out = node->outputs[0];
      const std::vector<int>& readers = readers_[static_cast<size_t>(out)];
      if (readers.size() != 1 || graph_.value(out).quant.has_value()) break;
      const Node& next = NodeAt(static_cast<size_t>(readers[0]));
      if (!ActivationOf(next, infos_).has_value() && next.op != "Add") break;
      end = readers[0];
      node = &next;
    }
    return end;
  }

  int64_t StorageBytes(ValueId id) const {
    const graph::Value& v = graph_.value(id);
    return BytesOf(v.quant.has_value() ? v.dtype : DType::kF32);
  }

  // Storage size of what the group will write if it absorbs `add`: that of the end of the chain behind it.
  int64_t FinalBytes(const Node& add) const {
    ValueId out = add.outputs[0];
    while (!graph_.value(out).quant.has_value() && readers_[static_cast<size_t>(out)].size() == 1) {
      const Node& next = NodeAt(static_cast<size_t>(readers_[static_cast<size_t>(out)][0]));
      if (graph_.IsOutput(out) || !ActivationOf(next, infos_).has_value()) break;
      out = next.outputs[0];
    }
    return StorageBytes(out);
  }

  void Absorb(FusedNode* group, int position) {
    const Node& next = NodeAt(static_cast<size_t>(position));
    FusedPostOp op;
    if (const auto activation = ActivationOf(next, infos_); activation.has_value()) {
      op.kind = kernels::PostOp::Kind::kActivation;
      op.activation = *activation;
    } else {
      op.kind = kernels::PostOp::Kind::kAdd;
      op.residual = next.inputs[0] == group->output ? next.inputs[1] : next.inputs[0];
    }
    group->post_ops.push_back(op);
    group->absorbed.push_back(&next);
    group->output = next.outputs[0];
  }

  const graph::Graph& graph_;
  absl::Span<const ValueInfo> infos_;
  absl::Span<const int> live_;
  PassLog* log_;
  std::vector<int> producer_;
  std::vector<std::vector<int>> readers_;
};

}  // namespace

std::vector<FusedNode> FuseNodes(const graph::Graph& graph, absl::Span<const ValueInfo> infos,
                                 absl::Span<const int> live, PassLog* log) {
  return Fuser(graph, infos, live, log).Run();
}

}  // namespace octet::engine
