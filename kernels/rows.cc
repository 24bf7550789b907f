// Vector loops over contiguous elements.
#include "kernels/rows.h"

#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rows.cc"
#include "hwy/foreach_target.h"  // NOLINT: must come before highway.h
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace octet::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using I = hn::RebindToSigned<F>;

// Applies op to whole vectors, then to the tail element by element through one-lane vectors.
template <typename Vector, typename Scalar>
HWY_INLINE void Strips(int64_t n, const Vector& vector, const Scalar& scalar) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(F()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) vector(F(), i);
  for (; i < n; ++i) scalar(hn::CappedTag<float, 1>(), i);
}

template <typename T>
HWY_INLINE void QuantizeImpl(const float* HWY_RESTRICT src, int64_t n, float scale,
                             int32_t zero_point, T* HWY_RESTRICT dst) {
  const auto low = static_cast<float>(std::numeric_limits<T>::min() - zero_point);
  const auto high = static_cast<float>(std::numeric_limits<T>::max() - zero_point);
  const auto body = [&](auto d, int64_t i) HWY_ATTR {
    const hn::RebindToSigned<decltype(d)> di;
    const hn::Rebind<T, decltype(d)> dt;
    auto y = hn::Div(hn::LoadU(d, src + i), hn::Set(d, scale));
    y = hn::IfThenElse(hn::Ge(y, hn::Set(d, low)), y, hn::Set(d, low));  // NaN becomes low, too
    y = hn::Min(y, hn::Set(d, high));
    const auto q = hn::Add(hn::NearestInt(y), hn::Set(di, zero_point));
    hn::StoreU(hn::DemoteTo(dt, q), dt, dst + i);
  };
  Strips(n, body, body);
}

// Four vectors of floats become one of 8-bit integers, in order.
template <typename T>
struct Quantizer {
  using D8 = hn::Repartition<T, F>;
  float scale, low, high;
  int32_t zero_point;

  HWY_INLINE hn::VFromD<I> One(const float* src) const {
    const F d;
    auto y = hn::Div(hn::LoadU(d, src), hn::Set(d, scale));
    y = hn::IfThenElse(hn::Ge(y, hn::Set(d, low)), y, hn::Set(d, low));  // NaN becomes low, too
    y = hn::Min(y, hn::Set(d, high));
    return hn::Add(hn::NearestInt(y), hn::Set(I(), zero_point));
  }
  HWY_INLINE hn::VFromD<D8> Four(const float* src) const {
    const hn::Repartition<int16_t, F> d16;
    const auto lanes = static_cast<int64_t>(hn::Lanes(F()));
    const auto a = hn::OrderedDemote2To(d16, One(src), One(src + lanes));
    const auto b = hn::OrderedDemote2To(d16, One(src + 2 * lanes), One(src + 3 * lanes));
    return hn::OrderedDemote2To(D8(), a, b);
  }
};

template <typename T>
HWY_INLINE void QuantizeInterleave3Impl(const float* HWY_RESTRICT src, int64_t stride, int64_t n, float scale,
                                        int32_t zero_point, T* HWY_RESTRICT dst) {
  const Quantizer<T> quantizer{scale, static_cast<float>(std::numeric_limits<T>::min() - zero_point),
                               static_cast<float>(std::numeric_limits<T>::max() - zero_point), zero_point};
  const typename Quantizer<T>::D8 d8;
  const auto step = static_cast<int64_t>(hn::Lanes(d8));
  int64_t i = 0;
  for (; i + step <= n; i += step) {
    hn::StoreInterleaved3(quantizer.Four(src + i), quantizer.Four(src + stride + i),
                          quantizer.Four(src + 2 * stride + i), d8, dst + 3 * i);
  }
  for (; i < n; ++i) {
    for (int64_t c = 0; c < 3; ++c) QuantizeImpl(src + c * stride + i, 1, scale, zero_point, dst + 3 * i + c);
  }
}

