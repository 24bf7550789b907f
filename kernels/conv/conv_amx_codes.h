// The loops of entry "amx_codes": tiles of weights decoded while the tiles before them are multiplied. Internal to conv/.
#ifndef OCTET_KERNELS_CONV_CONV_AMX_CODES_H_
#define OCTET_KERNELS_CONV_CONV_AMX_CODES_H_

#include <cstdint>
#include <vector>

#include "kernels/code_stream_vector.h"

namespace octet::kernels {

// Panels of 16 outputs behind each other in a stream: each one `steps` steps of `quads` chunks, [quad][16][4].
struct AmxWeights {
  const CodeStream* stream = nullptr;
  const uint8_t* packed = nullptr;
  int64_t quads = 16;  // of the depth of a step: 16 or less, whole blocks of the stream
  // In the order in which they are multiplied: what of a panel comes, and bytes from a row to its factor.
  std::vector<int64_t> stream_steps, src_offsets;
  int64_t round = 0;  // steps that all outputs of a unit take before the next ones: their source stays in L1
  int64_t steps() const { return static_cast<int64_t>(src_offsets.size()); }
  int64_t tile_bytes() const { return quads * CodeStream::kChunk; }
};

// What becomes of sums: dst = round(post_ops((acc - correction) * scale + bias) / dst_scale) + zero_point, saturated.
struct AmxFinish {
  enum class Op : uint8_t { kRelu, kLeakyRelu, kClip, kAddF32, kAddU8, kAddS8 };
  struct Step {
    Op op;
    float alpha = 0;  // kAdd*: scale
    float beta = 0;   // kAdd*: zero point
  };
  enum class To : uint8_t { kF32, kU8, kS8 };

  int64_t outputs = 0;
  const float* scales = nullptr;         // [outputs]
  const float* bias = nullptr;           // [outputs], or nullptr
  const int32_t* corrections = nullptr;  // [outputs], or nullptr
  std::vector<Step> steps;
  To to = To::kU8;
  float inverse_scale = 1;
  float zero_point = 0;
};

inline constexpr int64_t kAmxMostTiles = 4;    // of rows: every tile of weights is used at once by all of them
inline constexpr int64_t kAmxMostColumns = 4;  // of 16 outputs in a unit, whose sums are finished together

// At most kAmxMostTiles tiles of `tile_rows` rows.
struct AmxRows {
  int64_t tile_rows = 16;
  int64_t row_bytes = 0;              // between rows
  std::vector<int64_t> tile_offsets;  // bytes
  std::vector<int32_t> pixels;        // [tiles][16]: the row of dst, or -1
  int64_t tiles() const { return static_cast<int64_t>(tile_offsets.size()); }
};

// Units [begin, end) of `columns` times 16 outputs, all rows, on the calling thread.
struct AmxShare {
  int64_t columns = 1;
  int64_t begin = 0;
  int64_t end = 0;
  const uint8_t* rows = nullptr;
  uint8_t* scratch = nullptr;  // AmxScratchBytes(), 64-byte aligned
  void* dst = nullptr;         // [pixels][outputs]
};

int64_t AmxScratchBytes(const AmxWeights& weights);
// Fetches the codes that a share begins with; the rest follows while it runs.
void PrefetchAmxCodes(const AmxWeights& weights, const AmxShare& share);
// Requires AmxInt8Available().
void MultiplyAmxCodes(const AmxWeights& weights, const AmxRows& rows, const AmxFinish& finish, const AmxShare& share);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_CONV_CONV_AMX_CODES_H_
