// From graph and shapes to a plan.
#include "engine/specialise.h"

#include <algorithm>
#include <deque>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/evaluate.h"
#include "engine/fuse.h"
#include "graph/shape_inference.h"

namespace octet::engine {
namespace {

using graph::Graph;
using graph::Node;
using graph::ValueId;

// Shape arithmetic at specialisation works on small tensors; anything larger stays a node.
constexpr int64_t kMaxFoldedBytes = 1 << 20;

absl::Status CheckInput(const graph::Value& value, const Shape& shape) {
  OCTET_RETURN_IF_ERROR(CheckedByteSize(DType::kF64, shape).status());
  if (!value.shape.has_value()) return absl::OkStatus();
  bool fits = value.shape->size() == shape.size();
  for (size_t i = 0; fits && i < shape.size(); ++i) {
    fits = (*value.shape)[i] == kUnknownDim || (*value.shape)[i] == shape[i];
  }
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("input '", value.name, "' has shape ", ShapeString(shape),
                                                 ", expected ", ShapeString(*value.shape)));
}

class Specialiser {
 public:
  Specialiser(const Graph& graph, absl::Span<const Shape> input_shapes)
      : graph_(graph), input_shapes_(input_shapes), infos_(InitialInfos(graph)) {}

  // Concrete types and shapes of all values, with what folds from them.
  absl::Status BindShapes() {
    if (input_shapes_.size() != graph_.inputs.size()) {
      return absl::InvalidArgumentError(absl::StrCat(input_shapes_.size(), " input shapes given, the model has ",
                                                     graph_.inputs.size(), " inputs"));
    }
    for (size_t i = 0; i < graph_.inputs.size(); ++i) {
      OCTET_RETURN_IF_ERROR(CheckInput(graph_.value(graph_.inputs[i]), input_shapes_[i]));
      infos_[static_cast<size_t>(graph_.inputs[i])].shape = input_shapes_[i];
    }
    for (const Node& node : graph_.nodes) {
      OCTET_RETURN_IF_ERROR(BindNode(node));
    }
    return absl::OkStatus();
  }

  // Nodes that still have to run, in order.
  std::vector<int> LiveNodes() const {
    std::vector<bool> needed(graph_.values.size(), false);
    for (ValueId id : graph_.outputs) needed[static_cast<size_t>(id)] = true;
    std::vector<int> live;
    for (size_t i = graph_.nodes.size(); i-- > 0;) {
      const Node& node = graph_.nodes[i];
      const bool runs = std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId id) {
        return id != graph::kNoValue && needed[static_cast<size_t>(id)] &&
               !infos_[static_cast<size_t>(id)].is_constant;
      });
      if (!runs) continue;
      live.push_back(static_cast<int>(i));
      for (ValueId id : node.inputs) {
        if (id != graph::kNoValue) needed[static_cast<size_t>(id)] = true;
      }
    }
    std::reverse(live.begin(), live.end());
    return live;
  }

  const std::vector<ValueInfo>& infos() const { return infos_; }

 private:
  ValueInfo& Info(ValueId id) { return infos_[static_cast<size_t>(id)]; }

  absl::Status BindNode(const Node& node) {
    std::vector<graph::OperandInfo> operands;
    bool constant = true;
    for (ValueId id : node.inputs) {
      graph::OperandInfo operand;
      operand.present = id != graph::kNoValue;
      if (operand.present) {
        const ValueInfo& info = Info(id);
        operand.dtype = graph_.value(id).quant.has_value() ? DType::kF32 : info.dtype;
        operand.shape = info.shape;
        operand.constant = info.constant;
        constant = constant && info.constant != nullptr;
      }
      operands.push_back(std::move(operand));
    }
    absl::StatusOr<std::vector<graph::ResultInfo>> results = graph::InferNode(node, operands);
    if (!results.ok()) return Annotate(results.status(), Describe(graph_, node));
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == graph::kNoValue) continue;
      OCTET_RETURN_IF_ERROR(BindResult(node, node.outputs[i], (*results)[i]));
    }
    const bool by_shape = node.op == "Shape" || node.op == "Size";
    if ((constant || by_shape) && (IsShapeOperator(node) || Foldable(node))) return Fold(node);
    return absl::OkStatus();
  }

  absl::Status BindResult(const Node& node, ValueId id, const graph::ResultInfo& result) {
    if (!result.shape.has_value() || !IsConcrete(*result.shape)) {
      return absl::UnimplementedError(absl::StrCat(
          Describe(graph_, node), ": the shape of '", graph_.value(id).name, "' depends on data (",
          result.shape.has_value() ? ShapeString(*result.shape) : "unknown rank", ")"));
    }
    OCTET_RETURN_IF_ERROR(
        Annotate(CheckedByteSize(DType::kF64, *result.shape).status(), Describe(graph_, node)));
    ValueInfo& info = Info(id);
    info.shape = *result.shape;
    info.dtype = graph_.value(id).quant.has_value() ? graph_.value(id).dtype : result.dtype;
    return absl::OkStatus();
  }

  bool Foldable(const Node& node) {
    if (FindLowering(node.domain, node.op) == nullptr) return false;
    for (ValueId id : node.outputs) {
      if (id != graph::kNoValue && ByteSize(DType::kF64, Info(id).shape) > kMaxFoldedBytes) return false;
    }
    return true;
  }

  absl::Status Fold(const Node& node) {
    OCTET_ASSIGN_OR_RETURN(std::vector<Tensor> results,
                           EvaluateNode(graph_, node, infos_, kMaxFoldedBytes * 64));
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == graph::kNoValue) continue;
      folded_.push_back(std::move(results[i]));
      ValueInfo& info = Info(node.outputs[i]);
      info.constant = &folded_.back();
      info.is_constant = true;
      info.local = true;
    }
    return absl::OkStatus();
  }

  const Graph& graph_;
  absl::Span<const Shape> input_shapes_;
  std::vector<ValueInfo> infos_;
  std::deque<Tensor> folded_;  // stable addresses
};

