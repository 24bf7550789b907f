// Quantization to u8 with the range of the whole tensor, taken at run time.
//
//   low = min(0, min(src))   high = max(0, max(src))   scale = (high - low) / 255, 1 when it is 0
//   zero_point = saturate(round_half_even(-low / scale))
//   dst = saturate(round_half_even(src / scale) + zero_point)
//
// src f32 of any shape and layout. Operands of Bind: src[0]; dst[0] u8 of src's shape and layout,
// dst[1] scale f32 [1], dst[2] zero point u8 [1]. Not finite elements give unspecified results.
// Source: ONNX DynamicQuantizeLinear-11; a scale of 1 for a tensor of zeros as ONNX Runtime has it.
#ifndef OCTET_KERNELS_DYNAMIC_QUANTIZE_DYNAMIC_QUANTIZE_H_
#define OCTET_KERNELS_DYNAMIC_QUANTIZE_DYNAMIC_QUANTIZE_H_

#include <algorithm>
#include <cmath>
#include <memory>

#include "kernels/kernel.h"

namespace octet::kernels {

struct DynamicQuantizeParams {
  TensorSpec src;
  TensorSpec dst;
};

absl::StatusOr<std::unique_ptr<Kernel>> CreateDynamicQuantize(const DynamicQuantizeParams& params,
                                                              const KernelEnv& env);
absl::Span<const Implementation<DynamicQuantizeParams>> DynamicQuantizeImplementations();

// Scale and zero point of a range that includes 0. Internal to this folder.
struct DynamicRange {
  float scale = 1;
  uint8_t zero_point = 0;

  DynamicRange(float low, float high) {
    low = std::min(low, 0.0f);
    high = std::max(high, 0.0f);
    if (high > low) scale = (high - low) / 255;
    if (!(scale > 0)) scale = 1;  // the range underflows
    zero_point = static_cast<uint8_t>(std::clamp(std::nearbyint(-low / scale), 0.0f, 255.0f));
  }
};

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_DYNAMIC_QUANTIZE_DYNAMIC_QUANTIZE_H_
