// Searches over the scale of one group.
#include "compress/fit_scale.h"

#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

namespace octet::compress {
namespace {

struct Candidate {
  float scale = 0;
  double error = std::numeric_limits<double>::infinity();
};

// The lowest factor worth trying: Laplacian groups of 10^5 weights clip at 1/16 of their maximum with 4 levels.
double LowestFactor(size_t levels) { return levels > 64 ? 0.5 : levels > 16 ? 0.25 : levels > 8 ? 0.125 : 1.0 / 16; }

}  // namespace

float MaximumScale(const LevelTable& table, absl::Span<const float> weights) {
  float high = 0, low = 0;
  for (float w : weights) {
    high = std::max(high, w);
    low = std::min(low, w);
  }
  float scale = 0;
  if (table.high() > 0) scale = high / static_cast<float>(table.high());
  if (table.low() < 0) scale = std::max(scale, low / static_cast<float>(table.low()));
  return scale > kSmallestScale ? scale : 0.0f;
}

float MseScale(const LevelTable& table, const Segment& segment) {
  constexpr int kSteps = 28;
  const float largest = MaximumScale(table, segment.weights);
  const double step = std::pow(LowestFactor(table.size()), 1.0 / kSteps);
  std::array<Candidate, 3> best;  // ascending by error
  double factor = 1;
  for (int i = 0; i <= kSteps; ++i, factor *= step) {
    Candidate next{static_cast<float>(largest * factor)};
    if (!(next.scale > kSmallestScale)) break;
    next.error = SquaredError(table, segment, {next.scale, 0});
    for (Candidate& kept : best) {
      if (next.error < kept.error) std::swap(next, kept);
    }
  }
  Candidate found = best[0];
  for (const Candidate& candidate : best) {
    if (!(candidate.scale > 0)) continue;
    ScaleZero s{candidate.scale, 0};
    const double error = RefineScale(table, segment, 3, &s);
    if (error < found.error) found = {s.scale, error};
  }
  return found.scale;
}

float TernaryScale(const Segment& segment) {
  std::vector<uint32_t> order(segment.weights.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return std::fabs(segment.weights[a]) > std::fabs(segment.weights[b]);
  });
  double sum = 0, count = 0, best = -1, scale = 0;
  for (uint32_t i : order) {
    const double h = segment.importance[i];
    sum += h * std::fabs(segment.weights[i]);
    count += h;
    const double gain = sum * (sum / count);
    if (gain > best) {
      best = gain;
      scale = sum / count;
    }
  }
  return static_cast<float>(scale);
}

float BinaryScale(const Segment& segment) {
  double sum = 0, count = 0;
  for (size_t i = 0; i < segment.weights.size(); ++i) {
    const double h = segment.importance[i];
    sum += h * std::fabs(segment.weights[i]);
    count += h;
  }
  return static_cast<float>(sum / count);
}

float PowerOfTwoAbove(float scale) {
  int exponent = 0;
  const float fraction = std::frexp(scale, &exponent);  // scale = fraction * 2^exponent, fraction in [1/2, 1)
  return std::ldexp(1.0f, std::clamp(fraction == 0.5f ? exponent - 1 : exponent, -126, 127));
}

float PowerOfTwoNear(const LevelTable& table, const Segment& segment, const ScaleZero& s) {
  const float above = PowerOfTwoAbove(s.scale), below = above / 2;
  if (!(below > kSmallestScale)) return above;
  return SquaredError(table, segment, {below, s.zero}) < SquaredError(table, segment, {above, s.zero}) ? below : above;
}

}  // namespace octet::compress
