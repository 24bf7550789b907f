// Products that have no fast kernel: operands that are computed where packed weights are expected,
// f64, and integers.
//
// All operands plain, of one type, without quant. Floats are summed in double, integers in their
// own type (wrapping). Source: ONNX Conv-22, MatMul-13, Gemm-13, BatchNormalization-15.
#ifndef OCTET_KERNELS_PLAIN_PRODUCTS_H_
#define OCTET_KERNELS_PLAIN_PRODUCTS_H_

#include <memory>
#include <vector>

#include "kernels/kernel.h"

namespace octet::kernels {

// dst[n,o,p] = bias[o] + sum_{c,k} src[n, c, p * stride - pad_begin + k * dilation] * weights[o, c,
// k], zero outside. Floats. Operands of Bind: src[0], src[1] = weights [O, C/groups, kernel...],
// src[2] = bias [O] when has_bias; dst[0].
struct PlainConvParams {
  TensorSpec src, weights, dst;  // [N, C, spatial...], [N, O, spatial...]
  bool has_bias = false;
  int64_t groups = 1;
  std::vector<int64_t> strides, dilations, pads_begin;  // one per spatial dimension
};
absl::StatusOr<std::unique_ptr<Kernel>> CreatePlainConv(const PlainConvParams& params,
                                                        const KernelEnv& env);

// dst[.., m, n] = alpha * sum_k a[.., m, k] * b[.., k, n]; leading dimensions broadcast; a and b
// may be stored transposed ([.., k, m], [.., n, k]). Any addressable type but bool. Operands of
// Bind: src[0] = a, src[1] = b, dst[0].
struct PlainMatmulParams {
  enum class Transpose : uint8_t { kNo, kYes };
  TensorSpec a, b, dst;  // rank 2 or more
  Transpose transpose_a = Transpose::kNo, transpose_b = Transpose::kNo;
  float alpha = 1;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreatePlainMatmul(const PlainMatmulParams& params,
                                                          const KernelEnv& env);

// dst[n, c, ..] = (src[n, c, ..] - mean[c]) / sqrt(variance[c] + epsilon) * scale[c] + bias[c], in
// double. f32, f64. Operands of Bind: src[0], src[1] = scale, src[2] = bias, src[3] = mean, src[4]
// = variance, each [C]; dst[0].
struct PlainBatchNormParams {
  TensorSpec src, dst;  // [N, C, ..]
  double epsilon = 1e-5;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreatePlainBatchNorm(const PlainBatchNormParams& params,
                                                             const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_PRODUCTS_H_
