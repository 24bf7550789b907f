// Products on AMX of rows with weights that are decoded while the tiles of weights before them are multiplied.
//
// For files with AMX code, behind their "#pragma GCC target" and with <immintrin.h> in front of it: all of it has internal
// linkage and it includes nothing, so that no code for this CPU reaches others. Tiles are those of AmxTileConfig (kernels/amx.h).
#ifndef OCTET_KERNELS_AMX_RING_INL_H_
#define OCTET_KERNELS_AMX_RING_INL_H_

namespace octet::kernels {
namespace {

constexpr int64_t kAmxSums = 256;     // of a tile
constexpr int64_t kAmxRingTiles = 4;  // of a ring whose tiles are used once: the less of L1 they take, the more has the source
constexpr int64_t kAmxLead = 3;       // tiles decoded ahead: tile loads wait for stores to reach L1

// The tiles of a share in the order in which they are first multiplied. Decode: void(int8_t* to) decodes the next one.
template <typename Decode>
class AmxRing {
 public:
  // `tiles` of tile_bytes in all, of which memory holds `capacity`.
  AmxRing(const Decode& decode, int64_t tiles, int64_t tile_bytes, int64_t capacity, uint8_t* memory)
      : decode_(decode), left_(tiles), tile_bytes_(tile_bytes), begin_(reinterpret_cast<int8_t*>(memory)),
        end_(begin_ + capacity * tile_bytes), to_(begin_) {
    for (int64_t i = 0; i < kAmxLead; ++i) DecodeNext();
  }
  void DecodeNext() {
    if (left_ == 0) return;
    --left_;
    decode_(to_);
    to_ = After(to_);
  }
  const int8_t* begin() const { return begin_; }
  // The place of the tile behind that at `tile`.
  template <typename T>
  T* After(T* tile) const {
    tile += tile_bytes_;
    return tile == end_ ? begin_ : tile;
  }

 private:
  Decode decode_;
  int64_t left_, tile_bytes_;
  int8_t *begin_, *end_, *to_;
};

// Up to four tiles of rows times one column of tiles of weights, or fewer rows times up to four: an accumulator each.
struct AmxProduct {
  const uint8_t* src[4];       // of every tile of rows
  int64_t row_bytes;           // between rows
  const int64_t* src_offsets;  // [steps], from src on
  int64_t steps;
  const int8_t* weights;  // in the ring, [steps][columns]; afterwards behind the last
  const int32_t* start;   // of accumulators [columns][rows tiles]
  int64_t start_bytes, start_tile, start_column;  // between their rows, and sums between tiles and columns; 0: one row serves all
  int32_t* acc;           // [columns][acc_column], tiles of rows behind each other
  int64_t acc_column;
};

// Tile numbers must be literals: accumulator kN * row + column.
#define OCTET_AMX_FOR_ACC(X) X(0) X(1) X(2) X(3)
#define OCTET_AMX_START(I) \
  if constexpr (I < kM * kN) _tile_loadd(I, p.start + I / kN * p.start_tile + I % kN * p.start_column, p.start_bytes);
#define OCTET_AMX_STORE(I) \
  if constexpr (I < kM * kN) _tile_stored(I, p.acc + I % kN * p.acc_column + I / kN * kAmxSums, 64);

// background.Advance() is called once per tile of weights; its ring gives the tiles.
template <int kM, int kN, typename Background>
void AmxMultiply(AmxProduct& p, Background& background) {
  static_assert(kM * kN <= 4 && (kM == 1 || kN <= 2));
  OCTET_AMX_FOR_ACC(OCTET_AMX_START)
  const int8_t* w = p.weights;
  const uint8_t *const src0 = p.src[0], *const src1 = p.src[kM > 1 ? 1 : 0];
  [[maybe_unused]] const uint8_t *const src2 = p.src[kM > 2 ? 2 : 0], *const src3 = p.src[kM > 3 ? 3 : 0];
  const int64_t row_bytes = p.row_bytes, *offset = p.src_offsets, *const end = offset + p.steps;
  for (; offset < end; ++offset) {
    const int64_t from = *offset;
    if constexpr (kN == 1) {
      _tile_loadd(6, w, 64);
      w = background.ring.After(w);
      _tile_loadd(4, src0 + from, row_bytes);
      _tile_dpbusd(0, 4, 6);
      if constexpr (kM > 1) {
        _tile_loadd(5, src1 + from, row_bytes);
        _tile_dpbusd(1, 5, 6);
      }
      if constexpr (kM > 2) {
        _tile_loadd(4, src2 + from, row_bytes);
        _tile_dpbusd(2, 4, 6);
      }
      if constexpr (kM > 3) {
        _tile_loadd(5, src3 + from, row_bytes);
        _tile_dpbusd(3, 5, 6);
      }
      background.Advance();
    } else {
      _tile_loadd(4, src0 + from, row_bytes);
      if constexpr (kM > 1) _tile_loadd(5, src1 + from, row_bytes);
      _tile_loadd(6, w, 64);
      w = background.ring.After(w);
      _tile_dpbusd(0, 4, 6);
      if constexpr (kM > 1) _tile_dpbusd(2, 5, 6);
      background.Advance();
      _tile_loadd(7, w, 64);
      w = background.ring.After(w);
      _tile_dpbusd(1, 4, 7);
      if constexpr (kM > 1) _tile_dpbusd(3, 5, 7);
      background.Advance();
      if constexpr (kN > 2) {
        _tile_loadd(6, w, 64);
        w = background.ring.After(w);
        _tile_dpbusd(2, 4, 6);
        background.Advance();
      }
      if constexpr (kN > 3) {
        _tile_loadd(7, w, 64);
        w = background.ring.After(w);
        _tile_dpbusd(3, 4, 7);
        background.Advance();
      }
    }
  }
  p.weights = w;
  OCTET_AMX_FOR_ACC(OCTET_AMX_STORE)
}

#undef OCTET_AMX_FOR_ACC
#undef OCTET_AMX_START
#undef OCTET_AMX_STORE

// Columns of weights that `tiles` of rows are multiplied with at once: four accumulators hide what one step takes.
inline int64_t AmxColumns(int64_t tiles) { return tiles == 1 ? 4 : tiles == 2 ? 2 : 1; }

// AmxMultiply of `tiles` of rows and `columns` <= AmxColumns(tiles).
template <typename Background>
void AmxMultiplyBy(int64_t tiles, int64_t columns, AmxProduct& p, Background& background) {
  switch (tiles * 4 + columns) {
    case 4 + 1: return AmxMultiply<1, 1>(p, background);
    case 4 + 2: return AmxMultiply<1, 2>(p, background);
    case 4 + 3: return AmxMultiply<1, 3>(p, background);
    case 4 + 4: return AmxMultiply<1, 4>(p, background);
    case 8 + 1: return AmxMultiply<2, 1>(p, background);
    case 8 + 2: return AmxMultiply<2, 2>(p, background);
    case 12 + 1: return AmxMultiply<3, 1>(p, background);
    case 16 + 1: return AmxMultiply<4, 1>(p, background);
  }
}

}  // namespace
}  // namespace octet::kernels

#endif  // OCTET_KERNELS_AMX_RING_INL_H_
