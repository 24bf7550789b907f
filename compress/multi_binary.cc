// Enumeration of signed sums.
#include "compress/multi_binary.h"

#include <algorithm>
#include <array>
#include <limits>

#include "absl/types/span.h"

namespace octet::compress {
namespace {

// Sums of a, a[i] = 0 for terms that are not there; returns how many distinct ones.
size_t Sums(const std::array<int, 3>& a, std::array<int8_t, 8>* sums) {
  size_t count = 0;
  for (int s0 : {-1, 1}) {
    for (int s1 : {-1, 1}) {
      for (int s2 : {-1, 1}) (*sums)[count++] = static_cast<int8_t>(s0 * a[0] + s1 * a[1] + s2 * a[2]);
    }
  }
  std::sort(sums->begin(), sums->end());
  return static_cast<size_t>(std::unique(sums->begin(), sums->end()) - sums->begin());
}

}  // namespace

std::vector<int8_t> SignedSums(const LevelHistogram& histogram, int terms, int largest) {
  double best = std::numeric_limits<double>::infinity();
  std::vector<int8_t> found;
  for (int a0 = 1; a0 <= largest; ++a0) {
    for (int a1 = 1; a1 <= std::min(a0, largest - a0); ++a1) {
      const int most = terms == 3 ? std::min(a1, largest - a0 - a1) : 0;
      for (int a2 = terms == 3 ? 1 : 0; a2 <= most; ++a2) {
        std::array<int8_t, 8> sums;
        const size_t count = Sums({a0, a1, a2}, &sums);
        const double error = histogram.Error(absl::MakeConstSpan(sums.data(), count));
        if (error < best) {
          best = error;
          found.assign(sums.begin(), sums.begin() + static_cast<std::ptrdiff_t>(count));
        }
      }
    }
  }
  return found;
}

}  // namespace octet::compress
