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

constexpr int64_t kTileBytes = 1024, kChunk = CodeStream::kChunk;
constexpr int64_t kPieceChunks = 16;  // decoded between two steps: a tile

int64_t SegmentBytes() {
  static const int64_t b = getenv("SEG") ? atoll(getenv("SEG")) : 32 << 10;
  return b;
}

int64_t SegmentSteps(const AmxWeights& w) {
  return std::max<int64_t>(SegmentBytes() / (w.step_bytes * w.block), 1);
}

// A buffer holds whole blocks of the stream around the weights of a segment, and what the last step reads behind them.
int64_t BufferBytes(const AmxWeights& w) {
  const int64_t most = std::min(SegmentSteps(w) * w.step_bytes * w.block, w.block_bytes);
  return (most + 2 * w.stream->chunks_per_block() * kChunk + 16 * w.block * 4 + 63) / 64 * 64;
}

int64_t Tiles(const AmxRows& rows) { return static_cast<int64_t>(rows.tile_offsets.size()); }

// Steps [first, last) of a block of outputs and where they lie decoded.
struct Segment {
  int64_t block = 0;
  int64_t first = 0;
  int64_t last = 0;
};

// Decodes a segment piece by piece, in step with something else.
class Decoder {
 public:
  explicit Decoder(const AmxWeights& w) : w_(w), decode_(ChooseCodeStreamDecode()), per_block_(w.stream->chunks_per_block()) {}

  // Decodes `s` into `buffer` during the next `calls` calls of Advance().
  void Start(const Segment& s, uint8_t* buffer, int64_t calls) {
    const int64_t end_offset = s.last < static_cast<int64_t>(w_.steps.size()) ? w_.steps[static_cast<size_t>(s.last)].weights_offset : w_.block_bytes;
    const int64_t begin = (s.block * w_.block_bytes + w_.steps[static_cast<size_t>(s.first)].weights_offset) / kChunk;
    const int64_t end = (s.block * w_.block_bytes + end_offset) / kChunk;
    at_ = begin / per_block_;
    end_ = (end + per_block_ - 1) / per_block_;
    // The stream's first block would lie here.
    origin_ = reinterpret_cast<uintptr_t>(buffer) - static_cast<uintptr_t>(at_ * per_block_ * kChunk);
    weights_ = reinterpret_cast<const int8_t*>(buffer + (begin - at_ * per_block_) * kChunk);
    piece_ = std::max<int64_t>(kPieceChunks / per_block_, 1);
    credit_ = 0;
    gain_ = end_ - at_;
    price_ = piece_ * std::max<int64_t>(calls, 1);
  }
  void Advance() {
    credit_ += gain_;
    if (credit_ < price_) return;
    const int64_t pieces = credit_ / price_;
    credit_ -= pieces * price_;
    Decode(pieces * piece_);
  }
  const int8_t* Finish() {
    Decode(end_ - at_);
    return weights_;
  }

 private:
  void Decode(int64_t blocks) {
    const int64_t stop = std::min(at_ + blocks, end_);
    if (at_ < stop) decode_(*w_.stream, w_.packed, at_, stop, reinterpret_cast<int8_t*>(origin_));
    at_ = stop;
  }

  const AmxWeights& w_;
  CodeStreamDecodeFn decode_;
  int64_t per_block_, at_ = 0, end_ = 0, piece_ = 1, credit_ = 0, gain_ = 0, price_ = 1;
  uintptr_t origin_ = 0;
  const int8_t* weights_ = nullptr;
};

// Operands of one group of tiles: up to four accumulators, [source tiles][weights tiles].
struct Group {
  const uint8_t* src[4];
  int64_t row_bytes;
  const int8_t* weights;   // of the segment's first step
  int64_t quad_bytes;
  const AmxStepPlan* steps;
  int64_t count;
  int32_t* acc[4];
  bool first, last;
};

// Macros, because tile numbers must be literals.
#define OCTET_OPEN(I)                       \
  if constexpr (kM * kN > I) {              \
    if (g.first) {                          \
      _tile_zero(I);                        \
    } else {                                \
      _tile_loadd(I, g.acc[I], 64);         \
    }                                       \
  }
#define OCTET_CLOSE(I) \
  if constexpr (kM * kN > I) _tile_stored(I, g.acc[I], 64);

