// The vector loops of MatmulNBits, compiled for every instruction set and chosen at run time
// (Highway). Internal.
//
// A tile is a piece of a panel unpacked to s8 once and multiplied with many rows; few rows skip
// it.
#ifndef OCTET_KERNELS_MATMUL_NBITS_MATMUL_NBITS_VECTOR_H_
#define OCTET_KERNELS_MATMUL_NBITS_MATMUL_NBITS_VECTOR_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "kernels/matmul_nbits/matmul_nbits_panels.h"

namespace octet::kernels {

// How the integers of a source row stand for reals.
struct NBitsRow {
  float scale = 1;
  float zero_point = 0;
};

// Panel `index` of packed weights.
struct NBitsPanel {
  const NBitsPanels* layout = nullptr;
  const uint8_t* records = nullptr;
  int64_t width = 0;
};

// Whole records, unpacked.
struct NBitsTile {
  int8_t* weights = nullptr;  // [depth / 4][width][4]
  float* scales = nullptr;    // [depth / group, rounded up][width]
  int64_t width = 0;          // multiple of 16
  int64_t depth = 0;          // k in the tile, a multiple of 8
  int64_t group = 0;          // k of one scale; the last group may be shorter
  const uint8_t* next =
      nullptr;  // packed bytes that the caller unpacks next: fetched into L2 meanwhile
  int64_t next_bytes = 0;
};

// A part of a record in 16 columns.
struct NBitsColumns {
  const NBitsPanels* layout = nullptr;
  const uint8_t* weights = nullptr;      // of the first column, from the first k on
  const uint8_t* zero_points = nullptr;  // of the first column
  int64_t quad_bytes = 0;                // of all columns of the record
  int64_t depth = 0;                     // multiple of a bundle
  int64_t ahead = 0;                     // bytes that are fetched into L1 ahead of those read
};
// Unpacks to [depth / 4][16][4].
using NBitsUnpackColumnsFn = void (*)(const NBitsColumns& from, int8_t* to);

// Spreads the fetching of tile.next over `pieces` pieces of work: Advance() after each.
class NBitsPrefetch {
 public:
  NBitsPrefetch(const NBitsTile& tile, int64_t pieces)
      : p_(tile.next),
        end_(tile.next + tile.next_bytes),
        step_((tile.next_bytes / std::max<int64_t>(pieces, 1) + 63) / 64 * 64) {}
  void Advance() {
    const uint8_t* stop = std::min(p_ + step_, end_);
    for (; p_ < stop; p_ += 64) __builtin_prefetch(p_, 0, 2);
  }

 private:
  const uint8_t *p_, *end_;
  int64_t step_;
};

// What turns accumulators into dst.
struct NBitsFinish {
  float multiplier = 1;  // alpha and units of the packed weights; the row's scale comes on top
  const float* sums = nullptr;  // c[n]
  const float* bias = nullptr;  // [n], or nullptr
  absl::Span<const PostOp> post_ops;
};
// A part of dst: n columns of `rows` rows, from `column` and `row` on.
struct NBitsPart {
  int64_t column = 0, n = 0, rows = 0;
  const NBitsRow* row = nullptr;
  const float* acc = nullptr;
  int64_t acc_stride = 0;  // floats
  float* dst = nullptr;
  int64_t dst_stride = 0;  // floats
};

inline constexpr int64_t kNBitsAccStride =
    NBitsPanels::kWidth;  // floats between rows of accumulators

struct NBitsVectorOps {
  const char* name;  // of the instruction set

  // Quantizes a row of n floats to dst[0, n) as matmul_nbits.h says.
  NBitsRow (*quantize_row)(const float* src, int64_t n, uint8_t* dst);
  // Brings a quantized row of n bytes, a multiple of 16, into the order of kVectors.
  void (*order_for_vectors)(uint8_t* row, int64_t n);
  // acc[rows][0, width) += products of rows (layout->depth bytes each, src_stride apart) with the whole panel, which is
  // unpacked in registers once for up to 8 of them. src and acc hold memory for `rows` rounded up to a power of two.
  void (*multiply_few_rows)(const NBitsPanel& panel, const uint8_t* src, int64_t src_stride, int64_t rows, float* acc);
  // Unpacks records into tile.weights and tile.scales, which the caller has placed; tile.depth says
  // how many.
  void (*unpack)(const NBitsPanel& panel, const uint8_t* records, const NBitsTile& tile);
  NBitsUnpackColumnsFn (*unpack_columns_of)(NBitsFormat format);
  // acc[rows][width] += products of rows (tile.depth bytes each, src_stride apart) with the tile.
  void (*multiply_tile)(const NBitsTile& tile, const uint8_t* src, int64_t src_stride, int64_t rows,
                        float* acc);
  void (*finish)(const NBitsFinish& finish, const NBitsPart& part);
};

// The table of the best instruction set of this CPU.
const NBitsVectorOps& ChooseNBitsVectorOps();

// ---- AMX (matmul_nbits_amx.cc)
// All of it requires AmxInt8Available() and a step of AmxStep(group) (kernels/amx.h).

// Around calls of NBitsAmxMultiplyTile on one thread: loads and releases the tile configuration.
void NBitsAmxBegin(int64_t step);
void NBitsAmxEnd();
// As multiply_tile, for rows rounded up to 16: src and acc hold memory for them. Requires: step
// divides tile.depth.
void NBitsAmxMultiplyTile(const NBitsTile& tile, const uint8_t* src, int64_t src_stride,
                          int64_t rows, float* acc);

// Whole panels without tiles: weights are unpacked in L1 while those before them are multiplied.
inline constexpr int64_t kNBitsAmxRows = 64;  // that are multiplied at once
// True when the sums of a group are worth it.
bool NBitsAmxTakesPanels(const NBitsPanels& layout);
int64_t NBitsAmxScratchBytes(const NBitsPanels& layout);

// Items [begin, end) of the grid [blocks of kNBitsAmxRows rows][panels].
struct NBitsAmxShare {
  const NBitsPanels* layout = nullptr;
  const NBitsVectorOps* ops = nullptr;
  const uint8_t* packed = nullptr;
  const uint8_t* src = nullptr;  // memory for rows rounded up to 16
  int64_t src_stride = 0, rows = 0;
  int64_t begin = 0, end = 0;
  uint8_t* scratch = nullptr;  // 64-byte aligned
};
// Called for parts of dst, each once: n columns from `column` on of `rows` rows; acc [rows][n].
using NBitsAmxFinish = absl::FunctionRef<void(int64_t column, int64_t n, int64_t row, int64_t rows, const float* acc)>;
// Loads and releases the tile configuration itself.
void NBitsAmxMultiplyPanels(const NBitsAmxShare& share, NBitsAmxFinish finish);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_MATMUL_NBITS_MATMUL_NBITS_VECTOR_H_
