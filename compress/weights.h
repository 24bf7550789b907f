// Constant weights onto the s8 grid, per output channel, and the s32 bias that goes with them.
//
//   q[o, i] = clamp(round_half_even(w[o, i] / scale[o]), -127, 127),  zero point 0
//   bias_q[o] = round_half_even(bias[o] / (src_scale * scale[o]))
//
// Source: arXiv:1712.05877, section 2.4; narrow range because s8 x u8 sums of two products must fit s16 on CPUs
// without VNNI, and -128 would break the symmetry.
#ifndef OCTET_COMPRESS_WEIGHTS_H_
#define OCTET_COMPRESS_WEIGHTS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/quantization.h"

namespace octet::compress {

struct QuantizedWeights {
  std::vector<int8_t> values;  // in the order of the source
  std::vector<float> scale;    // one per output channel
};

// How a channel's scale is found: its largest magnitude, or the clipping that makes the squared error smallest
// (factors 1, 0.99, .., 0.5 of it).
enum class WeightRange : uint8_t { kMaximum, kMse };

// `weights` seen as [outer, channels, inner] row-major. `minimum_scale`, when not empty, bounds scales from below (one
// per channel): used to keep the s32 bias in range.
QuantizedWeights QuantizeWeights(absl::Span<const float> weights, int64_t outer, int64_t channels, int64_t inner,
                                 WeightRange range, absl::Span<const float> minimum_scale = {});

// The smallest scale per channel for which the bias fits 30 bits, |bias| / (src_scale * 2^30), and the bias's own scale,
// src_scale * scale, is a normal float, at least 2^-120.
std::vector<float> MinimumScaleForBias(absl::Span<const float> bias, float src_scale);

std::vector<int32_t> QuantizeBias(absl::Span<const float> bias, float src_scale, absl::Span<const float> scale);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_WEIGHTS_H_
