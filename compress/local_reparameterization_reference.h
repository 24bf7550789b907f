// Local reparameterisation in plain loops: moments of one weight, of one output, and the loss of drawn outputs.
#ifndef OCTET_COMPRESS_LOCAL_REPARAMETERIZATION_REFERENCE_H_
#define OCTET_COMPRESS_LOCAL_REPARAMETERIZATION_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <vector>

#include "compress/local_reparameterization.h"

namespace octet::compress {

struct LocalMoments {
  double mean = 0, variance = 0;
};

inline double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// mu and v of the weight at index i.
inline LocalMoments WeightMomentsReference(const LocalParameters& p, size_t i) {
  const double s = p.scale[i];
  double plus = Sigmoid(p.a[i]), minus = 1 - plus;
  if (!p.b.empty()) {
    const double some = 1 - Sigmoid(p.a[i]);
    plus = some * Sigmoid(p.b[i]);
    minus = some - plus;
  }
  const double mean = s * (plus - minus);
  return {mean, s * s * (plus + minus) - mean * mean};
}

// m and V of channel r for the inputs h, [columns].
inline LocalMoments OutputMomentsReference(const LocalParameters& p, int64_t r, const float* h) {
  LocalMoments out{p.bias[static_cast<size_t>(r)], 0};
  for (int64_t c = 0; c < p.columns; ++c) {
    const LocalMoments w = WeightMomentsReference(p, static_cast<size_t>(r * p.columns + c));
    out.mean += w.mean * h[c];
    out.variance += w.variance * h[c] * h[c];
  }
  return out;
}

// Keeps dL/dV finite where V is 0; small beside any variance that matters.
inline constexpr double kLocalVarianceFloor = 1e-8;

inline std::vector<double> LocalLossReference(const LocalParameters& p, const LocalBatch& batch, const LocalFitOptions& options) {
  std::vector<double> loss;
  for (int64_t r = 0; r < p.channels; ++r) {
    double sum = 0, spread = 0;
    for (int64_t i = 0; i < batch.rows; ++i) {
      const LocalMoments z = OutputMomentsReference(p, r, batch.src.data() + i * p.columns);
      const auto at = static_cast<size_t>(r * batch.rows + i);
      const double deviation = std::sqrt(z.variance + kLocalVarianceFloor), y = batch.target[at];
      const auto drawn = [&](int k) {
        return std::clamp(z.mean + deviation * batch.noise[k][at], batch.behind.low, batch.behind.high);
      };
      const double one = drawn(0), two = drawn(1);
      sum += (one - y) * (two - y) + (one - two) * (one - two) / (2 * options.samples);
    }
    for (int64_t c = 0; c < p.columns; ++c) {
      const auto i = static_cast<size_t>(r * p.columns + c);
      spread += WeightMomentsReference(p, i).variance / (p.scale[i] * p.scale[i]);
    }
    loss.push_back(batch.weight[static_cast<size_t>(r)] * sum / static_cast<double>(batch.rows) +
                   options.entropy * spread / static_cast<double>(p.columns));
  }
  return loss;
}

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_LOCAL_REPARAMETERIZATION_REFERENCE_H_
