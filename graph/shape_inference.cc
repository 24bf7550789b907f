// The table of shape rules, their call with all checks, and the inference of a graph.
#include "graph/shape_inference.h"

#include <algorithm>
#include <limits>

#include "absl/container/flat_hash_map.h"
#include "graph/control_flow.h"
#include "graph/infer_rules.h"
#include "graph/inference.h"

namespace octet::graph {
namespace {

const absl::flat_hash_map<absl::string_view, const RuleEntry*>& RuleTable() {
  static const auto& table = *[] {
    auto* out = new absl::flat_hash_map<absl::string_view, const RuleEntry*>();
    for (const auto& family :
         {ElementwiseRules(), WindowRules(), ProductRules(), NormalizationRules(), MovementRules(),
          IndexingRules(), ReshapeRules(), ReductionRules(), ResizeRules(), GenerationRules(),
          SelectionRules(), SamplingRules(), SignalRules(), QuantizationRules(), FusedRules()}) {
      for (const RuleEntry& entry : family) (*out)[entry.op] = &entry;
    }
    return out;
  }();
  return table;
}

// Ranks, single dimensions and the product of the known ones.
absl::Status CheckShape(const std::optional<Shape>& shape) {
  if (!shape.has_value()) return absl::OkStatus();
  if (shape->size() > static_cast<size_t>(kMaxRank)) {
    return Invalid("shape ", Str(*shape), " has rank ", shape->size(), ", the limit is ", kMaxRank);
  }
  Shape known;
  for (int64_t dim : *shape) {
    if (dim > kMaxDim) return Invalid("shape ", Str(*shape), " has a dimension above 2^40");
    if (Known(dim)) known.push_back(dim);
  }
  return CheckedNumElements(known).status();
}

absl::Status CheckOperands(const RuleEntry& rule, absl::Span<const OperandInfo> operands) {
  if (operands.size() > rule.max_inputs) {
    return Invalid(operands.size(), " operands, expected at most ", rule.max_inputs);
  }
  for (size_t i = 0; i < rule.min_inputs; ++i) {
    if (i >= operands.size() || !operands[i].present) return Invalid("operand ", i, " is missing");
  }
  for (size_t i = 0; i < operands.size(); ++i) {
    OCTET_RETURN_IF_ERROR(Annotate(CheckShape(operands[i].shape), absl::StrCat("operand ", i)));
  }
  return absl::OkStatus();
}

}  // namespace

DType DTypeOfOnnxCode(int64_t code) {
  switch (code) {  // onnx.proto: TensorProto.DataType
    case 1:
      return DType::kF32;
    case 2:
      return DType::kU8;
    case 3:
      return DType::kS8;
    case 4:
      return DType::kU16;
    case 5:
      return DType::kS16;
    case 6:
      return DType::kS32;
    case 7:
      return DType::kS64;
    case 9:
      return DType::kBool;
    case 10:
      return DType::kF16;
    case 11:
      return DType::kF64;
    case 12:
      return DType::kU32;
    case 13:
      return DType::kU64;
    case 16:
      return DType::kBF16;
    case 21:
      return DType::kU4;
    case 22:
      return DType::kS4;
    default:
      return DType::kInvalid;
  }
}

bool HasShapeRule(absl::string_view domain, absl::string_view op) {
  return domain.empty() && RuleTable().contains(op);
}

std::vector<std::string> OperatorsWithShapeRule() {
  std::vector<std::string> out;
  for (const auto& [op, rule] : RuleTable()) out.emplace_back(op);
  std::sort(out.begin(), out.end());
  return out;
}

absl::StatusOr<std::vector<ResultInfo>> InferNode(const Node& node,
                                                  absl::Span<const OperandInfo> operands) {
  if (!HasShapeRule(node.domain, node.op)) {
    return absl::UnimplementedError(absl::StrCat("operator '", node.op, "' of domain '",
                                                 node.domain.empty() ? "ai.onnx" : node.domain,
                                                 "' is not supported"));
  }
  const RuleEntry& rule = *RuleTable().at(node.op);
  OCTET_RETURN_IF_ERROR(CheckOperands(rule, operands));
  // Symbols of this call, so that rules see which unknown dimensions of a result come from an
  // operand.
  constexpr int64_t kLocal = std::numeric_limits<int64_t>::min() / 2;
  int64_t next = kLocal;
  std::vector<OperandInfo> named(operands.begin(), operands.end());
  for (OperandInfo& operand : named) {
    if (!operand.shape.has_value()) continue;
    for (int64_t& dim : *operand.shape) {
      if (dim == kUnknownDim) dim = next--;
    }
  }
  OCTET_ASSIGN_OR_RETURN(Results results, rule.rule(RuleArgs{node, named}));
  for (size_t i = results.size(); i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue) continue;
    return Invalid(node.outputs.size(), " outputs, expected at most ", results.size());
  }
  results.resize(node.outputs.size());
  for (size_t i = 0; i < results.size(); ++i) {
    OCTET_RETURN_IF_ERROR(Annotate(CheckShape(results[i].shape), absl::StrCat("result ", i)));
    if (!results[i].shape.has_value()) continue;
    for (int64_t& dim : *results[i].shape) {
      if (dim <= kLocal && dim != Element::kIndependent) dim = kUnknownDim;
    }
  }
  return results;
}

