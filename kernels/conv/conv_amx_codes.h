// The loops of entry "amx_codes": tiles of weights decoded while the tiles before them are multiplied. Internal to conv/.
#ifndef OCTET_KERNELS_CONV_CONV_AMX_CODES_H_
#define OCTET_KERNELS_CONV_CONV_AMX_CODES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/code_stream_vector.h"

namespace octet::kernels {

// One step of AMX along the depth: 16 quads of weights (fewer where a tap has fewer; more than a tap has meet zeros).
struct AmxStepPlan {
  int64_t src_offset = 0;      // bytes in the rows
  int64_t weights_offset = 0;  // bytes in the decoded weights of a block of outputs
};

// Weights of `block` outputs: steps of [quads][block][4], which follow each other in the stream of codes.
struct AmxWeights {
  const CodeStream* stream = nullptr;
  const uint8_t* packed = nullptr;
  int64_t block = 0;        // outputs, a multiple of 16
  int64_t block_bytes = 0;  // of a block's decoded weights
  int64_t step_bytes = 64;  // depth of a step
  std::vector<AmxStepPlan> steps;
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

// Rows in tiles of `tile_rows`.
struct AmxRows {
  int64_t tile_rows = 16;
  int64_t row_bytes = 0;               // between rows
  std::vector<int64_t> tile_offsets;   // bytes
  std::vector<int32_t> pixels;         // [tiles][16]: the row of dst, or -1
};

// Tiles [begin, end) of the grid [blocks of outputs][tiles of rows], on the calling thread.
struct AmxShare {
  int64_t begin = 0;
  int64_t end = 0;
  const uint8_t* rows = nullptr;
  uint8_t* scratch = nullptr;  // AmxScratchBytes(), 64-byte aligned
  void* dst = nullptr;         // [pixels][outputs]
};

int64_t AmxScratchBytes(const AmxWeights& weights, const AmxRows& rows);
// Requires AmxInt8Available().
void MultiplyAmxCodes(const AmxWeights& weights, const AmxRows& rows, const AmxFinish& finish, const AmxShare& share);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_CONV_CONV_AMX_CODES_H_
