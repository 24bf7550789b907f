// Affine groups.
#include "compress/kquant.h"

#include <cmath>

namespace octet::compress {
namespace {

struct Range {  // includes 0
  float low = 0, high = 0;
};

Range RangeOf(absl::Span<const float> weights) {
  Range range;
  for (float w : weights) {
    range.low = std::min(range.low, w);
    range.high = std::max(range.high, w);
  }
  return range;
}

// The zero point whose level 0 stands for `minimum`.
int32_t ZeroOf(const LevelTable& table, double minimum, double scale) {
  return static_cast<int32_t>(std::nearbyint(std::clamp(-minimum / scale, 0.0, static_cast<double>(table.high()))));
}

ScaleZero FromRange(const LevelTable& table, double low, double high) {
  // Halves: high - low may be more than the largest float.
  const auto scale = static_cast<float>((high / 2 - low / 2) / table.high() * 2);
  if (!(scale > kSmallestScale) || !std::isfinite(scale)) return {0, 0};
  return {scale, ZeroOf(table, low, scale)};
}

// Keeps *best or takes `next`, refined, when its error is smaller.
void Consider(const LevelTable& table, const Segment& segment, ScaleZero next, double* error, ScaleZero* best) {
  if (!(next.scale > kSmallestScale) || !std::isfinite(next.scale)) return;
  const double refined = RefineScale(table, segment, 1, &next);
  if (refined < *error) {
    *error = refined;
    *best = next;
  }
}

// The line w = scale * level + minimum through the weights; minimum is cut to 0 where it would leave 0 out.
ScaleZero FitLine(const LevelTable& table, const Segment& segment, const ScaleZero& s) {
  const float inverse = 1 / s.scale, zero = static_cast<float>(s.zero);
  double h0 = 0, hl = 0, hll = 0, hx = 0, hxl = 0;  // in units of s.scale
  for (size_t i = 0; i < segment.weights.size(); ++i) {
    const float x = segment.weights[i] * inverse;
    const double level = table.Nearest(x + zero), h = segment.importance[i];
    h0 += h;
    hl += h * level;
    hll += h * level * level;
    hx += h * x;
    hxl += h * x * level;
  }
  const double determinant = h0 * hll - hl * hl;
  if (!(determinant > 1e-9 * h0 * hll)) return s;
  const double factor = (h0 * hxl - hx * hl) / determinant;
  const double minimum = std::min((hll * hx - hl * hxl) / determinant, 0.0);
  if (!(factor > 0)) return s;
  return {static_cast<float>(factor * s.scale), ZeroOf(table, minimum, factor)};
}

}  // namespace

ScaleZero MaximumAffine(const LevelTable& table, absl::Span<const float> weights) {
  const Range range = RangeOf(weights);
  return FromRange(table, range.low, range.high);
}

ScaleZero MseAffine(const LevelTable& table, const Segment& segment) {
  constexpr int kSteps = 24;
  const double lowest = table.high() >= 15 ? 0.35 : table.high() >= 7 ? 0.2 : 0.1;
  const Range range = RangeOf(segment.weights);
  ScaleZero best = FromRange(table, range.low, range.high);
  if (best.scale == 0) return best;
  double error = SquaredError(table, segment, best);
  for (int i = 0; i <= kSteps; ++i) {
    const double factor = std::pow(lowest, static_cast<double>(i) / kSteps);
    Consider(table, segment, FromRange(table, range.low * factor, range.high * factor), &error, &best);
  }
  return best;
}

ScaleZero KQuantAffine(const LevelTable& table, const Segment& segment) {
  constexpr int kCandidates = 20;
  const Range range = RangeOf(segment.weights);
  const ScaleZero whole = FromRange(table, range.low, range.high);
  if (whole.scale == 0) return whole;
  ScaleZero best = MseAffine(table, segment);
  double error = SquaredError(table, segment, best);
  Consider(table, segment, FitLine(table, segment, best), &error, &best);
  for (int t = 0; t <= kCandidates; ++t) {
    // Inverse scales (L - 1 + 0.1 t) / (high - low); beyond t = 10 the ends are clipped.
    const double factor = table.high() / (table.high() - 1 + 0.1 * t);
    const auto scale = static_cast<float>(whole.scale * factor);
    if (!std::isfinite(scale)) continue;
    const ScaleZero candidate{scale, ZeroOf(table, range.low, scale)};
    Consider(table, segment, FitLine(table, segment, candidate), &error, &best);
  }
  return best;
}

}  // namespace octet::compress
