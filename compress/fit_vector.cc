// Alternation between codes and scales.
#include "compress/fit_vector.h"

#include <algorithm>

#include "compress/fit_scale.h"

namespace octet::compress {
namespace {

// All groups' weights in units of their scales (0 for dead groups) and what the square of each one's error counts.
struct Vectors {
  std::vector<float> x, h;
};

enum class Counting : uint8_t {
  kImportance,   // h: enough to choose a vector's code
  kScaleSquared  // h times the group's scale squared, relative to the largest: what an entry should be a mean of
};

Vectors Normalised(absl::Span<const Segment> groups, absl::Span<const float> scales, Counting counting) {
  const float largest = LargestMagnitude(scales);
  float most = 0;
  for (const Segment& group : groups) most = std::max(most, LargestMagnitude(group.importance));
  size_t count = 0;
  for (const Segment& group : groups) count += group.weights.size();
  Vectors v;
  v.x.reserve(count);
  v.h.reserve(count);
  for (size_t g = 0; g < groups.size(); ++g) {
    const float inverse = scales[g] > 0 ? 1 / scales[g] : 0;
    const float ratio = counting == Counting::kScaleSquared && largest > 0 ? scales[g] / largest : 1;
    for (size_t i = 0; i < groups[g].weights.size(); ++i) {
      v.x.push_back(groups[g].weights[i] * inverse);
      v.h.push_back(groups[g].importance[i] / most * ratio * ratio);
    }
  }
  return v;
}

// What the error of a group is as a function of its scale s: ww - 2 s wl + s^2 ll.
struct Quadratic {
  double ww = 0, wl = 0, ll = 0;
  double At(double s) const { return ww - 2 * s * wl + s * s * ll; }
};

std::vector<Quadratic> Quadratics(absl::Span<const Segment> groups, const VectorFit& fit) {
  std::vector<Quadratic> out;
  size_t at = 0;
  for (const Segment& group : groups) {
    Quadratic q;
    for (size_t i = 0; i < group.weights.size(); ++i, ++at) {
      const double level = fit.levels[fit.codes[at / kVectorSize] * kVectorSize + at % kVectorSize];
      const double w = group.weights[i], h = group.importance[i];
      q.ww += h * w * w;
      q.wl += h * w * level;
      q.ll += h * level * level;
    }
    out.push_back(q);
  }
  return out;
}

float BestScale(const Quadratic& q, float before, bool powers_of_two) {
  const auto scale = static_cast<float>(q.ll > 0 ? q.wl / q.ll : 0);
  if (!(scale > kSmallestScale)) return before;
  if (!powers_of_two) return scale;
  const float above = PowerOfTwoAbove(scale);
  return q.At(above / 2) < q.At(above) ? above / 2 : above;
}

// The codebook for weights in units of the given scales, and scales in units of its levels.
void FitLevels(absl::Span<const Segment> groups, const VectorOptions& options, VectorFit* fit) {
  const Vectors v = Normalised(groups, fit->scale, Counting::kScaleSquared);
  const VectorCodebook book = FitVectors(v.x, v.h, options.largest, options.seed);
  fit->levels = book.levels;
  for (float& s : fit->scale) s *= book.unit;
  fit->codes.resize(v.x.size() / kVectorSize);
}

}  // namespace

VectorFit FitVectorGroups(absl::Span<const Segment> groups, const VectorOptions& options) {
  VectorFit fit;
  for (const Segment& group : groups) {
    const float scale = RootMeanSquare(group);
    fit.scale.push_back(!(scale > kSmallestScale) ? 0 : options.powers_of_two ? PowerOfTwoAbove(scale) : scale);
  }
  FitLevels(groups, options, &fit);
  constexpr int kRounds = 2;
  for (int round = 0;; ++round) {
    const Vectors v = Normalised(groups, fit.scale, Counting::kImportance);
    AssignVectors(v.x, v.h, fit.levels, absl::MakeSpan(fit.codes));
    if (round == kRounds) return fit;
    const std::vector<Quadratic> quadratics = Quadratics(groups, fit);
    for (size_t g = 0; g < groups.size(); ++g) {
      if (fit.scale[g] > 0) fit.scale[g] = BestScale(quadratics[g], fit.scale[g], options.powers_of_two);
    }
    if (round + 1 < kRounds) continue;
    const auto error = [&](size_t g, float s) { return quadratics[g].At(s); };
    options.constrain(options.largest, error, absl::MakeSpan(fit.scale));
  }
}

}  // namespace octet::compress
