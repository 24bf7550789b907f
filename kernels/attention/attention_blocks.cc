// Attention by blocks of queries of one head: keys and values of the head are packed once into panels of two vectors'
// width, then each block of rows runs both products and the softmax while its scores stay in the first-level cache.
//
//   panel of K: [ceil(keys / W)][depth][W]     panel of V: [ceil(values / W)][keys][W]     W = 2 vectors
//
// Integers become reals while they are packed: the products are summed in f32.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/attention/attention.h"
#include "kernels/elements.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_blocks.cc"
#include "hwy/foreach_target.h"  // NOLINT: must come before highway.h
#include "hwy/highway.h"
#include "kernels/vector_math-inl.h"

#ifndef OCTET_KERNELS_ATTENTION_BLOCKS_ONCE_
#define OCTET_KERNELS_ATTENTION_BLOCKS_ONCE_
namespace octet::kernels {

constexpr int64_t kMaxPanel = 32;   // floats: two vectors of 64 bytes
constexpr int64_t kMaxRows = 12;    // rows of a block

inline int64_t RoundUpTo(int64_t n, int64_t m) { return (n + m - 1) / m * m; }

// A matrix in memory with its number format.
struct AttentionMatrix {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  float scale = 1;
  int32_t zero_point = 0;
  int64_t row = 0, column = 0;  // strides in elements
};

// Rows [begin, end) of one head.
struct AttentionHead {
  AttentionMatrix q, k, v, mask, y;  // mask.data may be null; y is written
  int64_t begin = 0, end = 0, keys = 0, depth = 0, values = 0;
  float scale = 1;
  const AttentionParams::Rounding* probabilities = nullptr;
  float* scratch = nullptr;  // ScratchFloats()
};

// K panels, V panels, scores, query rows, result rows.
inline int64_t ScratchFloats(int64_t keys, int64_t depth, int64_t values) {
  const int64_t wide_keys = RoundUpTo(keys, kMaxPanel), wide_values = RoundUpTo(values, kMaxPanel);
  return wide_keys * depth + wide_values * keys + kMaxRows * (wide_keys + RoundUpTo(depth, 16) + wide_values);
}

}  // namespace octet::kernels
#endif

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

// [ceil(rows / W)][columns][W] of a [rows, columns] matrix: its transpose in panels.
void PackTransposed(const AttentionMatrix& m, int64_t rows, int64_t columns, float* HWY_RESTRICT dst) {
  const F d;
  const hn::RebindToSigned<F> di;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t w = 2 * lanes;
  const bool gather = m.dtype == DType::kF32 && m.row < (int64_t{1} << 24);
  const auto index = hn::Mul(hn::Iota(di, 0), hn::Set(di, static_cast<int32_t>(m.row)));
  for (int64_t r = 0; r < rows; r += lanes) {
    float* out = dst + r / w * columns * w + r % w;
    if (gather && r + lanes <= rows) {
      const float* in = static_cast<const float*>(m.data) + r * m.row;
      for (int64_t c = 0; c < columns; ++c) hn::StoreU(hn::GatherIndex(d, in + c * m.column, index), d, out + c * w);
    } else {
      for (int64_t c = 0; c < columns; ++c) {
        for (int64_t i = 0; i < lanes; ++i) out[c * w + i] = r + i < rows ? Real(m, r + i, c) : 0.0f;
      }
    }
  }
  // The second half of a panel that has only a first one.
  const int64_t covered = RoundUpTo(rows, lanes), full = RoundUpTo(rows, w);
  for (int64_t r = covered; r < full; r += lanes) {
    for (int64_t c = 0; c < columns; ++c) hn::StoreU(hn::Zero(d), d, dst + r / w * columns * w + c * w + r % w);
  }
}

// [ceil(columns / W)][rows][W] of a [rows, columns] matrix.
void PackStraight(const AttentionMatrix& m, int64_t rows, int64_t columns, float* HWY_RESTRICT dst) {
  const int64_t w = 2 * static_cast<int64_t>(hn::Lanes(F()));
  for (int64_t c = 0; c < columns; c += w) {
    const int64_t n = std::min(w, columns - c);
    for (int64_t r = 0; r < rows; ++r) {
      float* out = dst + c / w * rows * w + r * w;
      LoadRow(m, r, c, n, out);
      for (int64_t i = n; i < w; ++i) out[i] = 0;
    }
  }
}

// c[R, W] = a[R, depth] * panel[depth, W]
template <int64_t R>
HWY_INLINE void Tile(const float* HWY_RESTRICT a, int64_t a_stride, const float* HWY_RESTRICT panel, int64_t depth,
                     float* HWY_RESTRICT c, int64_t c_stride) {
  const F d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<F> left[R], right[R];
  for (int64_t r = 0; r < R; ++r) left[r] = right[r] = hn::Zero(d);
  for (int64_t k = 0; k < depth; ++k) {
    const auto b0 = hn::LoadU(d, panel + k * 2 * lanes), b1 = hn::LoadU(d, panel + k * 2 * lanes + lanes);
    for (int64_t r = 0; r < R; ++r) {
      const auto x = hn::Set(d, a[r * a_stride + k]);
      left[r] = hn::MulAdd(x, b0, left[r]);
      right[r] = hn::MulAdd(x, b1, right[r]);
    }
  }
  for (int64_t r = 0; r < R; ++r) {
    hn::StoreU(left[r], d, c + r * c_stride);
    hn::StoreU(right[r], d, c + r * c_stride + lanes);
  }
}

