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
#include "kernels/amx_ring-inl.h"

namespace octet::kernels {
namespace {

constexpr int64_t kColumns = kAmxMostColumns;
constexpr int64_t kMostSums = kAmxMostTiles * kAmxSums;  // of a block of rows in one column

// Neighbouring tiles of the stream.
struct TileRun {
  int64_t begin = 0, count = 0;
};

// The tiles of a share in the order in which they are multiplied, in runs: units, rounds, columns in blocks of `together`,
// steps, columns of a block.
class TileWalk {
 public:
  TileWalk(const AmxWeights& w, const AmxShare& share, int64_t panels, int64_t together)
      : w_(&w), columns_(share.columns), together_(together), panels_(std::min(panels, share.end * share.columns)),
        panel_(share.begin * share.columns) {
    StartUnit();
  }
  // count 0: none is left.
  TileRun Next() {
    if (panel_ >= panels_) return {};
    if (together_ == 1 && w_->round == w_->steps()) {  // as they lie
      const TileRun all{panel_ * w_->steps(), (panels_ - panel_) * w_->steps()};
      panel_ = panels_;
      return all;
    }
    TileRun run{Tile(), 1};
    for (Step(); panel_ < panels_ && Tile() == run.begin + run.count && run.count < kMostTiles; Step()) ++run.count;
    return run;
  }

 private:
  static constexpr int64_t kMostTiles = 16;  // of a run: finding it must not take long

  int64_t Tile() const { return (panel_ + first_ + column_) * w_->steps() + w_->stream_steps[static_cast<size_t>(step_)]; }
  void Step() {
    if (++column_ < block_) return;
    column_ = 0;
    if (++step_ < round_end_) return;
    first_ += block_;
    if (first_ >= unit_) {
      first_ = 0;
      round_ = round_end_;
      round_end_ = std::min(round_end_ + w_->round, w_->steps());
      if (round_ == w_->steps()) {
        panel_ += unit_;
        StartUnit();
        return;
      }
    }
    step_ = round_;
    block_ = std::min(together_, unit_ - first_);
  }
  void StartUnit() {
    unit_ = std::min(columns_, panels_ - panel_);
    block_ = std::min(together_, unit_);
    round_ = step_ = 0;
    round_end_ = std::min(w_->round, w_->steps());
  }

  const AmxWeights* w_;
  int64_t columns_, together_, panels_, panel_;
  int64_t unit_ = 0, round_ = 0, round_end_ = 0, first_ = 0, block_ = 0, step_ = 0, column_ = 0;
};

// Few instructions a tile: what does not fit into the CPU's window beside the product delays it.
class Decode {
 public:
  Decode(const AmxWeights& w, const TileWalk& walk)
      : stream_(w.stream), packed_(w.packed), decode_(ChooseCodeStreamDecode()), blocks_(w.quads / w.stream->chunks_per_block()), walk_(walk) {
    next_ = walk_.Next();
    StartRun();
  }
  void operator()(int8_t* to) {
    decode_(*stream_, packed_, block_, block_ + blocks_, to, CodeStream::kChunk);
    block_ += blocks_;
    if (block_ == end_) StartRun();
  }

 private:
  static constexpr int64_t kPrefetchBytes = 1024;  // what decoding fetches ahead

  void StartRun() {
    block_ = next_.begin * blocks_;
    end_ = block_ + next_.count * blocks_;
    next_ = walk_.Next();
    if (next_.begin * blocks_ == end_) return;
    const uint8_t* from = packed_ + next_.begin * blocks_ * CodeStream::kChunk;
    for (int64_t i = 0; i < std::min(next_.count * blocks_ * CodeStream::kChunk, kPrefetchBytes); i += 64) __builtin_prefetch(from + i);
  }

