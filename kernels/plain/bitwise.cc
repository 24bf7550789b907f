// Bitwise functions: one merged loop nest over both operands.
#include "kernels/plain/bitwise.h"

#include <limits>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/plain/typed.h"

namespace octet::kernels {
namespace {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;

template <typename T>
T BitwiseOf(BitwiseKind kind, T a, T b) {
  using U = std::make_unsigned_t<T>;
  const bool gone = static_cast<U>(b) >= static_cast<U>(std::numeric_limits<U>::digits);
  switch (kind) {
    case BitwiseKind::kAnd:
      return static_cast<T>(a & b);
    case BitwiseKind::kOr:
      return static_cast<T>(a | b);
    case BitwiseKind::kXor:
      return static_cast<T>(a ^ b);
    case BitwiseKind::kShiftLeft:
      return gone ? T{0} : static_cast<T>(static_cast<U>(a) << b);
    default:
      return gone ? T{0} : static_cast<T>(static_cast<U>(a) >> b);
  }
}

absl::Status Validate(const BitwiseParams& p) {
  const bool shift = p.kind == BitwiseKind::kShiftLeft || p.kind == BitwiseKind::kShiftRight;
  const DType t = p.dst.dtype;
  const bool is_unsigned =
      t == DType::kU8 || t == DType::kU16 || t == DType::kU32 || t == DType::kU64;
  if (p.a.dtype != t || p.b.dtype != t || !IsInteger(t) || (shift && !is_unsigned)) {
    return absl::InvalidArgumentError(absl::StrCat(
        shift ? "shift: " : "bitwise: ", NameOf(p.a.dtype), " and ", NameOf(p.b.dtype), " to ",
        NameOf(t), ", expected one ", shift ? "unsigned integer type" : "integer type"));
  }
  OCTET_ASSIGN_OR_RETURN(const Shape shape, BroadcastShapes(p.a.shape, p.b.shape));
  if (shape != p.dst.shape) {
    return absl::InvalidArgumentError(absl::StrCat("bitwise: result is ", ShapeString(shape),
                                                   ", not ", ShapeString(p.dst.shape)));
  }
  return absl::OkStatus();
}

}  // namespace

Result CreateBitwise(const BitwiseParams& params, const KernelEnv&) {
  if (absl::Status s = Validate(params); !s.ok()) return s;
  return WithType("bitwise", params.dst.dtype, [&](auto t) -> Result {
    using T = decltype(t);
    if constexpr (!std::is_integral_v<T>) {
      return absl::InternalError("bitwise: a float type");
    } else {
      LoopNest nest = BroadcastNest({&params.a, &params.b}, params.dst);
      return MakeFunctionKernel(
          "plain", 0,
          [nest = std::move(nest), kind = params.kind,
           n = NumElements(params.dst.shape)](const BindArgs& args) {
            const T* a = static_cast<const T*>(args.src[0]);
            const T* b = static_cast<const T*>(args.src[1]);
            T* dst = static_cast<T*>(args.dst[0]);
            const int64_t step_a = nest.strides[0].back(), step_b = nest.strides[1].back();
            ForEachRun(nest, 0, n, [&](const int64_t* offsets, int64_t count) {
              for (int64_t i = 0; i < count; ++i) {
                *dst++ = BitwiseOf<T>(kind, a[offsets[0] + i * step_a], b[offsets[1] + i * step_b]);
              }
            });
          });
    }
  });
}

}  // namespace octet::kernels
