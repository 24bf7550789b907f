// Conversions between storage forms of one tensor: layout change, float <-> quantized, requantization, dtype casts.
//
//   quantize:   q = saturate(round_half_even(x / scale) + zero_point)
//   dequantize: x = (q - zero_point) * scale           (s8, u8, s32, s4, u4; per tensor, per axis or blocked)
//   requantize: the two in one step
//   cast (no quant on either side): C conversion; float -> integer truncates and saturates; to bool: x != 0
//
// src and dst have one shape; layouts may differ (a reorder). Operands of Bind: src[0], dst[0].
// Source: ONNX QuantizeLinear-21, DequantizeLinear-21, Cast-21.
#ifndef OCTET_KERNELS_QUANTIZE_QUANTIZE_H_
#define OCTET_KERNELS_QUANTIZE_QUANTIZE_H_

#include <memory>

#include "kernels/kernel.h"

namespace octet::kernels {

struct ConvertParams {
  TensorSpec src, dst;
};

absl::StatusOr<std::unique_ptr<Kernel>> CreateConvert(const ConvertParams& params,
                                                      const KernelEnv& env);
absl::Span<const Implementation<ConvertParams>> ConvertImplementations();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_QUANTIZE_QUANTIZE_H_