void QuantizeInterleave3U8(const float* src, int64_t stride, int64_t n, float scale, int32_t zero_point,
                           uint8_t* dst) {
  QuantizeInterleave3Impl(src, stride, n, scale, zero_point, dst);
}
void QuantizeInterleave3S8(const float* src, int64_t stride, int64_t n, float scale, int32_t zero_point,
                           int8_t* dst) {
  QuantizeInterleave3Impl(src, stride, n, scale, zero_point, dst);
}

void QuantizeU8(const float* src, int64_t n, float scale, int32_t zero_point, uint8_t* dst) {
  QuantizeImpl(src, n, scale, zero_point, dst);
}
void QuantizeS8(const float* src, int64_t n, float scale, int32_t zero_point, int8_t* dst) {
  QuantizeImpl(src, n, scale, zero_point, dst);
}

template <typename T>
HWY_INLINE void DequantizeImpl(const T* HWY_RESTRICT src, int64_t n, float scale,
                               int32_t zero_point, float* HWY_RESTRICT dst) {
  const auto body = [&](auto d, int64_t i) HWY_ATTR {
    const hn::RebindToSigned<decltype(d)> di;
    const hn::Rebind<T, decltype(d)> dt;
    const auto q = hn::Sub(hn::PromoteTo(di, hn::LoadU(dt, src + i)), hn::Set(di, zero_point));
    hn::StoreU(hn::Mul(hn::Set(d, scale), hn::ConvertTo(d, q)), d, dst + i);
  };
  Strips(n, body, body);
}

void DequantizeU8(const uint8_t* src, int64_t n, float scale, int32_t zero_point, float* dst) {
  DequantizeImpl(src, n, scale, zero_point, dst);
}
void DequantizeS8(const int8_t* src, int64_t n, float scale, int32_t zero_point, float* dst) {
  DequantizeImpl(src, n, scale, zero_point, dst);
}

template <typename Op>
HWY_INLINE void Binary(const float* a, const float* b, int64_t n, float* dst, const Op& op) {
  const auto body = [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(op(d, hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, dst + i);
  };
  Strips(n, body, body);
}

void BinaryImpl(RowOp op, const float* a, const float* b, int64_t n, float* dst) {
  switch (op) {
    case RowOp::kAdd:
      return Binary(a, b, n, dst, [](auto, auto x, auto y) HWY_ATTR { return hn::Add(x, y); });
    case RowOp::kSub:
      return Binary(a, b, n, dst, [](auto, auto x, auto y) HWY_ATTR { return hn::Sub(x, y); });
    case RowOp::kMul:
      return Binary(a, b, n, dst, [](auto, auto x, auto y) HWY_ATTR { return hn::Mul(x, y); });
    case RowOp::kDiv:
      return Binary(a, b, n, dst, [](auto, auto x, auto y) HWY_ATTR { return hn::Div(x, y); });
    case RowOp::kMax:  // x when it is larger or NaN; y when y is NaN
      return Binary(a, b, n, dst, [](auto, auto x, auto y) HWY_ATTR {
        return hn::IfThenElse(hn::Or(hn::Gt(x, y), hn::IsNaN(x)), x, y);
      });
    case RowOp::kMin:
      return Binary(a, b, n, dst, [](auto, auto x, auto y) HWY_ATTR {
        return hn::IfThenElse(hn::Or(hn::Lt(x, y), hn::IsNaN(x)), x, y);
      });
    case RowOp::kPrelu:
      return Binary(a, b, n, dst, [](auto d, auto x, auto y) HWY_ATTR {
        return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Mul(x, y), x);
      });
  }
}

void ClampImpl(const float* src, int64_t n, float low, float high, float* dst) {
  const auto body = [&](auto d, int64_t i) HWY_ATTR {
    const auto x = hn::LoadU(d, src + i);
    const auto y = hn::Min(hn::Max(x, hn::Set(d, low)), hn::Set(d, high));
    hn::StoreU(hn::IfThenElse(hn::IsNaN(x), x, y), d, dst + i);
  };
  Strips(n, body, body);
}

