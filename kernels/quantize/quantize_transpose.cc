// Four-byte elements between plain and channels-last without a change of value: tiles of 4 x 4 are transposed in
// registers. A layout change is a transpose of [C, P] per image, P pixels; oneDNN's reorders walk it at 5 to 25 GB/s.
#include <algorithm>
#include <cstring>

#include "kernels/elements.h"
#include "kernels/quantize/quantize.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace octet::kernels {
namespace {

constexpr int64_t kTileRows = 64;  // of the source, per task: 64 x 64 elements in and out fit the first-level cache
constexpr int64_t kTileColumns = 64;

// dst[j * rows + i] = src[i * columns + j] for a block of four rows and four columns.
inline void Transpose4(const float* src, int64_t columns, float* dst, int64_t rows) {
#if defined(__SSE2__)
  __m128 a = _mm_loadu_ps(src), b = _mm_loadu_ps(src + columns), c = _mm_loadu_ps(src + 2 * columns),
         d = _mm_loadu_ps(src + 3 * columns);
  _MM_TRANSPOSE4_PS(a, b, c, d);
  _mm_storeu_ps(dst, a);
  _mm_storeu_ps(dst + rows, b);
  _mm_storeu_ps(dst + 2 * rows, c);
  _mm_storeu_ps(dst + 3 * rows, d);
#else
  for (int64_t i = 0; i < 4; ++i) {
    for (int64_t j = 0; j < 4; ++j) dst[j * rows + i] = src[i * columns + j];
  }
#endif
}

// dst[3 j + i] = src[i * columns + j] for 4 columns: what images with three planes are made of.
inline void Interleave3(const float* src, int64_t columns, float* dst) {
#if defined(__SSE2__)
  const __m128 a = _mm_loadu_ps(src), b = _mm_loadu_ps(src + columns), c = _mm_loadu_ps(src + 2 * columns);
  const auto pick = [](__m128 low, __m128 high) { return _mm_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0)); };
  _mm_storeu_ps(dst, _mm_shuffle_ps(_mm_unpacklo_ps(a, b), _mm_shuffle_ps(c, a, _MM_SHUFFLE(1, 1, 0, 0)),
                                    _MM_SHUFFLE(2, 0, 1, 0)));
  _mm_storeu_ps(dst + 4, pick(_mm_shuffle_ps(b, c, _MM_SHUFFLE(1, 1, 1, 1)),
                              _mm_shuffle_ps(a, b, _MM_SHUFFLE(2, 2, 2, 2))));
  _mm_storeu_ps(dst + 8, pick(_mm_shuffle_ps(c, a, _MM_SHUFFLE(3, 3, 2, 2)),
                              _mm_shuffle_ps(b, c, _MM_SHUFFLE(3, 3, 3, 3))));
#else
  for (int64_t j = 0; j < 4; ++j) {
    for (int64_t i = 0; i < 3; ++i) dst[3 * j + i] = src[i * columns + j];
  }
#endif
}

// A matrix [rows, columns] into [columns, rows], many images of it.
struct Plan {
  int64_t images, rows, columns;

  int64_t row_tiles() const { return (rows + kTileRows - 1) / kTileRows; }
  int64_t column_tiles() const { return (columns + kTileColumns - 1) / kTileColumns; }
  int64_t tiles() const { return images * row_tiles() * column_tiles(); }

  // Elements are moved as floats by loads and stores only: any four-byte pattern survives.
  void Tile(const float* src, float* dst, int64_t t) const {
    const int64_t image = t / (row_tiles() * column_tiles());
    const int64_t top = t / column_tiles() % row_tiles() * kTileRows, left = t % column_tiles() * kTileColumns;
    const int64_t bottom = std::min(rows, top + kTileRows), right = std::min(columns, left + kTileColumns);
    src += image * rows * columns;
    dst += image * rows * columns;
    if (rows == 3) {
      int64_t j = left;
      for (; j + 4 <= right; j += 4) Interleave3(src + j, columns, dst + 3 * j);
      for (; j < right; ++j) {
        for (int64_t k = 0; k < 3; ++k) Copy(src, dst, k, j);
      }
      return;
    }
    int64_t i = top;
    for (; i + 4 <= bottom; i += 4) {
      int64_t j = left;
      for (; j + 4 <= right; j += 4) Transpose4(src + i * columns + j, columns, dst + j * rows + i, rows);
      for (; j < right; ++j) {
        for (int64_t k = i; k < i + 4; ++k) Copy(src, dst, k, j);
      }
    }
    if (i == bottom) return;
    for (int64_t j = left; j < right; ++j) {
      for (int64_t k = i; k < bottom; ++k) Copy(src, dst, k, j);
    }
  }

  void Copy(const float* src, float* dst, int64_t i, int64_t j) const {
    std::memcpy(dst + j * rows + i, src + i * columns + j, sizeof(float));
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateConvertTranspose(const ConvertParams& params, const KernelEnv&) {
  const TensorSpec &src = params.src, &dst = params.dst;
  if (src.dtype != dst.dtype || BytesOf(src.dtype) != 4 || src.quant != dst.quant) {
    return absl::UnimplementedError("values change, or elements are not four bytes");
  }
  if (src.layout == dst.layout || src.shape.size() < 3) return absl::UnimplementedError("the layout stays");
  const int64_t pixels = NumElements(absl::MakeConstSpan(src.shape).subspan(2));
  const bool to_channels_last = dst.layout == Layout::kChannelsLast;
  const Plan plan{src.shape[0], to_channels_last ? src.shape[1] : pixels, to_channels_last ? pixels : src.shape[1]};
  return MakeFunctionKernel("transpose", 0, [plan](const BindArgs& args) {
    const auto* from = static_cast<const float*>(args.src[0]);
    auto* to = static_cast<float*>(args.dst[0]);
    const int64_t tile_bytes = 8 * std::min(plan.rows, kTileRows) * std::min(plan.columns, kTileColumns);
    RunParallel(args.parallel, plan.tiles(), kGrainBytes / std::max<int64_t>(tile_bytes, 1) + 1,
                [&](int64_t begin, int64_t end) {
                  for (int64_t t = begin; t < end; ++t) plan.Tile(from, to, t);
                });
  });
}

}  // namespace octet::kernels
