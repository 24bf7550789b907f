// What 8-bit products lose on CPUs without VNNI, where neighbouring products of u8 and s8 are summed in s16 first:
//
//   saturate_s16(u[2i] * w[2i] + u[2i+1] * w[2i+1])     pairs of neighbouring inputs of one kernel position
//
// reaches 2 * 255 * 127 = 64770 and saturates at 32767 (-32768). With weights of 7 bits, 2 * 255 * 63 = 32130, never.
#ifndef OCTET_COMPRESS_SATURATION_H_
#define OCTET_COMPRESS_SATURATION_H_

#include <array>
#include <cstdint>
#include <optional>

#include "absl/types/span.h"
#include "base/quantization.h"
#include "compress/ranges.h"
#include "graph/graph.h"

namespace octet::compress {

inline constexpr int kReducedMaximum = 63;  // of weights with which no pair overflows

using CodeShares = std::array<double, 256>;  // share of values that are stored as each u8 code

// Requires: histogram.count() > 0, per-tensor params of a u8 value.
CodeShares CodeSharesOf(const StreamingHistogram& histogram, const QuantParams& params);

struct SaturationReport {
  int64_t pairs = 0;            // of weights
  int64_t pairs_at_risk = 0;    // that overflow for some codes that occur
  int32_t worst_sum = 0;        // largest magnitude of an exact sum, for codes that occur
  double expected_share = 0;    // of all sums that overflow, if the codes of a pair are independent
};

// Weights [rows, columns], columns in the order [kernel position][input channel], `inputs` channels per position; an odd
// last channel stands alone. Requires: columns is a multiple of inputs.
SaturationReport CheckSaturation(absl::Span<const int8_t> weights, int64_t columns, int64_t inputs,
                                 const CodeShares& codes);

// The report of a product of a compressed graph; `src`: values of its source. Of a convolution's two orders of pairs
// (as CheckSaturation has them, or across kernel positions, as oneDNN's kernels by matrix product walk an image of few
// channels) the worse; depthwise convolutions are summed in s32. Nothing when it is not computed as u8 x s8 by oneDNN
// (weights below 8 bits behind MatMul and Gemm have kernels that sum in s32).
std::optional<SaturationReport> SaturationOf(const graph::Graph& graph, const graph::Node& product,
                                             const StreamingHistogram& src);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_SATURATION_H_
