// Rows of one head on Highway vectors: loading reals, transposing into panels, softmax, storing. Include inside of a file
// that uses hwy/foreach_target.h.
#if defined(OCTET_KERNELS_ATTENTION_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef OCTET_KERNELS_ATTENTION_ROWS_INL_H_
#undef OCTET_KERNELS_ATTENTION_ROWS_INL_H_
#else
#define OCTET_KERNELS_ATTENTION_ROWS_INL_H_
#endif

#include <cmath>
#include <cstring>
#include <limits>

#include "hwy/highway.h"
#include "kernels/attention/attention_head.h"
#include "kernels/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace octet::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;

#if HWY_TARGET <= HWY_AVX3
constexpr int64_t kRows = 12;  // 24 sums, 2 columns and a broadcast in 32 registers
#else
constexpr int64_t kRows = 4;
#endif

HWY_INLINE float Real(const AttentionMatrix& m, int64_t row, int64_t column) {
  const int64_t at = row * m.row + column * m.column;
  if (m.dtype == DType::kF32) return static_cast<const float*>(m.data)[at];
  const int32_t q = m.dtype == DType::kU8 ? static_cast<const uint8_t*>(m.data)[at]
                                          : static_cast<const int8_t*>(m.data)[at];
  return m.scale * static_cast<float>(q - m.zero_point);
}

template <typename T>
HWY_INLINE void DequantizeTo(const T* src, int64_t n, float scale, int32_t zero_point, float* dst) {
  const F d;
  const hn::RebindToSigned<F> di;
  const hn::Rebind<T, F> dt;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto q = hn::Sub(hn::PromoteTo(di, hn::LoadU(dt, src + i)), hn::Set(di, zero_point));
    hn::StoreU(hn::Mul(hn::Set(d, scale), hn::ConvertTo(d, q)), d, dst + i);
  }
  for (; i < n; ++i) dst[i] = scale * static_cast<float>(src[i] - zero_point);
}

// n elements of a row as reals.
HWY_INLINE void LoadRow(const AttentionMatrix& m, int64_t row, int64_t first, int64_t n, float* dst) {
  const int64_t at = row * m.row + first * m.column;
  if (m.column != 1) {
    for (int64_t i = 0; i < n; ++i) dst[i] = Real(m, row, first + i);
  } else if (m.dtype == DType::kF32) {
    std::memcpy(dst, static_cast<const float*>(m.data) + at, static_cast<size_t>(n) * sizeof(float));
  } else if (m.dtype == DType::kU8) {
    DequantizeTo(static_cast<const uint8_t*>(m.data) + at, n, m.scale, m.zero_point, dst);
  } else {
    DequantizeTo(static_cast<const int8_t*>(m.data) + at, n, m.scale, m.zero_point, dst);
  }
}

// Turns a row of scores into exp(s - max), zero behind `keys`; returns the reciprocal of their sum.
HWY_INLINE float SoftmaxRow(const AttentionHead& h, int64_t row, float* HWY_RESTRICT s, int64_t wide) {
  const F d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const float minus_infinity = -std::numeric_limits<float>::infinity();
  for (int64_t j = h.keys; j < wide; ++j) s[j] = 0;
  const float* mask = nullptr;
  if (h.mask.data != nullptr && h.mask.column == 1) mask = static_cast<const float*>(h.mask.data) + row * h.mask.row;
  auto max = hn::Set(d, minus_infinity);
  const auto scale = hn::Set(d, h.scale);
  int64_t j = 0;
  for (; j + lanes <= h.keys; j += lanes) {
    auto x = hn::Mul(hn::LoadU(d, s + j), scale);
    if (mask != nullptr) x = hn::Add(x, hn::LoadU(d, mask + j));
    hn::StoreU(x, d, s + j);
    max = hn::Max(max, x);
  }
  float top = hn::ReduceMax(d, max);
  for (; j < h.keys; ++j) {
    s[j] = s[j] * h.scale + (mask != nullptr ? mask[j] : 0.0f);
    top = std::max(top, s[j]);
  }
  if (h.mask.data != nullptr && mask == nullptr) {
    top = minus_infinity;
    for (int64_t i = 0; i < h.keys; ++i) {
      s[i] += static_cast<const float*>(h.mask.data)[row * h.mask.row + i * h.mask.column];
      top = std::max(top, s[i]);
    }
  }
  for (int64_t i = h.keys; i < wide; ++i) s[i] = minus_infinity;
  auto sum = hn::Zero(d);
  for (int64_t i = 0; i < wide; i += lanes) {
    const auto e = ExpNonPositive(d, hn::Sub(hn::LoadU(d, s + i), hn::Set(d, top)));
    hn::StoreU(e, d, s + i);
    sum = hn::Add(sum, e);
  }
  return 1.0f / hn::ReduceSum(d, sum);
}

