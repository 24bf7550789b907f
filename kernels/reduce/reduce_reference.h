// Oracle of Reduce: every result walks its own elements, reals in double, counts in s64 or u64 (wrapping).
#ifndef OCTET_KERNELS_REDUCE_REDUCE_REFERENCE_H_
#define OCTET_KERNELS_REDUCE_REDUCE_REFERENCE_H_

#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/elements.h"
#include "kernels/reduce/reduce.h"

namespace octet::kernels {

inline bool IsArg(ReduceKind kind) { return kind >= ReduceKind::kArgMaxFirst; }

// T is double (reals), int64_t or uint64_t (counts). at(i) is element i of n.
template <typename T, typename At>
T ReduceLine(ReduceKind kind, int64_t n, const At& at) {
  using Limits = std::numeric_limits<T>;
  const T lowest = Limits::has_infinity ? -Limits::infinity() : Limits::lowest();
  const T highest = Limits::has_infinity ? Limits::infinity() : Limits::max();
  using Wrapping = std::conditional_t<std::is_integral_v<T>, uint64_t, T>;
  Wrapping total = 0, total_squares = 0, total_absolutes = 0, total_product = 1;
  T max = lowest, min = highest;
  for (int64_t i = 0; i < n; ++i) {
    const T x = at(i);
    const auto w = static_cast<Wrapping>(x);
    total += w;
    total_squares += w * w;
    total_absolutes += x < 0 ? -w : w;
    total_product *= w;
    max = x > max || x != x ? x : max;
    min = x < min || x != x ? x : min;
  }
  const T sum = static_cast<T>(total), squares = static_cast<T>(total_squares),
          absolutes = static_cast<T>(total_absolutes), product = static_cast<T>(total_product);
  switch (kind) {
    case ReduceKind::kSum:
      return sum;
    case ReduceKind::kMean:
      return n > 0 || Limits::has_quiet_NaN ? sum / static_cast<T>(n) : 0;
    case ReduceKind::kMax:
      return max;
    case ReduceKind::kMin:
      return min;
    case ReduceKind::kProd:
      return product;
    case ReduceKind::kL1:
      return absolutes;
    case ReduceKind::kSumSquare:
      return squares;
    case ReduceKind::kL2:
      return static_cast<T>(std::sqrt(static_cast<double>(squares)));
    case ReduceKind::kLogSum:
      return static_cast<T>(std::log(static_cast<double>(sum)));
    default:
      break;  // kLogSumExp
  }
  double exponentials = 0;
  const double shift = n > 0 ? static_cast<double>(max) : 0;
  for (int64_t i = 0; i < n; ++i) exponentials += std::exp(static_cast<double>(at(i)) - shift);
  return static_cast<T>(std::log(exponentials) + shift);
}

template <typename T, typename At>
int64_t ArgLine(ReduceKind kind, int64_t n, const At& at) {
  int64_t best = 0;
  for (int64_t i = 1; i < n; ++i) {
    const T x = at(i), y = at(best);
    const bool better = kind == ReduceKind::kArgMaxFirst   ? x > y
                        : kind == ReduceKind::kArgMaxLast  ? x >= y
                        : kind == ReduceKind::kArgMinFirst ? x < y
                                                           : x <= y;
    if (better) best = i;
  }
  return best;
}

// Results [begin, end) of dst. Requires: valid params.
inline void ReduceReference(const ReduceParams& p, const void* src, void* dst, int64_t begin,
                            int64_t end) {
  const Shape strides = StridesOf(p.src.shape), dst_strides = StridesOf(p.dst.shape);
  Shape reduced(p.src.shape.size(), 1);
  for (int axis : p.axes)
    reduced[static_cast<size_t>(axis)] = p.src.shape[static_cast<size_t>(axis)];
  std::vector<int64_t> offsets;  // of the elements of one result, relative to its first
  ForEachIndex(reduced,
               [&](absl::Span<const int64_t> index) { offsets.push_back(Offset(strides, index)); });
  const auto n = static_cast<int64_t>(offsets.size());
  const bool counts = !p.src.quant && !IsFloat(p.src.dtype);
  for (int64_t i = begin; i < end; ++i) {
    int64_t base = 0;
    for (size_t d = 0; d < strides.size(); ++d) {
      if (p.dst.shape[d] > 1) base += i / dst_strides[d] % p.dst.shape[d] * strides[d];
    }
    const auto real = [&](int64_t k) {
      return LoadReal(p.src, src, base + offsets[static_cast<size_t>(k)]);
    };
    const auto count = [&](int64_t k) {
      return LoadInteger(p.src.dtype, src, base + offsets[static_cast<size_t>(k)]);
    };
    const auto large = [&](int64_t k) { return static_cast<uint64_t>(count(k)); };
    const bool u64 = p.src.dtype == DType::kU64;
    if (IsArg(p.kind)) {
      StoreInteger(p.dst.dtype, dst, i,
                   !counts ? ArgLine<double>(p.kind, n, real)
                   : u64   ? ArgLine<uint64_t>(p.kind, n, large)
                           : ArgLine<int64_t>(p.kind, n, count));
    } else if (counts && !p.dst.quant && !IsFloat(p.dst.dtype)) {
      StoreInteger(p.dst.dtype, dst, i,
                   u64 ? static_cast<int64_t>(ReduceLine<uint64_t>(p.kind, n, large))
                       : ReduceLine<int64_t>(p.kind, n, count));
    } else {
      StoreReal(p.dst, dst, i, ReduceLine<double>(p.kind, n, real));
    }
  }
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_REDUCE_REDUCE_REFERENCE_H_
