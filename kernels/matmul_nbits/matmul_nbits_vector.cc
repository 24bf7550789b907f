// The vector loops of MatmulNBits.
#include "kernels/matmul_nbits/matmul_nbits_vector.h"

#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>

// Vectors are kept in arrays, which scalable ones do not allow; such CPUs use their fixed-size set.
#define HWY_DISABLED_TARGETS (HWY_ALL_SVE | HWY_RVV | HWY_SCALAR)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul_nbits/matmul_nbits_vector.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // NOLINT: must come before highway.h
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace octet::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using I32 = hn::CappedTag<int32_t, 16>;
using U32 = hn::RebindToUnsigned<I32>;
using F32 = hn::RebindToFloat<I32>;
using U16 = hn::Repartition<uint16_t, I32>;
using I16 = hn::Repartition<int16_t, I32>;
using U8 = hn::Repartition<uint8_t, I32>;
using I8 = hn::Repartition<int8_t, I32>;
using VI8 = hn::Vec<I8>;
using VF32 = hn::Vec<F32>;

// Arrays of vectors are registers only where their loops are unrolled, which -O2 alone does not do.
constexpr int64_t kLanes = hn::MaxLanes(I32());
constexpr int64_t kBytes = kLanes * 4;
constexpr int kVectors16 = static_cast<int>(16 / kLanes);  // vectors of 16 columns
constexpr int64_t kPrefetchBytes = 2048;                   // ahead of the stream of weights

// ---- source rows

// What a row's floats reach, and NaN as soon as one is not finite.
struct RowRange {
  HWY_INLINE void Add(VF32 x) {
    low = hn::Min(low, x);
    high = hn::Max(high, x);
    poison = hn::MulAdd(x, hn::Zero(F32()), poison);
  }
  VF32 low, high, poison;
};

HWY_INLINE hn::Vec<I32> Quantize(VF32 x, VF32 inverse, hn::Vec<I32> zero_point) {
  return hn::Add(hn::NearestInt(hn::Mul(x, inverse)), zero_point);
}

NBitsRow QuantizeRow(const float* HWY_RESTRICT src, int64_t n, uint8_t* HWY_RESTRICT dst) {
  const F32 d;
  const auto zero = hn::Zero(d);
  RowRange a{zero, zero, zero}, b = a;  // neither waits for the other
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    hwy::Prefetch(src + n + i);  // the row that comes next, perhaps
    hwy::Prefetch(src + n + i + kLanes);
    a.Add(hn::LoadU(d, src + i));
    b.Add(hn::LoadU(d, src + i + kLanes));
  }
  for (; i < n; i += kLanes) a.Add(hn::LoadN(d, src + i, static_cast<size_t>(n - i)));
  if (std::isnan(hn::ReduceSum(d, hn::Add(a.poison, b.poison)))) {
    std::memset(dst, 0, static_cast<size_t>(n));
    return {std::numeric_limits<float>::quiet_NaN(), 0};
  }
  const float lowest = hn::ReduceMin(d, hn::Min(a.low, b.low)), highest = hn::ReduceMax(d, hn::Max(a.high, b.high));
  const float scale = std::max((highest / 2 - lowest / 2) / 127.5f, FLT_MIN);
  const float inverse = 1 / scale;
  const int zero_point =
      std::min(std::max(static_cast<int>(std::lrint(-lowest * inverse)), 0), 255);
  const hn::Rebind<uint8_t, F32> d8;
  const auto inverses = hn::Set(d, inverse);
  const auto zero_points = hn::Set(I32(), zero_point);
  i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    hn::Vec<I32> q[4];
    HWY_UNROLL(4) for (int j = 0; j < 4; ++j) q[j] = Quantize(hn::LoadU(d, src + i + j * kLanes), inverses, zero_points);
    const I16 d16;
    const U8 d8x4;
    hn::StoreU(hn::OrderedDemote2To(d8x4, hn::OrderedDemote2To(d16, q[0], q[1]), hn::OrderedDemote2To(d16, q[2], q[3])), d8x4, dst + i);
  }
  for (; i < n; i += kLanes) {
    const auto rest = static_cast<size_t>(std::min(kLanes, n - i));
    hn::StoreN(hn::DemoteTo(d8, Quantize(hn::LoadN(d, src + i, rest), inverses, zero_points)), d8, dst + i, rest);
  }
  return {scale, static_cast<float>(zero_point)};
}