// kN weights tiles for one source tile, kM source tiles for one weights tile, or two and two.
template <int kM, int kN>
void MultiplyGroup(const Group& g, Decoder& decoder) {
  OCTET_OPEN(0)
  OCTET_OPEN(1)
  OCTET_OPEN(2)
  OCTET_OPEN(3)
  const int64_t base = g.steps[0].weights_offset;
  for (int64_t s = 0; s < g.count; ++s) {
    const int8_t* w = g.weights + (g.steps[s].weights_offset - base);
    const int64_t from = g.steps[s].src_offset;
    if constexpr (kM == 2 && kN == 2) {
      _tile_loadd(4, g.src[0] + from, g.row_bytes);
      _tile_loadd(6, w, g.quad_bytes);
      _tile_dpbusd(0, 4, 6);
      _tile_loadd(7, w + 64, g.quad_bytes);
      _tile_dpbusd(1, 4, 7);
      _tile_loadd(5, g.src[1] + from, g.row_bytes);
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    } else if constexpr (kN == 1) {
      _tile_loadd(6, w, g.quad_bytes);
      _tile_loadd(4, g.src[0] + from, g.row_bytes);
      _tile_dpbusd(0, 4, 6);
      if constexpr (kM > 1) {
        _tile_loadd(5, g.src[1] + from, g.row_bytes);
        _tile_dpbusd(1, 5, 6);
      }
      if constexpr (kM > 2) {
        _tile_loadd(4, g.src[2] + from, g.row_bytes);
        _tile_dpbusd(2, 4, 6);
      }
      if constexpr (kM > 3) {
        _tile_loadd(5, g.src[3] + from, g.row_bytes);
        _tile_dpbusd(3, 5, 6);
      }
    } else {
      _tile_loadd(4, g.src[0] + from, g.row_bytes);
      _tile_loadd(6, w, g.quad_bytes);
      _tile_dpbusd(0, 4, 6);
      _tile_loadd(7, w + 64, g.quad_bytes);
      _tile_dpbusd(1, 4, 7);
      if constexpr (kN > 2) {
        _tile_loadd(6, w + 128, g.quad_bytes);
        _tile_dpbusd(2, 4, 6);
      }
      if constexpr (kN > 3) {
        _tile_loadd(7, w + 192, g.quad_bytes);
        _tile_dpbusd(3, 4, 7);
      }
    }
    decoder.Advance();
  }
  OCTET_CLOSE(0)
  OCTET_CLOSE(1)
  OCTET_CLOSE(2)
  OCTET_CLOSE(3)
}

#undef OCTET_OPEN
#undef OCTET_CLOSE

using GroupFn = void (*)(const Group&, Decoder&);
GroupFn GroupFnFor(int64_t m, int64_t n) {
  if (m == 2 && n == 2) return MultiplyGroup<2, 2>;
  constexpr GroupFn kTall[] = {MultiplyGroup<1, 1>, MultiplyGroup<2, 1>, MultiplyGroup<3, 1>, MultiplyGroup<4, 1>};
  constexpr GroupFn kWide[] = {MultiplyGroup<1, 1>, MultiplyGroup<1, 2>, MultiplyGroup<1, 3>, MultiplyGroup<1, 4>};
  return n == 1 ? kTall[m - 1] : kWide[n - 1];
}

// ---- what becomes of sums

template <typename Load>
__m512 Add(__m512 x, const AmxFinish::Step& step, Load load) {
  const __m512 other = _mm512_sub_ps(load, _mm512_set1_ps(step.beta));
  return _mm512_fmadd_ps(other, _mm512_set1_ps(step.alpha), x);
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

inline void Store(const AmxFinish& f, __m512 x, void* dst, __mmask16 lanes) {
  if (f.to == AmxFinish::To::kF32) {
    _mm512_mask_storeu_ps(dst, lanes, x);
    return;
  }
  x = _mm512_add_ps(_mm512_mul_ps(x, _mm512_set1_ps(f.inverse_scale)), _mm512_set1_ps(f.zero_point));
  const bool is_signed = f.to == AmxFinish::To::kS8;
  x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(is_signed ? -128.0f : 0.0f)), _mm512_set1_ps(is_signed ? 127.0f : 255.0f));
  _mm_mask_storeu_epi8(dst, lanes, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}

// 16 outputs from `output` on, of the rows of one tile.
void FinishTile(const AmxFinish& f, const int32_t* acc, const int32_t* pixels, int64_t rows, int64_t output, void* dst) {
  const int64_t count = std::min<int64_t>(f.outputs - output, 16);
  const auto lanes = static_cast<__mmask16>((1u << count) - 1);
  const __m512 scale = _mm512_maskz_loadu_ps(lanes, f.scales + output);
  const __m512 bias = f.bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(lanes, f.bias + output);
  const __m512i correction = f.corrections == nullptr ? _mm512_setzero_si512() : _mm512_maskz_loadu_epi32(lanes, f.corrections + output);
  const int64_t element = f.to == AmxFinish::To::kF32 ? 4 : 1;
  for (int64_t r = 0; r < rows; ++r) {
    if (pixels[r] < 0) continue;
    void* to = static_cast<uint8_t*>(dst) + (pixels[r] * f.outputs + output) * element;
    const __m512i sum = _mm512_sub_epi32(_mm512_load_si512(acc + 16 * r), correction);
    __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale);
    x = _mm512_add_ps(x, bias);
    for (const AmxFinish::Step& step : f.steps) x = Apply(step, x, to, lanes);
    Store(f, x, to, lanes);
  }
}

