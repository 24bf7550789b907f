// Decoding and multiplying on AMX.
#include "kernels/conv/conv_amx_codes.h"

#if defined(__x86_64__) && defined(__linux__)
#include <immintrin.h>

#include <algorithm>
#include <cstdlib>

#include "kernels/amx.h"

// From here on only: templates of the headers above must stay code for every CPU.
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-int8")

namespace octet::kernels {
namespace {

constexpr int64_t kSums = 256;              // of a tile
constexpr int64_t kGroup = 4;               // source tiles that share a weights tile: one accumulator each
constexpr int64_t kColumns = kAmxUnitOutputs / 16;
constexpr int64_t kRingTiles = 8;                // tiles of weights that are kept when each is used once
constexpr int64_t kAccBytes = (kColumns + 1) * kGroup * kSums * 4;

int64_t TileBytes(const AmxWeights& w) { return w.quads * CodeStream::kChunk; }

// Decodes the tiles of a share in the order in which they are multiplied, one ahead of the product.
class Decoder {
 public:
  enum class Keep : uint8_t { kRing, kUnit };  // for one use, or until Restart()

  Decoder(const AmxWeights& w, Keep keep, int64_t panel, uint8_t* buffer)
      : w_(w),
        decode_(ChooseCodeStreamDecode()),
        blocks_(w.quads / w.stream->chunks_per_block()),
        at_(panel * w.steps() * blocks_),
        buffer_(buffer),
        tile_bytes_(TileBytes(w)),
        mask_(keep == Keep::kRing ? kRingTiles - 1 : -1) {}

  // The next tile is the first of `tiles` more.
  void Restart(int64_t tiles) {
    filled_ = mask_ == -1 ? 0 : filled_;
    left_ = tiles;
    DecodeNext();
  }
  void DecodeNext() {
    if (left_ == 0) return;
    --left_;
    decode_(*w_.stream, w_.packed, at_, at_ + blocks_, reinterpret_cast<int8_t*>(buffer_ + (filled_++ & mask_) * tile_bytes_),
            CodeStream::kChunk);
    at_ += blocks_;
  }
  const uint8_t* Tile(int64_t i) const { return buffer_ + (i & mask_) * tile_bytes_; }

 private:
  const AmxWeights& w_;
  CodeStreamDecodeFn decode_;
  int64_t blocks_, at_;  // of the stream
  uint8_t* buffer_;
  int64_t tile_bytes_, mask_;
  int64_t filled_ = 0, left_ = 0;
};

// One panel of weights times up to four tiles of rows.
struct Product {
  const uint8_t* src[kGroup];
  int64_t row_bytes;
  const int64_t* src_offsets;
  int64_t steps;
  int64_t first_tile;  // of the decoder
  int32_t* acc;        // [kGroup][kSums]
  int32_t* second;     // of the same form, scratch
};

enum class Weights : uint8_t { kDecoded, kToDecode };

// A macro, because tile numbers must be literals.
#define OCTET_MULTIPLY(ACC, SRC, I)                                \
  {                                                                \
    _tile_loadd(SRC, p.src[I] + from, p.row_bytes);                \
    _tile_dpbusd(ACC, SRC, 6);                                     \
  }

// Up to two tiles of rows have two accumulators each, for even and odd steps: one would wait for itself.
template <int kM, Weights kWeights>
void Multiply(const Product& p, Decoder& decoder) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < p.steps; ++s) {
    int64_t from = p.src_offsets[s];
    _tile_loadd(6, decoder.Tile(p.first_tile + s), 64);
    OCTET_MULTIPLY(0, 4, 0)
    if constexpr (kM > 1) OCTET_MULTIPLY(1, 5, 1)
    if constexpr (kM > 2) OCTET_MULTIPLY(2, 4, 2)
    if constexpr (kM > 3) OCTET_MULTIPLY(3, 5, 3)
    if constexpr (kWeights == Weights::kToDecode) decoder.DecodeNext();
    if constexpr (kM <= 2) {
      if (++s == p.steps) break;
      from = p.src_offsets[s];
      _tile_loadd(6, decoder.Tile(p.first_tile + s), 64);
      OCTET_MULTIPLY(2, 4, 0)
      if constexpr (kM > 1) OCTET_MULTIPLY(3, 5, 1)
      if constexpr (kWeights == Weights::kToDecode) decoder.DecodeNext();
    }
  }
  _tile_stored(0, p.acc, 64);
  if constexpr (kM > 1) _tile_stored(1, p.acc + kSums, 64);
  if constexpr (kM > 2) {
    _tile_stored(2, p.acc + 2 * kSums, 64);
    if constexpr (kM > 3) _tile_stored(3, p.acc + 3 * kSums, 64);
    return;
  }
  _tile_stored(2, p.second, 64);
  if constexpr (kM > 1) _tile_stored(3, p.second + kSums, 64);
  for (int64_t i = 0; i < kM * kSums; i += 16) {
    _mm512_store_si512(p.acc + i, _mm512_add_epi32(_mm512_load_si512(p.acc + i), _mm512_load_si512(p.second + i)));
  }
}

