// Element functions of two operands with numpy broadcast: dst = f(a, b).
//
// Reals (f32, f64, or u8/s8 with quant on any side) and integers (s32, s64, u8, ... without quant; for shape
// arithmetic; Div truncates toward zero as C does, division by zero gives 0). Comparisons write bool.
// Layout: all operands plain, or all of equal rank channels-last (dimensions of 1 broadcast); a constant or computed
// operand of another rank must come plain and be reshaped by the caller.
// Operands of Bind: src[0] = a, src[1] = b (constants too), dst[0].
// Source: ONNX Add-14, Sub-14, Mul-14, Div-14, Pow-15, Max-13, Min-13, Mod-13, PRelu-16, And-7, Equal-19, Less-13, ...
#ifndef OCTET_KERNELS_BINARY_BINARY_H_
#define OCTET_KERNELS_BINARY_BINARY_H_

#include <memory>

#include "absl/strings/string_view.h"
#include "kernels/kernel.h"

namespace octet::kernels {

enum class BinaryKind : uint8_t {
  kAdd, kSub, kMul, kDiv, kPow, kMax, kMin,
  kMod,    // sign of the divisor (ONNX fmod=0)
  kFmod,   // C's fmod (fmod=1)
  kPrelu,  // a < 0 ? a * b : a
  kEqual, kLess, kLessOrEqual, kGreater, kGreaterOrEqual,  // dst bool
  kAnd, kOr, kXor,                                         // bool x bool -> bool
};
absl::string_view NameOf(BinaryKind kind);

struct BinaryParams {
  BinaryKind kind = BinaryKind::kAdd;
  TensorSpec a, b, dst;
  std::vector<PostOp> post_ops;  // activations only; applied to the real result (f32 and quantized dst)
};

absl::StatusOr<std::unique_ptr<Kernel>> CreateBinary(const BinaryParams& params,
                                                     const KernelEnv& env);
absl::Span<const Implementation<BinaryParams>> BinaryImplementations();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_BINARY_BINARY_H_