void OrderForVectors(uint8_t* row, int64_t n) {
  alignas(16) static constexpr uint8_t kOrder[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  const hn::Full128<uint8_t> d;
  const auto order = hn::Load(d, kOrder);
  for (int64_t i = 0; i < n; i += 16) hn::StoreU(hn::TableLookupBytes(hn::LoadU(d, row + i), order), d, row + i);
}

// ---- weights

// Four bytes of the source for every column.
HWY_INLINE hn::Vec<U8> BroadcastQuad(const uint8_t* src) {
  int32_t quad;
  std::memcpy(&quad, src, sizeof(quad));
  return hn::BitCast(U8(), hn::Set(I32(), quad));
}

// Zero points of kLanes columns, four times each.
HWY_INLINE VI8 SpreadZeroPoints(const uint8_t* zero_points) {
  const auto z = hn::PromoteTo(U32(), hn::LoadU(hn::Rebind<uint8_t, U32>(), zero_points));
  return hn::BitCast(I8(), hn::Mul(z, hn::Set(U32(), 0x01010101u)));
}

HWY_INLINE VF32 LoadScales(ScaleFormat format, const uint8_t* scales, int64_t column) {
  const F32 d;
  if (format == ScaleFormat::kF16) {
    const hn::Rebind<hwy::float16_t, F32> d16;
    return hn::PromoteTo(d,
                         hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(scales) + column));
  }
  return hn::LoadU(d, reinterpret_cast<const float*>(scales) + column);
}

template <NBitsFormat kFormat>
constexpr int kQuads = kFormat == NBitsFormat::kLevels2 || kFormat == NBitsFormat::kVectors ? 4
                       : kFormat == NBitsFormat::kLevels1                                  ? 8
                                                                                           : 2;

#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3_DL
// One element of all vector codes: 256 bytes in four registers.
class Table256 {
 public:
  explicit Table256(const int8_t* p) {
    for (int i = 0; i < 4; ++i) part_[i] = hn::LoadU(U8(), reinterpret_cast<const uint8_t*>(p) + i * 64);
  }
  HWY_INLINE VI8 operator()(hn::Vec<U8> code) const {
    const U8 d;
    const auto index = hn::IndicesFromVec(d, hn::And(code, hn::Set(d, 127)));
    const auto low = hn::TwoTablesLookupLanes(d, part_[0], part_[1], index);
    const auto high = hn::TwoTablesLookupLanes(d, part_[2], part_[3], index);
    return hn::BitCast(I8(), hn::IfThenElse(hn::Ge(code, hn::Set(d, 128)), high, low));
  }

 private:
  hn::Vec<U8> part_[4];
};
#else
class Table256 {
 public:
  explicit Table256(const int8_t* p) : p_(p) {}
  VI8 operator()(hn::Vec<U8> code) const {
    alignas(64) uint8_t codes[kBytes];
    alignas(64) int8_t out[kBytes];
    hn::Store(code, U8(), codes);
    for (int64_t i = 0; i < kBytes; ++i) out[i] = p_[codes[i]];
    return hn::Load(I8(), out);
  }

 private:
  const int8_t* p_;
};
#endif

// What codes stand for, in registers; nothing where weights are integers.
template <NBitsFormat kFormat>
struct Levels {
  explicit Levels(const NBitsPanels& layout)
      : table(hn::LoadDup128(U8(), reinterpret_cast<const uint8_t*>(layout.levels.data()))) {}
  hn::Vec<U8> table;
};
template <>
struct Levels<NBitsFormat::kVectors> {
  explicit Levels(const NBitsPanels& layout)
      : elements{Table256(layout.vectors.data()), Table256(layout.vectors.data() + 256),
                 Table256(layout.vectors.data() + 512), Table256(layout.vectors.data() + 768)} {}
  Table256 elements[4];
};

