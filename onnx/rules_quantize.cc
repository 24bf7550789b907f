// QDQ and QOperator forms: both become quant on values, so that everything above import knows one
// form.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "onnx/constant_quantizer.h"
#include "onnx/node_importer.h"
#include "onnx/rules.h"

namespace octet::onnx_io {
namespace {

using graph::ValueId;

// Parameters as a node names them, and the integer type that the zero point fixes (kInvalid when it
// is omitted).
struct NamedQuant {
  QuantParams params;
  DType integer = DType::kInvalid;
  DType real = DType::kF32;
};

struct Granularity {
  int64_t axis = 1;
  int64_t block = 0;
  bool per_axis = true;  // the opset allows a list of scales
};

absl::Status Mismatch(absl::string_view what, const Shape& scale, absl::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": expected ", expected, ", found shape ", ShapeString(scale)));
}

// Sets axis and block of `params` from the shape of the scales.
absl::Status SetGranularity(const Shape& scale, const std::optional<Shape>& data,
                            const Granularity& g, QuantParams* params) {
  if (g.block < 0) return absl::InvalidArgumentError(absl::StrCat("block_size ", g.block));
  if (g.block == 0 && scale.size() <= 1 && params->scale.size() == 1) return absl::OkStatus();
  if (!g.per_axis) return Mismatch("scale", scale, "one element before opset 13");
  if (!data.has_value()) {
    return absl::UnimplementedError(
        "several scales for a tensor of unknown rank are not supported");
  }
  const int64_t rank = static_cast<int64_t>(data->size());
  const int64_t axis = g.axis < 0 ? g.axis + rank : g.axis;
  if (axis < 0 || axis >= rank) {
    return absl::InvalidArgumentError(
        absl::StrCat("axis ", g.axis, " of a tensor of shape ", ShapeString(*data)));
  }
  params->axis = static_cast<int>(axis);
  params->block = g.block;
  Shape expected = g.block == 0 ? Shape{(*data)[static_cast<size_t>(axis)]} : *data;
  int64_t& along = g.block == 0 ? expected[0] : expected[static_cast<size_t>(axis)];
  if (g.block > 0 && along != kUnknownDim) along = along / g.block + (along % g.block != 0);
  bool same = expected.size() == scale.size();
  for (size_t i = 0; same && i < scale.size(); ++i) {
    same = expected[i] == kUnknownDim || expected[i] == scale[i];
  }
  return same ? absl::OkStatus() : Mismatch("scale", scale, ShapeString(expected));
}

absl::Status SetScale(NodeImporter& node, size_t input, NamedQuant* quant) {
  const Tensor* scale = node.ConstantBehindCast(input);
  if (scale == nullptr) {
    return absl::UnimplementedError(absl::StrCat(
        "input ", input, " (scale) is not constant, computed scales are not supported"));
  }
  if (!IsFloat(scale->dtype())) {
    return absl::InvalidArgumentError(
        absl::StrCat("scale: expected a float type, found ", NameOf(scale->dtype())));
  }
  node.state().scales_left -= scale->num_elements();
  if (node.state().scales_left < 0) {
    return absl::ResourceExhaustedError("the file's nodes use more scales than it has bytes");
  }
  quant->real = node.value(node.inputs[input]).dtype;
  quant->params.scale = scale->ToF32();
  if (quant->params.scale.empty()) return absl::InvalidArgumentError("scale has no element");
  for (float s : quant->params.scale) {
    if (!std::isfinite(s) || s <= 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("scale: expected positive finite numbers, found ", s));
    }
  }
  return absl::OkStatus();
}

