// Lowering of operators that read or write elements at given positions, and of those that rank or
// mark them.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/builder.h"
#include "engine/lower.h"
#include "kernels/plain/cum_sum.h"
#include "kernels/plain/indexing.h"
#include "kernels/plain/one_hot.h"
#include "kernels/plain/reverse_sequence.h"
#include "kernels/plain/top_k.h"

namespace octet::engine {
namespace {

using graph::Node;
using kernels::Layout;
using kernels::TensorSpec;

TensorSpec WithShape(TensorSpec spec, Shape shape) {
  spec.shape = std::move(shape);
  return spec;
}

// Indices of type s32 or s64 as the kernels read them: plain. Constant ones as a tensor of the
// weight store's bytes.
Tensor ConstantIndices(const Location& indices) {
  if (indices.constant == nullptr) return {};
  return Tensor(indices.spec.dtype, indices.spec.shape, indices.constant->data.data(),
                indices.constant);
}

absl::Status LowerGatherElements(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location data, MovableOperand(b, node.inputs[0]));
  OCTET_ASSIGN_OR_RETURN(const Location indices, b.GetPlain(node.inputs[1]));
  const Location dst = b.NewBuffer(WithShape(data.spec, b.info(fused.output).shape));
  OCTET_ASSIGN_OR_RETURN(const int axis, AxisOf(node, "axis", 0, data.spec.shape.size()));
  OCTET_ASSIGN_OR_RETURN(auto kernel, kernels::CreateGatherElements(
                                          {data.spec, indices.spec, dst.spec, axis}, b.env()));
  b.Emit(std::move(kernel), {data, indices}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::Status LowerGatherNd(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location data, MovableOperand(b, node.inputs[0]));
  OCTET_ASSIGN_OR_RETURN(const Location indices, b.GetPlain(node.inputs[1]));
  const Location dst = b.NewBuffer(WithShape(data.spec, b.info(fused.output).shape));
  kernels::GatherNdParams params{data.spec, indices.spec, dst.spec,
                                 static_cast<int>(node.GetInt("batch_dims", 0)),
                                 ConstantIndices(indices)};
  OCTET_ASSIGN_OR_RETURN(auto kernel, kernels::CreateGatherNd(params, b.env()));
  std::vector<Location> src = {data};
  if (!params.constant_indices.valid()) src.push_back(indices);
  b.Emit(std::move(kernel), std::move(src), {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::StatusOr<kernels::ScatterReduction> ReductionOf(const Node& node) {
  using Reduction = kernels::ScatterReduction;
  const std::string name = node.GetString("reduction", "none");
  if (name == "none") return Reduction::kNone;
  if (name == "add") return Reduction::kAdd;
  if (name == "mul") return Reduction::kMul;
  if (name == "max") return Reduction::kMax;
  if (name == "min") return Reduction::kMin;
  return absl::InvalidArgumentError(
      absl::StrCat("reduction '", name, "', expected none, add, mul, max or min"));
}

// Data and updates of a scatter: stored integers where both have the same and order is all that
// counts, else reals.
absl::StatusOr<std::pair<Location, Location>> ScatterOperands(Builder& b, const Node& node,
                                                              kernels::ScatterReduction reduction) {
  using Reduction = kernels::ScatterReduction;
  OCTET_ASSIGN_OR_RETURN(Location data, MovableOperand(b, node.inputs[0]));
  OCTET_ASSIGN_OR_RETURN(Location updates, MovableOperand(b, node.inputs[2]));
  const bool computes = reduction == Reduction::kAdd || reduction == Reduction::kMul;
  const bool quantized = data.spec.quant.has_value() || updates.spec.quant.has_value();
  const bool same = data.spec.quant == updates.spec.quant && data.spec.dtype == updates.spec.dtype;
  if (quantized && (computes || !same)) {
    OCTET_ASSIGN_OR_RETURN(data, b.GetPlainF32(node.inputs[0]));
    OCTET_ASSIGN_OR_RETURN(updates, b.GetPlainF32(node.inputs[2]));
  }
  return std::make_pair(std::move(data), std::move(updates));
}

absl::Status LowerScatterElements(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const auto reduction, ReductionOf(node));
  OCTET_ASSIGN_OR_RETURN(const auto operands, ScatterOperands(b, node, reduction));
  const auto& [data, updates] = operands;
  OCTET_ASSIGN_OR_RETURN(const Location indices, b.GetPlain(node.inputs[1]));
  OCTET_ASSIGN_OR_RETURN(const int axis, AxisOf(node, "axis", 0, data.spec.shape.size()));
  const Location dst = b.NewBuffer(data.spec);
  OCTET_ASSIGN_OR_RETURN(
      auto kernel,
      kernels::CreateScatterElements(
          {data.spec, indices.spec, updates.spec, dst.spec, axis, reduction}, b.env()));
  b.Emit(std::move(kernel), {data, indices, updates}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::Status LowerScatterNd(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const auto reduction, ReductionOf(node));
  OCTET_ASSIGN_OR_RETURN(const auto operands, ScatterOperands(b, node, reduction));
  const auto& [data, updates] = operands;
  OCTET_ASSIGN_OR_RETURN(const Location indices, b.GetPlain(node.inputs[1]));
  const Location dst = b.NewBuffer(data.spec);
  kernels::ScatterNdParams params{data.spec, indices.spec, updates.spec,
                                  dst.spec,  reduction,    ConstantIndices(indices)};
  OCTET_ASSIGN_OR_RETURN(auto kernel, kernels::CreateScatterNd(params, b.env()));
  std::vector<Location> src = {data, updates};
  if (!params.constant_indices.valid()) src.push_back(indices);
  b.Emit(std::move(kernel), std::move(src), {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::Status LowerTopK(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location src, MovableOperand(b, node.inputs[0]));
  const bool has_positions = node.outputs.size() > 1 && node.outputs[1] != graph::kNoValue;
  const graph::ValueId known =
      node.outputs[0] != graph::kNoValue ? node.outputs[0] : node.outputs[1];
  kernels::TopKParams params;
  params.src = src.spec;
  params.dst_shape = b.info(known).shape;
  OCTET_ASSIGN_OR_RETURN(params.axis, AxisOf(node, "axis", -1, src.spec.shape.size()));
  using Params = kernels::TopKParams;
  params.largest = node.GetInt("largest", 1) != 0 ? Params::Largest::kYes : Params::Largest::kNo;
  params.order = node.GetInt("sorted", 1) != 0 ? Params::Order::kSorted : Params::Order::kAny;
  // Outputs that nobody reads get memory of their own all the same: the kernel writes both.
  const Location values = b.NewBuffer(WithShape(src.spec, params.dst_shape));
  TensorSpec positions_spec;
  positions_spec.dtype = DType::kS64;
  positions_spec.shape = params.dst_shape;
  const Location positions = b.NewBuffer(positions_spec);
  OCTET_ASSIGN_OR_RETURN(auto kernel, kernels::CreateTopK(params, b.env()));
  b.Emit(std::move(kernel), {src}, {values, positions}, &fused);
  if (has_positions) OCTET_RETURN_IF_ERROR(b.Bind(node.outputs[1], positions));
  return node.outputs[0] == graph::kNoValue ? absl::OkStatus() : b.Bind(node.outputs[0], values);
}

absl::Status LowerCumSum(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(Location src, b.GetPlain(node.inputs[0]));
  if (src.spec.quant.has_value()) {
    OCTET_ASSIGN_OR_RETURN(src, b.GetPlainF32(node.inputs[0]));
  }
  OCTET_ASSIGN_OR_RETURN(const Location axis, b.GetPlain(node.inputs[1]));
  using Params = kernels::CumSumParams;
  const Params params{
      src.spec, axis.spec,
      node.GetInt("exclusive", 0) != 0 ? Params::Start::kExclusive : Params::Start::kInclusive,
      node.GetInt("reverse", 0) != 0 ? Params::Direction::kReverse : Params::Direction::kForward};
  const Location dst = b.NewBuffer(src.spec);
  OCTET_ASSIGN_OR_RETURN(auto kernel, kernels::CreateCumSum(params, b.env()));
  b.Emit(std::move(kernel), {src, axis}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::Status LowerOneHot(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(Location indices, b.GetPlain(node.inputs[0]));
  if (indices.spec.quant.has_value()) {
    OCTET_ASSIGN_OR_RETURN(indices, b.GetPlainF32(node.inputs[0]));
  }
  OCTET_ASSIGN_OR_RETURN(const Location values, MovableOperand(b, node.inputs[2]));
  const Location dst = b.NewBuffer(WithShape(values.spec, b.info(fused.output).shape));
  OCTET_ASSIGN_OR_RETURN(const int axis, AxisOf(node, "axis", -1, dst.spec.shape.size()));
  OCTET_ASSIGN_OR_RETURN(
      auto kernel, kernels::CreateOneHot({indices.spec, values.spec, dst.spec, axis}, b.env()));
  b.Emit(std::move(kernel), {indices, values}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::Status LowerReverseSequence(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location src, MovableOperand(b, node.inputs[0]));
  OCTET_ASSIGN_OR_RETURN(const Location lengths, b.GetPlain(node.inputs[1]));
  using Axes = kernels::ReverseSequenceParams::Axes;
  const Axes axes = node.GetInt("batch_axis", 1) == 0 ? Axes::kBatchFirst : Axes::kTimeFirst;
  const Location dst = b.NewBuffer(src.spec);
  OCTET_ASSIGN_OR_RETURN(auto kernel,
                         kernels::CreateReverseSequence({src.spec, lengths.spec, axes}, b.env()));
  b.Emit(std::move(kernel), {src, lengths}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

}  // namespace

// Per-axis and blocked quant does not survive a move: such values are constants, taken as reals. 4-bit elements have no
// address of their own: they move as bytes.
absl::StatusOr<Location> MovableOperand(Builder& b, graph::ValueId id) {
  OCTET_ASSIGN_OR_RETURN(const Location l, b.Get(id));
  const bool nibbles = BitsOf(l.spec.dtype) == 4;
  if (l.spec.quant.has_value() && (nibbles || !l.spec.quant->per_tensor())) return b.GetPlainF32(id);
  if (nibbles) {
    return b.GetAs(id, Layout::kPlain, l.spec.dtype == DType::kS4 ? DType::kS8 : DType::kU8, std::nullopt);
  }
  return b.GetPlain(id);
}

absl::StatusOr<int> AxisOf(const Node& node, absl::string_view key, int64_t absent, size_t rank) {
  const int64_t axis = node.GetInt(key, absent), r = static_cast<int64_t>(rank);
  if (axis < -r || axis >= r) {
    return absl::InvalidArgumentError(absl::StrCat(key, " ", axis, " of an operand of rank ", r));
  }
  return static_cast<int>(axis < 0 ? axis + r : axis);
}

void AddIndexingRules(LowerTable* table) {
  table->Add("CumSum", LowerCumSum);
  table->Add("GatherElements", LowerGatherElements);
  table->Add("GatherND", LowerGatherNd);
  table->Add("OneHot", LowerOneHot);
  table->Add("ReverseSequence", LowerReverseSequence);
  table->Add("ScatterElements", LowerScatterElements);
  table->Add("ScatterND", LowerScatterNd);
  table->Add("TopK", LowerTopK);
}

}  // namespace octet::engine