Signature Describe(const Graph& graph, const std::vector<ValueInfo>& infos, ValueId id) {
  const ValueInfo& info = infos[static_cast<size_t>(id)];
  const graph::Value& value = graph.value(id);
  return {value.name, value.quant.has_value() ? value.dtype : info.dtype, info.shape};
}

}  // namespace

std::vector<ValueInfo> InitialInfos(const Graph& graph) {
  std::vector<ValueInfo> infos(graph.values.size());
  for (size_t i = 0; i < infos.size(); ++i) {
    const graph::Value& value = graph.values[i];
    infos[i].dtype = value.dtype;
    if (!value.is_constant()) continue;
    infos[i].is_constant = true;
    infos[i].shape = value.data->shape();
    // A released constant keeps its shape; its content lives in the weight store.
    if (value.data->data() != nullptr) infos[i].constant = &*value.data;
  }
  return infos;
}

absl::StatusOr<Plan> MakePlan(const Graph& graph, absl::Span<const Shape> input_shapes,
                              kernels::WeightStore* program_store, kernels::WeightStore* local_store,
                              int threads) {
  Specialiser specialiser(graph, input_shapes);
  OCTET_RETURN_IF_ERROR(specialiser.BindShapes());
  const std::vector<int> live = specialiser.LiveNodes();
  Builder builder(graph, specialiser.infos(), program_store, local_store, threads);
  Plan plan;
  plan.threads = threads;
  for (ValueId id : graph.inputs) {
    plan.input_buffers.push_back(builder.AddInput(id).buffer);
    plan.inputs.push_back(Describe(graph, specialiser.infos(), id));
  }
  for (const FusedNode& fused : FuseNodes(graph, specialiser.infos(), live)) {
    OCTET_RETURN_IF_ERROR(builder.Lower(fused));
  }
  for (ValueId id : graph.outputs) {
    OCTET_ASSIGN_OR_RETURN(const int buffer, builder.AddOutput(id));
    plan.output_buffers.push_back(buffer);
    plan.outputs.push_back(Describe(graph, specialiser.infos(), id));
  }
  plan.memory = PlanMemory(builder.Lives(plan.input_buffers, plan.output_buffers));
  plan.scratch_bytes = builder.scratch_bytes();
  plan.steps = std::move(builder.steps());
  return plan;
}

}  // namespace octet::engine
