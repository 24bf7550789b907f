// Integer forms: products of plain integers and quantization with ranges taken at run time.
//
// ConvInteger and MatMulInteger stay as they are when the engine can make integer products of them
// (constant 8-bit weights, one zero point of the source); else they are computed on the integers as
// reals, which is exact below 2^24.
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

// One element, or a rank that is not known to differ.
bool IsScalar(const NodeImporter& node, size_t i) {
  if (!node.has_input(i)) return true;
  const std::optional<Shape>& shape = node.value(node.inputs[i]).shape;
  return shape.has_value() && (shape->empty() || *shape == Shape{1});
}

// Input `i` minus its zero point, input `zero`, in f32. A list of zero points goes along the
// second last dimension of operand A, the first of a convolution's weights, the last of B.
absl::StatusOr<ValueId> Centred(NodeImporter& node, size_t i, size_t zero) {
  OCTET_ASSIGN_OR_RETURN(const ValueId x, node.Emit1("Cast", {node.inputs[i]}, node.Fresh("cast"),
                                                     CastTo(DType::kF32)));
  if (!node.has_input(zero)) return x;
  OCTET_ASSIGN_OR_RETURN(ValueId z, node.Emit1("Cast", {node.inputs[zero]}, node.Fresh("cast"),
                                               CastTo(DType::kF32)));
  const std::optional<Shape> shape = node.value(z).shape;
  const std::optional<int64_t> rank = node.Rank(x);
  if (!shape.has_value() || !rank.has_value()) {
    return absl::UnimplementedError("zero points of unknown rank");
  }
  std::vector<int64_t> ones;
  if (shape->size() == 1 && *shape != Shape{1}) {
    const int64_t behind = node.op() == "ConvInteger" ? *rank - 1 : i == 0 ? 1 : 0;
    for (int64_t d = 1; d <= behind; ++d) ones.push_back(d);
  }
  if (!ones.empty()) {
    OCTET_ASSIGN_OR_RETURN(
        z, node.Emit1("Unsqueeze", {z, node.AddInts("axes", ones)}, node.Fresh("spread")));
  }
  return node.Emit1("Sub", {x, z}, node.Fresh("centred"));
}

// The s32 product of inputs a, b with zero points az, bz, under `output`.
absl::StatusOr<ValueId> IntegerProduct(NodeImporter& node, absl::string_view op,
                                       std::vector<ValueId> operands, std::string output,
                                       AttributeMap attrs) {
  return node.Emit1(op, std::move(operands), std::move(output), std::move(attrs));
}

absl::StatusOr<ValueId> Scaled(NodeImporter& node, ValueId integers, ValueId a_scale,
                               ValueId b_scale, ValueId bias, const std::string& output) {
  OCTET_ASSIGN_OR_RETURN(const ValueId sum, node.Emit1("Cast", {integers}, node.Fresh("sum"),
                                                       CastTo(DType::kF32)));
  OCTET_ASSIGN_OR_RETURN(const ValueId scale,
                         node.Emit1("Mul", {a_scale, b_scale}, node.Fresh("scale")));
  const bool has_bias = bias != graph::kNoValue;
  OCTET_ASSIGN_OR_RETURN(const ValueId real,
                         node.Emit1("Mul", {sum, scale}, has_bias ? node.Fresh("real") : output));
  if (!has_bias) return real;
  return node.Emit1("Add", {real, bias}, output);
}

ValueId Input(const NodeImporter& node, size_t i) {
  return node.has_input(i) ? node.inputs[i] : graph::kNoValue;
}

}  // namespace

absl::Status TranslateIntegerProduct(NodeImporter& node) {
  const bool constant = node.ConstantInput(1) != nullptr;
  const bool fixed_zero = !node.has_input(3) || node.ConstantInput(3) != nullptr;
  if (constant && fixed_zero && IsScalar(node, 2)) {
    return IntegerProduct(node, node.op(), node.inputs, node.Output(0), node.attributes).status();
  }
  OCTET_ASSIGN_OR_RETURN(const ValueId a, Centred(node, 0, 2));
  OCTET_ASSIGN_OR_RETURN(const ValueId b, Centred(node, 1, 3));
  OCTET_ASSIGN_OR_RETURN(const ValueId sum,
                         node.Emit1(node.op() == "ConvInteger" ? "Conv" : "MatMul", {a, b},
                                    node.Fresh("sum"), node.attributes));
  return node.Emit1("Cast", {sum}, node.Output(0), CastTo(DType::kS32)).status();
}

// inputs: A, B, a_scale, b_scale, a_zero_point, b_zero_point, bias
absl::Status TranslateMatMulIntegerToFloat(NodeImporter& node) {
  OCTET_ASSIGN_OR_RETURN(
      const ValueId sum,
      IntegerProduct(node, "MatMulInteger",
                     {node.inputs[0], node.inputs[1], Input(node, 4), Input(node, 5)},
                     node.Fresh("integers"), {}));
  return Scaled(node, sum, node.inputs[2], node.inputs[3], Input(node, 6), node.Output(0)).status();
}

// inputs: A (f32), B, b_scale, b_zero_point, bias
absl::Status TranslateDynamicQuantizeMatMul(NodeImporter& node) {
  OCTET_ASSIGN_OR_RETURN(
      const std::vector<ValueId> a,
      node.Emit("DynamicQuantizeLinear", {node.inputs[0]},
                {node.Fresh("quantized"), node.Fresh("scale"), node.Fresh("zero_point")}));
  OCTET_ASSIGN_OR_RETURN(const ValueId sum,
                         IntegerProduct(node, "MatMulInteger",
                                        {a[0], node.inputs[1], a[2], Input(node, 3)},
                                        node.Fresh("integers"), {}));
  return Scaled(node, sum, a[1], node.inputs[2], Input(node, 4), node.Output(0)).status();
}

}  // namespace octet::onnx_io
