// Matrix product with constant weights of 1, 2, 4 or 8 bits, or codes of vectors of four, scaled by groups along K, that
// stay packed in memory (oracle: matmul_nbits_reference.h).
//
//   dst[m,n]   = post_ops(alpha * s[m] * (sum_g scale[g,n] * acc[m,g,n] - z[m] * c[n]) + bias[n])
//   (f32) acc[m,g,n] = sum_{k in group g} q[m,k] * (weights[k,n] - zero_point[g,n]) (exact, in s32)
//   c[n]       = sum_g scale[g,n] * sum_{k in group g} (weights[k,n] - zero_point[g,n])    (double,
//   rounded to f32)
//
// Where the weights have levels, weights[k,n] above is the level that the stored code stands for.
//
// An f32 source is quantized row by row while the product runs (dynamic quantization, asymmetric
// u8):
//   low = min(0, min_k src[m,k]), high = max(0, max_k src[m,k]), s[m] = max((high / 2 - low / 2) /
//   127.5, FLT_MIN) z[m] = clamp(round_half_even(-low * (1 / s[m])), 0, 255) q[m,k] =
//   clamp(round_half_even(src[m,k] * (1 / s[m])) + z[m], 0, 255)                       (all in f32)
// so |src[m,k] - s[m] (q[m,k] - z[m])| <= 0.5001 s[m], and the error of a result against the float
// product with the dequantized weights is at most 0.5001 s[m] sum_k |w[k,n]| plus f32 rounding:
// (groups + 4) 2^-24 255 s[m] sum_k |w[k,n]|. A row of zeros gives the bias exactly. A row that
// holds NaN or an infinity gives NaN in all of its dst. A source that is stored as u8 or s8 is
// taken as it is: s and z are its quantization.
//
// The sum over groups is sequential in f32, fused multiply-add where the CPU has it: a row's result
// does not depend on the other rows or on the number of threads. |acc| < 2^31 because groups are
// split at kMaxGroup, whole columns at kColumnGroup.
//
// Operands of Bind: src[0]; dst[0] [..., M, N] f32; a kAdd residual (f32) is read from dst[0].
// Source: ONNX DynamicQuantizeLinear-11 (per row), DequantizeLinear-21 (block_size),
// com.microsoft.MatMulNBits.
#ifndef OCTET_KERNELS_MATMUL_NBITS_MATMUL_NBITS_H_
#define OCTET_KERNELS_MATMUL_NBITS_MATMUL_NBITS_H_

#include <memory>
#include <vector>

#include "kernels/kernel.h"

namespace octet::kernels {

struct MatmulNBitsParams {
  static constexpr int64_t kMaxGroup = 2048;    // elements of K whose products are summed in s32
  static constexpr int64_t kColumnGroup = 512;  // the same where a column has one scale: tiles of it stay in L1

  TensorSpec src;                 // [..., M, K] plain; f32, or u8/s8 with quant per tensor
  TensorSpec weights;             // shape [K, N] ([N, K] when transposed); s4, u4, s8, u8, or codes: u4,
                                  // u2, u1. quant: per tensor, per column, or blocks along K
  ConstantSpec weights_constant;  // their content; its own quant is not used
  enum class Transpose : uint8_t { kNo, kYes };
  Transpose transpose_weights = Transpose::kNo;
  float alpha = 1;
  ConstantSpec bias;             // optional; f32, N elements or one
  TensorSpec dst;                // [..., M, N] plain f32
  std::vector<PostOp> post_ops;  // kAdd, and activations that IsNBitsPostOp accepts
};

// OK when weights of this form have a kernel: blocks are a multiple of 8 (or one block covers K);
// zero points are anything in 4 bits, and in 8 bits all 0 (s8) or all 128 (u8); codes have levels and no zero points,
// those of vectors lie along K in blocks of a multiple of 16. Errors:
// kUnimplemented with the reason.
absl::Status CheckNBitsWeights(const TensorSpec& weights, MatmulNBitsParams::Transpose transpose);

// Activations that are applied on the way out: relu, leaky_relu, clip, hard_sigmoid, hard_swish,
// linear. Others are the caller's next step.
bool IsNBitsPostOp(const PostOp& op);

// Errors: kInvalidArgument (shapes disagree), kUnimplemented (no implementation accepts).
absl::StatusOr<std::unique_ptr<Kernel>> CreateMatmulNBits(const MatmulNBitsParams& params,
                                                          const KernelEnv& env);
absl::Span<const Implementation<MatmulNBitsParams>> MatmulNBitsImplementations();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_MATMUL_NBITS_MATMUL_NBITS_H_
