// s32 biases and mean shifts.
#include "compress/bias.h"

#include <algorithm>
#include <cmath>

namespace octet::compress {

std::vector<float> MinimumScaleForBias(absl::Span<const float> bias, float src_scale) {
  std::vector<float> out;
  // The bias's scale, the product of both, must stay a normal number: inference flushes smaller ones to zero.
  const float normal = 0x1p-120f / src_scale;
  for (float b : bias) out.push_back(std::max(normal, std::fabs(b) / (src_scale * 0x1p30f)));
  return out;
}

std::vector<int32_t> QuantizeBias(absl::Span<const float> bias, float src_scale, absl::Span<const float> scale) {
  std::vector<int32_t> out;
  for (size_t i = 0; i < bias.size(); ++i) {
    const double q = std::nearbyint(bias[i] / (static_cast<double>(src_scale) * scale[scale.size() == 1 ? 0 : i]));
    out.push_back(static_cast<int32_t>(std::clamp(q, -2147483647.0, 2147483647.0)));
  }
  return out;
}

std::vector<float> MeanShift(const WeightMatrix& weights, const QuantizedMatrix& quantized,
                             absl::Span<const float> mean) {
  std::vector<float> shift(static_cast<size_t>(weights.rows), 0.0f);
  const int64_t columns = weights.columns(), rows_in_group = std::max<int64_t>(weights.rows / weights.conv_groups, 1);
  for (int64_t r = 0; r < weights.rows; ++r) {
    const int64_t first = r / rows_in_group * columns;
    double sum = 0;
    for (int64_t c = 0; c < columns; ++c) {
      sum += (weights.values[static_cast<size_t>(r * columns + c)] - quantized.Real(r, c)) *
             mean[static_cast<size_t>(first + c)];
    }
    shift[static_cast<size_t>(r)] = static_cast<float>(sum);
  }
  return shift;
}

std::vector<float> ColumnMeans(const WeightMatrix& weights, const std::vector<double>& channel_means) {
  std::vector<float> means;
  if (static_cast<int64_t>(channel_means.size()) != weights.conv_groups * weights.inputs) return means;
  for (int64_t g = 0; g < weights.conv_groups; ++g) {
    for (int64_t c = 0; c < weights.columns(); ++c) {
      means.push_back(static_cast<float>(channel_means[static_cast<size_t>(g * weights.inputs + c % weights.inputs)]));
    }
  }
  return means;
}

}  // namespace octet::compress
