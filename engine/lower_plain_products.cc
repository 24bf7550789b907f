// Lowering of products with computed weights, or of types that the fast kernels lack.
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/builder.h"
#include "engine/lower.h"
#include "engine/windows.h"
#include "kernels/activation/activation.h"
#include "kernels/binary/binary.h"
#include "kernels/plain/products.h"
#include "kernels/plain/unary.h"

namespace octet::engine {
namespace {

using graph::Node;
using kernels::BinaryKind;
using kernels::Layout;
using kernels::TensorSpec;

bool IsStoredAs(const Builder& b, graph::ValueId id, DType dtype) {
  return !b.graph().value(id).quant.has_value() && b.info(id).dtype == dtype;
}

// What plain products of this node compute in: f64 and integers as they are, all other numbers in
// f32.
DType ProductType(const Builder& b, const Node& node) {
  const graph::ValueId out = node.outputs[0];
  const DType dtype = b.info(out).dtype;
  return b.graph().value(out).quant.has_value() || (IsFloat(dtype) && dtype != DType::kF64)
             ? DType::kF32
             : dtype;
}

absl::StatusOr<Location> Operand(Builder& b, graph::ValueId id, DType dtype) {
  return b.GetAs(id, Layout::kPlain, dtype, std::nullopt);
}

absl::StatusOr<Location> Added(Builder& b, const FusedNode& fused, const Location& x,
                               const Location& y) {
  const Location dst = b.NewBuffer(x.spec);
  Location aligned = y;
  Shape shape(x.spec.shape.size() - std::min(x.spec.shape.size(), y.spec.shape.size()), 1);
  shape.insert(shape.end(), y.spec.shape.begin(), y.spec.shape.end());
  aligned.spec.shape = std::move(shape);
  OCTET_ASSIGN_OR_RETURN(
      std::unique_ptr<kernels::Kernel> kernel,
      kernels::CreateBinary({BinaryKind::kAdd, x.spec, aligned.spec, dst.spec, {}}, b.env()));
  b.Emit(std::move(kernel), {x, aligned}, {dst}, &fused);
  return dst;
}

absl::StatusOr<Location> Activated(Builder& b, const FusedNode& fused, const Location& x,
                                   const kernels::Activation& activation) {
  const Location dst = b.NewBuffer(x.spec);
  std::unique_ptr<kernels::Kernel> kernel;
  if (x.spec.dtype == DType::kF32) {
    OCTET_ASSIGN_OR_RETURN(kernel,
                           kernels::CreateActivation({x.spec, dst.spec, activation}, b.env()));
  } else {
    kernels::PlainUnaryParams params;
    params.kind = kernels::PlainUnaryKind::kActivation;
    params.activation = activation;
    params.src = params.dst = x.spec;
    OCTET_ASSIGN_OR_RETURN(kernel, kernels::CreatePlainUnary(params, b.env()));
  }
  b.Emit(std::move(kernel), {x}, {dst}, &fused);
  return dst;
}

// Binds what has been fused behind the product, in steps of their own.
absl::Status Finish(Builder& b, const FusedNode& fused, Location result) {
  for (const FusedPostOp& op : fused.post_ops) {
    if (op.kind == kernels::PostOp::Kind::kActivation) {
      OCTET_ASSIGN_OR_RETURN(result, Activated(b, fused, result, op.activation));
      continue;
    }
    OCTET_ASSIGN_OR_RETURN(const Location residual, Operand(b, op.residual, result.spec.dtype));
    OCTET_ASSIGN_OR_RETURN(result, Added(b, fused, result, residual));
  }
  return b.Bind(fused.output, result);
}

}  // namespace

bool NeedsPlainProduct(const Builder& b, const Node& node) {
  const bool exact = ProductType(b, node) != DType::kF32;
  if (node.op != "Conv") return exact;
  for (size_t i : {size_t{1}, size_t{2}}) {
    if (node.has_input(i) && !b.info(node.inputs[i]).is_constant) return true;
  }
  return exact;
}

absl::Status LowerPlainConv(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  const DType dtype = ProductType(b, node);
  kernels::PlainConvParams params;
  std::vector<Location> src;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (!node.has_input(i)) continue;
    OCTET_ASSIGN_OR_RETURN(src.emplace_back(), Operand(b, node.inputs[i], dtype));
  }
  params.src = src[0].spec;
  params.weights = src[1].spec;
  params.has_bias = src.size() > 2;
  if (params.has_bias && src[2].spec.shape != Shape{params.weights.shape[0]}) {
    return absl::InvalidArgumentError(absl::StrCat("bias of shape ", ShapeString(src[2].spec.shape),
                                                   " for weights of shape ",
                                                   ShapeString(params.weights.shape)));
  }
  params.groups = node.GetInt("group", 1);
  params.dst = {dtype, b.info(node.outputs[0]).shape, Layout::kPlain, std::nullopt};
  OCTET_ASSIGN_OR_RETURN(const Window window,
                         WindowOf(node, params.src.shape, params.dst.shape,
                                  absl::MakeConstSpan(params.weights.shape).subspan(2)));
  params.strides = window.strides;
  params.dilations = window.dilations;
  params.pads_begin = window.pads_begin;
  const Location dst = b.NewBuffer(params.dst);
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreatePlainConv(params, b.env()));
  const int64_t work = NumElements(params.dst.shape) * NumElements(params.weights.shape) /
                       std::max<int64_t>(params.weights.shape[0], 1);
  b.Emit(std::move(kernel), std::move(src), {dst}, &fused, work);
  return Finish(b, fused, dst);
}