#undef OCTET_MULTIPLY

using MultiplyFn = void (*)(const Product&, Decoder&);
constexpr MultiplyFn kMultiply[2][kGroup] = {
    {Multiply<1, Weights::kDecoded>, Multiply<2, Weights::kDecoded>, Multiply<3, Weights::kDecoded>, Multiply<4, Weights::kDecoded>},
    {Multiply<1, Weights::kToDecode>, Multiply<2, Weights::kToDecode>, Multiply<3, Weights::kToDecode>, Multiply<4, Weights::kToDecode>}};

// ---- what becomes of sums

inline __m512 Add(__m512 x, const AmxFinish::Step& step, __m512 residual) {
  return _mm512_fmadd_ps(_mm512_sub_ps(residual, _mm512_set1_ps(step.beta)), _mm512_set1_ps(step.alpha), x);
}

inline __m512 Apply(const AmxFinish::Step& step, __m512 x, const void* dst, __mmask16 lanes) {
  switch (step.op) {
    case AmxFinish::Op::kRelu:
      return _mm512_max_ps(x, _mm512_setzero_ps());
    case AmxFinish::Op::kLeakyRelu:
      return _mm512_mask_mul_ps(x, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OS), x, _mm512_set1_ps(step.alpha));
    case AmxFinish::Op::kClip:
      return _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(step.alpha)), _mm512_set1_ps(step.beta));
    case AmxFinish::Op::kAddF32:
      return Add(x, step, _mm512_maskz_loadu_ps(lanes, dst));
    case AmxFinish::Op::kAddU8:
      return Add(x, step, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, dst))));
    case AmxFinish::Op::kAddS8:
      return Add(x, step, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(lanes, dst))));
  }
  return x;
}

// The constants of 64 outputs, in registers.
struct UnitConstants {
  UnitConstants(const AmxFinish& f, int64_t output) {
    for (int64_t j = 0; j < kColumns; ++j) {
      const int64_t at = output + j * 16, count = std::clamp<int64_t>(f.outputs - at, 0, 16);
      lanes[j] = static_cast<__mmask16>((1u << count) - 1);
      scale[j] = _mm512_maskz_loadu_ps(lanes[j], f.scales + at);
      bias[j] = f.bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(lanes[j], f.bias + at);
      correction[j] = f.corrections == nullptr ? _mm512_setzero_si512() : _mm512_maskz_loadu_epi32(lanes[j], f.corrections + at);
    }
    bytes = static_cast<__mmask64>(lanes[0]) | static_cast<__mmask64>(lanes[1]) << 16 | static_cast<__mmask64>(lanes[2]) << 32 |
            static_cast<__mmask64>(lanes[3]) << 48;
  }
  __m512 scale[kColumns], bias[kColumns];
  __m512i correction[kColumns];
  __mmask16 lanes[kColumns];
  __mmask64 bytes;
};

enum class PostOps : uint8_t { kNone, kSome };

// Rows of one tile from their accumulators [column][kGroup][kSums].
template <AmxFinish::To kTo, PostOps kPostOps>
void FinishTile(const AmxFinish& f, const UnitConstants& c, const int32_t* acc, const int32_t* pixels, int64_t rows, uint8_t* dst) {
  constexpr bool kF32 = kTo == AmxFinish::To::kF32;
  const __m512 inverse = _mm512_set1_ps(f.inverse_scale), zero_point = _mm512_set1_ps(f.zero_point);
  const __m512 highest = _mm512_set1_ps(kTo == AmxFinish::To::kS8 ? 127.0f : 255.0f);
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  for (int64_t r = 0; r < rows; ++r) {
    if (pixels[r] < 0) continue;
    uint8_t* const to = dst + pixels[r] * f.outputs * (kF32 ? 4 : 1);
    __m512i q[kColumns];
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) {
      const __m512i sum = _mm512_sub_epi32(_mm512_load_si512(acc + j * kGroup * kSums + r * 16), c.correction[j]);
      __m512 x = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), c.scale[j]), c.bias[j]);
      void* const at = to + j * (kF32 ? 64 : 16);
      if constexpr (kPostOps == PostOps::kSome) {
        for (const AmxFinish::Step& step : f.steps) x = Apply(step, x, at, c.lanes[j]);
      }
      if constexpr (kF32) {
        _mm512_mask_storeu_ps(at, c.lanes[j], x);
      } else {
        x = _mm512_min_ps(_mm512_add_ps(_mm512_mul_ps(x, inverse), zero_point), highest);
        q[j] = _mm512_cvtps_epi32(x);  // what is too low for 32 bits is the lowest number
      }
    }
    if constexpr (!kF32) {
      const bool is_signed = kTo == AmxFinish::To::kS8;
      const __m512i low = is_signed ? _mm512_packs_epi32(q[0], q[1]) : _mm512_packus_epi32(q[0], q[1]);
      const __m512i high = is_signed ? _mm512_packs_epi32(q[2], q[3]) : _mm512_packus_epi32(q[2], q[3]);
      const __m512i bytes = is_signed ? _mm512_packs_epi16(low, high) : _mm512_packus_epi16(low, high);
      _mm512_mask_storeu_epi8(to, c.bytes, _mm512_permutexvar_epi32(order, bytes));
    }
  }
}

