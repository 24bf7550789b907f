// Oracle of Softmax: in double, one line along the axis after the other.
#ifndef OCTET_KERNELS_SOFTMAX_SOFTMAX_REFERENCE_H_
#define OCTET_KERNELS_SOFTMAX_SOFTMAX_REFERENCE_H_

#include <cmath>
#include <limits>

#include "kernels/elements.h"
#include "kernels/softmax/softmax.h"

namespace octet::kernels {

// src and dst may be the same memory.
inline void SoftmaxReference(const SoftmaxParams& p, const void* src, void* dst) {
  const auto axis = static_cast<size_t>(p.axis);
  const Shape strides = StridesIn(p.src);
  const int64_t n = p.src.shape[axis], step = strides[axis];
  Shape lines = p.src.shape;
  lines[axis] = n > 0 ? 1 : 0;
  ForEachIndex(lines, [&](absl::Span<const int64_t> index) {
    const int64_t base = Offset(strides, index);
    double max = -std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < n; ++i) max = std::fmax(max, LoadReal(p.src, src, base + i * step));
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += std::exp(LoadReal(p.src, src, base + i * step) - max);
    for (int64_t i = 0; i < n; ++i) {
      const double x = LoadReal(p.src, src, base + i * step) - max;
      StoreReal(p.dst, dst, base + i * step,
                p.form == SoftmaxParams::Form::kSoftmax ? std::exp(x) / sum : x - std::log(sum));
    }
  });
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_SOFTMAX_SOFTMAX_REFERENCE_H_
