// Half-quadratic splitting for one group.
#include "compress/hqq.h"

#include <cmath>

namespace octet::compress {
namespace {

constexpr int kRounds = 20;
constexpr float kFirstBeta = 10, kBetaGrowth = 1.01f;

float Shrink(float r, float beta) {
  const float magnitude = std::fabs(r);
  if (magnitude < 1e-6f) return 0;
  const float kept = magnitude - std::pow(magnitude, kHqqNorm - 1) / beta;
  return kept > 0 ? std::copysign(kept, r) : 0;
}

// Keeps *best or takes `next`; false when the error did not fall.
bool Accept(const LevelTable& table, const Segment& segment, const ScaleZero& next, float unit, double* error,
            ScaleZero* best) {
  const double next_error = RobustError(table, segment, next, unit);
  if (!(next_error < *error)) return false;
  *error = next_error;
  *best = next;
  return true;
}

}  // namespace

double RobustError(const LevelTable& table, const Segment& segment, const ScaleZero& s, float unit) {
  const float inverse = 1 / s.scale, zero = static_cast<float>(s.zero), ratio = s.scale / unit;
  double sum = 0;
  for (size_t i = 0; i < segment.weights.size(); ++i) {
    const float x = segment.weights[i] * inverse + zero;
    const float d = std::fabs(x - table.Nearest(x)) * ratio;
    if (d > 0) sum += static_cast<double>(segment.importance[i]) * std::pow(d, kHqqNorm);
  }
  return sum;
}

ScaleZero HqqScale(const LevelTable& table, const Segment& segment, const ScaleZero& s) {
  ScaleZero best = s;
  double error = RobustError(table, segment, s, s.scale);
  float beta = kFirstBeta, ratio = 1;  // ratio: scale in units of s.scale
  const float unit = 1 / s.scale;
  for (int round = 0; round < kRounds; ++round, beta *= kBetaGrowth) {
    double product = 0, square = 0;
    for (size_t i = 0; i < segment.weights.size(); ++i) {
      const float x = segment.weights[i] * unit;
      const float level = table.Nearest(x / ratio);
      const float e = Shrink(x - ratio * level, beta);
      const double h = segment.importance[i];
      product += h * level * (x - e);
      square += h * level * level;
    }
    if (!(product > 0)) break;
    ratio = static_cast<float>(product / square);
    const float scale = s.scale * ratio;
    if (!(scale > kSmallestScale) || !std::isfinite(scale)) break;
    if (!Accept(table, segment, {scale, 0}, s.scale, &error, &best)) break;
  }
  return best;
}

ScaleZero HqqZero(const LevelTable& table, const Segment& segment, const ScaleZero& s) {
  ScaleZero best = s;
  double error = RobustError(table, segment, s, s.scale);
  const float unit = 1 / s.scale;
  float beta = kFirstBeta, zero = static_cast<float>(s.zero);  // real while it moves: steps may be less than a level
  for (int round = 0; round < kRounds; ++round, beta *= kBetaGrowth) {
    double sum = 0, count = 0;
    for (size_t i = 0; i < segment.weights.size(); ++i) {
      const float x = segment.weights[i] * unit;
      const float level = table.Nearest(x + zero);
      const float e = Shrink(x - (level - zero), beta);
      const double h = segment.importance[i];
      sum += h * (level - (x - e));
      count += h;
    }
    const auto next = static_cast<float>(std::clamp(sum / count, 0.0, static_cast<double>(table.high())));
    if (std::fabs(next - zero) < 1e-4f) break;
    zero = next;
  }
  const auto rounded = static_cast<int32_t>(std::nearbyint(zero));
  // Under its new zero point the group may want another scale, too.
  if (rounded != s.zero) Accept(table, segment, {s.scale, rounded}, s.scale, &error, &best);
  const ScaleZero scaled{LeastSquaresScale(table, segment, {s.scale, rounded}), rounded};
  Accept(table, segment, scaled, s.scale, &error, &best);
  return best;
}

}  // namespace octet::compress
