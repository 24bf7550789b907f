// Matrix product with optional constant right side, bias and post-ops (Gemm, MatMul, fully connected layers).
//
//   real[..., m, n] = alpha * sum_k a[..., m, k] * b[..., k, n] + bias[..., n]
//   dst = round_half_even(post_ops(real) / dst_scale) + dst_zero_point, saturated     (dst with quant)
//
// f32 x f32, or u8/s8 (quant per tensor) x s8 (quant per tensor, or per column n when b is constant). Batch dimensions
// broadcast as in numpy. transpose_a / transpose_b swap the last two dimensions of an operand.
// Operands of Bind: src[0] = a, src[1] = b when it is not constant; a kAdd residual is read from dst[0].
// With runtime_quant, a is u8/s8 without quant and its parameters are further operands, b is constant; dst is f32, or s32:
// the accumulator (then no bias, post-ops, alpha or scales but 1).
// Source: ONNX MatMul-13, Gemm-13, MatMulInteger-10.
#ifndef OCTET_KERNELS_MATMUL_MATMUL_H_
#define OCTET_KERNELS_MATMUL_MATMUL_H_

#include <memory>
#include <optional>
#include <vector>

#include "kernels/kernel.h"
#include "kernels/runtime_quant.h"

namespace octet::kernels {

struct MatmulParams {
  TensorSpec a;                 // [..., M, K], plain
  TensorSpec b;                 // [..., K, N]; of a constant: its shape, dtype and quant (axis as in the operand)
  ConstantSpec b_constant;      // present when b is constant
  ConstantSpec bias;            // optional; [N] or broadcastable to dst; f32 in real units or s32 with quant
  TensorSpec dst;               // [..., M, N], plain
  enum class Transpose : uint8_t { kNo, kYes };
  Transpose transpose_a = Transpose::kNo;
  Transpose transpose_b = Transpose::kNo;
  float alpha = 1;
  std::vector<PostOp> post_ops;
  std::optional<RuntimeQuant> runtime_quant;
};

// Errors: kInvalidArgument (shapes disagree), kUnimplemented (no implementation accepts).
absl::StatusOr<std::unique_ptr<Kernel>> CreateMatmul(const MatmulParams& params,
                                                     const KernelEnv& env);
absl::Span<const Implementation<MatmulParams>> MatmulImplementations();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_MATMUL_MATMUL_H_
