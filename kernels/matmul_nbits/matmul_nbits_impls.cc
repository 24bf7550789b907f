// The ordered list of MatmulNBits and the rules its parameters obey.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/matmul_nbits/matmul_nbits.h"

namespace octet::kernels {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
using Transpose = MatmulNBitsParams::Transpose;
Result CreateMatmulNBitsAmx(const MatmulNBitsParams&, const KernelEnv&);
Result CreateMatmulNBitsHighway(const MatmulNBitsParams&, const KernelEnv&);
Result CreateMatmulNBitsReference(const MatmulNBitsParams&, const KernelEnv&);

namespace {

absl::Status CheckZeroPoints(const TensorSpec& weights) {
  const QuantParams& quant = *weights.quant;
  const auto [low, high] = IntegerRange(weights.dtype);
  const bool nibbles = BitsOf(weights.dtype) == 4 && quant.levels.empty();
  const int64_t only = weights.dtype == DType::kU8 ? 128 : 0;
  for (size_t i = 0; i < quant.scale.size(); ++i) {
    const int64_t z = quant.zero_point_at(i);
    if (nibbles ? z < low || z > high : z != only) {
      return absl::UnimplementedError(
          absl::StrCat("zero point ", z, " of ", NameOf(weights.dtype), " weights"));
    }
  }
  return absl::OkStatus();
}

// Tables of codes, and that integers have none.
absl::Status CheckLevels(const TensorSpec& weights, int64_t k) {
  const QuantParams& quant = *weights.quant;
  const auto entries = static_cast<int64_t>(quant.levels.size());
  const bool codes = weights.dtype == DType::kU1 || weights.dtype == DType::kU2;
  const bool vectors = quant.vector == 4 && weights.dtype == DType::kU2 && k % 4 == 0 && entries % 4 == 0;
  if (quant.vector != 1 && !vectors) return absl::UnimplementedError(absl::StrCat("codes of ", quant.vector, " weights along K ", k));
  const int64_t most = vectors ? 1024 : codes || weights.dtype == DType::kU4 ? int64_t{1} << BitsOf(weights.dtype) : 0;
  if (entries > most || (entries == 0 && codes)) {
    return absl::UnimplementedError(absl::StrCat(entries, " levels of ", NameOf(weights.dtype), " weights"));
  }
  if (vectors && quant.block % 16 != 0 && quant.block < k) {
    return absl::UnimplementedError(absl::StrCat("blocks of ", quant.block, " weights in vectors, not a multiple of 16"));
  }
  return absl::OkStatus();
}

absl::Status Bad(const MatmulNBitsParams& p, absl::string_view rule) {
  return absl::InvalidArgumentError(absl::StrCat("matmul_nbits of ", ShapeString(p.src.shape),
                                                 " and ", ShapeString(p.weights.shape),
                                                 p.transpose_weights == Transpose::kYes ? "^T" : "",
                                                 " into ", ShapeString(p.dst.shape), ": ", rule));
}

absl::Status Validate(const MatmulNBitsParams& p) {
  if (p.src.shape.size() < 2 || p.weights.shape.size() != 2) {
    return Bad(p, "the source needs two dimensions or more, the weights two");
  }
  const bool transposed = p.transpose_weights == Transpose::kYes;
  const int64_t k = p.weights.shape[transposed ? 1 : 0], n = p.weights.shape[transposed ? 0 : 1];
  if (p.src.shape.back() != k) return Bad(p, "inner dimensions differ");
  Shape expected = p.src.shape;
  expected.back() = n;
  if (p.dst.shape != expected) return Bad(p, absl::StrCat("dst must be ", ShapeString(expected)));
  if (p.src.layout != Layout::kPlain || p.dst.layout != Layout::kPlain)
    return Bad(p, "operands must be plain");
  if (!p.weights_constant.present()) return Bad(p, "weights must be constant");
  const Tensor &weights = p.weights_constant.tensor, &bias = p.bias.tensor;
  if (weights.valid() &&
      (weights.shape() != p.weights.shape || weights.dtype() != p.weights.dtype)) {
    return Bad(p, "the constant differs from its description");
  }
  if (bias.valid() && bias.num_elements() != 1 &&
      (bias.num_elements() != n || bias.shape().empty() || bias.shape().back() != n)) {
    return Bad(p, "the bias must have one element or N");
  }
  if (!IsPlainF32(p.dst)) return absl::UnimplementedError("matmul_nbits: dst must be f32");
  if (!IsPlainF32(p.src) && !IsQuantized8(p.src)) {
    return absl::UnimplementedError(
        absl::StrCat("matmul_nbits: source of type ", NameOf(p.src.dtype)));
  }
  for (const PostOp& op : p.post_ops) {
    if (op.kind == PostOp::Kind::kAdd &&
        (op.residual.shape != p.dst.shape || !IsPlainF32(op.residual))) {
      return Bad(p, "a residual lies in dst's memory: f32 of its shape");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckNBitsWeights(const TensorSpec& weights, Transpose transpose) {
  if (weights.shape.size() != 2 || !weights.quant.has_value()) {
    return absl::UnimplementedError("weights must be a quantized matrix");
  }
  if (!IsInteger(weights.dtype) || BitsOf(weights.dtype) > 8) {
    return absl::UnimplementedError(absl::StrCat("weights of type ", NameOf(weights.dtype)));
  }
  const QuantParams& quant = *weights.quant;
  const size_t depth = transpose == Transpose::kYes ? 1 : 0;
  const int64_t k = weights.shape[depth], n = weights.shape[1 - depth];
  int64_t scales = 1;
  if (!quant.per_tensor() && quant.block == 0) {
    if (quant.axis != static_cast<int>(1 - depth))
      return absl::UnimplementedError("scales along K");
    scales = n;
  } else if (!quant.per_tensor()) {
    if (quant.axis != static_cast<int>(depth)) return absl::UnimplementedError("blocks along N");
    if (quant.block % 8 != 0 && quant.block < k) {
      return absl::UnimplementedError(
          absl::StrCat("blocks of ", quant.block, ", not a multiple of 8"));
    }
    scales = (k / quant.block + (k % quant.block != 0)) * n;
  }
  if (static_cast<int64_t>(quant.scale.size()) != scales) {
    return absl::UnimplementedError(absl::StrCat(quant.scale.size(), " scales, expected ", scales));
  }
  OCTET_RETURN_IF_ERROR(CheckLevels(weights, k));
  return CheckZeroPoints(weights);
}

bool IsNBitsPostOp(const PostOp& op) {
  if (op.kind == PostOp::Kind::kAdd) return true;
  switch (op.activation.kind) {
    case ActivationKind::kRelu:
    case ActivationKind::kLeakyRelu:
    case ActivationKind::kClip:
    case ActivationKind::kHardSigmoid:
    case ActivationKind::kHardSwish:
    case ActivationKind::kLinear:
      return true;
    default:
      return false;
  }
}

absl::Span<const Implementation<MatmulNBitsParams>> MatmulNBitsImplementations() {
  static constexpr Implementation<MatmulNBitsParams> kList[] = {
      {"amx", CreateMatmulNBitsAmx},
      {"highway", CreateMatmulNBitsHighway},
      {"reference", CreateMatmulNBitsReference},
  };
  return kList;
}

Result CreateMatmulNBits(const MatmulNBitsParams& params, const KernelEnv& env) {
  OCTET_RETURN_IF_ERROR(Validate(params));
  OCTET_RETURN_IF_ERROR(ValidateQuant(params.src));
  OCTET_RETURN_IF_ERROR(CheckNBitsWeights(params.weights, params.transpose_weights));
  for (const PostOp& op : params.post_ops) {
    if (!IsNBitsPostOp(op)) {
      return absl::UnimplementedError(absl::StrCat(
          "matmul_nbits: activation ", NameOf(op.activation.kind), " is a step of its own"));
    }
  }
  return Select(MatmulNBitsImplementations(), params, env);
}

}  // namespace octet::kernels
