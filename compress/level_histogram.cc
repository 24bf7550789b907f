// Prefix sums of weighted moments.
#include "compress/level_histogram.h"

#include <algorithm>
#include <cmath>

namespace octet::compress {

void LevelHistogram::Add(float x, double h) {
  const int bin = static_cast<int>(std::floor(std::clamp(2 * x, -256.0f, 255.0f)));
  Moments& m = sums_[static_cast<size_t>(bin + 256 + 1)];
  m.h += h;
  m.hx += h * x;
  m.hxx += h * x * x;
}

void LevelHistogram::Finish() {
  for (size_t i = 1; i < sums_.size(); ++i) {
    sums_[i].h += sums_[i - 1].h;
    sums_[i].hx += sums_[i - 1].hx;
    sums_[i].hxx += sums_[i - 1].hxx;
  }
}

double LevelHistogram::Cost(int from, int to, int level) const {
  const Moments& a = sums_[static_cast<size_t>(from + 256)];
  const Moments& b = sums_[static_cast<size_t>(to + 256)];
  return (b.hxx - a.hxx) - 2 * level * (b.hx - a.hx) + static_cast<double>(level) * level * (b.h - a.h);
}

double LevelHistogram::Between(int low, int high) const {
  return Cost(2 * low, low + high, low) + Cost(low + high, 2 * high, high);
}

double LevelHistogram::Error(absl::Span<const int8_t> levels) const {
  double error = Below(levels.front()) + Above(levels.back());
  for (size_t i = 1; i < levels.size(); ++i) error += Between(levels[i - 1], levels[i]);
  return error;
}

}  // namespace octet::compress
