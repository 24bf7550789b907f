// Oracle of Attention: plain loops over the formula of attention.h, in double.
#ifndef OCTET_KERNELS_ATTENTION_ATTENTION_REFERENCE_H_
#define OCTET_KERNELS_ATTENTION_ATTENTION_REFERENCE_H_

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/elements.h"

namespace octet::kernels {

inline double LoadAt(const AttentionOperand& o, const void* data, int64_t b, int64_t h, int64_t r, int64_t c) {
  return LoadReal(o.spec, data, b * o.strides[0] + h * o.strides[1] + r * o.strides[2] + c * o.strides[3]);
}

// Row i of head h of batch b.
inline void AttentionReference(const AttentionParams& p, absl::Span<const void* const> src, void* y, int64_t b,
                               int64_t h, int64_t i) {
  std::vector<double> s(static_cast<size_t>(p.keys));
  double max = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t j = 0; j < p.keys; ++j) {
    double acc = 0;
    for (int64_t d = 0; d < p.depth; ++d) acc += LoadAt(p.q, src[0], b, h, i, d) * LoadAt(p.k, src[1], b, h, j, d);
    acc *= p.scale;
    if (p.mask.has_value()) acc += LoadAt(*p.mask, src[3], b, h, i, j);
    s[static_cast<size_t>(j)] = acc;
    max = std::fmax(max, acc);
  }
  for (double& x : s) sum += x = std::exp(x - max);
  for (double& x : s) {
    x /= sum;
    if (!p.probabilities.has_value()) continue;
    const auto& r = *p.probabilities;
    x = octet::kernels::Dequantize(Quantize(static_cast<float>(x), r.scale, r.zero_point, r.dtype), r.scale, r.zero_point);
  }
  for (int64_t e = 0; e < p.values; ++e) {
    double acc = 0;
    for (int64_t j = 0; j < p.keys; ++j) acc += s[static_cast<size_t>(j)] * LoadAt(p.v, src[2], b, h, j, e);
    StoreReal(p.y.spec, y,
              b * p.y.strides[0] + h * p.y.strides[1] + i * p.y.strides[2] + e * p.y.strides[3], acc);
  }
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_ATTENTION_ATTENTION_REFERENCE_H_