// c[rows, columns] = a[rows, depth] * panels; rows <= kRows. A row's sums do not depend on how many rows there are.
HWY_NOINLINE void Product(const float* a, int64_t a_stride, int64_t rows, const float* panels, int64_t depth, int64_t columns,
             float* c, int64_t c_stride) {
  const int64_t w = 2 * static_cast<int64_t>(hn::Lanes(F()));
  for (int64_t n = 0; n < columns; n += w) {
    const float* panel = panels + n * depth;
    if (rows == kRows) {
      Tile<kRows>(a, a_stride, panel, depth, c + n, c_stride);
      continue;
    }
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) Tile<4>(a + r * a_stride, a_stride, panel, depth, c + r * c_stride + n, c_stride);
    for (; r < rows; ++r) Tile<1>(a + r * a_stride, a_stride, panel, depth, c + r * c_stride + n, c_stride);
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
HWY_INLINE void StoreRow(const AttentionMatrix& y, int64_t row, const float* HWY_RESTRICT from, float factor, int64_t n) {
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

void RunHead(const AttentionHead& h) {
  const int64_t w = 2 * static_cast<int64_t>(hn::Lanes(F()));
  const int64_t wide_keys = RoundUpTo(h.keys, w), wide_values = RoundUpTo(h.values, w);
  float* k_panels = h.scratch;
  float* v_panels = k_panels + wide_keys * h.depth;
  float* scores = v_panels + wide_values * h.keys;
  float* rows = scores + kRows * wide_keys;
  float* result = rows + kRows * h.depth;
  PackTransposed(h.k, h.keys, h.depth, k_panels);
  PackStraight(h.v, h.keys, h.values, v_panels);
  const bool direct = h.q.dtype == DType::kF32 && h.q.column == 1;
  for (int64_t r = h.begin; r < h.end; r += kRows) {
    const int64_t n = std::min(kRows, h.end - r);
    const float* q = direct ? static_cast<const float*>(h.q.data) + r * h.q.row : rows;
    if (!direct) {
      for (int64_t i = 0; i < n; ++i) LoadRow(h.q, r + i, 0, h.depth, rows + i * h.depth);
    }
    Product(q, direct ? h.q.row : h.depth, n, k_panels, h.depth, h.keys, scores, wide_keys);
    float factors[kRows];
    for (int64_t i = 0; i < n; ++i) {
      float* row = scores + i * wide_keys;
      factors[i] = SoftmaxRow(h, r + i, row, wide_keys);
      if (h.probabilities != nullptr) {
        RoundRow(*h.probabilities, factors[i], row, wide_keys);
        factors[i] = 1;
      }
    }
    Product(scores, wide_keys, n, v_panels, h.keys, h.values, result, wide_values);
    for (int64_t i = 0; i < n; ++i) StoreRow(h.y, r + i, result + i * wide_values, factors[i], h.values);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace octet::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octet::kernels {

HWY_EXPORT(RunHead);

namespace {

AttentionMatrix MatrixOf(const AttentionOperand& o, const void* data, int64_t b, int64_t h) {
  AttentionMatrix m;
  m.dtype = o.spec.dtype;
  const int64_t offset = b * o.strides[0] + h * o.strides[1];
  m.data = static_cast<const std::byte*>(data) + offset * BytesOf(o.spec.dtype);
  if (o.spec.quant.has_value()) {
    m.scale = o.spec.quant->scale[0];
    m.zero_point = o.spec.quant->zero_point_at(0);
  }
  m.row = o.strides[2];
  m.column = o.strides[3];
  return m;
}

AttentionHead HeadOf(const AttentionParams& p, const BindArgs& args, int64_t b, int64_t h) {
  AttentionHead head;
  head.q = MatrixOf(p.q, args.src[0], b, h);
  head.k = MatrixOf(p.k, args.src[1], b, h);
  head.v = MatrixOf(p.v, args.src[2], b, h);
  if (p.mask.has_value()) head.mask = MatrixOf(*p.mask, args.src[3], b, h);
  head.y = MatrixOf(p.y, args.dst[0], b, h);
  head.keys = p.keys;
  head.depth = p.depth;
  head.values = p.values;
  head.scale = p.scale;
  if (p.probabilities.has_value()) head.probabilities = &*p.probabilities;
  return head;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateAttentionBlocks(const AttentionParams& p, const KernelEnv& env) {
  if (p.keys == 0) return absl::UnimplementedError("no keys");
  const int64_t slots = std::max(1, env.threads), heads = p.batch * p.heads;
  // Heads are split between threads; where there are too few, so are the queries of a head (each part packs anew).
  int64_t parts = 1;
  while (heads * parts % slots != 0 && heads * parts < 4 * slots && p.queries / (parts + 1) >= 4 * kMaxRows) ++parts;
  const int64_t stride = RoundUpTo(ScratchFloats(p.keys, p.depth, p.values), 16);
  const int64_t units = heads * parts;
  return MakeFunctionKernel(
      "blocks", slots * stride * int64_t{sizeof(float)}, [p, slots, parts, stride, units](const BindArgs& args) {
        auto* scratch = static_cast<float*>(args.scratch);
        const int64_t work = p.queries * p.keys * (p.depth + p.values) * p.batch * p.heads;
        const int64_t wanted = work < 50000 ? 1 : std::min(slots, units);
        RunParallel(args.parallel, wanted, 1, [&](int64_t begin, int64_t end) {
          for (int64_t s = begin; s < end; ++s) {
            for (int64_t u = units * s / wanted; u < units * (s + 1) / wanted; ++u) {
              const int64_t head_index = u / parts, part = u % parts;
              AttentionHead head = HeadOf(p, args, head_index / p.heads, head_index % p.heads);
              head.begin = p.queries * part / parts;
              head.end = p.queries * (part + 1) / parts;
              head.scratch = scratch + s * stride;
              HWY_DYNAMIC_DISPATCH(RunHead)(head);
            }
          }
        });
      });
}

}  // namespace octet::kernels
#endif  // HWY_ONCE
