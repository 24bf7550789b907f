// Weights of less than 8 bits as 8-bit integers with one scale per output channel: what products sum in s32.
//
//   real[i] = scale[o] * multiplier[g] * (levels[code[i]] - zero_point[g])      g: the scale's index in QuantParams
//
// Scales of blocks that are small multiples of one number per output channel, which is how the compressor makes them,
// need no arithmetic behind the sum of a block: the bracket times its multiplier is an s8 weight, exactly.
#ifndef OCTET_KERNELS_NARROW_WEIGHTS_H_
#define OCTET_KERNELS_NARROW_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/kernel.h"

namespace octet::kernels {

// Integers and codes of 1, 2 or 4 bits, and vector codes.
inline bool IsNarrow(DType dtype) { return BitsOf(dtype) > 0 && BitsOf(dtype) < 8; }

// Scales taken apart. `scale` has one entry per output channel; `multiplier` one per scale of the blocks, 1 to 127, or
// is empty when there are no blocks. scale[o] * multiplier[g] rounded to f32 is the scale of the block.
struct ChannelScales {
  std::vector<float> scale;
  std::vector<uint8_t> multiplier;
};

// Of convolution weights [O, I, kernel...]: quant per tensor, per channel (axis 0), or in blocks along the input
// channels (axis 1). Depends on shape, dtype and quant only. Errors: kUnimplemented when the scales of a channel have no
// common divisor of which all are multiples up to 127 / largest |level - zero point|.
absl::StatusOr<ChannelScales> FactorScales(const TensorSpec& weights);

// What every code stands for: `quant.levels`, or the integers of the type ([16] by stored bits).
std::vector<int8_t> LevelsOf(DType dtype, const QuantParams& quant);

// Weights element by element in the order of their shape. Vector codes are repeated for each of their elements.
struct NarrowElements {
  std::vector<uint8_t> codes;
  std::vector<uint8_t> multipliers;  // empty: all 1
  std::vector<int8_t> zero_points;   // empty: all 0
  std::vector<int8_t> values;        // multiplier * (level - zero point)
};

// Requires: `scales` from FactorScales of the same weights; `data` as base/quantization.h stores it.
// Errors: kUnimplemented when a value does not fit s8.
absl::StatusOr<NarrowElements> ExpandNarrow(const TensorSpec& weights, const ChannelScales& scales,
                                            const std::byte* data);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_NARROW_WEIGHTS_H_
