// The ordered list of Matmul and the rules its parameters obey.
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/matmul/matmul.h"

namespace octet::kernels {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
Result CreateMatmulOneDnn(const MatmulParams&, const KernelEnv&);
Result CreateMatmulReference(const MatmulParams&, const KernelEnv&);

namespace {

absl::Status Bad(const MatmulParams& p, absl::string_view rule) {
  return absl::InvalidArgumentError(absl::StrCat(
      "matmul of ", ShapeString(p.a.shape),
      p.transpose_a == MatmulParams::Transpose::kYes ? "^T" : "", " and ", ShapeString(p.b.shape),
      p.transpose_b == MatmulParams::Transpose::kYes ? "^T" : "", " into ",
      ShapeString(p.dst.shape), ": ", rule));
}

absl::Status ValidateShapes(const MatmulParams& p) {
  const Shape &a = p.a.shape, &b = p.b.shape, &dst = p.dst.shape;
  if (a.size() < 2 || b.size() < 2) return Bad(p, "operands need two dimensions");
  for (const TensorSpec* spec : {&p.a, &p.b, &p.dst}) {
    if (spec->layout != Layout::kPlain) return Bad(p, "operands must be plain");
  }
  const bool ta = p.transpose_a == MatmulParams::Transpose::kYes;
  const bool tb = p.transpose_b == MatmulParams::Transpose::kYes;
  const int64_t m = a[a.size() - (ta ? 1 : 2)], k = a[a.size() - (ta ? 2 : 1)];
  const int64_t n = b[b.size() - (tb ? 2 : 1)];
  if (b[b.size() - (tb ? 1 : 2)] != k) return Bad(p, "inner dimensions differ");
  OCTET_ASSIGN_OR_RETURN(Shape expected,
                         BroadcastShapes(absl::MakeConstSpan(a).first(a.size() - 2),
                                         absl::MakeConstSpan(b).first(b.size() - 2)));
  expected.push_back(m);
  expected.push_back(n);
  if (dst != expected) return Bad(p, absl::StrCat("dst must be ", ShapeString(expected)));
  if (p.bias.present() && p.bias.tensor.valid()) {
    const auto full = BroadcastShapes(p.bias.tensor.shape(), dst);
    if (!full.ok() || *full != dst) return Bad(p, "the bias does not broadcast to dst");
  }
  return absl::OkStatus();
}

absl::Status ValidateTypes(const MatmulParams& p) {
  const bool f32 = IsPlainF32(p.a) && IsPlainF32(p.b);
  const bool bytes = !p.a.quant && (p.a.dtype == DType::kU8 || p.a.dtype == DType::kS8);
  const bool a8 = p.runtime_quant ? bytes && p.b_constant.present() : IsQuantized8(p.a);
  const bool int8 = a8 && p.b.quant && (p.b.dtype == DType::kS8 || p.b.dtype == DType::kU8);
  if (!f32 && !int8) {
    return absl::UnimplementedError(absl::StrCat("matmul: ", NameOf(p.a.dtype), " with ",
                                                 NameOf(p.b.dtype),
                                                 " is neither f32 nor quantized 8 bits"));
  }
  const bool accumulator = p.runtime_quant && p.dst.dtype == DType::kS32 && !p.dst.quant &&
                           !p.bias.present() && p.post_ops.empty() && p.alpha == 1;
  if (!accumulator && !IsPlainF32(p.dst) && !IsQuantized8(p.dst)) {
    return absl::UnimplementedError(absl::StrCat("matmul: dst of type ", NameOf(p.dst.dtype)));
  }
  if (int8 && !p.b.quant->per_tensor()) {
    const size_t rank = p.b.shape.size();
    const size_t axis = p.transpose_b == MatmulParams::Transpose::kYes ? rank - 2 : rank - 1;
    if (!p.b_constant.present() || p.b.quant->axis != static_cast<int>(axis) ||
        p.b.quant->block != 0 || p.b.quant->scale.size() != static_cast<size_t>(p.b.shape[axis])) {
      return absl::UnimplementedError(
          "matmul: scales of b must be per tensor, or per column of a constant");
    }
  }
  for (const PostOp& op : p.post_ops) {
    if (op.kind != PostOp::Kind::kAdd) continue;
    if (op.residual.shape != p.dst.shape || BitsOf(op.residual.dtype) != BitsOf(p.dst.dtype) ||
        IsQuantized8(op.residual) != IsQuantized8(p.dst)) {
      return Bad(p, "a residual lies in dst's memory: shape and element size must agree");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Span<const Implementation<MatmulParams>> MatmulImplementations() {
  static constexpr Implementation<MatmulParams> kList[] = {
      {"onednn", CreateMatmulOneDnn},
      {"reference", CreateMatmulReference},
  };
  return kList;
}

Result CreateMatmul(const MatmulParams& params, const KernelEnv& env) {
  OCTET_RETURN_IF_ERROR(ValidateShapes(params));
  for (const TensorSpec* spec : {&params.a, &params.b, &params.dst}) {
    OCTET_RETURN_IF_ERROR(ValidateQuant(*spec));
  }
  OCTET_RETURN_IF_ERROR(ValidateTypes(params));
  return Select(MatmulImplementations(), params, env);
}

}  // namespace octet::kernels
