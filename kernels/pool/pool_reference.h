// Oracle of Pool: plain loops over the definition of pool.h, in double.
#ifndef OCTET_KERNELS_POOL_POOL_REFERENCE_H_
#define OCTET_KERNELS_POOL_POOL_REFERENCE_H_

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/elements.h"
#include "kernels/pool/pool.h"

namespace octet::kernels {

// One result: `at` is [n, c, spatial...] in dst.
inline double PoolReferenceAt(const PoolParams& p, const void* src, absl::Span<const int64_t> at) {
  const Shape strides = StridesIn(p.src);
  const Shape window(p.kernel.begin(), p.kernel.end());
  double best = -std::numeric_limits<double>::infinity(), sum = 0;
  int64_t inside = 0, declared = 0;
  ForEachIndex(window, [&](absl::Span<const int64_t> k) {
    int64_t offset = at[0] * strides[0] + at[1] * strides[1];
    bool in_src = true, in_padded = true;
    for (size_t d = 0; d < k.size(); ++d) {
      const int64_t x = at[d + 2] * p.strides[d] - p.pads_begin[d] + k[d] * p.dilations[d];
      in_src = in_src && x >= 0 && x < p.src.shape[d + 2];
      in_padded = in_padded && x < p.src.shape[d + 2] + p.pads_end[d];
      offset += x * strides[d + 2];
    }
    declared += in_padded ? 1 : 0;
    if (!in_src) return;
    ++inside;
    const double real = LoadReal(p.src, src, offset);
    best = std::max(best, real);
    sum += real;
  });
  if (p.kind == PoolParams::Kind::kMax) return inside > 0 ? best : 0;
  const int64_t divisor = p.kind == PoolParams::Kind::kAverage ? inside : declared;
  return divisor > 0 ? sum / static_cast<double>(divisor) : 0;
}

inline void PoolReference(const PoolParams& p, const void* src, void* dst) {
  const Shape strides = StridesIn(p.dst);
  ForEachIndex(p.dst.shape, [&](absl::Span<const int64_t> at) {
    int64_t offset = 0;
    for (size_t d = 0; d < at.size(); ++d) offset += at[d] * strides[d];
    StoreReal(p.dst, dst, offset, PoolReferenceAt(p, src, at));
  });
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_POOL_POOL_REFERENCE_H_
