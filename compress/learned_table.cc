// Alternation between tables and scales.
#include "compress/learned_table.h"

#include <limits>

#include "compress/fit_scale.h"

namespace octet::compress {
namespace {

// Scale 0: a dead group, which says nothing about the table.
LevelHistogram HistogramOf(absl::Span<const Segment> groups, absl::Span<const float> scales, float factor) {
  LevelHistogram histogram;
  for (size_t g = 0; g < groups.size(); ++g) {
    const float scale = scales[g] * factor;
    if (!(scale > kSmallestScale)) continue;
    const float inverse = 1 / scale;
    const double square = static_cast<double>(scale) * scale;
    for (size_t i = 0; i < groups[g].weights.size(); ++i) {
      histogram.Add(groups[g].weights[i] * inverse, square * groups[g].importance[i]);
    }
  }
  histogram.Finish();
  return histogram;
}

// Scales under the table, and their error.
double FitScales(absl::Span<const Segment> groups, const LevelTable& table, bool powers_of_two,
                 std::vector<float>* scales) {
  double error = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    float& scale = (*scales)[g];
    scale = 0;
    if (MaximumScale(table, groups[g].weights) == 0) continue;
    scale = MseScale(table, groups[g]);
    if (powers_of_two) scale = PowerOfTwoNear(table, groups[g], {scale, 0});
    error += SquaredError(table, groups[g], {scale, 0});
  }
  return error;
}

// The table under the first scales.
std::vector<int8_t> FirstTable(absl::Span<const Segment> groups, const TableOptions& options) {
  std::vector<float> scales;
  float spread = 0;  // largest weight in units of its scale
  for (const Segment& group : groups) {
    float scale = RootMeanSquare(group);
    if (scale > kSmallestScale) {
      if (options.powers_of_two) scale = PowerOfTwoAbove(scale);
      spread = std::max(spread, LargestMagnitude(group.weights) / scale);
    }
    scales.push_back(scale);
  }
  float unit = std::max(spread, 1.0f) / static_cast<float>(options.largest);
  if (options.powers_of_two) unit = PowerOfTwoAbove(unit);
  double best_error = std::numeric_limits<double>::infinity();
  std::vector<int8_t> best;
  const float step = options.powers_of_two ? 0.5f : 0.8f;
  for (float factor = 1; factor > 0.2f; factor *= step) {
    const LevelHistogram histogram = HistogramOf(groups, scales, unit * factor);
    std::vector<int8_t> levels = options.choose(histogram, options.largest);
    const double error = histogram.Error(levels);
    if (error < best_error) {
      best_error = error;
      best = std::move(levels);
    }
  }
  return best;
}

}  // namespace

std::vector<int8_t> LearnTable(absl::Span<const Segment> groups, const TableOptions& options) {
  constexpr int kRounds = 3;
  std::vector<int8_t> levels = FirstTable(groups, options), best = levels;
  double best_error = std::numeric_limits<double>::infinity();
  std::vector<float> scales(groups.size());
  for (int round = 0; round < kRounds; ++round) {
    const double error = FitScales(groups, LevelTable(levels), options.powers_of_two, &scales);
    if (!(error < best_error)) break;
    best_error = error;
    best = levels;
    if (round + 1 < kRounds) levels = options.choose(HistogramOf(groups, scales, 1), options.largest);
  }
  return best;
}

}  // namespace octet::compress
