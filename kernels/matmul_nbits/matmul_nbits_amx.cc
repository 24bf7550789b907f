// Tiles of MatmulNBits on AMX: 16 rows times 16 columns a step, the sums of a group scaled in
// vector registers.
//
// Bit for bit what multiply_tile computes. Nothing with AMX instructions runs before
// AmxInt8Available() has said yes.
#include "kernels/matmul_nbits/matmul_nbits_vector.h"

#if defined(__x86_64__) && defined(__linux__)
#include <immintrin.h>

#include "kernels/amx.h"

// From here on only: templates of the headers above must stay code for every CPU.
#pragma GCC push_options
#pragma GCC target("avx512f,amx-tile,amx-int8")

namespace octet::kernels {
namespace {

thread_local int64_t step_of_thread = 0;

// Sums of group first + C for 16 rows and 16 columns into tile C, operands through tiles A and B. A
// macro, because tile numbers must be literals.
#define OCTET_SUM_GROUP(C, A, B)                                             \
  if (C < count) {                                                           \
    const int64_t depth = first + C + 1 == groups ? last_depth : tile.group; \
    _tile_zero(C);                                                           \
    int64_t k = 0;                                                           \
    do {                                                                     \
      _tile_loadd(A, s + k, src_stride);                                     \
      _tile_loadd(B, w + k / 4 * quad_bytes, quad_bytes);                    \
      _tile_dpbusd(C, A, B);                                                 \
      k += step;                                                             \
    } while (kSteps == Steps::kMany && k < depth);                           \
    s += depth;                                                              \
    w += depth / 4 * quad_bytes;                                             \
  }

enum class Steps : uint8_t { kOne, kMany };  // AMX steps of a group

// real[row] += scale * sums[row] for 16 rows of 16 columns.
inline void Scale(const int32_t* sums, const float* scales, __m512 (&real)[16]) {
  const __m512 scale = _mm512_loadu_ps(scales);
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) {
    const __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(sums + 16 * r));
    real[r] = _mm512_fmadd_ps(sum, scale, real[r]);
  }
}

template <Steps kSteps>
void MultiplyBlock(const NBitsTile& tile, int64_t column, const uint8_t* src, int64_t src_stride,
                   float* acc) {
  alignas(64) int32_t sums[2][4][256];  // of four groups, alternating
  __m512 real[16];
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) real[r] = _mm512_loadu_ps(acc + r * kNBitsAccStride + column);
  const int64_t quad_bytes = tile.width * 4, step = step_of_thread;
  const int64_t groups = (tile.depth + tile.group - 1) / tile.group;
  const int64_t last_depth = tile.depth - (groups - 1) * tile.group;
  const int8_t* w = tile.weights + column * 4;
  const uint8_t* s = src;
  const float* scales = tile.scales + column;
  // Products of four groups first, then their way to vector registers: measured better than finer
  // interleaving.
  for (int64_t first = 0; first < groups; first += 4) {
    const int64_t count = groups - first < 4 ? groups - first : 4;
    OCTET_SUM_GROUP(0, 4, 6);
    OCTET_SUM_GROUP(1, 5, 7);
    OCTET_SUM_GROUP(2, 4, 6);
    OCTET_SUM_GROUP(3, 5, 7);
    int32_t(*to)[256] = sums[first / 4 % 2];
    _tile_stored(0, to[0], 64);
    if (count > 1) _tile_stored(1, to[1], 64);
    if (count > 2) _tile_stored(2, to[2], 64);
    if (count > 3) _tile_stored(3, to[3], 64);
    for (int64_t g = 0; g < count; ++g, scales += tile.width) Scale(to[g], scales, real);
  }
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) _mm512_storeu_ps(acc + r * kNBitsAccStride + column, real[r]);
}

// The same for 32 rows and 32 columns: four independent chains hide what one step of AMX takes, which groups of many steps
// cannot hide behind each other.
void MultiplyLongGroups(const NBitsTile& tile, int64_t column, const uint8_t* src, int64_t src_stride, float* acc) {
  alignas(64) int32_t sums[4][256];
  const int64_t quad_bytes = tile.width * 4, step = step_of_thread;
  const int8_t* w = tile.weights + column * 4;
  const uint8_t* second = src + 16 * src_stride;
  const float* scales = tile.scales + column;
  for (int64_t first = 0; first < tile.depth; first += tile.group, scales += tile.width) {
    const int64_t end = first + tile.group < tile.depth ? first + tile.group : tile.depth;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = first; k < end; k += step) {
      _tile_loadd(4, src + k, src_stride);
      _tile_loadd(5, second + k, src_stride);
      _tile_loadd(6, w + k / 4 * quad_bytes, quad_bytes);
      _tile_loadd(7, w + k / 4 * quad_bytes + 64, quad_bytes);
      _tile_dpbusd(0, 4, 6);
      _tile_dpbusd(1, 4, 7);
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    }
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
    for (int64_t i = 0; i < 4; ++i) {
      float* to = acc + i / 2 * 16 * kNBitsAccStride + column + i % 2 * 16;
      __m512 real[16];
#pragma GCC unroll 16
      for (int r = 0; r < 16; ++r) real[r] = _mm512_loadu_ps(to + r * kNBitsAccStride);
      Scale(sums[i], scales + i % 2 * 16, real);
#pragma GCC unroll 16
      for (int r = 0; r < 16; ++r) _mm512_storeu_ps(to + r * kNBitsAccStride, real[r]);
    }
  }
}

constexpr int64_t kLongGroup = 4;  // AMX steps

}  // namespace

void NBitsAmxBegin(int64_t step) {
  const AmxTileConfig config(16, step);
  _tile_loadconfig(&config);
  step_of_thread = step;
}

void NBitsAmxEnd() { _tile_release(); }

void NBitsAmxMultiplyTile(const NBitsTile& tile, const uint8_t* src, int64_t src_stride,
                          int64_t rows, float* acc) {
  const auto multiply =
      tile.group == step_of_thread ? MultiplyBlock<Steps::kOne> : MultiplyBlock<Steps::kMany>;
  NBitsPrefetch prefetch(tile, tile.width / 16 * ((rows + 15) / 16));
  // Blocks of 32 by 32 first, as far as they go.
  const bool by_four = tile.group >= kLongGroup * step_of_thread;
  const int64_t wide = by_four ? tile.width / 32 * 32 : 0, high = by_four ? (rows + 15) / 32 * 32 : 0;
  for (int64_t column = 0; column < wide; column += 32) {
    for (int64_t row = 0; row < high; row += 32) {
      MultiplyLongGroups(tile, column, src + row * src_stride, src_stride, acc + row * kNBitsAccStride);
      for (int i = 0; i < 4; ++i) prefetch.Advance();
    }
  }
  for (int64_t column = 0; column < tile.width; column += 16) {
    for (int64_t row = column < wide ? high : 0; row < rows; row += 16) {
      multiply(tile, column, src + row * src_stride, src_stride, acc + row * kNBitsAccStride);
      prefetch.Advance();
    }
  }
}

}  // namespace octet::kernels

#undef OCTET_SUM_GROUP
#pragma GCC pop_options
#else

namespace octet::kernels {
void NBitsAmxBegin(int64_t) {}
void NBitsAmxEnd() {}
void NBitsAmxMultiplyTile(const NBitsTile&, const uint8_t*, int64_t, int64_t, float*) {}
}  // namespace octet::kernels

#endif