// Four accumulators hide the latency of the addition.
template <typename Step, typename Fold, typename Last>
HWY_INLINE float ReduceImpl(const float* src, int64_t n, float init, const Step& step,
                            const Fold& fold, const Last& last) {
  const F d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto a0 = hn::Set(d, init), a1 = a0, a2 = a0, a3 = a0;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a0 = step(a0, hn::LoadU(d, src + i));
    a1 = step(a1, hn::LoadU(d, src + i + lanes));
    a2 = step(a2, hn::LoadU(d, src + i + 2 * lanes));
    a3 = step(a3, hn::LoadU(d, src + i + 3 * lanes));
  }
  for (; i + lanes <= n; i += lanes) a0 = step(a0, hn::LoadU(d, src + i));
  float total = fold(d, a0, a1, a2, a3);
  for (; i < n; ++i) total = last(total, src[i]);
  return total;
}

float SumImpl(const float* src, int64_t n) {
  return ReduceImpl(
      src, n, 0.0f, [](auto a, auto x) HWY_ATTR { return hn::Add(a, x); },
      [](auto d, auto a, auto b, auto c, auto e)
          HWY_ATTR { return hn::ReduceSum(d, hn::Add(hn::Add(a, b), hn::Add(c, e))); },
      [](float a, float x) { return a + x; });
}

float SumSquaresImpl(const float* src, int64_t n) {
  return ReduceImpl(
      src, n, 0.0f, [](auto a, auto x) HWY_ATTR { return hn::Add(a, hn::Mul(x, x)); },
      [](auto d, auto a, auto b, auto c, auto e)
          HWY_ATTR { return hn::ReduceSum(d, hn::Add(hn::Add(a, b), hn::Add(c, e))); },
      [](float a, float x) { return a + x * x; });
}

float MaxImpl(const float* src, int64_t n) {
  return ReduceImpl(
      src, n, -std::numeric_limits<float>::infinity(),
      [](auto a, auto x) HWY_ATTR { return hn::Max(a, x); },
      [](auto d, auto a, auto b, auto c, auto e)
          HWY_ATTR { return hn::ReduceMax(d, hn::Max(hn::Max(a, b), hn::Max(c, e))); },
      [](float a, float x) { return a > x ? a : x; });
}

float MinImpl(const float* src, int64_t n) {
  return ReduceImpl(
      src, n, std::numeric_limits<float>::infinity(),
      [](auto a, auto x) HWY_ATTR { return hn::Min(a, x); },
      [](auto d, auto a, auto b, auto c, auto e)
          HWY_ATTR { return hn::ReduceMin(d, hn::Min(hn::Min(a, b), hn::Min(c, e))); },
      [](float a, float x) { return a < x ? a : x; });
}

void AccumulateImpl(const float* HWY_RESTRICT src, int64_t n, float weight,
                    float* HWY_RESTRICT dst) {
  const auto body = [&](auto d, int64_t i) HWY_ATTR {
    const auto product = hn::Mul(hn::Set(d, weight), hn::LoadU(d, src + i));
    hn::StoreU(hn::Add(hn::LoadU(d, dst + i), product), d, dst + i);
  };
  Strips(n, body, body);
}

