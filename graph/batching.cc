// The proof: inference with one symbol for axis 0 of all inputs, and a row rule per node
// (row_rules.h).
#include "graph/batching.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "graph/control_flow.h"
#include "graph/inference.h"
#include "graph/row_rules.h"

namespace octet::graph {
namespace {

constexpr int64_t kBatch = Inference::kBatchSymbol;

// Walks a copy of the graph; with kFree it also rewrites what names the fixed 1.
class Prover {
 public:
  enum class Mode : uint8_t { kProve, kFree };
  Prover(Graph* graph, Mode mode) : graph_(*graph), mode_(mode), inference_(graph) {}

  // OK, or the obstacle.
  absl::Status Run() {
    OCTET_RETURN_IF_ERROR(inference_.Start(Inference::InputAxis0::kBatch));
    flows_.resize(graph_.values.size(), Flow::kNone);
    for (ValueId id : graph_.inputs) flows_[static_cast<size_t>(id)] = Flow::kRows;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (mode_ == Mode::kFree) FreeNode(&graph_.nodes[i]);
      OCTET_RETURN_IF_ERROR(inference_.Step(i));
      const absl::Status status = FollowNode(graph_.nodes[i]);
      if (!status.ok()) {
        return absl::FailedPreconditionError(
            absl::StrCat(Describe(graph_, graph_.nodes[i]), " ", status.message()));
      }
    }
    for (ValueId id : graph_.outputs) {
      if (FlowOf(id) == Flow::kRows) continue;
      return absl::FailedPreconditionError(
          absl::StrCat("output '", graph_.value(id).name, "' does not carry the batch on axis 0"));
    }
    return absl::OkStatus();
  }

 private:
  Flow FlowOf(ValueId id) const {
    return static_cast<size_t>(id) < flows_.size() ? flows_[static_cast<size_t>(id)] : Flow::kNone;
  }

  std::optional<std::vector<int64_t>> Integers(ValueId id) {
    const Value& value = graph_.value(id);
    if (value.is_constant()) {
      if (!IsInteger(value.dtype) || value.quant.has_value()) return std::nullopt;
      if (value.data->num_elements() > PartialElements::kMaxElements) return std::nullopt;
      return value.data->ToS64();
    }
    const PartialElements* elements = inference_.elements(id);
    if (elements == nullptr || !IsInteger(elements->dtype)) return std::nullopt;
    std::vector<int64_t> out;
    for (const Element& element : elements->elements) {
      if (!element.known) return std::nullopt;
      out.push_back(element.integer);
    }
    return out;
  }

  RowOperand OperandOf(ValueId id) {
    RowOperand operand;
    operand.present = id != kNoValue;
    if (!operand.present) return operand;
    operand.flow = FlowOf(id);
    operand.shape = inference_.shape(id);
    operand.integers = Integers(id);
    const PartialElements* elements = inference_.elements(id);
    if (operand.flow != Flow::kCount || elements == nullptr) return operand;
    for (const Element& element : elements->elements) {
      operand.independent.push_back(IsIndependent(element));
    }
    return operand;
  }

  // Neither is nor may come from the batch size.
  static bool IsIndependent(const Element& element) {
    return element.known || (element.dim != kBatch && element.dim != kUnknownDim);
  }

  // A small tensor all of whose elements are independent of the batch size.
  bool FreeOfBatch(ValueId id) {
    const PartialElements* elements = inference_.elements(id);
    return elements != nullptr &&
           std::all_of(elements->elements.begin(), elements->elements.end(), IsIndependent);
  }