// Quad kQuad of a bundle at p for kLanes columns; `stride` bytes lie between the quads of kS8.
template <NBitsFormat kFormat, int kQuad>
HWY_INLINE VI8 LoadQuad(const Levels<kFormat>& levels, const uint8_t* p, int64_t stride, VI8 zero) {
  const U8 d;
  if constexpr (kFormat == NBitsFormat::kS8) {
    return hn::BitCast(I8(), hn::LoadU(d, p + kQuad * stride));
  } else if constexpr (kFormat == NBitsFormat::kVectors) {
    return levels.elements[kQuad](hn::LoadU(d, p));
  } else if constexpr (kFormat == NBitsFormat::kS4) {
    const auto x = hn::LoadU(d, p);
    const auto high = kQuad == 0 ? hn::BitCast(d, hn::ShiftLeft<4>(hn::BitCast(U16(), x))) : x;
    return hn::BitCast(I8(), hn::And(high, hn::Set(d, 0xf0)));
  } else {
    constexpr int kBits = 8 / kQuads<kFormat>;
    const auto x = hn::BitCast(U16(), hn::LoadU(d, p));
    const auto code = hn::And(hn::BitCast(d, hn::ShiftRight<kBits * kQuad>(x)), hn::Set(d, (1 << kBits) - 1));
    if constexpr (kFormat == NBitsFormat::kU4) return hn::Sub(hn::BitCast(I8(), code), zero);
    return hn::BitCast(I8(), hn::TableLookupBytes(levels.table, code));
  }
}

// even, odd += products of the source with quads kQuad, kQuad + 1, ... of a bundle, in turn.
template <NBitsFormat kFormat, int kQuad = 0>
HWY_INLINE void MultiplyBundle(const Levels<kFormat>& levels, const uint8_t* p, int64_t stride, VI8 zero,
                               const uint8_t* src, hn::Vec<I32>& even, hn::Vec<I32>& odd) {
  if constexpr (kQuad < kQuads<kFormat>) {
    even = hn::SumOfMulQuadAccumulate(I32(), BroadcastQuad(src + 4 * kQuad),
                                      LoadQuad<kFormat, kQuad>(levels, p, stride, zero), even);
    MultiplyBundle<kFormat, kQuad + 1>(levels, p, stride, zero, src, odd, even);
  }
}

// Quads kQuad, kQuad + 1, ... of a bundle to `to`, `step` bytes apart.
template <NBitsFormat kFormat, int kQuad = 0>
HWY_INLINE void UnpackBundle(const Levels<kFormat>& levels, const uint8_t* p, int64_t stride, VI8 zero, int8_t* to, int64_t step) {
  if constexpr (kQuad < kQuads<kFormat>) {
    hn::StoreU(LoadQuad<kFormat, kQuad>(levels, p, stride, zero), I8(), to + kQuad * step);
    UnpackBundle<kFormat, kQuad + 1>(levels, p, stride, zero, to, step);
  }
}

// A record's parts from one column on.
struct Record {
  const uint8_t* weights;
  const uint8_t* scales;
  const uint8_t* zero_points;
  int64_t bundles;
  int64_t quad_bytes;  // of all columns
};

HWY_INLINE Record RecordAt(const NBitsPanels& layout, const uint8_t* p, int64_t width,
                           int64_t depth) {
  Record r;
  r.weights = p;
  r.scales = p + layout.weight_bytes(width, depth);
  r.zero_points = r.scales + layout.scale_bytes(width);
  r.bundles = depth / layout.bundle();
  r.quad_bytes = width * 4;
  return r;
}