using FinishFn = void (*)(const AmxFinish&, const UnitConstants&, const int32_t*, const int32_t*, int64_t, uint8_t*);
template <PostOps kPostOps>
constexpr FinishFn kFinish[] = {FinishTile<AmxFinish::To::kF32, kPostOps>, FinishTile<AmxFinish::To::kU8, kPostOps>,
                                FinishTile<AmxFinish::To::kS8, kPostOps>};

// ---- one thread's share

class Worker {
 public:
  Worker(const AmxWeights& weights, const AmxRows& rows, const AmxFinish& finish, const AmxShare& share)
      : w_(weights),
        rows_(rows),
        finish_(finish),
        share_(share),
        finish_tile_((finish.steps.empty() ? kFinish<PostOps::kNone> : kFinish<PostOps::kSome>)[static_cast<int>(finish.to)]),
        ring_(rows.tiles() <= kGroup),
        acc_(reinterpret_cast<int32_t*>(share.scratch)),
        decoder_(weights, ring_ ? Decoder::Keep::kRing : Decoder::Keep::kUnit, share.begin / rows.tiles() * kColumns,
                 share.scratch + kAccBytes) {}

  void Run() {
    const int64_t tiles = rows_.tiles(), panels = (finish_.outputs + 15) / 16;
    const int64_t first = share_.begin / tiles, last = (share_.end - 1) / tiles;
    int64_t done = 0;  // tiles of weights before this unit
    for (int64_t unit = first; unit <= last; ++unit) {
      const int64_t columns = std::min(kColumns, panels - unit * kColumns);
      if (!ring_) decoder_.Restart(columns * w_.steps());
      if (ring_ && unit == first) decoder_.Restart((std::min((last + 1) * kColumns, panels) - first * kColumns) * w_.steps());
      Unit(unit, columns, ring_ ? done : 0);
      done += columns * w_.steps();
    }
  }

 private:
  void Unit(int64_t unit, int64_t columns, int64_t first_weights) {
    const int64_t tiles = rows_.tiles();
    const int64_t first = std::max<int64_t>(share_.begin - unit * tiles, 0), count = std::min(share_.end - unit * tiles, tiles) - first;
    const int64_t groups = (count + kGroup - 1) / kGroup;
    const UnitConstants constants(finish_, unit * kAmxUnitOutputs);
    const int64_t element = finish_.to == AmxFinish::To::kF32 ? 4 : 1;
    auto* const dst = static_cast<uint8_t*>(share_.dst) + unit * kAmxUnitOutputs * element;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t begin = first + count * g / groups, m = first + count * (g + 1) / groups - begin;
      Product p;
      for (int64_t i = 0; i < m; ++i) p.src[i] = share_.rows + rows_.tile_offsets[static_cast<size_t>(begin + i)];
      p.row_bytes = rows_.row_bytes;
      p.src_offsets = w_.src_offsets.data();
      p.steps = w_.steps();
      p.second = acc_ + kColumns * kGroup * kSums;
      for (int64_t j = 0; j < columns; ++j) {
        p.first_tile = first_weights + j * w_.steps();
        p.acc = acc_ + j * kGroup * kSums;
        kMultiply[g == 0][m - 1](p, decoder_);
      }
      for (int64_t i = 0; i < m; ++i) {
        finish_tile_(finish_, constants, acc_ + i * kSums, rows_.pixels.data() + (begin + i) * 16, rows_.tile_rows, dst);
      }
    }
  }

  const AmxWeights& w_;
  const AmxRows& rows_;
  const AmxFinish& finish_;
  const AmxShare& share_;
  FinishFn finish_tile_;
  bool ring_;  // every weights tile is used once
  int32_t* acc_;
  Decoder decoder_;
};

}  // namespace

int64_t AmxScratchBytes(const AmxWeights& weights, const AmxRows& rows) {
  return kAccBytes + (rows.tiles() <= kGroup ? kRingTiles : kColumns * weights.steps()) * TileBytes(weights);
}

void MultiplyAmxCodes(const AmxWeights& weights, const AmxRows& rows, const AmxFinish& finish, const AmxShare& share) {
  if (share.begin >= share.end) return;
  const AmxTileConfig config(rows.tile_rows, weights.quads * 4);
  _tile_loadconfig(&config);
  Worker(weights, rows, finish, share).Run();
  _tile_release();
}

}  // namespace octet::kernels

#pragma GCC pop_options
#else

namespace octet::kernels {
int64_t AmxScratchBytes(const AmxWeights&, const AmxRows&) { return 0; }
void MultiplyAmxCodes(const AmxWeights&, const AmxRows&, const AmxFinish&, const AmxShare&) {}
}  // namespace octet::kernels

#endif
