// AMX: what the CPU's int8 tiles need beside their instructions.
#ifndef OCTET_KERNELS_AMX_H_
#define OCTET_KERNELS_AMX_H_

#include <cstdint>

namespace octet::kernels {

// True when the CPU, the system and oneDNN's ONEDNN_MAX_CPU_ISA allow int8 tiles; asks the system for them once.
bool AmxInt8Available();

// Largest depth in bytes of one AMX step that divides `depth`: 64, 32, 16, or 0 when none does.
int64_t AmxStep(int64_t depth);

// The operand of ldtilecfg for products of u8 sources with s8 weights: accumulators in tiles 0 to 3 (rows x 16 s32), sources in
// 4 and 5 (rows x step bytes), weights in 6 and 7 (step / 4 x 64 bytes).
struct alignas(64) AmxTileConfig {
  AmxTileConfig(int64_t source_rows, int64_t step);

  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes_per_row[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(AmxTileConfig) == 64);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_AMX_H_
