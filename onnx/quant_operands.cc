// Parameters of quantized operators and the operands that carry them.
#include "onnx/quant_operands.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet::onnx_io {
namespace {

using graph::ValueId;

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

}  // namespace

absl::StatusOr<NamedQuant> ReadQuant(NodeImporter& node, size_t scale_input,
                                     const std::optional<Shape>& data, const Granularity& g) {
  NamedQuant quant;
  OCTET_RETURN_IF_ERROR(SetScale(node, scale_input, &quant));
  const Shape& shape = node.ConstantBehindCast(scale_input)->shape();
  OCTET_RETURN_IF_ERROR(SetGranularity(shape, data, g, &quant.params));
  OCTET_RETURN_IF_ERROR(SetZeroPoint(node, scale_input + 1, &quant));
  return quant;
}

bool IsConstantQuant(const NodeImporter& node, size_t scale_input) {
  return node.ConstantBehindCast(scale_input) != nullptr &&
         (!node.has_input(scale_input + 1) || node.ConstantInput(scale_input + 1) != nullptr);
}

AttributeMap CastTo(DType dtype) {
  AttributeMap attrs;
  attrs["to"] = int64_t{DTypeToOnnx(dtype)};
  return attrs;
}

DType IntegerOf(const NodeImporter& node, size_t scale_input, DType absent) {
  return node.has_input(scale_input + 1) ? node.value(node.inputs[scale_input + 1]).dtype : absent;
}

absl::StatusOr<ValueId> WithQuant(NodeImporter& node, size_t i, const NamedQuant& quant) {
  const ValueId id = node.inputs[i];
  const graph::Value& v = node.value(id);
  const DType dtype = v.dtype;
  if (!IsInteger(dtype) || BitsOf(dtype) > 32 || dtype == DType::kU32) {
    return absl::InvalidArgumentError(
        absl::StrCat("input ", i, ": expected an integer type up to s32, found ", NameOf(dtype)));
  }
  if (quant.integer != DType::kInvalid && quant.integer != dtype) {
    return absl::InvalidArgumentError(absl::StrCat("input ", i, " is ", NameOf(dtype),
                                                   ", its zero point is ", NameOf(quant.integer)));
  }
  if (v.is_constant()) return node.QuantizedConstant(id, quant.params);
  if (v.quant == quant.params) return id;
  if (!v.quant.has_value() && node.IsGraphInput(id) && node.OnlyDequantized(id)) {
    node.SetQuant(id, dtype, quant.params);
    return id;
  }
  // The same integers, read in another way than they were written or than others read them.
  OCTET_ASSIGN_OR_RETURN(const ValueId reals, node.Emit1("Reinterpret", {id}, node.Fresh("reals"),
                                                         CastTo(DType::kF32)));
  node.SetQuant(reals, dtype, quant.params);
  return reals;
}