// sum[row] += products of kR rows, `src_stride` apart, with quads kQuad, kQuad + 1, ... of a bundle that is unpacked once.
template <NBitsFormat kFormat, int kR, int kV, int kQuad = 0>
HWY_INLINE void MultiplyBundleRows(const Levels<kFormat>& levels, const uint8_t* p, int64_t stride, const VI8* zero,
                                   const uint8_t* src, int64_t src_stride, hn::Vec<I32> (&sum)[kR][kV]) {
  if constexpr (kQuad < kQuads<kFormat>) {
    VI8 weights[kV];
    HWY_UNROLL(8) for (int v = 0; v < kV; ++v) {
      weights[v] = LoadQuad<kFormat, kQuad>(levels, p + v * kBytes, stride, zero[v]);
    }
    HWY_UNROLL(8) for (int r = 0; r < kR; ++r) {
      const auto a = BroadcastQuad(src + r * src_stride + 4 * kQuad);
      HWY_UNROLL(8) for (int v = 0; v < kV; ++v) {
        sum[r][v] = hn::SumOfMulQuadAccumulate(I32(), a, weights[v], sum[r][v]);
      }
    }
    MultiplyBundleRows<kFormat, kR, kV, kQuad + 1>(levels, p, stride, zero, src, src_stride, sum);
  }
}

// acc[row][column, column + kV vectors) += kR rows, `src_stride` apart, times one record. One row has two chains of sums.
template <NBitsFormat kFormat, int kR, int kV>
HWY_INLINE void MultiplyRecord(const Record& r, const Levels<kFormat>& levels, ScaleFormat scales,
                               const uint8_t* HWY_RESTRICT src, int64_t src_stride, int64_t column,
                               float* HWY_RESTRICT acc) {
  const I32 d;
  hn::Vec<I32> sum[kR][kV], odd[kV];
  VI8 zero[kV];
  HWY_UNROLL(8) for (int v = 0; v < kV; ++v) {
    HWY_UNROLL(8) for (int row = 0; row < kR; ++row) sum[row][v] = hn::Zero(d);
    odd[v] = hn::Zero(d);
    zero[v] = hn::Zero(I8());
    if constexpr (kFormat == NBitsFormat::kU4) {
      zero[v] = SpreadZeroPoints(r.zero_points + column + v * kLanes);
    }
  }
  const int64_t step = r.quad_bytes * (kFormat == NBitsFormat::kS8 ? 2 : 1);
  const uint8_t* p = r.weights + column * 4;
  for (int64_t bundle = 0; bundle < r.bundles; ++bundle, p += step, src += 4 * kQuads<kFormat>) {
    HWY_UNROLL(8) for (int v = 0; v < kV; ++v) {
      const uint8_t* w = p + v * kBytes;
      hwy::Prefetch(w + kPrefetchBytes);
      if constexpr (kFormat == NBitsFormat::kS8) hwy::Prefetch(w + r.quad_bytes + kPrefetchBytes);
      if constexpr (kR == 1) MultiplyBundle<kFormat>(levels, w, r.quad_bytes, zero[v], src, sum[0][v], odd[v]);
    }
    if constexpr (kR > 1) {
      MultiplyBundleRows<kFormat, kR, kV>(levels, p, r.quad_bytes, zero, src, src_stride, sum);
    }
  }
  const F32 df;
  HWY_UNROLL(8) for (int v = 0; v < kV; ++v) {
    const auto scale = LoadScales(scales, r.scales, column + v * kLanes);
    HWY_UNROLL(8) for (int row = 0; row < kR; ++row) {
      float* to = acc + row * kNBitsAccStride + column + v * kLanes;
      const auto all = kR == 1 ? hn::Add(sum[row][v], odd[v]) : sum[row][v];
      hn::StoreU(hn::MulAdd(hn::ConvertTo(df, all), scale, hn::LoadU(df, to)), df, to);
    }
  }
}

// Vectors of columns at once: sums of kR rows stay in registers.
template <int kR>
constexpr int kWide = kR <= 4 ? 4 : 2;

template <NBitsFormat kFormat, int kR>
HWY_INLINE void MultiplyRowsOf(const NBitsPanel& panel, const uint8_t* src, int64_t src_stride, float* acc) {
  const NBitsPanels& layout = *panel.layout;
  const Levels<kFormat> levels(layout);
  const uint8_t* p = panel.records;
  for (int64_t g = 0; g < layout.groups(); ++g) {
    const int64_t depth = layout.group_depth(g);
    const Record r = RecordAt(layout, p, panel.width, depth);
    if (kLanes == 16 && panel.width == 64) {
      constexpr int kV = 4 * kVectors16 <= 4 ? kWide<kR> : 1;
      for (int64_t column = 0; column < 64; column += kV * kLanes) {
        MultiplyRecord<kFormat, kR, kV>(r, levels, layout.scales, src, src_stride, column, acc);
      }
    } else {
      for (int64_t column = 0; column < panel.width; column += 16) {
        MultiplyRecord<kFormat, kR, kVectors16>(r, levels, layout.scales, src, src_stride, column, acc);
      }
    }
    src += depth;
    p += layout.record_bytes(panel.width, depth);
  }
}