absl::Status SetZeroPoint(const NodeImporter& node, size_t input, NamedQuant* quant) {
  QuantParams& params = quant->params;
  if (node.has_input(input)) {
    const Tensor* zero = node.ConstantInput(input);
    if (zero == nullptr) {
      return absl::UnimplementedError(
          absl::StrCat("input ", input,
                       " (zero point) is not constant, computed zero points are not supported"));
    }
    if (!IsInteger(zero->dtype()) || BitsOf(zero->dtype()) > 32 || zero->dtype() == DType::kU32) {
      return absl::InvalidArgumentError(absl::StrCat(
          "zero point: expected an integer type up to s32, found ", NameOf(zero->dtype())));
    }
    if (zero->num_elements() != static_cast<int64_t>(params.scale.size())) {
      return Mismatch("zero point", zero->shape(),
                      absl::StrCat("as many elements as scales: ", params.scale.size()));
    }
    quant->integer = zero->dtype();
    for (int64_t z : zero->ToS64()) params.zero_point.push_back(static_cast<int32_t>(z));
  }
  // One spelling of "all zero", so that equal parameters compare equal.
  const bool all_zero = std::all_of(params.zero_point.begin(), params.zero_point.end(),
                                    [](int32_t z) { return z == 0; });
  if (all_zero) params.zero_point.clear();
  if (params.per_tensor() && all_zero) params.zero_point = {0};
  return absl::OkStatus();
}

absl::StatusOr<NamedQuant> ReadQuant(NodeImporter& node, size_t scale_input,
                                     const std::optional<Shape>& data, const Granularity& g) {
  NamedQuant quant;
  OCTET_RETURN_IF_ERROR(SetScale(node, scale_input, &quant));
  const Shape& shape = node.ConstantBehindCast(scale_input)->shape();
  OCTET_RETURN_IF_ERROR(SetGranularity(shape, data, g, &quant.params));
  OCTET_RETURN_IF_ERROR(SetZeroPoint(node, scale_input + 1, &quant));
  return quant;
}

Granularity GranularityOf(const NodeImporter& node) {
  Granularity g;
  g.axis = node.Int("axis", 1);
  g.block = node.Int("block_size", 0);
  g.per_axis = node.opset() >= 13 || node.Has("axis");
  return g;
}

AttributeMap To(DType dtype) {
  AttributeMap attrs;
  attrs["to"] = int64_t{DTypeToOnnx(dtype)};
  return attrs;
}

// Input `i`, an integer tensor, as a value with this quant: what QOperator nodes and
// DequantizeLinear read. kNoValue when its integers are computed by operators on plain integers.
absl::StatusOr<ValueId> WithQuant(NodeImporter& node, size_t i, const NamedQuant& quant) {
  const ValueId id = node.inputs[i];
  const graph::Value& v = node.value(id);
  if (!IsInteger(v.dtype) || BitsOf(v.dtype) > 32 || v.dtype == DType::kU32) {
    return absl::InvalidArgumentError(
        absl::StrCat("input ", i, ": expected an integer type up to s32, found ", NameOf(v.dtype)));
  }
  if (quant.integer != DType::kInvalid && quant.integer != v.dtype) {
    return absl::InvalidArgumentError(absl::StrCat("input ", i, " is ", NameOf(v.dtype),
                                                   ", its zero point is ", NameOf(quant.integer)));
  }
  if (v.is_constant()) return node.QuantizedConstant(id, quant.params);
  if (v.quant.has_value()) {
    if (*v.quant == quant.params) return id;
    return absl::UnimplementedError(absl::StrCat(
        "input ", i, " was quantized with scale ", v.quant->scale[0], " and is read with scale ",
        quant.params.scale[0], " or other parameters: that is not supported"));
  }
  if (node.IsGraphInput(id) && node.OnlyDequantized(id)) {
    node.SetQuant(id, v.dtype, quant.params);
    return id;
  }
  return graph::kNoValue;
}

// scale * (x - zero point) on plain integers, in floats.
absl::Status EmitArithmetic(NodeImporter& node, const NamedQuant& quant,
                            const std::string& output) {
  if (!quant.params.per_tensor()) {
    return absl::UnimplementedError("several scales for computed integers are not supported");
  }
  OCTET_ASSIGN_OR_RETURN(ValueId x,
                         node.Emit1("Cast", {node.inputs[0]}, node.Fresh("cast"), To(DType::kF32)));
  const float zero = static_cast<float>(quant.params.zero_point_at(0));
  if (zero != 0) {
    const ValueId z = node.AddConstant("zero_point", Tensor::FromF32({}, {zero}));
    OCTET_ASSIGN_OR_RETURN(x, node.Emit1("Sub", {x, z}, node.Fresh("centred")));
  }
  const ValueId s = node.AddConstant("scale", Tensor::FromF32({}, {quant.params.scale[0]}));
  return node.Emit1("Mul", {x, s}, output).status();
}