  absl::Status FollowNode(const Node& node) {
    if (IsControlFlow(node)) {
      return absl::FailedPreconditionError("is control flow, whose subgraphs are not followed");
    }
    std::vector<RowOperand> operands;
    bool any_rows = false, any_count = false;
    for (ValueId id : node.inputs) {
      operands.push_back(OperandOf(id));
      any_rows = any_rows || operands.back().rows();
      any_count = any_count || (operands.back().present && operands.back().flow == Flow::kCount);
    }
    const bool asks_shape = node.domain.empty() && (node.op == "Shape" || node.op == "Size");
    Flow flow = Flow::kNone;
    if (any_rows && !asks_shape) {
      const std::optional<Shape>& shape = inference_.shape(node.outputs[0]);
      if (!shape.has_value()) return absl::FailedPreconditionError("has a result of unknown rank");
      OCTET_RETURN_IF_ERROR(KeepsRows(node, operands, shape->size()));
      flow = Flow::kRows;
    } else if (any_rows || any_count) {
      flow = RepeatsForEachRow(node, operands) ? Flow::kRows : Flow::kCount;
    }
    for (ValueId id : node.outputs) {
      if (id == kNoValue) continue;
      Flow own = flow;
      if (own == Flow::kRows) OCTET_RETURN_IF_ERROR(CheckRows(id));
      // Dimensions of rows are independent but for the first; those of a function of the batch size
      // may not be.
      if (asks_shape && any_count) inference_.ForgetElements(id);
      if (own == Flow::kCount && FreeOfBatch(id)) own = Flow::kNone;
      if (own == Flow::kNone) inference_.MarkIndependent(id);
      flows_[static_cast<size_t>(id)] = own;
    }
    return absl::OkStatus();
  }

  // ConstantOfShape([batch, ...]) and Expand(constant, [batch, ...]) make equal rows.
  bool RepeatsForEachRow(const Node& node, absl::Span<const RowOperand> operands) {
    const bool fills = node.op == "ConstantOfShape";
    if (!node.domain.empty() || (!fills && node.op != "Expand")) return false;
    const std::optional<Shape>& shape = inference_.shape(node.outputs[0]);
    const PartialElements* target = inference_.elements(node.inputs[fills ? 0 : 1]);
    if (!shape.has_value() || shape->empty() || (*shape)[0] != kBatch || target == nullptr) {
      return false;
    }
    for (size_t i = 1; i < target->elements.size(); ++i) {
      if (!IsIndependent(target->elements[i])) return false;
    }
    return fills ||
           (operands[0].flow == Flow::kNone && operands[0].broadcasts_along_axis0(shape->size()));
  }

  absl::Status CheckRows(ValueId id) {
    const std::optional<Shape>& shape = inference_.shape(id);
    if (!shape.has_value() || shape->empty() || (*shape)[0] != kBatch) {
      return absl::FailedPreconditionError(
          absl::StrCat("does not keep the batch on axis 0: its result has shape ",
                       shape.has_value() ? Str(*shape) : "unknown"));
    }
    if (std::count(shape->begin(), shape->end(), kBatch) > 1) {
      return absl::FailedPreconditionError("has the batch size in two dimensions of its result");
    }
    const std::optional<QuantParams>& quant = graph_.value(id).quant;
    if (quant.has_value() && quant->axis == 0) {
      return absl::FailedPreconditionError("has a scale per row");
    }
    return absl::OkStatus();
  }

  void FreeNode(Node* node) {
    if (!node->domain.empty() || node->inputs.empty() || node->inputs[0] == kNoValue) return;
    if (FlowOf(node->inputs[0]) != Flow::kRows) return;
    if (node->op == "Reshape") FreeReshape(node);
    if (node->op == "Resize") FreeResize(node);
  }

  void FreeReshape(Node* node) {
    std::optional<std::vector<int64_t>> target = Integers(node->inputs[1]);
    if (!target.has_value() || target->empty() || (*target)[0] != 1) return;
    const bool allow_zero = node->GetInt("allowzero", 0) != 0;
    if (allow_zero && std::find(target->begin(), target->end(), -1) != target->end()) return;
    (*target)[0] = allow_zero ? -1 : 0;
    node->inputs[1] = AddIntegers(node->inputs[1], *target);
  }

