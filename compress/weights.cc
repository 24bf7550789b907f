// s8 weights and s32 biases.
#include "compress/weights.h"

#include <algorithm>
#include <cmath>

namespace octet::compress {
namespace {

int8_t Round(double x) { return static_cast<int8_t>(std::clamp(std::nearbyint(x), -127.0, 127.0)); }

// One output channel as a strided view.
struct Channel {
  absl::Span<const float> weights;
  int64_t outer, channels, inner, index;

  template <typename F>
  void ForEach(F f) const {
    for (int64_t o = 0; o < outer; ++o) {
      const int64_t base = (o * channels + index) * inner;
      for (int64_t i = 0; i < inner; ++i) f(base + i, weights[static_cast<size_t>(base + i)]);
    }
  }
};

double SquaredError(const Channel& channel, double scale) {
  double error = 0;
  channel.ForEach([&](int64_t, float w) {
    const double d = w - Round(w / scale) * scale;
    error += d * d;
  });
  return error;
}

float ScaleOf(const Channel& channel, WeightRange range) {
  double largest = 0;
  channel.ForEach([&](int64_t, float w) { largest = std::max<double>(largest, std::fabs(w)); });
  if (!(largest / 127 > 1.2e-38)) return 1.0f;  // a dead channel: any scale represents its zeros
  double best = largest / 127;
  if (range == WeightRange::kMse) {
    double best_error = SquaredError(channel, best);
    for (int percent = 99; percent >= 50; --percent) {
      const double scale = largest * percent / 100 / 127;
      const double error = SquaredError(channel, scale);
      if (error < best_error) {
        best_error = error;
        best = scale;
      }
    }
  }
  return static_cast<float>(best);
}

}  // namespace

QuantizedWeights QuantizeWeights(absl::Span<const float> weights, int64_t outer, int64_t channels, int64_t inner,
                                 WeightRange range, absl::Span<const float> minimum_scale) {
  QuantizedWeights out;
  out.values.resize(weights.size());
  for (int64_t c = 0; c < channels; ++c) {
    const Channel channel{weights, outer, channels, inner, c};
    float scale = ScaleOf(channel, range);
    if (!minimum_scale.empty()) scale = std::max(scale, minimum_scale[static_cast<size_t>(c)]);
    out.scale.push_back(scale);
    channel.ForEach([&](int64_t i, float w) {
      out.values[static_cast<size_t>(i)] = Round(static_cast<double>(w) / scale);
    });
  }
  return out;
}

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
    const double q = std::nearbyint(bias[i] / (static_cast<double>(src_scale) * scale[i]));
    out.push_back(static_cast<int32_t>(std::clamp(q, -2147483647.0, 2147483647.0)));
  }
  return out;
}

}  // namespace octet::compress
