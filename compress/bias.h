// Biases of compressed products: as s32, and what rounded weights shift.
//
//   bias_q[o] = round_half_even(bias[o] / (src_scale * scale[o]))
//
// Source: arXiv:1712.05877, section 2.4.
#ifndef OCTET_COMPRESS_BIAS_H_
#define OCTET_COMPRESS_BIAS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "compress/weight_matrix.h"

namespace octet::compress {

// The smallest scale per channel for which the bias fits 30 bits, |bias| / (src_scale * 2^30), and the bias's own scale,
// src_scale * scale, is a normal float, at least 2^-120.
std::vector<float> MinimumScaleForBias(absl::Span<const float> bias, float src_scale);

// `scale`: one per bias, or one for all.
std::vector<int32_t> QuantizeBias(absl::Span<const float> bias, float src_scale, absl::Span<const float> scale);

// Rounding the weights shifts a row's mean by sum_c (w - w')[row, c] mean[g, c]; `mean` is [conv_groups, columns].
// Source: arXiv:1906.04721, section 4.2, with measured instead of analytic means.
std::vector<float> MeanShift(const WeightMatrix& weights, const QuantizedMatrix& quantized,
                             absl::Span<const float> mean);

// [conv_groups, columns] from the means of all input channels: the same at every kernel position (padding is not looked
// at). Empty when the number of channels does not fit.
std::vector<float> ColumnMeans(const WeightMatrix& weights, const std::vector<double>& channel_means);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_BIAS_H_
