// Attention on integers: u8 queries and probabilities, s8 keys and values, products summed in s32 (VPDPBUSD where the CPU
// has it), softmax in f32 between them. Blocks as in attention_blocks.cc; an element of a panel is four bytes:
//
//   panel of K: [ceil(keys / W)][ceil(depth / 4)][W][4]     panel of V: [ceil(values / W)][ceil(keys / 4)][W][4]
//
//   s[i, j] = scale * q_scale * k_scale * (sum_d q[i, d] k[j, d] - q_zero_point * sum_d k[j, d])
#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/attention/attention_head.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_int8.cc"
#include "hwy/foreach_target.h"  // NOLINT: must come before highway.h
#include "hwy/highway.h"
#include "kernels/attention/attention_rows-inl.h"

#ifndef OCTET_KERNELS_ATTENTION_INT8_ONCE_
#define OCTET_KERNELS_ATTENTION_INT8_ONCE_
namespace octet::kernels {

// In 32-bit elements: panels of K and V, sums of the keys, scores, probabilities, queries, results.
inline int64_t Int8ScratchElements(int64_t keys, int64_t depth, int64_t values) {
  const int64_t wide_keys = RoundUpTo(keys, kMaxPanel), wide_values = RoundUpTo(values, kMaxPanel);
  const int64_t key_groups = wide_keys / 4, depth_groups = (depth + 3) / 4;
  return wide_keys * depth_groups + wide_values * key_groups + wide_keys +
         kMaxRows * (wide_keys + key_groups + depth_groups + wide_values);
}

}  // namespace octet::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace octet::kernels {
namespace HWY_NAMESPACE {

using I32 = hn::RebindToSigned<F>;

HWY_INLINE int8_t Byte(const AttentionMatrix& m, int64_t row, int64_t column) {
  return static_cast<const int8_t*>(m.data)[row * m.row + column * m.column];
}

// Keys in panels, and the sum of each key's elements.
void PackKeys(const AttentionMatrix& m, int64_t keys, int64_t depth, int8_t* HWY_RESTRICT dst, int32_t* HWY_RESTRICT sums) {
  const I32 d;
  const hn::Repartition<uint8_t, I32> du;
  const hn::Repartition<int8_t, I32> ds;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d)), w = 2 * lanes, groups = (depth + 3) / 4;
  for (int64_t j = 0; j < RoundUpTo(keys, w); j += 4) {
    int8_t* out = dst + 4 * (j / w * groups * w + j % w);
    int64_t g = 0;
    if (m.column == 1 && m.row % 4 == 0 && j + 4 <= keys) {
      const auto* in = static_cast<const int8_t*>(m.data) + j * m.row;
      for (; 4 * (g + 4) <= depth; g += 4) {
        Transpose4x4(reinterpret_cast<const uint32_t*>(in + 4 * g), m.row / 4, reinterpret_cast<uint32_t*>(out + 4 * g * w), w);
      }
    }
    for (; g < groups; ++g) {
      for (int64_t i = 0; i < 4; ++i) {
        for (int64_t b = 0; b < 4; ++b) {
          out[4 * (g * w + i) + b] = j + i < keys && 4 * g + b < depth ? Byte(m, j + i, 4 * g + b) : int8_t{0};
        }
      }
    }
  }
  for (int64_t j = 0; j < keys; j += lanes) {
    auto sum = hn::Zero(d);
    const int8_t* panel = dst + 4 * (j / w * groups * w + j % w);
    for (int64_t g = 0; g < groups; ++g) {
      sum = hn::SumOfMulQuadAccumulate(d, hn::Set(du, 1), hn::LoadU(ds, panel + 4 * g * w), sum);
    }
    hn::StoreU(sum, d, sums + j);
  }
}