#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3_DL
// Four registers hold the table: two permutations over 128 entries each, the top bit of the source
// chooses.
void LookupImpl(const uint8_t* src, int64_t n, const uint8_t* table, uint8_t* dst) {
  const hn::CappedTag<uint8_t, 64> d;
  const hn::RebindToSigned<decltype(d)> ds;
  const auto t0 = hn::LoadU(d, table), t1 = hn::LoadU(d, table + 64);
  const auto t2 = hn::LoadU(d, table + 128), t3 = hn::LoadU(d, table + 192);
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    const auto v = hn::LoadU(d, src + i);
    const auto index = hn::IndicesFromVec(d, hn::And(v, hn::Set(d, 127)));
    const auto low = hn::TwoTablesLookupLanes(d, t0, t1, index);
    const auto high = hn::TwoTablesLookupLanes(d, t2, t3, index);
    const auto chosen =
        hn::IfNegativeThenElse(hn::BitCast(ds, v), hn::BitCast(ds, high), hn::BitCast(ds, low));
    hn::StoreU(hn::BitCast(d, chosen), d, dst + i);
  }
  for (; i < n; ++i) dst[i] = table[src[i]];
}
#else
// A table of 256 bytes stays in the first-level cache: two loads an element, unrolled against the
// loop's overhead.
void LookupImpl(const uint8_t* src, int64_t n, const uint8_t* table, uint8_t* dst) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint8_t t[8];
    for (int j = 0; j < 8; ++j) t[j] = table[src[i + j]];
    for (int j = 0; j < 8; ++j) dst[i + j] = t[j];
  }
  for (; i < n; ++i) dst[i] = table[src[i]];
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace octet::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octet::kernels {

HWY_EXPORT(QuantizeInterleave3U8);
HWY_EXPORT(QuantizeInterleave3S8);
HWY_EXPORT(QuantizeU8);
HWY_EXPORT(QuantizeS8);
HWY_EXPORT(DequantizeU8);
HWY_EXPORT(DequantizeS8);
HWY_EXPORT(BinaryImpl);
HWY_EXPORT(ClampImpl);
HWY_EXPORT(SumImpl);
HWY_EXPORT(SumSquaresImpl);
HWY_EXPORT(MaxImpl);
HWY_EXPORT(MinImpl);
HWY_EXPORT(AccumulateImpl);
HWY_EXPORT(LookupImpl);

void QuantizeInterleave3(const float* src, int64_t stride, int64_t n, float scale,
                         int32_t zero_point, uint8_t* dst) {
  HWY_DYNAMIC_DISPATCH(QuantizeInterleave3U8)(src, stride, n, scale, zero_point, dst);
}
void QuantizeInterleave3(const float* src, int64_t stride, int64_t n, float scale,
                         int32_t zero_point, int8_t* dst) {
  HWY_DYNAMIC_DISPATCH(QuantizeInterleave3S8)(src, stride, n, scale, zero_point, dst);
}
void QuantizeRow(const float* src, int64_t n, float scale, int32_t zero_point, uint8_t* dst) {
  HWY_DYNAMIC_DISPATCH(QuantizeU8)(src, n, scale, zero_point, dst);
}
void QuantizeRow(const float* src, int64_t n, float scale, int32_t zero_point, int8_t* dst) {
  HWY_DYNAMIC_DISPATCH(QuantizeS8)(src, n, scale, zero_point, dst);
}
void DequantizeRow(const uint8_t* src, int64_t n, float scale, int32_t zero_point, float* dst) {
  HWY_DYNAMIC_DISPATCH(DequantizeU8)(src, n, scale, zero_point, dst);
}
void DequantizeRow(const int8_t* src, int64_t n, float scale, int32_t zero_point, float* dst) {
  HWY_DYNAMIC_DISPATCH(DequantizeS8)(src, n, scale, zero_point, dst);
}
void BinaryRow(RowOp op, const float* a, const float* b, int64_t n, float* dst) {
  HWY_DYNAMIC_DISPATCH(BinaryImpl)(op, a, b, n, dst);
}
void ClampRow(const float* src, int64_t n, float low, float high, float* dst) {
  HWY_DYNAMIC_DISPATCH(ClampImpl)(src, n, low, high, dst);
}
float SumRow(const float* src, int64_t n) { return HWY_DYNAMIC_DISPATCH(SumImpl)(src, n); }
float SumSquaresRow(const float* src, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(SumSquaresImpl)(src, n);
}
float MaxRow(const float* src, int64_t n) { return HWY_DYNAMIC_DISPATCH(MaxImpl)(src, n); }
float MinRow(const float* src, int64_t n) { return HWY_DYNAMIC_DISPATCH(MinImpl)(src, n); }
void AccumulateRow(const float* src, int64_t n, float weight, float* dst) {
  HWY_DYNAMIC_DISPATCH(AccumulateImpl)(src, n, weight, dst);
}

void LookupRow(const uint8_t* src, int64_t n, const uint8_t* table, uint8_t* dst) {
  HWY_DYNAMIC_DISPATCH(LookupImpl)(src, n, table, dst);
}

}  // namespace octet::kernels
#endif  // HWY_ONCE