// body.template operator()<format>(): every format has code of its own.
template <typename Body>
HWY_INLINE void WithFormat(NBitsFormat format, const Body& body) {
  switch (format) {
    case NBitsFormat::kS4:
      return body.template operator()<NBitsFormat::kS4>();
    case NBitsFormat::kU4:
      return body.template operator()<NBitsFormat::kU4>();
    case NBitsFormat::kS8:
      return body.template operator()<NBitsFormat::kS8>();
    case NBitsFormat::kLevels4:
      return body.template operator()<NBitsFormat::kLevels4>();
    case NBitsFormat::kLevels2:
      return body.template operator()<NBitsFormat::kLevels2>();
    case NBitsFormat::kLevels1:
      return body.template operator()<NBitsFormat::kLevels1>();
    case NBitsFormat::kVectors:
      return body.template operator()<NBitsFormat::kVectors>();
  }
}

void MultiplyFewRows(const NBitsPanel& panel, const uint8_t* src, int64_t src_stride, int64_t rows, float* acc) {
  WithFormat(panel.layout->format, [&]<NBitsFormat kFormat>() HWY_ATTR {
    if (rows == 1) return MultiplyRowsOf<kFormat, 1>(panel, src, src_stride, acc);
    if (rows == 2) return MultiplyRowsOf<kFormat, 2>(panel, src, src_stride, acc);
    // A set of fewer or shorter registers keeps the sums of four rows.
    for (int64_t row = 0; row < rows;) {
      const uint8_t* from = src + row * src_stride;
      float* to = acc + row * kNBitsAccStride;
      if constexpr (kLanes == 16) {
        if (rows - row > 4) {
          MultiplyRowsOf<kFormat, 8>(panel, from, src_stride, to);
          row += 8;
          continue;
        }
      }
      MultiplyRowsOf<kFormat, 4>(panel, from, src_stride, to);
      row += 4;
    }
  });
}

template <NBitsFormat kFormat>
HWY_INLINE void UnpackRecord(const Record& r, const Levels<kFormat>& levels, ScaleFormat scales, int64_t width,
                             int8_t* HWY_RESTRICT weights, float* HWY_RESTRICT scales_out) {
  const int64_t step = r.quad_bytes * (kFormat == NBitsFormat::kS8 ? 2 : 1);
  for (int64_t column = 0; column < width; column += kLanes) {
    VI8 zero = hn::Zero(I8());
    if constexpr (kFormat == NBitsFormat::kU4) zero = SpreadZeroPoints(r.zero_points + column);
    const uint8_t* p = r.weights + column * 4;
    int8_t* to = weights + column * 4;
    for (int64_t bundle = 0; bundle < r.bundles; ++bundle, p += step, to += kQuads<kFormat> * r.quad_bytes) {
      hwy::Prefetch(p + kPrefetchBytes);
      UnpackBundle<kFormat>(levels, p, r.quad_bytes, zero, to, r.quad_bytes);
    }
    hn::StoreU(LoadScales(scales, r.scales, column), F32(), scales_out + column);
  }
}

template <NBitsFormat kFormat>
HWY_INLINE void UnpackOf(const NBitsPanels& layout, const uint8_t* records, const NBitsTile& tile) {
  const Levels<kFormat> levels(layout);
  int8_t* weights = tile.weights;
  float* scales = tile.scales;
  for (int64_t k = 0; k < tile.depth; k += tile.group) {
    const int64_t depth = std::min(tile.group, tile.depth - k);
    UnpackRecord<kFormat>(RecordAt(layout, records, tile.width, depth), levels, layout.scales, tile.width, weights, scales);
    records += layout.record_bytes(tile.width, depth);
    weights += depth * tile.width;
    scales += tile.width;
  }
}

