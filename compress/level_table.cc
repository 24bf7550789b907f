// Errors are summed in units of the scale, where neither squares of huge weights nor of tiny ones leave f32.
#include "compress/level_table.h"

#include <cmath>

namespace octet::compress {

LevelTable::LevelTable(absl::Span<const int8_t> levels)
    : low_(levels.front()), high_(levels.back()), size_(levels.size()) {
  size_t level = 0;
  for (int i = 0; i < 512; ++i) {
    const double x = (i - 256) / 2.0;
    while (level + 1 < levels.size() && levels[level] + levels[level + 1] <= 2 * x) ++level;
    nearest_[static_cast<size_t>(i)] = levels[level];
  }
  has_zero_ = std::find(levels.begin(), levels.end(), int8_t{0}) != levels.end();
}

double SquaredError(const LevelTable& table, const Segment& segment, const ScaleZero& s) {
  const float inverse = 1 / s.scale, zero = static_cast<float>(s.zero);
  double sum = 0;
  for (size_t i = 0; i < segment.weights.size(); ++i) {
    const float x = segment.weights[i] * inverse + zero;
    const float d = x - table.Nearest(x);
    sum += static_cast<double>(segment.importance[i]) * d * d;
  }
  return sum * s.scale * s.scale;
}

float LeastSquaresScale(const LevelTable& table, const Segment& segment, const ScaleZero& s) {
  const float inverse = 1 / s.scale, zero = static_cast<float>(s.zero);
  double product = 0, square = 0;
  for (size_t i = 0; i < segment.weights.size(); ++i) {
    const float x = segment.weights[i] * inverse;
    const float level = table.Nearest(x + zero) - zero;
    const double h = segment.importance[i];
    product += h * level * x;
    square += h * level * level;
  }
  const double factor = square > 0 ? product / square : 0;
  const auto scale = static_cast<float>(s.scale * factor);
  return scale > kSmallestScale && std::isfinite(scale) ? scale : s.scale;
}

double RefineScale(const LevelTable& table, const Segment& segment, int rounds, ScaleZero* s) {
  double error = SquaredError(table, segment, *s);
  for (int round = 0; round < rounds; ++round) {
    const ScaleZero next{LeastSquaresScale(table, segment, *s), s->zero};
    if (next.scale == s->scale) break;
    const double next_error = SquaredError(table, segment, next);
    if (!(next_error < error)) break;
    error = next_error;
    *s = next;
  }
  return error;
}

float LargestMagnitude(absl::Span<const float> weights) {
  float largest = 0;
  for (float w : weights) largest = std::max(largest, std::fabs(w));
  return largest;
}

float RootMeanSquare(const Segment& segment) {
  double square = 0, count = 0;
  for (size_t i = 0; i < segment.weights.size(); ++i) {
    const double h = segment.importance[i];
    square += h * segment.weights[i] * segment.weights[i];
    count += h;
  }
  return count > 0 ? static_cast<float>(std::sqrt(square / count)) : 0.0f;
}

}  // namespace octet::compress
