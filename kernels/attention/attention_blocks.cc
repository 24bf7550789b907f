// Attention by blocks of queries of one head: keys and values of the head are packed once into panels of two vectors'
// width, then each block of rows runs both products and the softmax while its scores stay in the first-level cache.
//
//   panel of K: [ceil(keys / W)][depth][W]     panel of V: [ceil(values / W)][keys][W]     W = 2 vectors
//
// Integers become reals while they are packed: the products are summed in f32.
#include <algorithm>
#include <cstring>

#include "kernels/attention/attention_head.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_blocks.cc"
#include "hwy/foreach_target.h"  // NOLINT: must come before highway.h
#include "hwy/highway.h"
#include "kernels/attention/attention_rows-inl.h"

#ifndef OCTET_KERNELS_ATTENTION_BLOCKS_ONCE_
#define OCTET_KERNELS_ATTENTION_BLOCKS_ONCE_
namespace octet::kernels {

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

// [ceil(rows / W)][columns][W] of a [rows, columns] matrix: its transpose in panels.
void PackTransposed(const AttentionMatrix& m, int64_t rows, int64_t columns, float* HWY_RESTRICT dst) {
  const int64_t w = 2 * static_cast<int64_t>(hn::Lanes(F()));
  const bool blocks = m.dtype == DType::kF32 && m.column == 1;
  for (int64_t r = 0; r < RoundUpTo(rows, w); r += 4) {
    float* out = dst + r / w * columns * w + r % w;
    int64_t c = 0;
    if (blocks && r + 4 <= rows) {
      const float* in = static_cast<const float*>(m.data) + r * m.row;
      for (; c + 4 <= columns; c += 4) {
        Transpose4x4(reinterpret_cast<const uint32_t*>(in + c), m.row, reinterpret_cast<uint32_t*>(out + c * w), w);
      }
    }
    for (; c < columns; ++c) {
      for (int64_t i = 0; i < 4; ++i) out[c * w + i] = r + i < rows ? Real(m, r + i, c) : 0.0f;
    }
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

absl::StatusOr<std::unique_ptr<Kernel>> CreateAttentionBlocks(const AttentionParams& p, const KernelEnv& env) {
  if (p.keys == 0) return absl::UnimplementedError("no keys");
  return MakeHeadsKernel("blocks", p, ScratchFloats(p.keys, p.depth, p.values), env.threads,
                         [](const AttentionHead& head) { HWY_DYNAMIC_DISPATCH(RunHead)(head); });
}

}  // namespace octet::kernels
#endif  // HWY_ONCE
