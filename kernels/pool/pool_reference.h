// Oracle of Pool: plain loops over windows, reals in double.
//
//   max: largest real inside the source.   average: sum of the reals inside / count
//   count: elements inside the source, or inside the declared padding as well (kAverageIncludePad;
//   padding is real 0)
#ifndef OCTET_KERNELS_POOL_POOL_REFERENCE_H_
#define OCTET_KERNELS_POOL_POOL_REFERENCE_H_

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/elements.h"
#include "kernels/pool/pool.h"

namespace octet::kernels {

// Requires: params valid.
inline void PoolReference(const PoolParams& p, const void* src, void* dst) {
  const size_t spatial = p.kernel.size();
  const Shape src_strides = StridesIn(p.src), dst_strides = StridesIn(p.dst);
  const Shape window(p.kernel.begin(), p.kernel.end());
  ForEachIndex(p.dst.shape, [&](absl::Span<const int64_t> at) {
    double sum = 0, largest = -std::numeric_limits<double>::infinity();
    int64_t inside = 0, declared = 0, largest_at = -1;
    ForEachIndex(window, [&](absl::Span<const int64_t> k) {
      int64_t offset = at[0] * src_strides[0] + at[1] * src_strides[1];
      bool in_src = true, in_pads = true;
      for (size_t i = 0; i < spatial; ++i) {
        const int64_t x = at[i + 2] * p.strides[i] - p.pads_begin[i] + k[i] * p.dilations[i];
        const int64_t size = p.src.shape[i + 2];
        in_src = in_src && x >= 0 && x < size;
        in_pads = in_pads && x < size + p.pads_end[i];
        offset += x * src_strides[i + 2];
      }
      declared += in_pads;
      if (!in_src) return;
      ++inside;
      const double real = LoadReal(p.src, src, offset);
      sum += real;
      if (largest_at < 0 || real > largest) {
        largest = real;
        largest_at = offset;
      }
    });
    const int64_t to = Offset(dst_strides, at);
    if (p.kind == PoolParams::Kind::kMax) {
      CopyElement(p.src.dtype, src, largest_at, dst, to);
      return;
    }
    const int64_t count = p.kind == PoolParams::Kind::kAverage ? inside : declared;
    StoreReal(p.dst, dst, to, sum / static_cast<double>(count));
  });
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_POOL_POOL_REFERENCE_H_
