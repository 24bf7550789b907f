// Lowering of products whose constant weights stay packed in 1, 2 or 4 bits, as vector codes, or in 8 bits with blocks
// along K.
//
// A float source is quantized row by row while the product runs (kernels/matmul_nbits); a quantized
// one is taken as it is.
#include <algorithm>
#include <utility>
#include <vector>

#include "base/status.h"
#include "engine/builder.h"
#include "engine/lower.h"
#include "kernels/activation/activation.h"
#include "kernels/binary/binary.h"
#include "kernels/matmul_nbits/matmul_nbits.h"

namespace octet::engine {
namespace {

using graph::Node;
using kernels::Layout;
using kernels::MatmulNBitsParams;
using kernels::PostOp;
using kernels::TensorSpec;
using Transpose = MatmulNBitsParams::Transpose;

Transpose TransposeOf(const Node& node) {
  return node.op == "Gemm" && node.GetInt("transB", 0) != 0 ? Transpose::kYes : Transpose::kNo;
}

// The weights as the kernel wants them described.
TensorSpec WeightsSpec(const Builder& b, graph::ValueId id) {
  const graph::Value& value = b.graph().value(id);
  return {value.dtype, b.info(id).shape, Layout::kPlain, value.quant};
}

bool IsResidual(const FusedPostOp& op) { return op.kind == PostOp::Kind::kAdd; }

// How many of the fused operations the kernel applies itself; the rest are steps of their own. A
// residual is added in its own memory, which therefore must be f32, and only one can be.
absl::StatusOr<size_t> TakePostOps(Builder& b, const FusedNode& fused, const TensorSpec& dst,
                                   std::vector<PostOp>* taken, Location* residual) {
  for (size_t i = 0; i < fused.post_ops.size(); ++i) {
    const FusedPostOp& op = fused.post_ops[i];
    PostOp post{op.kind, op.activation, dst};
    if (!kernels::IsNBitsPostOp(post)) return i;
    if (IsResidual(op)) {
      OCTET_ASSIGN_OR_RETURN(const Location l, b.GetPlain(op.residual));
      if (l.spec.dtype != DType::kF32 || l.spec.quant || l.buffer < 0 || residual->buffer >= 0)
        return i;
      *residual = l;
    }
    taken->push_back(std::move(post));
  }
  return fused.post_ops.size();
}

// One more operation behind the product, f32 to f32.
absl::StatusOr<Location> EmitPostOp(Builder& b, const FusedNode& fused, const FusedPostOp& op,
                                    const Location& src) {
  const Location dst = b.NewBuffer(src.spec);
  if (!IsResidual(op)) {
    OCTET_ASSIGN_OR_RETURN(auto kernel,
                           kernels::CreateActivation({src.spec, dst.spec, op.activation}, b.env()));
    b.Emit(std::move(kernel), {src}, {dst}, &fused);
    return dst;
  }
  OCTET_ASSIGN_OR_RETURN(const Location residual, b.GetPlainF32(op.residual));
  OCTET_ASSIGN_OR_RETURN(
      auto kernel,
      kernels::CreateBinary({kernels::BinaryKind::kAdd, src.spec, residual.spec, dst.spec, {}},
                            b.env()));
  b.Emit(std::move(kernel), {src, residual}, {dst}, &fused);
  return dst;
}

// f32 reals or integers of one scale, as the kernel reads them.
absl::StatusOr<Location> Source(Builder& b, graph::ValueId id) {
  OCTET_ASSIGN_OR_RETURN(const Location src, b.GetPlain(id));
  const bool bytes = src.spec.dtype == DType::kU8 || src.spec.dtype == DType::kS8;
  if (bytes && src.spec.quant.has_value() && src.spec.quant->per_tensor()) return src;
  return b.GetPlainF32(id);
}

}  // namespace

bool IsNBitsProduct(const Builder& b, const Node& node) {
  if ((node.op != "MatMul" && node.op != "Gemm") || !node.domain.empty()) return false;
  if (node.op == "Gemm" && node.GetInt("transA", 0) != 0) return false;
  const graph::Value& weights = b.graph().value(node.inputs[1]);
  if (!b.info(node.inputs[1]).is_constant || !weights.quant.has_value()) return false;
  if (BitsOf(weights.dtype) >= 8 && weights.quant->block == 0) return false;
  if (b.info(node.inputs[0]).shape.empty() || NumElements(b.info(node.inputs[1]).shape) == 0)
    return false;
  const TensorSpec spec = WeightsSpec(b, node.inputs[1]);
  const Transpose transpose = TransposeOf(node);
  if (!kernels::CheckNBitsWeights(spec, transpose).ok()) return false;
  if (!node.has_input(2)) return true;
  const ValueInfo& bias = b.info(node.inputs[2]);
  const graph::Value& value = b.graph().value(node.inputs[2]);
  const int64_t n = spec.shape[transpose == Transpose::kYes ? 0 : 1];
  const bool readable = value.quant.has_value() || value.dtype == DType::kF32;
  const int64_t elements = NumElements(bias.shape);
  return bias.is_constant && readable &&
         (elements == 1 || (elements == n && !bias.shape.empty() && bias.shape.back() == n));
}

absl::Status LowerNBitsProduct(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  MatmulNBitsParams params;
  bool local = false;
  OCTET_ASSIGN_OR_RETURN(const Location src, Source(b, node.inputs[0]));
  params.weights = WeightsSpec(b, node.inputs[1]);
  params.weights_constant = b.Constant(node.inputs[1], &local);
  params.transpose_weights = TransposeOf(node);
  params.alpha = node.op == "Gemm" ? node.GetFloat("alpha", 1.0f) : 1.0f;
  if (node.has_input(2)) params.bias = b.Constant(node.inputs[2], &local);
  // All leading dimensions are rows; a source of rank 1 is one row.
  const int64_t k = src.spec.shape.back();
  const int64_t n = params.weights.shape[params.transpose_weights == Transpose::kYes ? 0 : 1];
  const int64_t rows = k == 0 ? 0 : NumElements(src.spec.shape) / k;
  TensorSpec spec{DType::kF32, b.info(fused.output).shape, Layout::kPlain, std::nullopt};
  params.src = src.spec;
  params.src.shape = {rows, k};
  params.dst = spec;
  params.dst.shape = {rows, n};
  Location dst;
  OCTET_ASSIGN_OR_RETURN(const size_t taken,
                         TakePostOps(b, fused, params.dst, &params.post_ops, &dst));
  dst = dst.buffer >= 0 ? Builder::View(dst, spec.shape, Layout::kPlain) : b.NewBuffer(spec);
  OCTET_ASSIGN_OR_RETURN(auto kernel, kernels::CreateMatmulNBits(params, b.env(local)));
  b.Emit(std::move(kernel), {src}, {dst}, &fused, rows * n * k,
         ByteSize(params.weights.dtype, params.weights.shape));
  for (size_t i = taken; i < fused.post_ops.size(); ++i) {
    OCTET_ASSIGN_OR_RETURN(dst, EmitPostOp(b, fused, fused.post_ops[i], dst));
  }
  return b.Bind(fused.output, dst);
}

}  // namespace octet::engine
