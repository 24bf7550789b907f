// Lowering of element functions and matrix functions that have plain kernels only.
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/builder.h"
#include "engine/lower.h"
#include "kernels/plain/bitwise.h"
#include "kernels/plain/matrix.h"
#include "kernels/plain/unary.h"

namespace octet::engine {
namespace {

using graph::Node;
using kernels::Layout;
using kernels::PlainUnaryKind;
using kernels::TensorSpec;

const absl::flat_hash_map<std::string, PlainUnaryKind>& Unaries() {
  static const auto* const kTable = new absl::flat_hash_map<std::string, PlainUnaryKind>{
      {"Acos", PlainUnaryKind::kAcos},
      {"Acosh", PlainUnaryKind::kAcosh},
      {"Asin", PlainUnaryKind::kAsin},
      {"Asinh", PlainUnaryKind::kAsinh},
      {"Atan", PlainUnaryKind::kAtan},
      {"Atanh", PlainUnaryKind::kAtanh},
      {"Cosh", PlainUnaryKind::kCosh},
      {"Sinh", PlainUnaryKind::kSinh},
      {"Tan", PlainUnaryKind::kTan},
      {"Celu", PlainUnaryKind::kCelu},
      {"Selu", PlainUnaryKind::kSelu},
      {"Shrink", PlainUnaryKind::kShrink},
      {"Not", PlainUnaryKind::kNot},
      {"ThresholdedRelu", PlainUnaryKind::kThresholdedRelu},
      {"IsNaN", PlainUnaryKind::kIsNan},
      {"IsInf", PlainUnaryKind::kIsInf},
      {"BitwiseNot", PlainUnaryKind::kBitwiseNot}};
  return *kTable;
}

// Numbers as they are stored, f32 when they stand for reals.
absl::StatusOr<Location> Stored(Builder& b, graph::ValueId id) {
  OCTET_ASSIGN_OR_RETURN(const Location l, b.Get(id));
  if (l.spec.quant.has_value()) return b.GetF32(id);
  return l;
}

absl::Status EmitUnary(Builder& b, const FusedNode& fused, kernels::PlainUnaryParams params) {
  OCTET_ASSIGN_OR_RETURN(const Location src, Stored(b, fused.node->inputs[0]));
  params.src = src.spec;
  params.dst = src.spec;
  if (b.info(fused.output).dtype == DType::kBool) params.dst.dtype = DType::kBool;
  const Location dst = b.NewBuffer(params.dst);
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreatePlainUnary(params, b.env()));
  b.Emit(std::move(kernel), {src}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::Status LowerUnary(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  kernels::PlainUnaryParams params;
  params.kind = Unaries().at(node.op);
  if (node.op == "Celu" || node.op == "ThresholdedRelu") params.alpha = node.GetFloat("alpha", 1);
  if (node.op == "Selu") {
    params.alpha = node.GetFloat("alpha", 1.67326319217681884765625f);
    params.beta = node.GetFloat("gamma", 1.05070102214813232421875f);
  }
  if (node.op == "Shrink") {
    params.alpha = node.GetFloat("lambd", 0.5f);
    params.beta = node.GetFloat("bias", 0);
  }
  if (node.op == "IsInf") {
    params.alpha = static_cast<float>(node.GetInt("detect_negative", 1));
    params.beta = static_cast<float>(node.GetInt("detect_positive", 1));
  }
  return EmitUnary(b, fused, params);
}

absl::Status LowerBitwise(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  kernels::BitwiseParams params;
  using Kind = kernels::BitwiseKind;
  params.kind = node.op == "BitwiseAnd"  ? Kind::kAnd
                : node.op == "BitwiseOr" ? Kind::kOr
                                         : Kind::kXor;
  if (node.op == "BitShift") {
    const std::string direction = node.GetString("direction", "");
    if (direction != "LEFT" && direction != "RIGHT") {
      return absl::InvalidArgumentError(
          absl::StrCat("direction '", direction, "', expected LEFT or RIGHT"));
    }
    params.kind = direction == "LEFT" ? Kind::kShiftLeft : Kind::kShiftRight;
  }
  OCTET_ASSIGN_OR_RETURN(const Location x, b.GetPlain(node.inputs[0]));
  OCTET_ASSIGN_OR_RETURN(const Location y, b.GetPlain(node.inputs[1]));
  const Location dst = b.NewBuffer(b.OutputSpec(fused.output, Layout::kPlain));
  params.a = x.spec;
  params.b = y.spec;
  params.dst = dst.spec;
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreateBitwise(params, b.env()));
  b.Emit(std::move(kernel), {x, y}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

// Row-major operand 0 without quant.
absl::StatusOr<Location> PlainStored(Builder& b, graph::ValueId id) {
  OCTET_ASSIGN_OR_RETURN(const Location l, b.Get(id));
  if (l.spec.quant.has_value()) return b.GetPlainF32(id);
  return b.GetPlain(id);
}

absl::Status LowerTrilu(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  std::vector<Location> src;
  OCTET_ASSIGN_OR_RETURN(src.emplace_back(), PlainStored(b, node.inputs[0]));
  if (node.has_input(1)) {
    OCTET_ASSIGN_OR_RETURN(src.emplace_back(), b.GetPlain(node.inputs[1]));
    if (src[1].spec.dtype != DType::kS64 || NumElements(src[1].spec.shape) != 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("k is ", SpecString(src[1].spec), ", expected one s64"));
    }
  }
  const Location dst = b.NewBuffer(src[0].spec);
  const auto keep =
      node.GetInt("upper", 1) != 0 ? kernels::Triangle::kUpper : kernels::Triangle::kLower;
  OCTET_ASSIGN_OR_RETURN(
      std::unique_ptr<kernels::Kernel> kernel,
      kernels::CreateTrilu({keep, src.size() > 1, src[0].spec, dst.spec}, b.env()));
  b.Emit(std::move(kernel), std::move(src), {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::Status LowerEyeLike(Builder& b, const FusedNode& fused) {
  const Location dst = b.NewBuffer(b.OutputSpec(fused.output, Layout::kPlain));
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreateEye({fused.node->GetInt("k", 0), dst.spec}, b.env()));
  b.Emit(std::move(kernel), {}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::Status LowerDet(Builder& b, const FusedNode& fused) {
  OCTET_ASSIGN_OR_RETURN(const Location src, PlainStored(b, fused.node->inputs[0]));
  TensorSpec spec = src.spec;
  spec.shape = b.info(fused.output).shape;
  const Location dst = b.NewBuffer(spec);
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreateDet({src.spec, spec}, b.env()));
  b.Emit(std::move(kernel), {src}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::Status LowerHardmax(Builder& b, const FusedNode& fused) {
  OCTET_ASSIGN_OR_RETURN(const Location src, PlainStored(b, fused.node->inputs[0]));
  const auto rank = static_cast<int64_t>(src.spec.shape.size());
  const int64_t axis = fused.node->GetInt("axis", -1);
  if (axis < -rank || axis >= rank) {
    return absl::InvalidArgumentError(absl::StrCat("axis ", axis, " of an input of rank ", rank));
  }
  const Location dst = b.NewBuffer(src.spec);
  OCTET_ASSIGN_OR_RETURN(
      std::unique_ptr<kernels::Kernel> kernel,
      kernels::CreateHardmax({src.spec, dst.spec, static_cast<int>(axis < 0 ? axis + rank : axis)},
                             b.env()));
  b.Emit(std::move(kernel), {src}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

}  // namespace

absl::Status LowerPlainActivation(Builder& b, const FusedNode& fused,
                                  const kernels::Activation& activation) {
  kernels::PlainUnaryParams params;
  params.kind = PlainUnaryKind::kActivation;
  params.activation = activation;
  return EmitUnary(b, fused, params);
}

void AddPlainRules(LowerTable* table) {
  for (const auto& [op, kind] : Unaries()) table->Add(op, LowerUnary);
  for (const char* op : {"BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift"})
    table->Add(op, LowerBitwise);
  table->Add("Trilu", LowerTrilu);
  table->Add("EyeLike", LowerEyeLike);
  table->Add("BatchNormalization", LowerBatchNormalization);
  table->Add("Det", LowerDet);
  table->Add("Hardmax", LowerHardmax);
}

}  // namespace octet::engine
