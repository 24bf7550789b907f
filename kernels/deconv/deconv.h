// Transposed convolution in 1 to 3 spatial dimensions, grouped, strided, dilated.
//
//   real[n,o,y] = bias[o] + sum of src[n,c,x] * weights[c, o within its group, k]
//                 over channels c of o's group and all x, k with y = x * stride - pad_begin + k * dilation
//   dst = round_half_even(post_ops(real) / dst_scale) + dst_zero_point, saturated     (dst with quant)
//
// dst's spatial extents are given: they say what output_padding, output_shape and the pads at the end amount to. f32.
// Operands of Bind: src[0] = src, then weights and bias (f32) where they are not constants; a kAdd post-op's residual is
// read from dst[0] (in place). Source: ONNX ConvTranspose-22.
#ifndef OCTET_KERNELS_DECONV_DECONV_H_
#define OCTET_KERNELS_DECONV_DECONV_H_

#include <memory>
#include <vector>

#include "kernels/kernel.h"

namespace octet::kernels {

struct DeconvParams {
  TensorSpec src;        // [N, C, spatial...]
  ConstantSpec weights;  // [C, O/groups, kernel...]; absent: an operand
  Shape weights_shape;
  bool has_bias = false;
  ConstantSpec bias;  // [O]; absent with has_bias: an operand
  TensorSpec dst;     // [N, O, spatial...]
  int64_t groups = 1;
  std::vector<int64_t> strides, dilations, pads_begin;  // one per spatial dimension; dilation 1 = dense
  std::vector<PostOp> post_ops;
};

// Errors: kInvalidArgument (shapes disagree), kUnimplemented (no implementation accepts; reasons listed).
absl::StatusOr<std::unique_ptr<Kernel>> CreateDeconv(const DeconvParams& params, const KernelEnv& env);

// The ordered list, best first, reference last.
absl::Span<const Implementation<DeconvParams>> DeconvImplementations();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_DECONV_DECONV_H_