namespace {

// Input `i` (a scale or zero point) as f32 in a shape that broadcasts to `data`.
absl::StatusOr<ValueId> Broadcastable(NodeImporter& node, size_t i, ValueId data,
                                      const Granularity& g) {
  ValueId id = node.inputs[i];
  if (node.value(id).dtype != DType::kF32 || node.value(id).quant.has_value()) {
    OCTET_ASSIGN_OR_RETURN(id, node.Emit1("Cast", {id}, node.Fresh("f32"), CastTo(DType::kF32)));
  }
  const std::optional<Shape> shape = node.value(id).shape, whole = node.value(data).shape;
  if (shape.has_value() && g.block == 0 && (shape->empty() || *shape == Shape{1})) return id;
  if (!shape.has_value() || !whole.has_value()) {
    return absl::UnimplementedError(
        absl::StrCat("input ", i, ": computed scales of unknown rank are not supported"));
  }
  const auto rank = static_cast<int64_t>(whole->size());
  const int64_t axis = g.axis < 0 ? g.axis + rank : g.axis;
  if (axis < 0 || axis >= rank) {
    return absl::InvalidArgumentError(
        absl::StrCat("axis ", g.axis, " of a tensor of shape ", ShapeString(*whole)));
  }
  if (g.block == 0) {
    if (shape->size() != 1) return Mismatch("scale or zero point", *shape, "one dimension");
    std::vector<int64_t> ones;
    for (int64_t d = 1; d < rank - axis; ++d) ones.push_back(d);
    if (ones.empty()) return id;
    return node.Emit1("Unsqueeze", {id, node.AddInts("axes", ones)}, node.Fresh("spread"));
  }
  const int64_t along = (*whole)[static_cast<size_t>(axis)];
  constexpr int64_t kMostIndices = 1 << 20;
  if (g.block < 0 || along == kUnknownDim || along > kMostIndices) {
    return absl::UnimplementedError(absl::StrCat("computed scales in blocks of ", g.block,
                                                 " along an axis of ", along, " are not supported"));
  }
  std::vector<int64_t> indices;
  for (int64_t d = 0; d < along; ++d) indices.push_back(d / g.block);
  AttributeMap attrs;
  attrs["axis"] = axis;
  return node.Emit1("Gather", {id, node.AddInts("blocks", indices)}, node.Fresh("spread"),
                    std::move(attrs));
}

}  // namespace

absl::StatusOr<ValueId> EmitDequantize(NodeImporter& node, ValueId x, size_t scale_input,
                                       const Granularity& g, std::string output) {
  OCTET_ASSIGN_OR_RETURN(const ValueId scale, Broadcastable(node, scale_input, x, g));
  OCTET_ASSIGN_OR_RETURN(ValueId real,
                         node.Emit1("Cast", {x}, node.Fresh("cast"), CastTo(DType::kF32)));
  if (node.has_input(scale_input + 1)) {
    OCTET_ASSIGN_OR_RETURN(const ValueId zero, Broadcastable(node, scale_input + 1, x, g));
    OCTET_ASSIGN_OR_RETURN(real, node.Emit1("Sub", {real, zero}, node.Fresh("centred")));
  }
  return node.Emit1("Mul", {real, scale}, std::move(output));
}

absl::Status EmitQuantize(NodeImporter& node, ValueId x, size_t scale_input, const Granularity& g,
                          DType dtype, std::string output) {
  if (!IsInteger(dtype) || BitsOf(dtype) > 16) {
    return absl::UnimplementedError(absl::StrCat("quantizing to ", NameOf(dtype)));
  }
  OCTET_ASSIGN_OR_RETURN(const ValueId scale, Broadcastable(node, scale_input, x, g));
  OCTET_ASSIGN_OR_RETURN(ValueId y, node.Emit1("Div", {x, scale}, node.Fresh("steps")));
  OCTET_ASSIGN_OR_RETURN(y, node.Emit1("Round", {y}, node.Fresh("rounded")));
  if (node.has_input(scale_input + 1)) {
    OCTET_ASSIGN_OR_RETURN(const ValueId zero, Broadcastable(node, scale_input + 1, x, g));
    OCTET_ASSIGN_OR_RETURN(y, node.Emit1("Add", {y, zero}, node.Fresh("shifted")));
  }
  const bool is_signed = dtype == DType::kS4 || dtype == DType::kS8 || dtype == DType::kS16;
  const float levels = static_cast<float>(int64_t{1} << BitsOf(dtype));
  const float least = is_signed ? -levels / 2 : 0;
  const ValueId low = node.AddConstant("least", Tensor::FromF32({}, {least}));
  const ValueId high = node.AddConstant("largest", Tensor::FromF32({}, {least + levels - 1}));
  OCTET_ASSIGN_OR_RETURN(y, node.Emit1("Clip", {y, low, high}, node.Fresh("saturated")));
  return node.Emit1("Cast", {y}, std::move(output), CastTo(dtype)).status();
}

}  // namespace octet::onnx_io