void Unpack(const NBitsPanel& panel, const uint8_t* records, const NBitsTile& tile) {
  WithFormat(panel.layout->format, [&]<NBitsFormat kFormat>() HWY_ATTR { UnpackOf<kFormat>(*panel.layout, records, tile); });
}

template <NBitsFormat kFormat>
void UnpackColumns(const NBitsColumns& from, int8_t* HWY_RESTRICT to) {
  const Levels<kFormat> levels(*from.layout);
  const int64_t stride = from.quad_bytes, step = stride * (kFormat == NBitsFormat::kS8 ? 2 : 1);
  constexpr int64_t bundle = 4 * kQuads<kFormat>;
  for (int64_t column = 0; column < 16; column += kLanes) {
    VI8 zero = hn::Zero(I8());
    if constexpr (kFormat == NBitsFormat::kU4) zero = SpreadZeroPoints(from.zero_points + column);
    const uint8_t* p = from.weights + column * 4;
    int8_t* out = to + column * 4;
    const int64_t ahead = from.ahead;
    if (from.depth == 64 && stride == 256) {  // the usual tile: constants, because every instruction beside the product counts
#pragma GCC unroll 8
      for (int64_t b = 0; b < 64 / bundle; ++b) {
        const uint8_t* at = p + b * (kFormat == NBitsFormat::kS8 ? 512 : 256);
        hwy::Prefetch(at + ahead);
        UnpackBundle<kFormat>(levels, at, 256, zero, out + b * bundle * 16, 64);
      }
      continue;
    }
    for (int64_t k = 0; k < from.depth; k += bundle, p += step, out += bundle * 16) {
      hwy::Prefetch(p + ahead);
      UnpackBundle<kFormat>(levels, p, stride, zero, out, 64);
    }
  }
}

NBitsUnpackColumnsFn UnpackColumnsOf(NBitsFormat format) {
  NBitsUnpackColumnsFn fn = nullptr;
  WithFormat(format, [&]<NBitsFormat kFormat>() HWY_ATTR { fn = UnpackColumns<kFormat>; });
  return fn;
}

// ---- tiles times rows

