// Decoding and multiplying on AMX.
#include "kernels/conv/conv_amx_codes.h"

#if defined(__x86_64__) && defined(__linux__)
#include <immintrin.h>

#include <algorithm>
#include <optional>

#include "kernels/amx.h"

// From here on only: templates of the headers above must stay code for every CPU.
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-int8")

namespace octet::kernels {
namespace {

constexpr int64_t kSums = 256;              // of a tile
constexpr int64_t kGroup = kAmxMostTiles;   // one accumulator each
constexpr int64_t kColumns = kAmxUnitOutputs / 16;
constexpr int64_t kRingTiles = 8;           // tiles of weights that are kept
constexpr int64_t kLead = 3;                // tiles of weights decoded ahead: tile loads wait for stores to reach L1
constexpr int64_t kAccSums = kColumns * kGroup * kSums;                    // accumulators of a group of tiles
constexpr int64_t kAccBytes = (2 * kAccSums + kGroup * kSums) * 4;         // of two groups, and scratch

int64_t TileBytes(const AmxWeights& w) { return w.quads * CodeStream::kChunk; }

// Decodes the tiles of a share in the order in which they are multiplied, a little ahead of the product, into a ring.
class Decoder {
 public:
  // Tiles [first, end) of the stream.
  Decoder(const AmxWeights& w, int64_t first, int64_t end, uint8_t* ring)
      : w_(w), decode_(ChooseCodeStreamDecode()), blocks_(w.quads / w.stream->chunks_per_block()), at_(first), end_(end),
        tile_bytes_(TileBytes(w)), ring_(ring) {
    for (int64_t i = 0; i < kLead; ++i) DecodeNext();
  }
  void DecodeNext() {
    if (at_ == end_) return;
    decode_(*w_.stream, w_.packed, at_ * blocks_, (at_ + 1) * blocks_, const_cast<int8_t*>(Tile(at_)), CodeStream::kChunk);
    ++at_;
  }
  const int8_t* Tile(int64_t i) const { return reinterpret_cast<const int8_t*>(ring_ + i % kRingTiles * tile_bytes_); }

 private:
  const AmxWeights& w_;
  CodeStreamDecodeFn decode_;
  int64_t blocks_, at_, end_, tile_bytes_;
  uint8_t* ring_;
};

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
      const __m512i correction = f.corrections == nullptr ? _mm512_setzero_si512() : _mm512_maskz_loadu_epi32(lanes[j], f.corrections + at);
      _mm512_store_si512(start[j], _mm512_sub_epi32(_mm512_setzero_si512(), correction));
    }
    columns = std::min(kColumns, (f.outputs - output + 15) / 16);
    bytes = static_cast<__mmask64>(lanes[0]) | static_cast<__mmask64>(lanes[1]) << 16 | static_cast<__mmask64>(lanes[2]) << 32 |
            static_cast<__mmask64>(lanes[3]) << 48;
  }
  __m512 scale[kColumns], bias[kColumns];
  alignas(64) int32_t start[kColumns][16];  // of accumulators
  __mmask16 lanes[kColumns];
  __mmask64 bytes;
  int64_t columns = kColumns;  // with outputs
};

enum class Tail : uint8_t { kBare, kFull };  // bare: no post-ops and a zero point of 0

