// The search over bases and multiples.
#include "compress/scale_multiples.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "compress/fit_scale.h"  // PowerOfTwoAbove

namespace octet::compress {
namespace {

int SignificantBits(int largest_multiple) {
  return std::min(6, 11 - static_cast<int>(std::bit_width(static_cast<unsigned>(largest_multiple))));
}

// `x` to so many significant bits, upwards.
float RoundUp(float x, int bits) {
  int exponent = 0;
  const float fraction = std::frexp(x, &exponent);
  return std::ldexp(std::ceil(std::ldexp(fraction, bits)), exponent - bits);
}

// Descending, distinct.
std::vector<float> Bases(float largest_scale, int largest_multiple, MultipleKind kind) {
  constexpr int kCandidates = 10;
  constexpr float kLowest = 0.55f;  // of the base that clips no group
  const float top = std::max(largest_scale / static_cast<float>(largest_multiple), 2 * kSmallestScale);
  if (kind == MultipleKind::kPowersOfTwo) return {PowerOfTwoAbove(top), PowerOfTwoAbove(top) / 2};
  std::vector<float> bases;
  for (int i = 0; i < kCandidates; ++i) {
    const float target = top * std::pow(kLowest, static_cast<float>(i) / (kCandidates - 1));
    const float base = RoundUp(target, SignificantBits(largest_multiple));
    if (bases.empty() || base < bases.back()) bases.push_back(base);
  }
  return bases;
}

// The best multiple next to scale / base for group g; its error is added to *total.
int BestMultiple(const std::function<double(size_t, float)>& error, size_t g, float ideal, int most, MultipleKind kind,
                 float base, double* total) {
  const auto below = static_cast<int>(std::min(ideal / base, static_cast<float>(most)));
  double best_error = std::numeric_limits<double>::infinity();
  int best = 1;
  int first = std::max(below - 1, 1), last = std::max(std::min(below + 2, most), 1);
  if (kind == MultipleKind::kPowersOfTwo) {
    first = static_cast<int>(std::bit_floor(static_cast<unsigned>(std::max(below, 1))));
    last = std::min(2 * first, most);
  }
  for (int m = first; m <= last; ++m) {
    if (kind == MultipleKind::kPowersOfTwo && m != first && m != 2 * first) continue;
    const double next = error(g, static_cast<float>(m) * base);
    if (next < best_error) {
      best_error = next;
      best = m;
    }
  }
  *total += best_error;
  return best;
}

}  // namespace

int LargestMultiple(int largest_level) { return std::max(127 / std::max(largest_level, 1), 1); }

float MakeMultiples(int largest_level, MultipleKind kind, const std::function<double(size_t g, float scale)>& error,
                    absl::Span<float> scales) {
  const float largest = *std::max_element(scales.begin(), scales.end());
  if (largest == 0) return 0;
  const int most = LargestMultiple(largest_level);
  double best_total = std::numeric_limits<double>::infinity();
  float best_base = 0;
  std::vector<float> best;
  for (float base : Bases(largest, most, kind)) {
    double total = 0;
    std::vector<float> found;
    for (size_t g = 0; g < scales.size(); ++g) {
      const int m = scales[g] == 0 ? 1 : BestMultiple(error, g, scales[g], most, kind, base, &total);
      found.push_back(static_cast<float>(m) * base);
    }
    if (best.empty() || total < best_total) {
      best_total = total;
      best_base = base;
      best = std::move(found);
    }
  }
  std::copy(best.begin(), best.end(), scales.begin());
  return best_base;
}

}  // namespace octet::compress