// Quads for all columns, and sum += four-way products: in place and in the order they are written where the set has an
// instruction for it. With intrinsics GCC 14 copies every sum back and forth between two registers, loads all broadcasts
// first, and spills what then finds no place.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3_DL
constexpr bool kInPlace = true;
HWY_INLINE hn::Vec<U8> BroadcastInOrder(const uint8_t* src) {
  hn::Vec<U8> quad;
  asm volatile("vpbroadcastd %1, %0" : "=v"(quad.raw) : "m"(*reinterpret_cast<const uint8_t(*)[4]>(src)));
  return quad;
}
HWY_INLINE void Accumulate(hn::Vec<I32>& sum, hn::Vec<U8> src, VI8 weights) {
  asm volatile("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(src.raw), "v"(weights.raw));
}
#else
constexpr bool kInPlace = false;
HWY_INLINE hn::Vec<U8> BroadcastInOrder(const uint8_t* src) { return BroadcastQuad(src); }
HWY_INLINE void Accumulate(hn::Vec<I32>& sum, hn::Vec<U8> src, VI8 weights) {
  sum = hn::SumOfMulQuadAccumulate(I32(), src, weights, sum);
}
#endif

// kR rows times kV vectors of columns. Up to two vectors integer sums and reals stay in registers (6 x 2 of each); of four
// only the sums do (6 x 4), so that a broadcast serves four vectors, and reals are added in memory behind every group.
template <int kR, int kV>
HWY_INLINE void MultiplyBlock(const NBitsTile& tile, int64_t column, const uint8_t* HWY_RESTRICT src, int64_t src_stride,
                              float* HWY_RESTRICT acc) {
  constexpr bool kRealsStay = kV <= 2;
  const I32 d;
  const F32 df;
  const auto place = [&](int r, int v) HWY_ATTR { return acc + r * kNBitsAccStride + column + v * kLanes; };
  VF32 real[kR][kV];
  if constexpr (kRealsStay) {
    HWY_UNROLL(8) for (int r = 0; r < kR; ++r) {
      HWY_UNROLL(8) for (int v = 0; v < kV; ++v) real[r][v] = hn::LoadU(df, place(r, v));
    }
  }
  const int64_t quad_bytes = tile.width * 4;
  const int8_t* w = tile.weights + column * 4;
  const float* scales = tile.scales + column;
  for (int64_t k = 0; k < tile.depth; k += tile.group, scales += tile.width) {
    hn::Vec<I32> sum[kR][kV];
    HWY_UNROLL(8) for (int r = 0; r < kR; ++r) {
      HWY_UNROLL(8) for (int v = 0; v < kV; ++v) sum[r][v] = hn::Zero(d);
    }
    const int64_t pairs = std::min(tile.group, tile.depth - k) / 8;
    const uint8_t* s = src + k;
    for (int64_t pair = 0; pair < pairs; ++pair) {
      HWY_UNROLL(2) for (int quad = 0; quad < 2; ++quad, w += quad_bytes, s += 4) {
        VI8 weights[kV];
        HWY_UNROLL(8) for (int v = 0; v < kV; ++v) weights[v] = hn::LoadU(I8(), w + v * kBytes);
        HWY_UNROLL(8) for (int r = 0; r < kR; ++r) {
          const auto a = BroadcastInOrder(s + r * src_stride);
          HWY_UNROLL(8) for (int v = 0; v < kV; ++v) Accumulate(sum[r][v], a, weights[v]);
        }
      }
    }
    HWY_UNROLL(8) for (int v = 0; v < kV; ++v) {
      const auto scale = hn::LoadU(df, scales + v * kLanes);
      HWY_UNROLL(8) for (int r = 0; r < kR; ++r) {
        if constexpr (kRealsStay) {
          real[r][v] = hn::MulAdd(hn::ConvertTo(df, sum[r][v]), scale, real[r][v]);
        } else {
          hn::StoreU(hn::MulAdd(hn::ConvertTo(df, sum[r][v]), scale, hn::LoadU(df, place(r, v))), df, place(r, v));
        }
      }
    }
  }
  if constexpr (kRealsStay) {
    HWY_UNROLL(8) for (int r = 0; r < kR; ++r) {
      HWY_UNROLL(8) for (int v = 0; v < kV; ++v) hn::StoreU(real[r][v], df, place(r, v));
    }
  }
}

constexpr int64_t kRows = 6;            // of a block
constexpr int64_t kLongGroup = 128;     // from here on reals need not stay in registers; groups of 32 lose

template <int kV>
HWY_INLINE void MultiplyRows(const NBitsTile& tile, int64_t column, const uint8_t* src,
                             int64_t src_stride, int64_t rows, float* acc,
                             NBitsPrefetch& prefetch) {
  const int64_t blocks = (rows + kRows - 1) / kRows;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t begin = rows * b / blocks, count = rows * (b + 1) / blocks - begin;
    const uint8_t* s = src + begin * src_stride;
    float* a = acc + begin * kNBitsAccStride;
    switch (count) {
      case 6:
        MultiplyBlock<6, kV>(tile, column, s, src_stride, a);
        break;
      case 5:
        MultiplyBlock<5, kV>(tile, column, s, src_stride, a);
        break;
      case 4:
        MultiplyBlock<4, kV>(tile, column, s, src_stride, a);
        break;
      default:
        for (int64_t r = 0; r < count; ++r) {
          MultiplyBlock<1, kV>(tile, column, s + r * src_stride, src_stride,
                               a + r * kNBitsAccStride);
        }
    }
    prefetch.Advance();
  }
}

void MultiplyTile(const NBitsTile& tile, const uint8_t* src, int64_t src_stride, int64_t rows,
                  float* acc) {
  const bool wide = kInPlace && tile.group >= kLongGroup;
  const int64_t step = (wide ? 4 : 2) * kLanes;
  NBitsPrefetch prefetch(tile, (tile.width + step - 1) / step * ((rows + kRows - 1) / kRows));
  int64_t column = 0;
  if constexpr (kInPlace) {
    for (; wide && column + 4 * kLanes <= tile.width; column += 4 * kLanes) {
      MultiplyRows<4>(tile, column, src, src_stride, rows, acc, prefetch);
    }
  }
  for (; column + 2 * kLanes <= tile.width; column += 2 * kLanes) {
    MultiplyRows<2>(tile, column, src, src_stride, rows, acc, prefetch);
  }
  for (; column < tile.width; column += kLanes) {
    MultiplyRows<1>(tile, column, src, src_stride, rows, acc, prefetch);
  }
}