// Rows [begin, end) of a group of tiles from their accumulators [column][kGroup][kSums].
template <AmxFinish::To kTo, Tail kTail>
void FinishRows(const AmxFinish& f, const UnitConstants& c, const int32_t* acc, const int32_t* pixels, int64_t begin, int64_t end, uint8_t* dst) {
  constexpr bool kF32 = kTo == AmxFinish::To::kF32;
  const __m512 inverse = _mm512_set1_ps(f.inverse_scale), zero_point = _mm512_set1_ps(f.zero_point);
  const __m512 highest = _mm512_set1_ps(kTo == AmxFinish::To::kS8 ? 127.0f : 255.0f);
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  for (int64_t r = begin; r < end; ++r) {
    if (pixels[r] < 0) continue;
    uint8_t* const to = dst + pixels[r] * f.outputs * (kF32 ? 4 : 1);
    __m512i q[kColumns];
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) {
      q[j] = _mm512_setzero_si512();
      if (j >= c.columns) continue;
      const __m512i sum = _mm512_load_si512(acc + j * kGroup * kSums + r * 16);
      __m512 x = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), c.scale[j]), c.bias[j]);  // rounded twice, as oneDNN does
      void* const at = to + j * (kF32 ? 64 : 16);
      if constexpr (kTail == Tail::kFull) {
        for (const AmxFinish::Step& step : f.steps) x = Apply(step, x, at, c.lanes[j]);
      }
      if constexpr (kF32) {
        _mm512_mask_storeu_ps(at, c.lanes[j], x);
      } else {
        x = _mm512_mul_ps(x, inverse);
        if constexpr (kTail == Tail::kFull) x = _mm512_add_ps(x, zero_point);
        q[j] = _mm512_cvtps_epi32(_mm512_min_ps(x, highest));  // what is too low for 32 bits is the lowest number
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

using FinishFn = void (*)(const AmxFinish&, const UnitConstants&, const int32_t*, const int32_t*, int64_t, int64_t, uint8_t*);
template <Tail kTail>
constexpr FinishFn kFinish[] = {FinishRows<AmxFinish::To::kF32, kTail>, FinishRows<AmxFinish::To::kU8, kTail>,
                                FinishRows<AmxFinish::To::kS8, kTail>};

constexpr int64_t kLeastRows = 8;  // worth loading the constants for

// Finishes one group of tiles, a few rows at a time.
class Finisher {
 public:
  explicit Finisher(const AmxFinish& finish)
      : finish_(finish), fn_((finish.steps.empty() && finish.zero_point == 0 ? kFinish<Tail::kBare> : kFinish<Tail::kFull>)[static_cast<int>(finish.to)]) {}

  // Takes what is due first. All pointers live until FinishRest(); `calls` of FinishNext() are to come.
  void Start(const UnitConstants& constants, const int32_t* acc, const int32_t* pixels, int64_t rows, int64_t calls, uint8_t* dst) {
    FinishRest();
    constants_ = &constants;
    acc_ = acc;
    pixels_ = pixels;
    dst_ = dst;
    at_ = 0;
    end_ = rows;
    rows_per_call_ = std::max((rows + calls - 1) / calls, kLeastRows);
  }
  void FinishNext() {
    if (at_ < end_) FinishTo(std::min(at_ + rows_per_call_, end_));
  }
  void FinishRest() {
    if (at_ < end_) FinishTo(end_);
  }

 private:
  void FinishTo(int64_t end) {
    fn_(finish_, *constants_, acc_, pixels_, at_, end, dst_);
    at_ = end;
  }

  const AmxFinish& finish_;
  FinishFn fn_;
  const UnitConstants* constants_ = nullptr;
  const int32_t* acc_ = nullptr;
  const int32_t* pixels_ = nullptr;
  uint8_t* dst_ = nullptr;
  int64_t at_ = 0, end_ = 0, rows_per_call_ = 1;
};

// ---- products

// One panel of weights times up to four tiles of rows.
struct Product {
  const uint8_t* src[kGroup];
  int64_t row_bytes;
  const int64_t* src_offsets;
  int64_t steps;
  int64_t first_tile;  // of the decoder
  const int32_t* start;  // [16], of all rows
  int32_t* acc;          // [kGroup][kSums]
  int32_t* second;       // of the same form, scratch
};

// What vector units do while tiles are multiplied.
struct Background {
  void Advance() {
    decoder.DecodeNext();
    finisher.FinishNext();
  }
  Decoder decoder;
  Finisher finisher;
};

// A macro, because tile numbers must be literals.
#define OCTET_MULTIPLY(ACC, SRC, I)                                \
  {                                                                \
    _tile_loadd(SRC, p.src[I] + from, p.row_bytes);                \
    _tile_dpbusd(ACC, SRC, 6);                                     \
  }

// Up to two tiles of rows have two accumulators each, for even and odd steps: one would wait for itself.
template <int kM>
void Multiply(const Product& p, Background& background) {
  _tile_loadd(0, p.start, 0);
  if constexpr (kM == 1) _tile_zero(1);
  if constexpr (kM > 1) _tile_loadd(1, p.start, 0);
  if constexpr (kM <= 2) {
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(2, p.start, 0);
    _tile_loadd(3, p.start, 0);
  }
  for (int64_t s = 0; s < p.steps; ++s) {
    int64_t from = p.src_offsets[s];
    _tile_loadd(6, background.decoder.Tile(p.first_tile + s), 64);
    OCTET_MULTIPLY(0, 4, 0)
    if constexpr (kM > 1) OCTET_MULTIPLY(1, 5, 1)
    if constexpr (kM > 2) OCTET_MULTIPLY(2, 4, 2)
    if constexpr (kM > 3) OCTET_MULTIPLY(3, 5, 3)
    background.Advance();
    if constexpr (kM <= 2) {
      if (++s == p.steps) break;
      from = p.src_offsets[s];
      _tile_loadd(6, background.decoder.Tile(p.first_tile + s), 64);
      OCTET_MULTIPLY(2, 4, 0)
      if constexpr (kM > 1) OCTET_MULTIPLY(3, 5, 1)
      background.Advance();
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

using MultiplyFn = void (*)(const Product&, Background&);
constexpr MultiplyFn kMultiply[kGroup] = {Multiply<1>, Multiply<2>, Multiply<3>, Multiply<4>};

// ---- one thread's share

class Worker {
 public:
  Worker(const AmxWeights& weights, const AmxRows& rows, const AmxFinish& finish, const AmxShare& share)
      : w_(weights),
        rows_(rows),
        finish_(finish),
        share_(share),
        first_unit_(share.begin / rows.tiles()),
        end_unit_((share.end - 1) / rows.tiles() + 1),
        panels_((finish.outputs + 15) / 16),
        acc_(reinterpret_cast<int32_t*>(share.scratch)),
        background_{Decoder(weights, first_unit_ * kColumns * weights.steps(), std::min(end_unit_ * kColumns, panels_) * weights.steps(),
                            share.scratch + kAccBytes),
                    Finisher(finish)} {}

  void Run() {
    for (int64_t unit = first_unit_; unit < end_unit_; ++unit) Unit(unit);
    background_.finisher.FinishRest();
  }

 private:
  void Unit(int64_t unit) {
    const int64_t tiles = rows_.tiles(), columns = std::min(kColumns, panels_ - unit * kColumns);
    const int64_t first = std::max<int64_t>(share_.begin - unit * tiles, 0), m = std::min(share_.end - unit * tiles, tiles) - first;
    // The others belong to the unit before, whose rows may not be finished yet.
    const UnitConstants& constants = constants_[unit % 2].emplace(finish_, unit * kAmxUnitOutputs);
    int32_t* const acc = acc_ + unit % 2 * kAccSums;
    Product p;
    for (int64_t i = 0; i < m; ++i) p.src[i] = share_.rows + rows_.tile_offsets[static_cast<size_t>(first + i)];
    p.row_bytes = rows_.row_bytes;
    p.src_offsets = w_.src_offsets.data();
    p.steps = w_.steps();
    p.second = acc_ + 2 * kAccSums;
    for (int64_t j = 0; j < columns; ++j) {
      p.first_tile = (unit * kColumns + j) * w_.steps();
      p.acc = acc + j * kGroup * kSums;
      p.start = constants.start[j];
      kMultiply[m - 1](p, background_);
    }
    const int64_t element = finish_.to == AmxFinish::To::kF32 ? 4 : 1;
    background_.finisher.Start(constants, acc, rows_.pixels.data() + first * 16, m * 16, columns * w_.steps(),
                               static_cast<uint8_t*>(share_.dst) + unit * kAmxUnitOutputs * element);
  }

  const AmxWeights& w_;
  const AmxRows& rows_;
  const AmxFinish& finish_;
  const AmxShare& share_;
  int64_t first_unit_, end_unit_, panels_;
  int32_t* acc_;
  Background background_;
  std::optional<UnitConstants> constants_[2];
};

}  // namespace

int64_t AmxScratchBytes(const AmxWeights& weights) { return kAccBytes + kRingTiles * TileBytes(weights); }

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
int64_t AmxScratchBytes(const AmxWeights&) { return 0; }
void MultiplyAmxCodes(const AmxWeights&, const AmxRows&, const AmxFinish&, const AmxShare&) {}
}  // namespace octet::kernels

#endif