  // Sizes of all axes become sizes of all but axis 0.
  void FreeResize(Node* node) {
    if (!node->has_input(3) || node->Has("axes")) return;
    if (node->GetString("keep_aspect_ratio_policy", "stretch") != "stretch") return;
    if (node->GetString("coordinate_transformation_mode", "") == "tf_crop_and_resize") return;
    const std::optional<std::vector<int64_t>> sizes = Integers(node->inputs[3]);
    if (!sizes.has_value() || sizes->size() < 2 || (*sizes)[0] != 1) return;
    std::vector<int64_t> axes;
    for (size_t i = 1; i < sizes->size(); ++i) axes.push_back(static_cast<int64_t>(i));
    node->attributes["axes"] = std::move(axes);
    node->inputs[3] =
        AddIntegers(node->inputs[3], std::vector<int64_t>(sizes->begin() + 1, sizes->end()));
  }

  ValueId AddIntegers(ValueId like, const std::vector<int64_t>& integers) {
    if (names_.empty()) {
      for (const Value& value : graph_.values) names_.insert(value.name);
    }
    std::string name = absl::StrCat(graph_.value(like).name, "/free");
    while (!names_.insert(name).second) absl::StrAppend(&name, "_");
    const Shape shape = {static_cast<int64_t>(integers.size())};
    const ValueId id = graph_.AddConstant(std::move(name), Tensor::FromS64(shape, integers));
    flows_.resize(graph_.values.size(), Flow::kNone);
    return id;
  }

  Graph& graph_;
  const Mode mode_;
  Inference inference_;
  std::vector<Flow> flows_;
  absl::flat_hash_set<std::string> names_;
};

BatchProof Obstacle(std::string obstacle) { return BatchProof{false, false, std::move(obstacle)}; }

// Empty when axis 0 of every input is free (`fixed` false) or fixed at 1 (`fixed` true).
std::string InputObstacle(const Graph& graph, bool fixed) {
  if (graph.inputs.empty()) return "the model has no input";
  for (ValueId id : graph.inputs) {
    const Value& value = graph.value(id);
    if (!value.shape.has_value() || value.shape->empty()) {
      return absl::StrCat("input '", value.name, "' has no axis 0");
    }
    const int64_t dim = (*value.shape)[0];
    if (fixed ? dim == 1 : dim < 0) continue;
    return absl::StrCat(
        "axis 0 of input '", value.name, "' is ",
        dim < 0 ? "free, that of another input fixed" : absl::StrCat("fixed at ", dim));
  }
  return "";
}

void NameBatch(Graph* graph) {
  for (ValueId id : graph->inputs) {
    for (const std::string& name : graph->value(id).dim_names) {
      if (name == "batch") return;
    }
  }
  for (ValueId id : graph->inputs) {
    Value& value = graph->value(id);
    value.dim_names.resize(value.shape->size());
    value.dim_names[0] = "batch";
  }
}

}  // namespace

BatchProof ProveBatchable(const Graph& graph) {
  if (std::string obstacle = InputObstacle(graph, false); !obstacle.empty()) {
    return Obstacle(std::move(obstacle));
  }
  Graph copy = graph;
  const absl::Status status = Prover(&copy, Prover::Mode::kProve).Run();
  if (!status.ok()) return Obstacle(std::string(status.message()));
  return BatchProof{true, false, ""};
}

BatchProof FreeBatch(Graph* graph) {
  if (InputObstacle(*graph, false).empty()) return ProveBatchable(*graph);
  if (std::string obstacle = InputObstacle(*graph, true); !obstacle.empty()) {
    return Obstacle(std::move(obstacle));
  }
  Graph copy = *graph;
  absl::Status status = Prover(&copy, Prover::Mode::kFree).Run();
  if (status.ok()) {
    for (ValueId id : copy.inputs) (*copy.value(id).shape)[0] = kUnknownDim;
    NameBatch(&copy);
    copy.RemoveDead();
    status = InferShapes(&copy);
  }
  if (!status.ok()) return Obstacle(std::string(status.message()));
  *graph = std::move(copy);
  return BatchProof{true, true, ""};
}

}  // namespace octet::graph