// Values in panels: four keys side by side. `padded` keys, a multiple of 4; those behind `keys` are 0.
void PackValues(const AttentionMatrix& m, int64_t keys, int64_t values, int8_t* HWY_RESTRICT dst) {
  const hn::FixedTag<uint8_t, 16> d8;
  const hn::FixedTag<uint16_t, 8> d16;
  const int64_t w = 2 * static_cast<int64_t>(hn::Lanes(F())), groups = (keys + 3) / 4;
  for (int64_t e = 0; e < RoundUpTo(values, w); e += 16) {  // a panel may be narrower than 16: see below
    const int64_t block = std::min<int64_t>(16, w);
    for (int64_t g = 0; g < groups; ++g) {
      const bool whole = block == 16 && m.column == 1 && e + 16 <= values && 4 * g + 4 <= keys;
      if (whole) {
        const uint8_t* in = static_cast<const uint8_t*>(m.data) + 4 * g * m.row + e;
        const auto a = hn::LoadU(d8, in), b = hn::LoadU(d8, in + m.row), c = hn::LoadU(d8, in + 2 * m.row),
                   f = hn::LoadU(d8, in + 3 * m.row);
        const auto ab0 = hn::BitCast(d16, hn::InterleaveLower(d8, a, b)), ab1 = hn::BitCast(d16, hn::InterleaveUpper(d8, a, b));
        const auto cf0 = hn::BitCast(d16, hn::InterleaveLower(d8, c, f)), cf1 = hn::BitCast(d16, hn::InterleaveUpper(d8, c, f));
        auto* out = reinterpret_cast<uint16_t*>(dst + 4 * (e / w * groups * w + g * w + e % w));
        hn::StoreU(hn::InterleaveLower(d16, ab0, cf0), d16, out);
        hn::StoreU(hn::InterleaveUpper(d16, ab0, cf0), d16, out + 8);
        hn::StoreU(hn::InterleaveLower(d16, ab1, cf1), d16, out + 16);
        hn::StoreU(hn::InterleaveUpper(d16, ab1, cf1), d16, out + 24);
        continue;
      }
      for (int64_t i = 0; i < 16 && e + i < RoundUpTo(values, w); ++i) {
        int8_t* out = dst + 4 * ((e + i) / w * groups * w + g * w + (e + i) % w);
        for (int64_t b = 0; b < 4; ++b) {
          out[b] = e + i < values && 4 * g + b < keys ? Byte(m, 4 * g + b, e + i) : int8_t{0};
        }
      }
    }
  }
}

// c[R, W] = a[R, 4 groups] * panel
template <int64_t R>
HWY_INLINE void Int8Tile(const uint8_t* HWY_RESTRICT a, int64_t a_stride, const int8_t* HWY_RESTRICT panel, int64_t groups,
                     int32_t* HWY_RESTRICT c, int64_t c_stride) {
  const I32 d;
  const hn::Repartition<uint8_t, I32> du;
  const hn::Repartition<int8_t, I32> ds;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<I32> left[R], right[R];
  for (int64_t r = 0; r < R; ++r) left[r] = right[r] = hn::Zero(d);
  for (int64_t g = 0; g < groups; ++g) {
    const auto b0 = hn::LoadU(ds, panel + g * 8 * lanes), b1 = hn::LoadU(ds, panel + g * 8 * lanes + 4 * lanes);
    for (int64_t r = 0; r < R; ++r) {
      int32_t four;
      std::memcpy(&four, a + r * a_stride + 4 * g, sizeof four);
      const auto x = hn::BitCast(du, hn::Set(d, four));
      left[r] = hn::SumOfMulQuadAccumulate(d, x, b0, left[r]);
      right[r] = hn::SumOfMulQuadAccumulate(d, x, b1, right[r]);
    }
  }
  for (int64_t r = 0; r < R; ++r) {
    hn::StoreU(left[r], d, c + r * c_stride);
    hn::StoreU(right[r], d, c + r * c_stride + lanes);
  }
}

HWY_NOINLINE void Int8Product(const uint8_t* a, int64_t a_stride, int64_t rows, const int8_t* panels, int64_t groups,
                              int64_t columns, int32_t* c, int64_t c_stride) {
  const int64_t w = 2 * static_cast<int64_t>(hn::Lanes(F()));
  for (int64_t n = 0; n < columns; n += w) {
    const int8_t* panel = panels + 4 * n * groups;
    if (rows == kRows) {
      Int8Tile<kRows>(a, a_stride, panel, groups, c + n, c_stride);
      continue;
    }
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) Int8Tile<4>(a + r * a_stride, a_stride, panel, groups, c + r * c_stride + n, c_stride);
    for (; r < rows; ++r) Int8Tile<1>(a + r * a_stride, a_stride, panel, groups, c + r * c_stride + n, c_stride);
  }
}

// row[j] = factor * (row[j] - zero_point * sums[j]), integers to reals in place; sums may be row.
HWY_INLINE void ScoresToReals(int32_t* row, const int32_t* sums, int32_t zero_point, float factor, int64_t n) {
  const F d;
  const I32 di;
  auto* reals = reinterpret_cast<float*>(row);
  for (int64_t j = 0; j < n; j += static_cast<int64_t>(hn::Lanes(d))) {
    const auto acc = hn::Sub(hn::LoadU(di, row + j), hn::Mul(hn::LoadU(di, sums + j), hn::Set(di, zero_point)));
    hn::StoreU(hn::Mul(hn::ConvertTo(d, acc), hn::Set(d, factor)), d, reals + j);
  }
}

// Probabilities e * factor as u8 with zero point 0.
HWY_INLINE void RoundToU8(const float* HWY_RESTRICT e, float factor, int64_t n, uint8_t* HWY_RESTRICT dst) {
  const F d;
  const hn::Rebind<uint8_t, F> du;
  for (int64_t j = 0; j < n; j += static_cast<int64_t>(hn::Lanes(d))) {
    auto q = hn::Mul(hn::LoadU(d, e + j), hn::Set(d, factor));
    q = hn::IfThenElse(hn::Ge(q, hn::Zero(d)), hn::Min(q, hn::Set(d, 255.0f)), hn::Zero(d));
    hn::StoreU(hn::DemoteTo(du, hn::NearestInt(q)), du, dst + j);
  }
}

