// MatmulNBits on AMX: 16 rows times 16 columns a step, the sums of a group scaled in vector registers.
//
// Short groups are multiplied from tiles that were unpacked before; there, scaling is most of the work. Panels of long groups
// are unpacked beside the product (amx_ring-inl.h). Bit for bit what multiply_tile computes. Nothing with AMX instructions runs before
// AmxInt8Available() has said yes.
#include "kernels/matmul_nbits/matmul_nbits_vector.h"

#if defined(__x86_64__) && defined(__linux__)
#include <immintrin.h>

#include <algorithm>

#include "kernels/amx.h"

// From here on only: templates of the headers above must stay code for every CPU.
#pragma GCC push_options
#pragma GCC target("avx512f,amx-tile,amx-int8")
#include "kernels/amx_ring-inl.h"

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

// ---- panels

constexpr int64_t kLongGroup = 4;  // AMX steps that make sums worth a loop of their own
constexpr int64_t kColumns = NBitsPanels::kWidth / 16;

constexpr int64_t kMostPanels = 4;  // whose reals are kept between groups

// Blocks of columns of a share in the order in which they are multiplied: runs of at most kMostPanels items with the same rows,
// groups, items, blocks. So the source of one group stays in L1.
class BlockWalk {
 public:
  BlockWalk(const NBitsAmxShare& share, int64_t block)
      : layout_(share.layout), packed_(share.packed), panels_(share.layout->panels()), block_(block), end_(share.end) {
    StartRun(share.begin);
  }
  bool done() const { return first_item_ >= end_; }
  void Next() {
    if ((first_ += columns_) * 16 < width_) return StartBlock();
    if (++item_ < end_item_) return StartItem();
    item_ = first_item_;
    if (++group_ < layout_->groups()) return StartItem();
    StartRun(end_item_);
  }

  int64_t item() const { return item_ - first_item_; }  // of the run
  int64_t panel() const { return item_ % panels_; }
  int64_t row() const { return item_ / panels_ * kNBitsAmxRows; }
  int64_t group() const { return group_; }
  int64_t width() const { return width_; }
  int64_t depth() const { return layout_->group_depth(group_); }
  int64_t column() const { return first_ * 16; }  // of the panel
  int64_t columns() const { return columns_; }    // of the block, in tiles
  const uint8_t* record() const { return record_; }
  const uint8_t* weights() const { return record_ + first_ * 64; }
  const uint8_t* scales() const { return record_ + layout_->weight_bytes(width_, depth()) + layout_->scale_bytes(column()); }
  const uint8_t* zero_points() const { return record_ + layout_->weight_bytes(width_, depth()) + layout_->scale_bytes(width_) + column(); }

 private:
  void StartRun(int64_t item) {
    first_item_ = item_ = item;
    end_item_ = std::min(std::min(item + kMostPanels, end_), (item / panels_ + 1) * panels_);
    group_ = 0;
    if (!done()) StartItem();
  }
  void StartItem() {
    width_ = layout_->width(panel());
    record_ = packed_ + layout_->panel_offset(panel()) + group_ * layout_->record_bytes(width_, layout_->group);
    first_ = 0;
    StartBlock();
  }
  void StartBlock() { columns_ = std::min(block_, width_ / 16 - first_); }

  const NBitsPanels* layout_;
  const uint8_t* packed_;
  int64_t panels_, block_, end_;
  int64_t first_item_ = 0, end_item_ = 0, item_ = 0, group_ = 0;
  int64_t width_ = 0, first_ = 0, columns_ = 0;
  const uint8_t* record_ = nullptr;
};

// Unpacks the tiles of a share in that order: of a block steps, columns.
class PanelDecoder {
 public:
  PanelDecoder(const NBitsAmxShare& share, int64_t step, int64_t block)
      : layout_(share.layout), unpack_(share.ops->unpack_columns_of(share.layout->format)), step_(step), next_(share, block) {
    from_.layout = share.layout;
    from_.depth = step;
    StartBlock();
  }
  void operator()(int8_t* to) {
    unpack_(from_, to);
    from_.weights += 64;
    from_.zero_points += 16;
    if (++column_ < columns_) return;
    column_ = 0;
    from_.weights += step_bytes_ - columns_ * 64;
    from_.zero_points -= columns_ * 16;
    if (++at_ + kPrefetchSteps == steps_) from_.ahead += to_next_;
    if (at_ == steps_ && !next_.done()) StartBlock();
  }

 private:
  static constexpr int64_t kPrefetchSteps = 4;

