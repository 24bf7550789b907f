// Shapes of If, Loop and Scan, from those of their subgraphs.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "graph/control_flow.h"
#include "graph/shape_inference.h"

namespace octet::graph {
namespace {

// Symbols mean nothing in another graph.
std::optional<Shape> Plain(std::optional<Shape> shape) {
  if (shape.has_value()) {
    for (int64_t& dim : *shape) dim = std::max(dim, kUnknownDim);
  }
  return shape;
}

// What holds for both.
std::optional<Shape> Either(const std::optional<Shape>& a, const std::optional<Shape>& b) {
  if (!a.has_value() || !b.has_value() || a->size() != b->size()) return std::nullopt;
  Shape out = *a;
  for (size_t i = 0; i < out.size(); ++i) {
    if ((*a)[i] != (*b)[i]) out[i] = kUnknownDim;
  }
  return out;
}

using SubgraphPtr = std::shared_ptr<const Graph>;

// True when inference has been over all results.
bool IsInferred(const Graph& g) {
  for (const Node& node : g.nodes) {
    for (ValueId id : node.outputs) {
      if (id == kNoValue) continue;
      if (g.value(id).dtype == DType::kInvalid || !g.value(id).shape.has_value()) return false;
    }
  }
  return true;
}

// Takes over types and shapes of inputs and captured values. Returns whether one changed.
absl::StatusOr<bool> EnterTypes(Graph* g, absl::Span<const ResultInfo> inputs, OuterScope outer) {
  bool changed = false;
  for (size_t i = 0; i < inputs.size(); ++i) {
    Value& value = g->value(g->inputs[i]);
    if (value.dtype == DType::kInvalid) changed = inputs[i].dtype != DType::kInvalid;
    if (value.dtype == DType::kInvalid) value.dtype = inputs[i].dtype;
    if (inputs[i].dtype != DType::kInvalid && value.dtype != inputs[i].dtype) {
      return Invalid("subgraph input '", value.name, "' is declared ", NameOf(value.dtype),
                     ", found ", NameOf(inputs[i].dtype));
    }
    std::optional<Shape> shape = Plain(inputs[i].shape);
    changed = changed || shape != value.shape;
    value.shape = std::move(shape);
  }
  for (ValueId id : OuterValues(*g)) {
    Value& value = g->value(id);
    const Value* found = outer(value.name);
    if (found == nullptr) continue;  // who reads it is told that nothing is known of it
    std::optional<Shape> shape = Plain(found->shape);
    changed = changed || value.dtype != found->dtype || value.quant != found->quant || value.shape != shape;
    value.dtype = found->dtype;
    value.quant = found->quant;
    value.shape = std::move(shape);
  }
  return changed;
}

// The subgraph itself when it was inferred for these types already: nested subgraphs are inferred from every level.
absl::StatusOr<SubgraphPtr> InferSubgraph(const SubgraphPtr& subgraph, absl::Span<const ResultInfo> inputs,
                                          OuterScope outer) {
  auto g = std::make_shared<Graph>(*subgraph);
  OCTET_ASSIGN_OR_RETURN(const bool changed, EnterTypes(g.get(), inputs, outer));
  if (!changed && IsInferred(*subgraph)) return subgraph;
  OCTET_RETURN_IF_ERROR(InferShapes(g.get()));
  return SubgraphPtr(std::move(g));
}

ResultInfo OutputOf(const Graph& g, size_t i) {
  const Value& value = g.value(g.outputs[i]);
  return {value.quant.has_value() ? DType::kF32 : value.dtype, value.shape};
}

void Store(Node* node, const char* key, SubgraphPtr g) { node->attributes[key] = std::move(g); }

absl::Status CheckScalar(const OperandInfo& operand, DType dtype, absl::string_view what) {
  if (!operand.present) return absl::OkStatus();
  if (operand.dtype != DType::kInvalid && operand.dtype != dtype) {
    return Invalid(what, " is ", NameOf(operand.dtype), ", expected ", NameOf(dtype));
  }
  if (!operand.shape.has_value()) return absl::OkStatus();
  for (int64_t dim : *operand.shape) {
    if (Known(dim) && dim != 1) return Invalid(what, " of shape ", Str(*operand.shape), ", expected one element");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ResultInfo>> InferIf(Node* node, absl::Span<const OperandInfo> operands,
                                                OuterScope outer) {
  if (operands.size() != 1 || !operands[0].present) return Invalid("expected one operand, the condition");
  OCTET_RETURN_IF_ERROR(CheckScalar(operands[0], DType::kBool, "the condition"));
  std::vector<ResultInfo> results(node->outputs.size());
  bool first = true;
  for (const char* key : {"then_branch", "else_branch"}) {
    const auto branch = Subgraph(*node, key);
    if (branch == nullptr) return Invalid("attribute '", key, "' is missing");
    if (!branch->inputs.empty()) return Invalid(key, " has inputs, expected none");
    if (branch->outputs.size() != results.size()) {
      return Invalid(key, " has ", branch->outputs.size(), " outputs, the node ", results.size());
    }
    absl::StatusOr<SubgraphPtr> g = InferSubgraph(branch, {}, outer);
    if (!g.ok()) return Annotate(g.status(), key);
    for (size_t i = 0; i < results.size(); ++i) {
      const ResultInfo mine = OutputOf(**g, i);
      if (first || results[i].dtype == DType::kInvalid) results[i].dtype = mine.dtype;
      if (mine.dtype != DType::kInvalid && mine.dtype != results[i].dtype) {
        return Invalid("output ", i, " is ", NameOf(results[i].dtype), " in then_branch and ",
                       NameOf(mine.dtype), " in else_branch");
      }
      results[i].shape = first ? mine.shape : Either(results[i].shape, mine.shape);
    }
    Store(node, key, *std::move(g));
    first = false;
  }
  return results;
}

// The iteration number and the condition come as the body declares them: a scalar or one element.
std::optional<Shape> ScalarAsDeclared(const Graph& body, size_t input) {
  const auto& declared = body.value(body.inputs[input]).shape;
  return declared.has_value() && declared->size() == 1 ? Shape{1} : Shape{};
}

// Infers `body` with `inputs` of which [first, first + count) are loop-carried: output `offset` + i
// becomes input first + i of the next iteration. Widens their shapes until they hold for every one.
absl::StatusOr<SubgraphPtr> InferCarried(const SubgraphPtr& body, std::vector<ResultInfo>* inputs, size_t first,
                                   size_t count, size_t offset, OuterScope outer) {
  // Each round loses at least one dimension or rank; more are not waited for.
  for (int round = 0; round < 4; ++round) {
    OCTET_ASSIGN_OR_RETURN(SubgraphPtr g, InferSubgraph(body, *inputs, outer));
    bool stable = true;
    for (size_t i = 0; i < count; ++i) {
      ResultInfo& carried = (*inputs)[first + i];
      const ResultInfo next = OutputOf(*g, offset + i);
      if (next.dtype != DType::kInvalid && carried.dtype != DType::kInvalid &&
          next.dtype != carried.dtype) {
        return Invalid("loop-carried value ", i, " is ", NameOf(carried.dtype), ", the body makes it ",
                       NameOf(next.dtype));
      }
      std::optional<Shape> both = Either(carried.shape, next.shape);
      if (both == carried.shape) continue;
      carried.shape = std::move(both);
      stable = false;
    }
    if (stable) return g;
  }
  for (size_t i = 0; i < count; ++i) (*inputs)[first + i].shape = std::nullopt;
  return InferSubgraph(body, *inputs, outer);
}

absl::StatusOr<std::vector<ResultInfo>> InferLoop(Node* node, absl::Span<const OperandInfo> operands,
                                                  OuterScope outer) {
  const auto body = Subgraph(*node, "body");
  if (body == nullptr) return Invalid("attribute 'body' is missing");
  if (operands.size() < 2) return Invalid("expected a trip count and a condition");
  const size_t carried = operands.size() - 2;
  if (body->inputs.size() != carried + 2) {
    return Invalid("its body has ", body->inputs.size(), " inputs, expected ", carried + 2);
  }
  if (body->outputs.size() < carried + 1 || body->outputs.size() - 1 != node->outputs.size()) {
    return Invalid("its body has ", body->outputs.size(), " outputs, expected ", node->outputs.size() + 1);
  }
  OCTET_RETURN_IF_ERROR(CheckScalar(operands[0], DType::kS64, "the trip count"));
  OCTET_RETURN_IF_ERROR(CheckScalar(operands[1], DType::kBool, "the condition"));
  std::vector<ResultInfo> inputs = {{DType::kS64, ScalarAsDeclared(*body, 0)},
                                    {DType::kBool, ScalarAsDeclared(*body, 1)}};
  for (size_t i = 0; i < carried; ++i) {
    if (!operands[i + 2].present) return Invalid("loop-carried value ", i, " is missing");
    inputs.push_back({operands[i + 2].dtype, Plain(operands[i + 2].shape)});
  }
  absl::StatusOr<SubgraphPtr> g = InferCarried(body, &inputs, 2, carried, 1, outer);
  if (!g.ok()) return Annotate(g.status(), "body");
  OperandInfo condition;
  condition.dtype = OutputOf(**g, 0).dtype;
  condition.shape = OutputOf(**g, 0).shape;
  OCTET_RETURN_IF_ERROR(CheckScalar(condition, DType::kBool, "the body's condition"));
  std::vector<ResultInfo> results;
  for (size_t i = 0; i < node->outputs.size(); ++i) {
    ResultInfo result = OutputOf(**g, i + 1);
    if (i < carried) {
      result.dtype = inputs[i + 2].dtype != DType::kInvalid ? inputs[i + 2].dtype : result.dtype;
      result.shape = inputs[i + 2].shape;  // no iteration may run: the initial shape counts, too
    } else if (result.shape.has_value()) {
      result.shape->insert(result.shape->begin(), kUnknownDim);
    }
    results.push_back(std::move(result));
  }
  Store(node, "body", *std::move(g));
  return results;
}

// Entry `i` of a list attribute of axes, normalized; 0 when the list is absent.
absl::StatusOr<int> ScanAxis(const Node& node, absl::string_view key, size_t i, size_t count, size_t rank) {
  const std::vector<int64_t> axes = node.GetInts(key);
  if (axes.empty()) {
    if (rank == 0) return Invalid("a scan operand has rank 0");
    return 0;
  }
  if (axes.size() != count) return Invalid("'", key, "' has ", axes.size(), " entries, expected ", count);
  return NormalizeAxis(axes[i], rank);
}

absl::StatusOr<std::vector<ResultInfo>> InferScan(Node* node, absl::Span<const OperandInfo> operands,
                                                  OuterScope outer) {
  const auto body = Subgraph(*node, "body");
  if (body == nullptr) return Invalid("attribute 'body' is missing");
  const int64_t scanned = node->GetInt("num_scan_inputs", 0);
  if (scanned < 1 || scanned > static_cast<int64_t>(operands.size())) {
    return Invalid("num_scan_inputs is ", scanned, " of ", operands.size(), " operands");
  }
  if (body->inputs.size() != operands.size()) {
    return Invalid("its body has ", body->inputs.size(), " inputs, expected ", operands.size());
  }
  if (body->outputs.size() != node->outputs.size()) {
    return Invalid("its body has ", body->outputs.size(), " outputs, expected ", node->outputs.size());
  }
  const size_t states = operands.size() - static_cast<size_t>(scanned);
  if (states > node->outputs.size()) return Invalid("fewer outputs than states");
  std::vector<ResultInfo> inputs;
  int64_t length = kUnknownDim;
  for (size_t i = 0; i < operands.size(); ++i) {
    if (!operands[i].present) return Invalid("operand ", i, " is missing");
    ResultInfo input{operands[i].dtype, Plain(operands[i].shape)};
    if (i >= states && input.shape.has_value()) {
      OCTET_ASSIGN_OR_RETURN(const int axis,
                             ScanAxis(*node, "scan_input_axes", i - states,
                                      static_cast<size_t>(scanned), input.shape->size()));
      OCTET_ASSIGN_OR_RETURN(length, MergeDims(length, (*input.shape)[static_cast<size_t>(axis)],
                                               "lengths of the scan inputs"));
      input.shape->erase(input.shape->begin() + axis);
    }
    inputs.push_back(std::move(input));
  }
  absl::StatusOr<SubgraphPtr> g = InferCarried(body, &inputs, 0, states, 0, outer);
  if (!g.ok()) return Annotate(g.status(), "body");
  std::vector<ResultInfo> results;
  for (size_t i = 0; i < node->outputs.size(); ++i) {
    ResultInfo result = OutputOf(**g, i);
    if (i < states) {
      result.shape = inputs[i].shape;
    } else if (result.shape.has_value()) {
      OCTET_ASSIGN_OR_RETURN(const int axis, ScanAxis(*node, "scan_output_axes", i - states,
                                                      node->outputs.size() - states,
                                                      result.shape->size() + 1));
      result.shape->insert(result.shape->begin() + axis, length);
    }
    results.push_back(std::move(result));
  }
  Store(node, "body", *std::move(g));
  return results;
}

}  // namespace

absl::StatusOr<std::vector<ResultInfo>> InferControlFlow(Node* node,
                                                         absl::Span<const OperandInfo> operands,
                                                         OuterScope outer) {
  if (node->op == "If") return InferIf(node, operands, outer);
  if (node->op == "Loop") return InferLoop(node, operands, outer);
  return InferScan(node, operands, outer);
}

}  // namespace octet::graph
