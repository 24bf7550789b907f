// Oracle of LayerNorm: one row after the other, in double.
#ifndef OCTET_KERNELS_LAYER_NORM_LAYER_NORM_REFERENCE_H_
#define OCTET_KERNELS_LAYER_NORM_LAYER_NORM_REFERENCE_H_

#include <cmath>
#include <vector>

#include "kernels/elements.h"
#include "kernels/layer_norm/layer_norm.h"

namespace octet::kernels {

// Memory of one call; null where not wanted.
struct LayerNormMemory {
  const void* src = nullptr;
  const float* scale = nullptr;
  const float* bias = nullptr;
  void* dst = nullptr;
  void* copy = nullptr;
  float* mean = nullptr;
  float* inverse = nullptr;
};

inline LayerNormMemory MemoryOf(const LayerNormParams& p, const BindArgs& args) {
  using Wanted = LayerNormParams::Wanted;
  LayerNormMemory m;
  m.src = args.src[0];
  m.scale = static_cast<const float*>(args.src[1]);
  if (p.bias == Wanted::kYes) m.bias = static_cast<const float*>(args.src[2]);
  m.dst = args.dst[0];
  size_t next = 1;
  if (p.copy.has_value()) m.copy = args.dst[next++];
  if (p.mean == Wanted::kYes) m.mean = static_cast<float*>(args.dst[next++]);
  if (p.inverse_deviation == Wanted::kYes) m.inverse = static_cast<float*>(args.dst[next++]);
  return m;
}

inline void LayerNormReference(const LayerNormParams& p, const LayerNormMemory& m, int64_t begin, int64_t end) {
  const bool layer = p.form == LayerNormParams::Form::kLayer;
  std::vector<double> x(static_cast<size_t>(p.row));
  for (int64_t r = begin; r < end; ++r) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < p.row; ++i) x[static_cast<size_t>(i)] = LoadReal(p.src, m.src, r * p.row + i);
    for (double v : x) mean += layer ? v / static_cast<double>(p.row) : 0;
    for (double v : x) variance += (v - mean) * (v - mean) / static_cast<double>(p.row);
    const double inverse = 1 / std::sqrt(variance + p.epsilon);
    for (int64_t i = 0; i < p.row; ++i) {
      double y = (x[static_cast<size_t>(i)] - mean) * inverse * m.scale[i];
      if (m.bias != nullptr) y += m.bias[i];
      StoreReal(p.dst, m.dst, r * p.row + i, y);
      if (m.copy != nullptr) StoreReal(*p.copy, m.copy, r * p.row + i, y);
    }
    if (m.mean != nullptr) m.mean[r] = static_cast<float>(mean);
    if (m.inverse != nullptr) m.inverse[r] = static_cast<float>(inverse);
  }
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_LAYER_NORM_LAYER_NORM_REFERENCE_H_
