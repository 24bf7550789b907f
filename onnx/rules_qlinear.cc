// QOperator forms: operators on reals whose operands and result have quant.
//
// Where scales are computed at run time, the same operators work on f32 between conversions.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "onnx/quant_operands.h"
#include "onnx/rules.h"

namespace octet::onnx_io {
namespace {

using graph::ValueId;

// Input `i` as reals: a value with quant, or f32 when scale or zero point are computed.
absl::StatusOr<ValueId> Operand(NodeImporter& node, size_t i, size_t scale, int64_t axis,
                                NamedQuant* quant) {
  if (!IsConstantQuant(node, scale)) {
    return EmitDequantize(node, node.inputs[i], scale, {axis, 0, true}, node.Fresh("real"));
  }
  const std::optional<Shape> shape = node.value(node.inputs[i]).shape;
  OCTET_ASSIGN_OR_RETURN(*quant, ReadQuant(node, scale, shape, {axis, 0, true}));
  return WithQuant(node, i, *quant);
}

absl::StatusOr<ValueId> Operand(NodeImporter& node, size_t i, int64_t axis = 1) {
  NamedQuant ignored;
  return Operand(node, i, i + 1, axis, &ignored);
}

// An operator on reals, whatever their storage.
absl::StatusOr<ValueId> EmitReal(NodeImporter& node, absl::string_view op,
                                 std::vector<ValueId> operands, std::string output,
                                 AttributeMap attrs = {}) {
  node.reads_reals = true;
  absl::StatusOr<ValueId> id =
      node.Emit1(op, std::move(operands), std::move(output), std::move(attrs));
  node.reads_reals = false;
  return id;
}

// The last operator: its result is rounded with the parameters that input `scale` starts.
absl::StatusOr<ValueId> EmitRounded(NodeImporter& node, absl::string_view op,
                                    std::vector<ValueId> operands, size_t scale, DType absent,
                                    AttributeMap attrs, const std::string& output) {
  const DType integer = IntegerOf(node, scale, absent);
  if (!IsConstantQuant(node, scale)) {
    OCTET_ASSIGN_OR_RETURN(const ValueId real, EmitReal(node, op, std::move(operands),
                                                        node.Fresh("real"), std::move(attrs)));
    OCTET_RETURN_IF_ERROR(EmitQuantize(node, real, scale, {1, 0, false}, integer, output));
    return node.state().graph.nodes.back().outputs[0];
  }
  OCTET_ASSIGN_OR_RETURN(NamedQuant y, ReadQuant(node, scale, std::nullopt, {1, 0, false}));
  OCTET_ASSIGN_OR_RETURN(const ValueId id,
                         EmitReal(node, op, std::move(operands), output, std::move(attrs)));
  node.SetQuant(id, integer, y.params);
  return id;
}

absl::Status EmitResult(NodeImporter& node, absl::string_view op, std::vector<ValueId> operands,
                        size_t scale, DType absent, AttributeMap attrs) {
  return EmitRounded(node, op, std::move(operands), scale, absent, std::move(attrs),
                     node.Output(0))
      .status();
}

// Constant s32 input `i` whose unit is the product of two scales.
absl::StatusOr<ValueId> Bias(NodeImporter& node, size_t i, const NamedQuant& a, const NamedQuant& w,
                             float factor) {
  const Tensor* b = node.ConstantInput(i);
  if (b == nullptr || b->dtype() != DType::kS32) {
    return absl::UnimplementedError("bias: expected a constant of s32");
  }
  NamedQuant bias;
  bias.integer = DType::kS32;
  for (float s : w.params.scale) bias.params.scale.push_back(s * a.params.scale[0] * factor);
  if (bias.params.scale.size() == 1) {
    bias.params.zero_point = {0};
  } else if (b->shape().empty() ||
             b->shape().back() != static_cast<int64_t>(bias.params.scale.size())) {
    return absl::InvalidArgumentError(absl::StrCat("bias of shape ", ShapeString(b->shape()),
                                                   ", expected one number per scale: ",
                                                   bias.params.scale.size()));
  } else {
    bias.params.axis = static_cast<int>(b->shape().size()) - 1;
  }
  return WithQuant(node, i, bias);
}

// The bias of a convolution whose scales are computed: f32 [C, 1, ...] to be added to its result.
absl::StatusOr<ValueId> RealBias(NodeImporter& node, ValueId x) {
  OCTET_ASSIGN_OR_RETURN(ValueId b, node.Emit1("Cast", {node.inputs[8]}, node.Fresh("bias"),
                                               CastTo(DType::kF32)));
  for (size_t scale : {size_t{1}, size_t{4}}) {
    OCTET_ASSIGN_OR_RETURN(b, node.Emit1("Mul", {b, node.inputs[scale]}, node.Fresh("bias")));
  }
  const std::optional<int64_t> rank = node.Rank(x);
  if (!rank.has_value()) return absl::UnimplementedError("input of unknown rank");
  std::vector<int64_t> ones;
  for (int64_t d = 1; d + 1 < *rank; ++d) ones.push_back(d);
  return node.Emit1("Unsqueeze", {b, node.AddInts("axes", ones)}, node.Fresh("bias"));
}

// Input `x`, channels last in the file, in ONNX's order; `back` is the permutation of results.
absl::StatusOr<ValueId> ChannelsFirst(NodeImporter& node, ValueId x, AttributeMap* back) {
  const std::optional<int64_t> rank = node.Rank(x);
  if (!rank.has_value() || *rank < 3) {
    return absl::UnimplementedError("channels_last = 1 of an input of unknown rank or below 3");
  }
  std::vector<int64_t> to = {0, *rank - 1}, from = {0};
  for (int64_t d = 1; d + 1 < *rank; ++d) to.push_back(d);
  for (int64_t d = 2; d < *rank; ++d) from.push_back(d);
  from.push_back(1);
  AttributeMap attrs;
  attrs["perm"] = to;
  (*back)["perm"] = from;
  return node.Emit1("Transpose", {x}, node.Fresh("channels_first"), std::move(attrs));
}

// Softmax over all dimensions from `axis` on, taken together: what opsets below 13 mean.
absl::Status FlattenedSoftmax(NodeImporter& node, ValueId x, int64_t axis, DType like_x) {
  AttributeMap flatten, last;
  flatten["axis"] = axis;
  last["axis"] = int64_t{-1};
  OCTET_ASSIGN_OR_RETURN(const ValueId shape, node.Emit1("Shape", {x}, node.Fresh("shape")));
  OCTET_ASSIGN_OR_RETURN(const ValueId flat,
                         node.Emit1("Flatten", {x}, node.Fresh("flat"), std::move(flatten)));
  OCTET_ASSIGN_OR_RETURN(const ValueId y, EmitRounded(node, "Softmax", {flat}, 3, like_x,
                                                      std::move(last), node.Fresh("soft")));
  return node.Emit1("Reshape", {y, shape}, node.Output(0)).status();
}

}  // namespace

absl::Status TranslateQLinearConv(NodeImporter& node) {
  NamedQuant x_quant, w_quant;
  const bool fixed = IsConstantQuant(node, 1) && IsConstantQuant(node, 4);
  OCTET_ASSIGN_OR_RETURN(const ValueId x, Operand(node, 0, 1, 1, &x_quant));
  OCTET_ASSIGN_OR_RETURN(const ValueId w, Operand(node, 3, 4, 0, &w_quant));
  if (!x_quant.params.per_tensor()) {
    return absl::InvalidArgumentError("x: expected one scale, found several");
  }
  std::vector<ValueId> operands = {x, w};
  const DType like_x = node.value(node.inputs[0]).dtype;
  AttributeMap attrs = node.attributes;
  attrs.erase("channels_last");
  if (node.Int("channels_last", 0) != 0) {
    return absl::UnimplementedError("channels_last = 1 is not supported");
  }
  if (node.has_input(8) && !fixed) {
    OCTET_ASSIGN_OR_RETURN(const ValueId sum,
                           EmitReal(node, "Conv", operands, node.Fresh("sum"), attrs));
    OCTET_ASSIGN_OR_RETURN(const ValueId bias, RealBias(node, x));
    return EmitResult(node, "Add", {sum, bias}, 6, like_x, {});
  }
  if (node.has_input(8)) {
    OCTET_ASSIGN_OR_RETURN(const ValueId bias, Bias(node, 8, x_quant, w_quant, 1));
    operands.push_back(bias);
  }
  return EmitResult(node, "Conv", std::move(operands), 6, like_x, std::move(attrs));
}

absl::Status TranslateQLinearMatMul(NodeImporter& node) {
  OCTET_ASSIGN_OR_RETURN(const ValueId a, Operand(node, 0, -2));
  OCTET_ASSIGN_OR_RETURN(const ValueId b, Operand(node, 3, -1));
  return EmitResult(node, "MatMul", {a, b}, 6, node.value(node.inputs[0]).dtype, {});
}

absl::Status TranslateQGemm(NodeImporter& node) {
  NamedQuant a_quant, b_quant;
  if (!IsConstantQuant(node, 1) || !IsConstantQuant(node, 4)) {
    return absl::UnimplementedError("computed scales are not supported");
  }
  OCTET_ASSIGN_OR_RETURN(const ValueId a, Operand(node, 0, 1, 0, &a_quant));
  const int64_t columns = node.Int("transB", 0) != 0 ? 0 : 1;
  OCTET_ASSIGN_OR_RETURN(const ValueId b, Operand(node, 3, 4, columns, &b_quant));
  std::vector<ValueId> operands = {a, b};
  if (node.has_input(6)) {
    OCTET_ASSIGN_OR_RETURN(const ValueId c,
                           Bias(node, 6, a_quant, b_quant, node.Float("alpha", 1.0f)));
    operands.push_back(c);
  }
  if (!node.has_input(7)) {
    return EmitReal(node, "Gemm", std::move(operands), node.Output(0), node.attributes).status();
  }
  return EmitResult(node, "Gemm", std::move(operands), 7, node.value(node.inputs[0]).dtype,
                    node.attributes);
}

absl::Status TranslateQLinearBinary(NodeImporter& node) {
  OCTET_ASSIGN_OR_RETURN(const ValueId a, Operand(node, 0));
  OCTET_ASSIGN_OR_RETURN(const ValueId b, Operand(node, 3));
  return EmitResult(node, node.op() == "QLinearAdd" ? "Add" : "Mul", {a, b}, 6,
                    node.value(node.inputs[0]).dtype, {});
}

absl::Status TranslateQLinearUnary(NodeImporter& node) {
  OCTET_ASSIGN_OR_RETURN(ValueId x, Operand(node, 0));
  const DType like_x = node.value(node.inputs[0]).dtype;
  AttributeMap attrs = node.attributes, back;
  attrs.erase("channels_last");
  const absl::string_view op = node.op().substr(7);  // after "QLinear"
  if (op == "Softmax") {
    const std::optional<int64_t> rank = node.Rank(x);
    const int64_t axis = node.Int("axis", -1);
    const bool last = axis == -1 || (rank.has_value() && axis == *rank - 1);
    if (!last && node.Int("opset", 13) < 13) return FlattenedSoftmax(node, x, axis, like_x);
    attrs.erase("opset");
  }
  if (node.Int("channels_last", 0) == 0) {
    return EmitResult(node, op, {x}, 3, like_x, std::move(attrs));
  }
  OCTET_ASSIGN_OR_RETURN(x, ChannelsFirst(node, x, &back));
  OCTET_ASSIGN_OR_RETURN(const ValueId y, EmitRounded(node, op, {x}, 3, like_x, std::move(attrs),
                                                      node.Fresh("channels_first")));
  return node.Emit1("Transpose", {y}, node.Output(0), std::move(back)).status();
}

absl::Status TranslateQLinearReduceMean(NodeImporter& node) {
  OCTET_ASSIGN_OR_RETURN(const ValueId x, Operand(node, 0));
  std::vector<ValueId> operands = {x};
  if (const std::vector<int64_t>* axes = node.Ints("axes")) {
    operands.push_back(node.AddInts("axes", *axes));
  }
  AttributeMap attrs;
  attrs["keepdims"] = node.Int("keepdims", 1);
  return EmitResult(node, "ReduceMean", std::move(operands), 3, node.value(node.inputs[0]).dtype,
                    std::move(attrs));
}

absl::Status TranslateQLinearConcat(NodeImporter& node) {
  std::vector<ValueId> parts;
  if (node.inputs.size() % 3 != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected 2 inputs and 3 for each part, found ", node.inputs.size()));
  }
  for (size_t i = 2; i < node.inputs.size(); i += 3) {
    if (!node.has_input(i) || !node.has_input(i + 1)) {
      return absl::InvalidArgumentError(absl::StrCat("input ", i, " or its scale is missing"));
    }
    OCTET_ASSIGN_OR_RETURN(const ValueId part, Operand(node, i));
    parts.push_back(part);
  }
  return EmitResult(node, "Concat", std::move(parts), 0, node.value(node.inputs[2]).dtype,
                    node.attributes);
}

absl::Status TranslateQLinearWhere(NodeImporter& node) {
  OCTET_ASSIGN_OR_RETURN(const ValueId x, Operand(node, 1));
  OCTET_ASSIGN_OR_RETURN(const ValueId y, Operand(node, 4));
  return EmitResult(node, "Where", {node.inputs[0], x, y}, 7, node.value(node.inputs[1]).dtype,
                    {});
}

}  // namespace octet::onnx_io