  void StartBlock() {
    columns_ = next_.columns();
    steps_ = next_.depth() / step_;
    step_bytes_ = layout_->weight_bytes(next_.width(), step_);
    at_ = 0;
    from_.weights = next_.weights();
    from_.zero_points = next_.zero_points();
    from_.quad_bytes = next_.width() * 4;
    from_.ahead = std::min(kPrefetchSteps, steps_) * step_bytes_;
    next_.Next();
    // What lies behind this block is another's.
    to_next_ = next_.done() ? 0 : next_.weights() - (from_.weights + steps_ * step_bytes_);
    if (steps_ <= kPrefetchSteps) from_.ahead += to_next_;
  }

  const NBitsPanels* layout_;
  NBitsUnpackColumnsFn unpack_;
  int64_t step_;
  BlockWalk next_;
  NBitsColumns from_;
  int64_t columns_ = 0, steps_ = 0, step_bytes_ = 0, to_next_ = 0;
  int64_t at_ = 0, column_ = 0;  // steps and columns done
};

// Sums of one group in a block of columns, on their way to reals, a few rows at a time; after the last group to dst.
struct Scaling {
  const int32_t* sums = nullptr;  // [columns], of all tiles of rows
  int64_t sums_column = 0;        // between columns
  const uint8_t* scales = nullptr;
  int64_t columns = 0;
  float* real = nullptr;  // [rows][columns * 16]
  bool first = false, last = false;
  int64_t column = 0, row = 0, rows = 0;  // of dst
};

class Scaler {
 public:
  Scaler(ScaleFormat format, NBitsAmxFinish finish) : format_(format), finish_(finish) {}
  // What comes next; only after Rest(). Filled in place: copies of fields that were just written wait for all stores.
  Scaling& what() { return what_; }
  // `calls` of Next() are to come.
  void Start(int64_t calls) {
    at_ = 0;
    per_call_ = std::max((what_.rows + calls - 1) / calls, kLeastRows);
    for (int64_t j = 0; j < what_.columns; ++j) {
      scale_[j] = format_ == ScaleFormat::kF16
                      ? _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(what_.scales + j * 32)))
                      : _mm512_loadu_ps(what_.scales + j * 64);
    }
  }
  void Next() {
    if (at_ < what_.rows) To(std::min(at_ + per_call_, what_.rows));
  }
  void Rest() {
    if (at_ < what_.rows) To(what_.rows);
  }

 private:
  static constexpr int64_t kLeastRows = 4;  // worth a call

  void To(int64_t end) {
    switch (what_.columns) {
      case 1: Rows<1>(end); break;
      case 2: Rows<2>(end); break;
      case 3: Rows<3>(end); break;
      case 4: Rows<4>(end); break;
    }
    if (what_.last) finish_(what_.column, what_.columns * 16, what_.row + at_, end - at_, what_.real + at_ * what_.columns * 16);
    at_ = end;
  }
  template <int kN>
  void Rows(int64_t end) {
    const int32_t* const sums = what_.sums;
    const int64_t sums_column = what_.sums_column;
    float* real = what_.real + at_ * kN * 16;
    const bool first = what_.first;
    __m512 scale[kN];
    for (int j = 0; j < kN; ++j) scale[j] = scale_[j];
    for (int64_t at = at_; at < end; ++at, real += kN * 16) {
#pragma GCC unroll 4
      for (int j = 0; j < kN; ++j) {
        const __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(sums + at * 16 + j * sums_column));
        const __m512 before = first ? _mm512_setzero_ps() : _mm512_load_ps(real + j * 16);
        _mm512_store_ps(real + j * 16, _mm512_fmadd_ps(sum, scale[j], before));
      }
    }
  }

  ScaleFormat format_;
  NBitsAmxFinish finish_;
  Scaling what_;
  int64_t at_ = 0, per_call_ = 1;
  __m512 scale_[kColumns];
};

// What vector units do while tiles are multiplied.
struct Background {
  void Advance() {
    ring.DecodeNext();
    scaler.Next();
  }
  AmxRing<PanelDecoder> ring;
  Scaler scaler;
};

constexpr int64_t kBlockSums = 4 * kAmxSums;  // of a block of columns: tiles of rows times columns
constexpr int64_t kItemReals = kNBitsAmxRows * NBitsPanels::kWidth;

