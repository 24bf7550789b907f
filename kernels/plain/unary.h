// Element functions without a fast kernel, and every element function of f64 and of integers.
//
//   dst[i] = f(src[i])
//
// src and dst have one shape and layout, no quant. Floats are computed in their own type (16-bit
// floats in f32); tests (kIsNan, kIsInf, kNot) write bool; kBitwiseNot wants integers. kActivation
// on integers is exact and exists for Abs, Erf, Neg, Sign and Relu; on floats it computes in
// double. Operands of Bind: src[0], dst[0]. Source: ONNX Acos-22, Asin-22, ..., Selu-22, Celu-12,
// Shrink-9, ThresholdedRelu-22, IsInf-20, IsNaN-20, BitwiseNot-18, Not-1.
#ifndef OCTET_KERNELS_PLAIN_UNARY_H_
#define OCTET_KERNELS_PLAIN_UNARY_H_

#include <memory>

#include "kernels/kernel.h"

namespace octet::kernels {

enum class PlainUnaryKind : uint8_t {
  kAcos,
  kAcosh,
  kAsin,
  kAsinh,
  kAtan,
  kAtanh,
  kCosh,
  kSinh,
  kTan,
  kCelu,             // max(x, 0) + min(alpha (exp(x / alpha) - 1), 0)
  kSelu,             // beta (x > 0 ? x : alpha (exp(x) - 1))
  kShrink,           // x < -alpha ? x + beta : x > alpha ? x - beta : 0
  kThresholdedRelu,  // x > alpha ? x : 0
  kIsNan,
  kIsInf,  // alpha != 0: -inf counts; beta != 0: +inf counts
  kNot,
  kBitwiseNot,
  kActivation,  // `activation`
};

struct PlainUnaryParams {
  PlainUnaryKind kind = PlainUnaryKind::kTan;
  float alpha = 0, beta = 0;  // as the kind says
  Activation activation;
  TensorSpec src, dst;
};

// Errors: kUnimplemented for a kind that the type does not have; kInvalidArgument when the specs
// disagree.
absl::StatusOr<std::unique_ptr<Kernel>> CreatePlainUnary(const PlainUnaryParams& params,
                                                         const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_UNARY_H_
