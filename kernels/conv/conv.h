// Convolution in 1 to 3 spatial dimensions, grouped, strided, dilated, with asymmetric zero
// padding.
//
//   real[n,o,p] = bias[o] + sum_{c,k} src[n, c, p*stride - pad_begin + k*dilation] * weights[o, c,
//   k] dst = round_half_even(post_ops(real) / dst_scale) + dst_zero_point, saturated     (dst with
//   quant)
//
// src f32 with f32 weights, or src u8/s8 with quant (per tensor) and s8 weights with quant (per
// tensor or axis 0, zero point 0), accumulated in s32. Outside of src the real value is 0. bias is
// f32 in real units, or s32 with quant. Weights beside sources of 8 bits may have less than 8: s4, u4, u2, u1 with quant
// per tensor, per channel, or in blocks along the input channels (axis 1) whose scales FactorScales takes apart; with
// levels, and of vectors (base/quantization.h). They are s8 weights per channel, bit for bit. Operands of Bind: src[0] = src; a kAdd post-op's residual
// is read from dst[0] (in place). With runtime_quant, src is u8/s8 without quant and its parameters
// are further operands; dst is f32, or s32: the accumulator (then no bias, post-ops or scales but 1).
// Source: ONNX Conv-22, ConvInteger-10; integer form arXiv:1712.05877, section 2.
#ifndef OCTET_KERNELS_CONV_CONV_H_
#define OCTET_KERNELS_CONV_CONV_H_

#include <memory>
#include <optional>
#include <vector>

#include "kernels/kernel.h"
#include "kernels/runtime_quant.h"

namespace octet::kernels {

struct ConvParams {
  TensorSpec src;        // [N, C, spatial...]
  ConstantSpec weights;  // [O, C/groups, kernel...]
  Shape weights_shape;   // valid after weights.tensor has been released, too
  DType weights_dtype = DType::kF32;
  ConstantSpec bias;  // [O], optional
  TensorSpec dst;     // [N, O, spatial...]
  int64_t groups = 1;
  std::vector<int64_t> strides, dilations, pads_begin,
      pads_end;  // one per spatial dimension; dilation 1 = dense
  std::vector<PostOp> post_ops;
  std::optional<RuntimeQuant> runtime_quant;
};

// Errors: kInvalidArgument (shapes disagree), kUnimplemented (no implementation accepts; reasons
// listed).
absl::StatusOr<std::unique_ptr<Kernel>> CreateConv(const ConvParams& params, const KernelEnv& env);

// The ordered list, best first, reference last.
absl::Span<const Implementation<ConvParams>> ConvImplementations();

// The same convolution with its weights of less than 8 bits unpacked to s8; without a tensor when it was released.
// Errors: kUnimplemented when scales or values do not allow it.
absl::StatusOr<ConvParams> ConvOfS8(const ConvParams& params);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_CONV_CONV_H_