Inference::Entry& Inference::At(ValueId id) {
  const size_t index = static_cast<size_t>(id);
  if (index >= entries_.size()) entries_.resize(graph_->values.size());
  Entry& entry = entries_[index];
  const Value& value = graph_->values[index];
  if (!entry.constant && value.is_constant()) {
    entry.constant = true;
    entry.shape = value.data->shape();
  }
  return entry;
}

absl::Status Inference::Start(InputAxis0 axis0) {
  entries_.resize(graph_->values.size());
  absl::flat_hash_map<std::string, int64_t> named;
  for (ValueId id : graph_->inputs) {
    const Value& value = graph_->value(id);
    OCTET_RETURN_IF_ERROR(
        Annotate(CheckShape(value.shape), absl::StrCat("input '", value.name, "'")));
    if (!value.shape.has_value()) continue;
    Shape shape = *value.shape;
    for (size_t d = 0; d < shape.size(); ++d) {
      if (d == 0 && axis0 == InputAxis0::kBatch) {
        shape[d] = kBatchSymbol;
      } else if (!Known(shape[d])) {
        const std::string name = d < value.dim_names.size() ? value.dim_names[d] : "";
        const auto [it, fresh] = named.try_emplace(name, next_symbol_);
        if (fresh || name.empty()) it->second = next_symbol_--;
        shape[d] = it->second;
      }
    }
    At(id).shape = std::move(shape);
  }
  // Values that nothing gives are those a subgraph captures: known from outside.
  std::vector<bool> given(graph_->values.size());
  for (ValueId id : graph_->inputs) given[static_cast<size_t>(id)] = true;
  for (const Node& node : graph_->nodes) {
    for (ValueId id : node.outputs) {
      if (id != kNoValue) given[static_cast<size_t>(id)] = true;
    }
  }
  for (size_t i = 0; i < given.size(); ++i) {
    const Value& value = graph_->values[i];
    if (given[i] || value.is_constant() || !value.shape.has_value()) continue;
    OCTET_RETURN_IF_ERROR(Annotate(CheckShape(value.shape), absl::StrCat("'", value.name, "'")));
    entries_[i].shape = value.shape;
    for (int64_t& dim : *entries_[i].shape) {
      if (!Known(dim)) dim = next_symbol_--;
    }
  }
  return absl::OkStatus();
}

OperandInfo Inference::Operand(ValueId id) {
  OperandInfo info;
  if (id == kNoValue) {
    info.present = false;
    return info;
  }
  const Entry& entry = At(id);
  const Value& value = graph_->value(id);
  info.dtype = value.quant.has_value() ? DType::kF32 : value.dtype;
  info.shape = entry.shape;
  if (value.is_constant() && !value.quant.has_value()) info.constant = &*value.data;
  if (entry.elements.has_value()) info.partial = &*entry.elements;
  return info;
}

const Value* Inference::Named(absl::string_view name) {
  if (by_name_.size() != graph_->values.size()) {
    for (size_t i = by_name_.size(); i < graph_->values.size(); ++i) {
      by_name_.emplace(graph_->values[i].name, static_cast<ValueId>(i));
    }
  }
  const auto it = by_name_.find(name);
  if (it == by_name_.end()) return nullptr;
  // The graph holds shapes of computed values only after Finish.
  Value& value = graph_->value(it->second);
  if (!value.is_constant()) value.shape = At(it->second).shape;
  return &value;
}

