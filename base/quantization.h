// Quantization parameters of a value: how its stored integers stand for real numbers.
//
//   real[i] = scale[c] * (stored[i] - zero_point[c])          grid of integers
//   real[i] = scale[c] * levels[stored[i]]                    grid of levels (a codebook)
//   real[4 j + d] = scale[c] * levels[4 stored[j] + d]        codebook of vectors (vector = 4)
//
// c = 0 per tensor; the index along `axis` per channel; with block > 0, scale has the value's shape with `axis`
// divided by `block` (rounded up), row-major. Source: ONNX DequantizeLinear, opset 21.
#ifndef OCTET_BASE_QUANTIZATION_H_
#define OCTET_BASE_QUANTIZATION_H_

#include <cstdint>
#include <vector>

namespace octet {

struct QuantParams {
  std::vector<float> scale;         // positive, finite; at least one
  std::vector<int32_t> zero_point;  // empty means all zero, else as many as scales; empty when levels are given
  int axis = -1;                    // -1: per tensor; else >= 0
  int64_t block = 0;                // elements along axis that share one scale; 0: not blocked

  // Only constant weights have levels: what each code stands for, 2^bits entries or fewer of an unsigned type of 1, 2 or
  // 4 bits (u1, u2, u4), or 256 vectors of `vector` entries each.
  std::vector<int8_t> levels = {};
  // 1, or 4: the value's type is u2, whose bytes are codes, each for four weights of one output channel that are
  // neighbours along the input channels. Bytes are in the order [output channel][kernel position][input channel / 4]
  // whatever the operand's shape is ([O, I, k...] of Conv, [N, K] or [K, N] of a matrix); I is a multiple of 4.
  int vector = 1;

  bool per_tensor() const { return axis < 0; }
  int32_t zero_point_at(size_t i) const { return zero_point.empty() ? 0 : zero_point[i]; }
  bool operator==(const QuantParams&) const = default;

  static QuantParams PerTensor(float scale, int32_t zero_point) {
    return QuantParams{{scale}, {zero_point}, -1, 0, {}, 1};
  }
};

}  // namespace octet

#endif  // OCTET_BASE_QUANTIZATION_H_
