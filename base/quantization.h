// Quantization parameters of a value: how its stored integers stand for real numbers.
//
//   real[i] = scale[c] * (stored[i] - zero_point[c])
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
  std::vector<int32_t> zero_point;  // empty means all zero, else as many as scales
  int axis = -1;                    // -1: per tensor; else >= 0
  int64_t block = 0;                // elements along axis that share one scale; 0: not blocked

  bool per_tensor() const { return axis < 0; }
  int32_t zero_point_at(size_t i) const { return zero_point.empty() ? 0 : zero_point[i]; }
  bool operator==(const QuantParams&) const = default;

  static QuantParams PerTensor(float scale, int32_t zero_point) {
    return QuantParams{{scale}, {zero_point}, -1, 0};
  }
};

}  // namespace octet

#endif  // OCTET_BASE_QUANTIZATION_H_
