// Packed layout of MatmulNBits' weights: panels of 64 columns, each one stream in the order in
// which it is read.
//
//   panel   = records of its groups along K, first to last; the last panel has the remaining columns, rounded up to 16
//   record  = weights | scales [width] f16 or f32 | zero points [width] u8 (kU4 only)
//   weights = bundles of quads; a quad is [column][4 k] of s8, the operand of a four-way dot product. In b bits a byte
//             holds the weights of the 8 / b quads of a bundle at its place, the first in the low bits. In kVectors a
//             bundle is [column][4] codes, each of 4 k; its quad d has element d of the four codes, so that source rows
//             must be in that order: within 16 k, q'[4 d + j] = q[4 j + d].
//   sums    = c[n] of matmul_nbits.h for all padded columns, f32, behind the last panel
// Missing k meet source bytes of 0, missing columns have scales of 0. Scales are stored as f16 when all of them are exact
// there (times one power of two), so the rounding of matmul_nbits.h is the only one.
#ifndef OCTET_KERNELS_MATMUL_NBITS_MATMUL_NBITS_PANELS_H_
#define OCTET_KERNELS_MATMUL_NBITS_MATMUL_NBITS_PANELS_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/kernel.h"
#include "kernels/matmul_nbits/matmul_nbits.h"

namespace octet::kernels {

enum class NBitsFormat : uint8_t {
  kS4,  // two's complement nibbles; unpacked as 16 times the weight, undone by `factor`
  kU4,  // nibbles from which a zero point is subtracted
  kS8,
  kLevels4,  // codes of 4, 2, 1 bits: `levels` has what they stand for
  kLevels2,
  kLevels1,
  kVectors,  // codes of 8 bits for four weights along K: `vectors`
};
const char* NameOf(NBitsFormat format);
enum class ScaleFormat : uint8_t { kF16, kF32 };

struct NBitsPanels {
  static constexpr int64_t kWidth = 64;  // columns of a full panel

  NBitsFormat format = NBitsFormat::kS4;
  ScaleFormat scales = ScaleFormat::kF32;
  int64_t k = 0, n = 0;
  int64_t depth = 0;  // k rounded up to a bundle
  int64_t group = 0;  // k of a record: a multiple of a bundle, at most kMaxGroup
  float factor = 1;   // real scale of a column = factor * stored scale; a power of two
  std::array<int8_t, 16> levels = {};
  std::vector<int8_t> vectors;  // [4][256], element d of all codes first

  int64_t bundle() const {  // k
    switch (format) {
      case NBitsFormat::kLevels2:
      case NBitsFormat::kVectors:
        return 16;
      case NBitsFormat::kLevels1:
        return 32;
      default:
        return 8;
    }
  }

  int64_t panels() const { return (n + kWidth - 1) / kWidth; }
  int64_t padded_n() const { return (n + 15) / 16 * 16; }
  int64_t groups() const { return (depth + group - 1) / group; }
  int64_t width(int64_t panel) const { return std::min(kWidth, padded_n() - panel * kWidth); }
  int64_t group_depth(int64_t g) const { return std::min(group, depth - g * group); }
  // Bytes of `k_count` k of weights of a record.
  int64_t weight_bytes(int64_t width, int64_t k_count) const {
    return format == NBitsFormat::kS8 ? width * k_count : width * k_count / bundle() * 4;
  }
  int64_t scale_bytes(int64_t width) const { return width * (scales == ScaleFormat::kF16 ? 2 : 4); }
  int64_t record_bytes(int64_t width, int64_t k_count) const {
    return weight_bytes(width, k_count) + scale_bytes(width) +
           (format == NBitsFormat::kU4 ? width : 0);
  }
  int64_t panel_bytes(int64_t width) const {
    return (groups() - 1) * record_bytes(width, group) +
           record_bytes(width, group_depth(groups() - 1));
  }
  int64_t panel_offset(int64_t panel) const { return panel * panel_bytes(kWidth); }
  int64_t sums_offset() const {
    return (panels() - 1) * panel_bytes(kWidth) + panel_bytes(width(panels() - 1));
  }
  int64_t size_bytes() const { return sums_offset() + padded_n() * int64_t{sizeof(float)}; }
};

// The layout of weights of this form. Requires: CheckNBitsWeights accepts it; no extent is 0.
NBitsPanels PlanPanels(const TensorSpec& weights, MatmulNBitsParams::Transpose transpose);

// Packs `data` (dense, as weights.dtype stores it); detail is an NBitsPanels.
absl::StatusOr<PackedWeights> PackPanels(const TensorSpec& weights,
                                         MatmulNBitsParams::Transpose transpose, const void* data);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_MATMUL_NBITS_MATMUL_NBITS_PANELS_H_