absl::Status LowerPlainMatmul(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  const DType dtype = ProductType(b, node);
  using Transpose = kernels::PlainMatmulParams::Transpose;
  OCTET_ASSIGN_OR_RETURN(Location left, Operand(b, node.inputs[0], dtype));
  OCTET_ASSIGN_OR_RETURN(Location right, Operand(b, node.inputs[1], dtype));
  kernels::PlainMatmulParams params;
  params.a = left.spec;
  params.b = right.spec;
  params.dst = {dtype, b.info(node.outputs[0]).shape, Layout::kPlain, std::nullopt};
  const Location dst = b.NewBuffer(params.dst);
  if (params.b.shape.size() == 1) {
    params.b.shape.push_back(1);
    params.dst.shape.push_back(1);
  }
  if (params.a.shape.size() == 1) {
    params.a.shape.insert(params.a.shape.begin(), 1);
    params.dst.shape.insert(params.dst.shape.end() - 1, 1);
  }
  params.transpose_a = node.GetInt("transA", 0) != 0 ? Transpose::kYes : Transpose::kNo;
  params.transpose_b = node.GetInt("transB", 0) != 0 ? Transpose::kYes : Transpose::kNo;
  params.alpha = node.GetFloat("alpha", 1);
  if (!IsFloat(dtype) && (params.alpha != 1 || node.GetFloat("beta", 1) != 1)) {
    return absl::UnimplementedError(absl::StrCat("alpha or beta with ", NameOf(dtype)));
  }
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreatePlainMatmul(params, b.env()));
  const int64_t k =
      params.a.shape[params.a.shape.size() - (params.transpose_a == Transpose::kYes ? 2 : 1)];
  b.Emit(std::move(kernel), {left, right}, {dst}, &fused, NumElements(params.dst.shape) * k);
  if (node.op == "Gemm" && node.has_input(2)) {
    OCTET_ASSIGN_OR_RETURN(const Location sum, WithComputedBias(b, fused, dst));
    return Finish(b, fused, sum);
  }
  return Finish(b, fused, dst);
}

absl::StatusOr<Location> WithComputedBias(Builder& b, const FusedNode& fused,
                                          const Location& product) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(Location bias, Operand(b, node.inputs[2], product.spec.dtype));
  const float beta = node.GetFloat("beta", 1);
  if (beta != 1) {
    OCTET_ASSIGN_OR_RETURN(bias,
                           Activated(b, fused, bias, {kernels::ActivationKind::kLinear, beta, 0}));
  }
  return Added(b, fused, product, bias);
}

absl::Status LowerGemmWithComputedBias(Builder& b, const FusedNode& fused, LowerFn product) {
  if (b.graph().value(fused.output).quant.has_value()) {
    return absl::UnimplementedError("a computed bias in front of 8-bit storage");
  }
  Node without = *fused.node;
  without.inputs.resize(2);
  FusedNode alone = fused;
  alone.node = &without;
  alone.post_ops.clear();
  OCTET_RETURN_IF_ERROR(product(b, alone));
  OCTET_ASSIGN_OR_RETURN(const Location result, b.GetPlainF32(fused.output));
  OCTET_ASSIGN_OR_RETURN(const Location sum, WithComputedBias(b, fused, result));
  return Finish(b, fused, sum);
}

absl::Status LowerBatchNormalization(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  const DType dtype = IsStoredAs(b, node.inputs[0], DType::kF64) ? DType::kF64 : DType::kF32;
  std::vector<Location> src;
  for (size_t i = 0; i < 5; ++i) {
    OCTET_ASSIGN_OR_RETURN(src.emplace_back(), Operand(b, node.inputs[i], dtype));
    if (i > 0 &&
        (src[0].spec.shape.size() < 2 || src[i].spec.shape != Shape{src[0].spec.shape[1]})) {
      return absl::InvalidArgumentError(
          absl::StrCat("parameter ", i, " of shape ", ShapeString(src[i].spec.shape),
                       " for an input of shape ", ShapeString(src[0].spec.shape)));
    }
  }
  const Location dst = b.NewBuffer(src[0].spec);
  OCTET_ASSIGN_OR_RETURN(
      std::unique_ptr<kernels::Kernel> kernel,
      kernels::CreatePlainBatchNorm(
          {src[0].spec, dst.spec, double{node.GetFloat("epsilon", 1e-5f)}}, b.env()));
  b.Emit(std::move(kernel), std::move(src), {dst}, &fused);
  return b.Bind(fused.output, dst);
}

}  // namespace octet::engine
