// QDQ forms into quant on values, so that everything above import knows one form.
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "onnx/constant_quantizer.h"
#include "onnx/quant_operands.h"
#include "onnx/rules.h"

namespace octet::onnx_io {
namespace {

using graph::ValueId;

Granularity GranularityOf(const NodeImporter& node) {
  Granularity g;
  g.axis = node.Int("axis", 1);
  g.block = node.Int("block_size", 0);
  g.per_axis = node.opset() >= 13 || node.Has("axis");
  return g;
}

// x as f32.
absl::StatusOr<ValueId> AsF32(NodeImporter& node, ValueId x) {
  if (node.value(x).dtype == DType::kF32 && !node.value(x).quant.has_value()) return x;
  return node.Emit1("Cast", {x}, node.Fresh("cast"), CastTo(DType::kF32));
}

}  // namespace

absl::Status TranslateQuantizeLinear(NodeImporter& node) {
  ValueId x = node.inputs[0];
  const int64_t named = node.Int("output_dtype", 0);
  const DType integer =
      IntegerOf(node, 1, named == 0 ? DType::kU8 : DTypeFromOnnx(named));
  if (!IsInteger(integer) || (named != 0 && DTypeFromOnnx(named) != integer)) {
    return absl::UnimplementedError(
        absl::StrCat("output of ", OnnxTypeName(named), " is not supported"));
  }
  if (!IsConstantQuant(node, 1)) {
    OCTET_ASSIGN_OR_RETURN(x, AsF32(node, x));
    return EmitQuantize(node, x, 1, GranularityOf(node), integer, node.Output(0));
  }
  OCTET_ASSIGN_OR_RETURN(NamedQuant quant,
                         ReadQuant(node, 1, node.value(x).shape, GranularityOf(node)));
  const graph::Value& v = node.value(x);
  if (v.is_constant() && !v.quant.has_value() && IsFloat(v.dtype)) {
    node.state().folded_bytes_left -= v.data->num_elements();
    if (node.state().folded_bytes_left < 0) {
      return absl::ResourceExhaustedError("the file quantizes more constants than it has bytes");
    }
    OCTET_ASSIGN_OR_RETURN(Tensor q, QuantizeConstant(*v.data, integer, quant.params));
    node.SetConstant(0, std::move(q));
    return absl::OkStatus();
  }
  OCTET_ASSIGN_OR_RETURN(x, AsF32(node, x));
  OCTET_ASSIGN_OR_RETURN(const ValueId y, node.Emit1("Quantize", {x}, node.Output(0)));
  node.SetQuant(y, integer, std::move(quant.params));
  return absl::OkStatus();
}

absl::Status TranslateDequantizeLinear(NodeImporter& node) {
  const DType real = node.value(node.inputs[1]).dtype;
  const bool narrow = real != DType::kF32;
  const std::string output = narrow ? node.Fresh("f32") : node.Output(0);
  if (IsConstantQuant(node, 1)) {
    const std::optional<Shape> shape = node.value(node.inputs[0]).shape;
    OCTET_ASSIGN_OR_RETURN(const NamedQuant quant, ReadQuant(node, 1, shape, GranularityOf(node)));
    OCTET_ASSIGN_OR_RETURN(const ValueId x, WithQuant(node, 0, quant));
    OCTET_RETURN_IF_ERROR(node.Emit1("Dequantize", {x}, output).status());
  } else {
    OCTET_RETURN_IF_ERROR(
        EmitDequantize(node, node.inputs[0], 1, GranularityOf(node), output).status());
  }
  if (!narrow) return absl::OkStatus();
  const ValueId wide = node.state().graph.nodes.back().outputs[0];
  return node.Emit1("Cast", {wide}, node.Output(0), CastTo(real)).status();
}

}  // namespace octet::onnx_io