  const CodeStream* stream_;
  const uint8_t* packed_;
  CodeStreamDecodeFn decode_;
  int64_t blocks_, block_ = 0, end_ = 0;
  TileWalk walk_;
  TileRun next_;
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

// The constants of a unit's outputs, in registers.
struct UnitConstants {
  UnitConstants(const AmxFinish& f, int64_t output, int64_t most_columns)
      : columns(std::min(most_columns, (f.outputs - output + 15) / 16)) {
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t at = output + j * 16, count = std::min<int64_t>(f.outputs - at, 16);
      lanes[j] = static_cast<__mmask16>((1u << count) - 1);
      scale[j] = _mm512_maskz_loadu_ps(lanes[j], f.scales + at);
      bias[j] = f.bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(lanes[j], f.bias + at);
      const __m512i correction = f.corrections == nullptr ? _mm512_setzero_si512() : _mm512_maskz_loadu_epi32(lanes[j], f.corrections + at);
      _mm512_store_si512(start[j], _mm512_sub_epi32(_mm512_setzero_si512(), correction));
    }
    bytes = static_cast<__mmask64>(lanes[0]) | static_cast<__mmask64>(lanes[1]) << 16 | static_cast<__mmask64>(lanes[2]) << 32 |
            static_cast<__mmask64>(lanes[3]) << 48;
  }
  int64_t columns;
  __m512 scale[kColumns], bias[kColumns];
  alignas(64) int32_t start[kColumns][16];  // of accumulators
  __mmask16 lanes[kColumns] = {};
  __mmask64 bytes;
};

enum class Tail : uint8_t { kBare, kFull };  // bare: no post-ops and a zero point of 0

// Rows [begin, end) of a block from their accumulators [column][kMostSums].
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
      const __m512i sum = _mm512_load_si512(acc + j * kMostSums + r * 16);
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
      if (c.columns == 1) {
        const __m512i least = _mm512_max_epi32(q[0], _mm512_setzero_si512());
        const __m128i bytes = kTo == AmxFinish::To::kS8 ? _mm512_cvtsepi32_epi8(q[0]) : _mm512_cvtusepi32_epi8(least);
        _mm_mask_storeu_epi8(to, c.lanes[0], bytes);
        continue;
      }
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

// Finishes one block of rows, a few rows at a time.
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

// ---- one thread's share

// What vector units do while tiles are multiplied.
struct Background {
  void Advance() {
    ring.DecodeNext();
    finisher.FinishNext();
  }
  AmxRing<Decode> ring;
  Finisher finisher;
};

constexpr int64_t kUnitSums = kColumns * kMostSums;

class Worker {
 public:
  Worker(const AmxWeights& weights, const AmxRows& rows, const AmxFinish& finish, const AmxShare& share)
      : w_(weights),
        rows_(rows),
        finish_(finish),
        share_(share),
        panels_((finish.outputs + 15) / 16),
        together_(std::min(AmxColumns(rows.tiles()), share.columns)),
        acc_(reinterpret_cast<int32_t*>(share.scratch)),
        background_{AmxRing<Decode>(Decode(weights, TileWalk(weights, share, panels_, together_)), Tiles(), weights.tile_bytes(),
                                    kAmxRingTiles, share.scratch + 2 * kUnitSums * 4),
                    Finisher(finish)} {
    product_.weights = background_.ring.begin();
    product_.row_bytes = rows.row_bytes;
    product_.acc_column = kMostSums;
  }

  void Run() {
    for (int64_t unit = share_.begin; unit < share_.end; ++unit) Unit(unit);
    background_.finisher.FinishRest();
  }

 private:
  int64_t Tiles() const {
    return (std::min(share_.end * share_.columns, panels_) - share_.begin * share_.columns) * w_.steps();
  }

  void Unit(int64_t unit) {
    // The others belong to the unit before, whose rows may not be finished yet.
    const UnitConstants& constants = constants_[unit % 2].emplace(finish_, unit * share_.columns * 16, share_.columns);
    const bool rounds = w_.round < w_.steps();
    int32_t* const acc = acc_ + (rounds ? 0 : unit % 2 * kUnitSums);
    for (int64_t i = 0; i < rows_.tiles(); ++i) product_.src[i] = share_.rows + rows_.tile_offsets[static_cast<size_t>(i)];
    for (int64_t step = 0; step < w_.steps(); step += w_.round) Round(step, constants, acc);
    const int64_t element = finish_.to == AmxFinish::To::kF32 ? 4 : 1;
    background_.finisher.Start(constants, acc, rows_.pixels.data(), rows_.tiles() * 16, constants.columns * w_.steps(),
                               static_cast<uint8_t*>(share_.dst) + unit * share_.columns * 16 * element);
    if (rounds) background_.finisher.FinishRest();  // one set of sums: they and the source share L1
  }

  void Round(int64_t step, const UnitConstants& constants, int32_t* acc) {
    AmxProduct& p = product_;
    p.src_offsets = w_.src_offsets.data() + step;
    p.steps = std::min(w_.round, w_.steps() - step);
    for (int64_t j = 0; j < constants.columns; j += together_) {
      p.acc = acc + j * kMostSums;
      p.start = step == 0 ? constants.start[j] : p.acc;
      p.start_bytes = step == 0 ? 0 : 64;
      p.start_tile = step == 0 ? 0 : kAmxSums;
      p.start_column = step == 0 ? 16 : kMostSums;
      AmxMultiplyBy(rows_.tiles(), std::min(together_, constants.columns - j), p, background_);
    }
  }

  const AmxWeights& w_;
  const AmxRows& rows_;
  const AmxFinish& finish_;
  const AmxShare& share_;
  int64_t panels_, together_;
  int32_t* acc_;
  AmxProduct product_;
  Background background_;
  std::optional<UnitConstants> constants_[2];
};

}  // namespace

int64_t AmxScratchBytes(const AmxWeights& weights) { return 2 * kUnitSums * 4 + kAmxRingTiles * weights.tile_bytes(); }

void PrefetchAmxCodes(const AmxWeights& weights, const AmxShare& share) {
  constexpr int64_t kBytes = 16 << 10;
  const int64_t tile_bytes = weights.quads / weights.stream->chunks_per_block() * CodeStream::kChunk;
  const int64_t begin = share.begin * share.columns * weights.steps() * tile_bytes;
  const int64_t end = std::min(begin + kBytes, weights.stream->records_offset());
  for (int64_t i = begin; i < end; i += CodeStream::kChunk) __builtin_prefetch(weights.packed + i, 0, 2);
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
int64_t AmxScratchBytes(const AmxWeights&) { return 0; }
void PrefetchAmxCodes(const AmxWeights&, const AmxShare&) {}
void MultiplyAmxCodes(const AmxWeights&, const AmxRows&, const AmxFinish&, const AmxShare&) {}
}  // namespace octet::kernels

#endif