absl::Status Inference::StepControlFlow(size_t index) {
  std::vector<OperandInfo> operands;
  for (ValueId id : graph_->nodes[index].inputs) operands.push_back(Operand(id));
  absl::StatusOr<Results> results =
      InferControlFlow(&graph_->nodes[index], operands,
                       [this](absl::string_view name) { return Named(name); });
  const Node& node = graph_->nodes[index];
  if (!results.ok()) return Annotate(results.status(), Describe(*graph_, node));
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue) continue;
    Value& value = graph_->value(node.outputs[i]);
    if (!value.quant.has_value()) value.dtype = (*results)[i].dtype;
    Entry& entry = At(node.outputs[i]);
    entry.shape = std::move((*results)[i].shape);
    if (!entry.shape.has_value()) continue;
    for (int64_t& dim : *entry.shape) {
      if (!Known(dim)) dim = next_symbol_--;
    }
  }
  return absl::OkStatus();
}

absl::Status Inference::Step(size_t index) {
  const Node& node = graph_->nodes[index];
  if (entries_.size() < graph_->values.size()) entries_.resize(graph_->values.size());
  if (IsControlFlow(node)) return StepControlFlow(index);
  std::vector<OperandInfo> operands;
  for (ValueId id : node.inputs) operands.push_back(Operand(id));
  // A computed tensor of which everything is known is as good as a constant.
  std::vector<Tensor> known(operands.size());
  for (size_t i = 0; i < operands.size(); ++i) {
    const PartialElements* partial = operands[i].partial;
    if (partial == nullptr || operands[i].constant != nullptr) continue;
    std::vector<int64_t> integers;
    std::vector<float> reals;
    for (const Element& element : partial->elements) {
      if (!element.known) break;
      integers.push_back(element.integer);
      reals.push_back(static_cast<float>(element.real));
    }
    if (integers.size() != partial->elements.size()) continue;
    if (partial->dtype == DType::kS64) known[i] = Tensor::FromS64(partial->shape, integers);
    if (partial->dtype == DType::kF32) known[i] = Tensor::FromF32(partial->shape, reals);
    if (known[i].valid()) operands[i].constant = &known[i];
  }
  absl::StatusOr<Results> results = InferNode(node, operands);
  if (!results.ok()) return Annotate(results.status(), Describe(*graph_, node));
  for (ResultInfo& result : *results) {
    if (!result.shape.has_value()) continue;
    for (int64_t& dim : *result.shape) {
      if (dim == kUnknownDim || dim == Element::kIndependent) dim = next_symbol_--;
    }
  }
  auto elements = FollowElements(node, operands, *results);
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue) continue;
    Value& value = graph_->value(node.outputs[i]);
    if (!value.quant.has_value()) value.dtype = (*results)[i].dtype;
    Entry& entry = entries_[static_cast<size_t>(node.outputs[i])];
    entry.shape = std::move((*results)[i].shape);
    if (i < elements.size() && !value.quant.has_value()) entry.elements = std::move(elements[i]);
  }
  return absl::OkStatus();
}

void Inference::MarkIndependent(ValueId id) {
  Entry& entry = At(id);
  const Value& value = graph_->value(id);
  if (value.quant.has_value() || !IsInteger(value.dtype) || entry.constant) return;
  if (!entry.elements.has_value()) {
    if (!entry.shape.has_value() || !IsConcrete(*entry.shape)) return;
    const auto count = CheckedNumElements(*entry.shape);
    if (!count.ok() || *count > PartialElements::kMaxElements) return;
    entry.elements = PartialElements{value.dtype, *entry.shape,
                                     std::vector<Element>(static_cast<size_t>(*count))};
  }
  for (Element& element : entry.elements->elements) {
    if (!element.known && element.dim == kUnknownDim) element.dim = Element::kIndependent;
  }
}

void Inference::Finish() {
  for (size_t i = 0; i < graph_->values.size(); ++i) {
    Value& value = graph_->values[i];
    Entry& entry = At(static_cast<ValueId>(i));
    if (value.is_constant()) {
      value.shape = value.data->shape();
      value.dtype = value.data->dtype();
      continue;
    }
    value.shape = entry.shape;
    if (!value.shape.has_value()) continue;
    for (int64_t& dim : *value.shape) dim = std::max(dim, kUnknownDim);
  }
}

absl::Status InferShapes(Graph* graph) {
  Inference inference(graph);
  OCTET_RETURN_IF_ERROR(inference.Start(Inference::InputAxis0::kDeclared));
  for (size_t i = 0; i < graph->nodes.size(); ++i) OCTET_RETURN_IF_ERROR(inference.Step(i));
  inference.Finish();
  return absl::OkStatus();
}

}  // namespace octet::graph