// Result of a QOperator node: an operator on reals whose output has quant.
absl::Status EmitQuantized(NodeImporter& node, absl::string_view op, std::vector<ValueId> operands,
                           const NamedQuant& y, AttributeMap attrs) {
  node.reads_reals = true;
  OCTET_ASSIGN_OR_RETURN(const ValueId id,
                         node.Emit1(op, std::move(operands), node.Output(0), std::move(attrs)));
  node.SetQuant(id, y.integer == DType::kInvalid ? DType::kU8 : y.integer, y.params);
  return absl::OkStatus();
}

// Data input `i` of a QOperator node with the scale that follows it.
absl::StatusOr<ValueId> QOperand(NodeImporter& node, size_t i, int64_t axis, NamedQuant* quant) {
  const std::optional<Shape> shape = node.value(node.inputs[i]).shape;
  OCTET_ASSIGN_OR_RETURN(*quant, ReadQuant(node, i + 1, shape, {axis, 0, true}));
  OCTET_ASSIGN_OR_RETURN(const ValueId id, WithQuant(node, i, *quant));
  if (id == graph::kNoValue) {
    return absl::UnimplementedError(
        absl::StrCat("input ", i, ": integers that no quantized operator made are not supported"));
  }
  return id;
}

}  // namespace

absl::Status TranslateQuantizeLinear(NodeImporter& node) {
  ValueId x = node.inputs[0];
  OCTET_ASSIGN_OR_RETURN(NamedQuant quant,
                         ReadQuant(node, 1, node.value(x).shape, GranularityOf(node)));
  const int64_t named = node.Int("output_dtype", 0);
  if (quant.integer == DType::kInvalid) {
    quant.integer = named == 0 ? DType::kU8 : DTypeFromOnnx(named);
  }
  if (!IsInteger(quant.integer) || (named != 0 && DTypeFromOnnx(named) != quant.integer)) {
    return absl::UnimplementedError(
        absl::StrCat("output of ", OnnxTypeName(named), " is not supported"));
  }
  const graph::Value& v = node.value(x);
  if (v.is_constant() && !v.quant.has_value() && IsFloat(v.dtype)) {
    node.state().folded_bytes_left -= v.data->num_elements();
    if (node.state().folded_bytes_left < 0) {
      return absl::ResourceExhaustedError("the file quantizes more constants than it has bytes");
    }
    OCTET_ASSIGN_OR_RETURN(Tensor q, QuantizeConstant(*v.data, quant.integer, quant.params));
    node.SetConstant(0, std::move(q));
    return absl::OkStatus();
  }
  if (v.quant.has_value()) {
    return absl::UnimplementedError(
        "quantizing the integers of a quantized tensor is not supported");
  }
  if (v.dtype != DType::kF32) {
    OCTET_ASSIGN_OR_RETURN(x, node.Emit1("Cast", {x}, node.Fresh("cast"), To(DType::kF32)));
  }
  OCTET_ASSIGN_OR_RETURN(const ValueId y, node.Emit1("Quantize", {x}, node.Output(0)));
  node.SetQuant(y, quant.integer, std::move(quant.params));
  return absl::OkStatus();
}

absl::Status TranslateDequantizeLinear(NodeImporter& node) {
  const std::optional<Shape> shape = node.value(node.inputs[0]).shape;
  OCTET_ASSIGN_OR_RETURN(const NamedQuant quant, ReadQuant(node, 1, shape, GranularityOf(node)));
  OCTET_ASSIGN_OR_RETURN(const ValueId x, WithQuant(node, 0, quant));
  const bool narrow = quant.real != DType::kF32;
  const std::string output = narrow ? node.Fresh("f32") : node.Output(0);
  if (x == graph::kNoValue) {
    OCTET_RETURN_IF_ERROR(EmitArithmetic(node, quant, output));
  } else {
    OCTET_RETURN_IF_ERROR(node.Emit1("Dequantize", {x}, output).status());
  }
  if (!narrow) return absl::OkStatus();
  const ValueId wide = node.state().graph.nodes.back().outputs[0];
  return node.Emit1("Cast", {wide}, node.Output(0), To(quant.real)).status();
}