// Rounds probabilities to their storage; they stay reals.
HWY_INLINE void RoundRow(const AttentionParams::Rounding& p, float factor, float* HWY_RESTRICT s, int64_t n) {
  const F d;
  const float low = (p.dtype == DType::kU8 ? 0.0f : -128.0f) - static_cast<float>(p.zero_point);
  const float high = (p.dtype == DType::kU8 ? 255.0f : 127.0f) - static_cast<float>(p.zero_point);
  const auto inverse = hn::Set(d, factor / p.scale);
  for (int64_t i = 0; i < n; i += static_cast<int64_t>(hn::Lanes(d))) {
    const auto q = hn::Min(hn::Max(hn::Mul(hn::LoadU(d, s + i), inverse), hn::Set(d, low)), hn::Set(d, high));
    hn::StoreU(hn::Mul(hn::Round(q), hn::Set(d, p.scale)), d, s + i);
  }
}

// One row of y: reals times factor, rounded when y is stored so.
inline void StoreRow(const AttentionMatrix& y, int64_t row, const float* HWY_RESTRICT from, float factor, int64_t n) {
  const int64_t first = row * y.row;
  const float low = (y.dtype == DType::kU8 ? 0.0f : -128.0f) - static_cast<float>(y.zero_point);
  const float high = (y.dtype == DType::kU8 ? 255.0f : 127.0f) - static_cast<float>(y.zero_point);
  const float inverse = 1.0f / y.scale;
  const auto body = [&](auto d, int64_t i) HWY_ATTR {
    const hn::RebindToSigned<decltype(d)> di;
    const auto real = hn::Mul(hn::LoadU(d, from + i), hn::Set(d, factor));
    if (y.dtype == DType::kF32) return hn::StoreU(real, d, static_cast<float*>(const_cast<void*>(y.data)) + first + i);
    auto q = hn::Mul(real, hn::Set(d, inverse));
    q = hn::IfThenElse(hn::Ge(q, hn::Set(d, low)), q, hn::Set(d, low));  // NaN becomes low, too
    const auto integer = hn::Add(hn::NearestInt(hn::Min(q, hn::Set(d, high))), hn::Set(di, y.zero_point));
    if (y.dtype == DType::kU8) {
      const hn::Rebind<uint8_t, decltype(d)> dt;
      hn::StoreU(hn::DemoteTo(dt, integer), dt, static_cast<uint8_t*>(const_cast<void*>(y.data)) + first + i);
    } else {
      const hn::Rebind<int8_t, decltype(d)> dt;
      hn::StoreU(hn::DemoteTo(dt, integer), dt, static_cast<int8_t*>(const_cast<void*>(y.data)) + first + i);
    }
  };
  const auto lanes = static_cast<int64_t>(hn::Lanes(F()));
  int64_t i = 0;
  if (y.column == 1) {
    for (; i + lanes <= n; i += lanes) body(F(), i);
    for (; i < n; ++i) body(hn::CappedTag<float, 1>(), i);
    return;
  }
  AttentionMatrix one = y;  // scattered columns: each is a row of one
  for (; i < n; ++i) {
    float real[1] = {from[i]};
    one.column = 1;
    one.row = 0;
    one.data = static_cast<const std::byte*>(y.data) + (first + i * y.column) * (y.dtype == DType::kF32 ? 4 : 1);
    StoreRow(one, 0, real, factor, 1);
  }
}

// dst[c * width + r] = src[r * stride + c] of 4 rows and 4 columns of 32-bit elements; strides in elements.
HWY_INLINE void Transpose4x4(const uint32_t* HWY_RESTRICT src, int64_t stride, uint32_t* HWY_RESTRICT dst, int64_t width) {
  const hn::FixedTag<uint32_t, 4> d;
  const auto a = hn::LoadU(d, src), b = hn::LoadU(d, src + stride), c = hn::LoadU(d, src + 2 * stride),
             e = hn::LoadU(d, src + 3 * stride);
  const auto ab = hn::InterleaveLower(d, a, b), AB = hn::InterleaveUpper(d, a, b);
  const auto ce = hn::InterleaveLower(d, c, e), CE = hn::InterleaveUpper(d, c, e);
  hn::StoreU(hn::ConcatLowerLower(d, ce, ab), d, dst);
  hn::StoreU(hn::ConcatUpperUpper(d, ce, ab), d, dst + width);
  hn::StoreU(hn::ConcatLowerLower(d, CE, AB), d, dst + 2 * width);
  hn::StoreU(hn::ConcatUpperUpper(d, CE, AB), d, dst + 3 * width);
}

}  // namespace HWY_NAMESPACE
}  // namespace octet::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