void RunInt8Head(const AttentionHead& h) {
  const int64_t w = 2 * static_cast<int64_t>(hn::Lanes(F()));
  const int64_t wide_keys = RoundUpTo(h.keys, w), wide_values = RoundUpTo(h.values, w);
  const int64_t depth_groups = (h.depth + 3) / 4, key_groups = (h.keys + 3) / 4;
  auto* next = reinterpret_cast<int32_t*>(h.scratch);
  const auto take = [&](int64_t elements) {
    int32_t* p = next;
    next += elements;
    return p;
  };
  auto* k_panels = reinterpret_cast<int8_t*>(take(wide_keys * depth_groups));
  auto* v_panels = reinterpret_cast<int8_t*>(take(wide_values * key_groups));
  int32_t* sums = take(wide_keys);
  int32_t* scores = take(kRows * wide_keys);
  auto* probabilities = reinterpret_cast<uint8_t*>(take(kRows * wide_keys / 4));
  auto* queries = reinterpret_cast<uint8_t*>(take(kRows * depth_groups));
  int32_t* results = take(kRows * wide_values);
  std::fill_n(sums, wide_keys, 0);
  PackKeys(h.k, h.keys, h.depth, k_panels, sums);
  PackValues(h.v, h.keys, h.values, v_panels);
  const bool direct = h.q.column == 1 && h.depth % 4 == 0;
  const auto* q_data = static_cast<const uint8_t*>(h.q.data);
  const float to_scores = h.scale * h.q.scale * h.k.scale, to_result = h.probabilities->scale * h.v.scale;
  AttentionHead scaled = h;
  scaled.scale = 1;
  for (int64_t r = h.begin; r < h.end; r += kRows) {
    const int64_t n = std::min(kRows, h.end - r);
    if (!direct) {
      std::memset(queries, 0, static_cast<size_t>(4 * kRows * depth_groups));
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t c = 0; c < h.depth; ++c) queries[i * 4 * depth_groups + c] = q_data[(r + i) * h.q.row + c * h.q.column];
      }
    }
    Int8Product(direct ? q_data + r * h.q.row : queries, direct ? h.q.row : 4 * depth_groups, n, k_panels, depth_groups,
                h.keys, scores, wide_keys);
    for (int64_t i = 0; i < n; ++i) {
      ScoresToReals(scores + i * wide_keys, sums, h.q.zero_point, to_scores, wide_keys);
      auto* row = reinterpret_cast<float*>(scores + i * wide_keys);
      const float inverse = SoftmaxRow(scaled, r + i, row, wide_keys);
      RoundToU8(row, inverse / h.probabilities->scale, wide_keys, probabilities + i * wide_keys);
    }
    Int8Product(probabilities, wide_keys, n, v_panels, key_groups, h.values, results, wide_values);
    for (int64_t i = 0; i < n; ++i) {
      int32_t* row = results + i * wide_values;
      ScoresToReals(row, row, 0, to_result, wide_values);
      StoreRow(h.y, r + i, reinterpret_cast<const float*>(row), 1.0f, h.values);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace octet::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octet::kernels {

HWY_EXPORT(RunInt8Head);

absl::StatusOr<std::unique_ptr<Kernel>> CreateAttentionInt8(const AttentionParams& p, const KernelEnv& env) {
  const auto symmetric = [](const TensorSpec& spec) {
    return spec.dtype == DType::kS8 && spec.quant.has_value() && spec.quant->zero_point_at(0) == 0;
  };
  if (p.q.spec.dtype != DType::kU8) return absl::UnimplementedError("queries are not u8");
  if (!symmetric(p.k.spec)) return absl::UnimplementedError("keys are not s8 with zero point 0");
  if (!symmetric(p.v.spec)) return absl::UnimplementedError("values are not s8 with zero point 0");
  if (!p.probabilities.has_value() || p.probabilities->dtype != DType::kU8 || p.probabilities->zero_point != 0) {
    return absl::UnimplementedError("probabilities are not rounded to u8 with zero point 0");
  }
  if (p.keys == 0) return absl::UnimplementedError("no keys");
  // 255 * 128 * n must fit s32.
  if (p.depth > 65536 || p.keys > 65536) return absl::UnimplementedError("sums of more than 65536 products");
  return MakeHeadsKernel("int8", p, Int8ScratchElements(p.keys, p.depth, p.values), env.threads,
                         [](const AttentionHead& head) { HWY_DYNAMIC_DISPATCH(RunInt8Head)(head); });
}

}  // namespace octet::kernels
#endif  // HWY_ONCE