absl::Status TranslateQLinearConv(NodeImporter& node) {
  NamedQuant x_quant, w_quant;
  OCTET_ASSIGN_OR_RETURN(const ValueId x, QOperand(node, 0, 1, &x_quant));
  OCTET_ASSIGN_OR_RETURN(const ValueId w, QOperand(node, 3, 0, &w_quant));
  OCTET_ASSIGN_OR_RETURN(const NamedQuant y, ReadQuant(node, 6, std::nullopt, {1, 0, false}));
  if (!x_quant.params.per_tensor()) {
    return absl::InvalidArgumentError("x: expected one scale, found several");
  }
  std::vector<ValueId> operands = {x, w};
  if (node.has_input(8)) {
    const Tensor* b = node.ConstantInput(8);
    if (b == nullptr || b->dtype() != DType::kS32 || b->shape().size() != 1) {
      return absl::UnimplementedError("bias: expected a constant list of s32");
    }
    NamedQuant bias;
    bias.integer = DType::kS32;
    for (float s : w_quant.params.scale) bias.params.scale.push_back(s * x_quant.params.scale[0]);
    if (w_quant.params.per_tensor()) {
      bias.params.zero_point = {0};
    } else {
      bias.params.axis = 0;
    }
    OCTET_ASSIGN_OR_RETURN(const ValueId id, WithQuant(node, 8, bias));
    operands.push_back(id);
  }
  return EmitQuantized(node, "Conv", std::move(operands), y, node.attributes);
}

absl::Status TranslateQLinearMatMul(NodeImporter& node) {
  NamedQuant a_quant, b_quant;
  OCTET_ASSIGN_OR_RETURN(const ValueId a, QOperand(node, 0, -2, &a_quant));
  OCTET_ASSIGN_OR_RETURN(const ValueId b, QOperand(node, 3, -1, &b_quant));
  OCTET_ASSIGN_OR_RETURN(const NamedQuant y, ReadQuant(node, 6, std::nullopt, {1, 0, false}));
  return EmitQuantized(node, "MatMul", {a, b}, y, {});
}

absl::Status TranslateQLinearBinary(NodeImporter& node) {
  NamedQuant a_quant, b_quant;
  OCTET_ASSIGN_OR_RETURN(const ValueId a, QOperand(node, 0, 1, &a_quant));
  OCTET_ASSIGN_OR_RETURN(const ValueId b, QOperand(node, 3, 1, &b_quant));
  OCTET_ASSIGN_OR_RETURN(NamedQuant y, ReadQuant(node, 6, std::nullopt, {1, 0, false}));
  if (y.integer == DType::kInvalid) y.integer = node.value(a).dtype;
  return EmitQuantized(node, node.op() == "QLinearAdd" ? "Add" : "Mul", {a, b}, y, {});
}

absl::Status TranslateQLinearUnary(NodeImporter& node) {
  NamedQuant x_quant;
  OCTET_ASSIGN_OR_RETURN(const ValueId x, QOperand(node, 0, 1, &x_quant));
  OCTET_ASSIGN_OR_RETURN(NamedQuant y, ReadQuant(node, 3, std::nullopt, {1, 0, false}));
  if (y.integer == DType::kInvalid) y.integer = node.value(x).dtype;
  if (node.Int("channels_last", 0) != 0) {
    return absl::UnimplementedError("channels_last = 1 is not supported");
  }
  AttributeMap attrs = node.attributes;
  attrs.erase("channels_last");
  const absl::string_view op = node.op().substr(7);  // after "QLinear"
  if (op == "Softmax") {
    const std::optional<int64_t> rank = node.Rank(x);
    const int64_t axis = node.Int("axis", -1);
    const bool last = axis == -1 || (rank.has_value() && axis == *rank - 1);
    if (!last && node.Int("opset", 13) < 13) {
      return absl::UnimplementedError("flattened Softmax on integers is not supported");
    }
    attrs.erase("opset");
  }
  return EmitQuantized(node, op, {x}, y, std::move(attrs));
}

}  // namespace octet::onnx_io