// ---- one thread's share

class Worker {
 public:
  Worker(const AmxWeights& weights, const AmxRows& rows, const AmxFinish& finish, const AmxShare& share)
      : w_(weights), rows_(rows), finish_(finish), share_(share), decoder_(weights) {
    buffers_[0] = share.scratch;
    buffers_[1] = buffers_[0] + BufferBytes(weights);
    acc_ = reinterpret_cast<int32_t*>(buffers_[1] + BufferBytes(weights));
  }

  void Run() {
    const int64_t tiles = Tiles(rows_), steps = static_cast<int64_t>(w_.steps.size());
    const int64_t last_block = (share_.end - 1) / tiles;
    const int64_t parts = (steps + SegmentSteps(w_) - 1) / SegmentSteps(w_);
    const auto segment = [&](int64_t block, int64_t part) {
      return Segment{block, steps * part / parts, steps * (part + 1) / parts};
    };
    int64_t turn = 0;
    decoder_.Start(segment(share_.begin / tiles, 0), buffers_[0], 1);
    for (int64_t block = share_.begin / tiles; block <= last_block; ++block) {
      const int64_t first = std::max<int64_t>(share_.begin - block * tiles, 0), last = std::min(share_.end - block * tiles, tiles);
      columns_ = std::min(w_.block, (finish_.outputs - block * w_.block + 15) / 16 * 16) / 16;
      for (int64_t part = 0; part < parts; ++part) {
        const Segment s = segment(block, part);
        const int8_t* decoded = decoder_.Finish();
        const bool block_ends = part + 1 == parts;
        if (!block_ends || block < last_block) {
          const int64_t calls = Calls(last - first) * (s.last - s.first);
          decoder_.Start(block_ends ? segment(block + 1, 0) : segment(block, part + 1), buffers_[++turn % 2], calls);
        }
        Multiply(s, decoded, first, last, block_ends);
      }
    }
  }

 private:
  // Steps of groups are interleaved with decoding: this many groups.
  int64_t Calls(int64_t tiles) const {
    int64_t calls = 0;
    ForEachGroup(tiles, [&](int64_t, int64_t, int64_t, int64_t) { ++calls; });
    return calls;
  }

  // body(first source tile, count, first column, count)
  template <typename Body>
  void ForEachGroup(int64_t tiles, const Body& body) const {
    const int64_t groups = (tiles + 3) / 4;
    for (int64_t i = 0; i < groups; ++i) {
      const int64_t begin = tiles * i / groups, count = tiles * (i + 1) / groups - begin;
      const int64_t wide = count == 1 ? 4 : count == 2 ? 2 : 1;
      for (int64_t n = 0; n < columns_; n += wide) body(begin, count, n, std::min(wide, columns_ - n));
    }
  }

  void Multiply(const Segment& s, const int8_t* decoded, int64_t first, int64_t last, bool block_ends) {
    ForEachGroup(last - first, [&](int64_t tile, int64_t m, int64_t column, int64_t n) {
      Group g;
      g.row_bytes = rows_.row_bytes;
      g.weights = decoded + column * 64;
      g.quad_bytes = w_.block * 4;
      g.steps = w_.steps.data() + s.first;
      g.count = s.last - s.first;
      g.first = s.first == 0;
      for (int64_t i = 0; i < m; ++i) {
        g.src[i] = share_.rows + rows_.tile_offsets[static_cast<size_t>(first + tile + i)];
        for (int64_t j = 0; j < n; ++j) g.acc[i * n + j] = acc_ + ((tile + i) * columns_ + column + j) * kTileBytes / 4;
      }
      GroupFnFor(m, n)(g, decoder_);
      if (!block_ends) return;
      for (int64_t i = 0; i < m * n; ++i) {
        FinishTile(finish_, g.acc[i], rows_.pixels.data() + (first + tile + i / n) * 16, rows_.tile_rows,
                   s.block * w_.block + (column + i % n) * 16, share_.dst);
      }
    });
  }

  const AmxWeights& w_;
  const AmxRows& rows_;
  const AmxFinish& finish_;
  const AmxShare& share_;
  Decoder decoder_;
  uint8_t* buffers_[2];
  int32_t* acc_;
  int64_t columns_ = 0;  // tiles of 16 outputs of this block
};

}  // namespace

int64_t AmxScratchBytes(const AmxWeights& weights, const AmxRows& rows) {
  return 2 * BufferBytes(weights) + Tiles(rows) * (weights.block / 16) * kTileBytes;
}

void MultiplyAmxCodes(const AmxWeights& weights, const AmxRows& rows, const AmxFinish& finish, const AmxShare& share) {
  if (share.begin >= share.end) return;
  const AmxTileConfig config(rows.tile_rows, weights.step_bytes);
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