class PanelWorker {
 public:
  PanelWorker(const NBitsAmxShare& share, int64_t step, NBitsAmxFinish finish)
      : share_(share), layout_(*share.layout), step_(step), block_columns_(AmxColumns((std::min(share.rows, kNBitsAmxRows) + 15) / 16)),
        sums_(reinterpret_cast<int32_t*>(share.scratch)), reals_(reinterpret_cast<float*>(sums_ + 2 * kBlockSums)),
        background_{AmxRing<PanelDecoder>(PanelDecoder(share, step, block_columns_), Tiles(), step * 16, kAmxRingTiles,
                                          reinterpret_cast<uint8_t*>(reals_ + 2 * kMostPanels * kItemReals)),
                    Scaler(share.layout->scales, finish)} {
    product_.weights = background_.ring.begin();
    product_.start = kZeros;
    product_.start_bytes = product_.start_tile = product_.start_column = 0;
    product_.row_bytes = share.src_stride;
    for (int64_t s = 0; s * step < layout_.group; ++s) offsets_[s] = s * step;
    product_.src_offsets = offsets_;
  }

  void Run() {
    for (BlockWalk at(share_, block_columns_); !at.done(); at.Next()) Block(at);
    background_.scaler.Rest();
  }

 private:
  int64_t Tiles() const {
    int64_t columns = 0;
    for (int64_t item = share_.begin; item < share_.end; ++item) columns += layout_.width(item % layout_.panels()) / 16;
    return columns * (layout_.depth / step_);
  }

  void Block(const BlockWalk& at) {
    const int64_t rows = std::min(kNBitsAmxRows, share_.rows - at.row()), tiles = (rows + 15) / 16;
    for (int64_t i = 0; i < tiles; ++i) {
      product_.src[i] = share_.src + (at.row() + i * 16) * share_.src_stride + at.group() * layout_.group;
    }
    product_.steps = at.depth() / step_;
    product_.acc = sums_ + parity_ * kBlockSums;
    product_.acc_column = tiles * kAmxSums;
    parity_ ^= 1;
    AmxMultiplyBy(tiles, at.columns(), product_, background_);
    background_.scaler.Rest();
    Scaling& next = background_.scaler.what();
    next.sums = product_.acc;
    next.sums_column = product_.acc_column;
    next.scales = at.scales();
    next.columns = at.columns();
    next.first = at.group() == 0;
    next.last = at.group() + 1 == layout_.groups();
    if (at.item() == 0 && at.column() == 0 && next.first) run_ ^= 1;  // reals of the run before may be on their way
    next.real = reals_ + (run_ * kMostPanels + at.item()) * kItemReals + at.column() * rows;
    next.column = at.panel() * NBitsPanels::kWidth + at.column();
    next.row = at.row();
    next.rows = rows;
    background_.scaler.Start(product_.steps * at.columns());
  }

  alignas(64) static constexpr int32_t kZeros[16] = {};

  const NBitsAmxShare& share_;
  const NBitsPanels& layout_;
  int64_t step_, block_columns_, parity_ = 0, run_ = 0;
  int32_t* sums_;
  float* reals_;
  int64_t offsets_[MatmulNBitsParams::kMaxGroup / 16];
  AmxProduct product_;
  Background background_;
};

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
  for (int64_t column = 0; column < tile.width; column += 16) {
    for (int64_t row = 0; row < rows; row += 16) {
      multiply(tile, column, src + row * src_stride, src_stride, acc + row * kNBitsAccStride);
      prefetch.Advance();
    }
  }
}

bool NBitsAmxTakesPanels(const NBitsPanels& layout) {
  const int64_t step = AmxStep(layout.group);
  return step != 0 && layout.group >= kLongGroup * step && layout.depth % step == 0;
}

int64_t NBitsAmxScratchBytes(const NBitsPanels& layout) {
  return (2 * kBlockSums + 2 * kMostPanels * kItemReals) * 4 + kAmxRingTiles * AmxStep(layout.group) * 16;
}

void NBitsAmxMultiplyPanels(const NBitsAmxShare& share, NBitsAmxFinish finish) {
  if (share.begin >= share.end) return;
  const int64_t step = AmxStep(share.layout->group);
  NBitsAmxBegin(step);
  PanelWorker(share, step, finish).Run();
  NBitsAmxEnd();
}

}  // namespace octet::kernels

#undef OCTET_SUM_GROUP
#pragma GCC pop_options
#else

namespace octet::kernels {
void NBitsAmxBegin(int64_t) {}
void NBitsAmxEnd() {}
void NBitsAmxMultiplyTile(const NBitsTile&, const uint8_t*, int64_t, int64_t, float*) {}
bool NBitsAmxTakesPanels(const NBitsPanels&) { return false; }
int64_t NBitsAmxScratchBytes(const NBitsPanels&) { return 0; }
void NBitsAmxMultiplyPanels(const NBitsAmxShare&, NBitsAmxFinish) {}
}  // namespace octet::kernels

#endif