// ---- results

HWY_INLINE VF32 Clamp(VF32 x, float low, float high) {
  const F32 d;
  const auto y = hn::Min(hn::Max(x, hn::Set(d, low)), hn::Set(d, high));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

HWY_INLINE VF32 ApplyActivation(const Activation& f, VF32 x) {
  const F32 d;
  const auto alpha = hn::Set(d, f.alpha), beta = hn::Set(d, f.beta);
  switch (f.kind) {
    case ActivationKind::kRelu:
      return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Zero(d), x);
    case ActivationKind::kLeakyRelu:
      return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Mul(alpha, x), x);
    case ActivationKind::kClip:
      return Clamp(x, f.alpha, f.beta);
    case ActivationKind::kHardSigmoid:
      return Clamp(hn::MulAdd(alpha, x, beta), 0, 1);
    case ActivationKind::kHardSwish:
      return hn::Mul(x, Clamp(hn::MulAdd(alpha, x, beta), 0, 1));
    default:  // kLinear: IsNBitsPostOp admits no other
      return hn::MulAdd(alpha, x, beta);
  }
}

// kLanes columns of a part from its column i on, or as many as it has.
enum class Lanes : uint8_t { kAll, kSome };
template <Lanes kLanesHere>
HWY_INLINE void FinishColumns(const NBitsFinish& finish, const NBitsPart& part, int64_t i) {
  const F32 d;
  const auto load = [some = static_cast<size_t>(part.n - i)](const float* p) HWY_ATTR {
    return kLanesHere == Lanes::kAll ? hn::LoadU(F32(), p) : hn::LoadN(F32(), p, some);
  };
  // Accumulators and sums are padded to whole vectors, the bias is not.
  const auto sums = hn::LoadU(d, finish.sums + part.column + i);
  const auto bias = finish.bias == nullptr ? hn::Zero(d) : load(finish.bias + part.column + i);
  const NBitsRow* row = part.row;
  const float* acc = part.acc + i;
  float* dst = part.dst + i;
  for (const NBitsRow* const end = row + part.rows; row < end; ++row, acc += part.acc_stride, dst += part.dst_stride) {
    const auto centred = hn::NegMulAdd(hn::Set(d, row->zero_point), sums, hn::LoadU(d, acc));
    auto y = hn::Mul(centred, hn::Set(d, finish.multiplier * row->scale));
    if (finish.bias != nullptr) y = hn::Add(y, bias);
    for (const PostOp& op : finish.post_ops) {
      y = op.kind == PostOp::Kind::kAdd ? hn::Add(y, load(dst)) : ApplyActivation(op.activation, y);
    }
    if constexpr (kLanesHere == Lanes::kAll) {
      hn::StoreU(y, d, dst);
    } else {
      hn::StoreN(y, d, dst, static_cast<size_t>(part.n - i));
    }
  }
}

void Finish(const NBitsFinish& finish, const NBitsPart& part) {
  int64_t i = 0;
  for (; i + kLanes <= part.n; i += kLanes) FinishColumns<Lanes::kAll>(finish, part, i);
  if (i < part.n) FinishColumns<Lanes::kSome>(finish, part, i);
}

const NBitsVectorOps* Table() {
  static const NBitsVectorOps ops = {
      hwy::TargetName(HWY_TARGET), QuantizeRow, OrderForVectors, MultiplyFewRows, Unpack, UnpackColumnsOf, MultiplyTile, Finish};
  return &ops;
}

}  // namespace HWY_NAMESPACE
}  // namespace octet::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octet::kernels {
HWY_EXPORT(Table);

const NBitsVectorOps& ChooseNBitsVectorOps() { return *HWY_DYNAMIC_DISPATCH(Table)(); }

}  // namespace octet::kernels
#endif
