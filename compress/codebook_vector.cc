// k-means in four dimensions.
#include "compress/codebook_vector.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "base/rng.h"
#include "compress/fit_scale.h"

namespace octet::compress {
namespace {

constexpr size_t kSample = size_t{1} << 16;
constexpr int kRounds = 25;

// Structure of arrays: distances to all entries are one vectorised loop.
struct Centroids {
  std::array<std::array<float, kVectorEntries>, kVectorSize> at = {};  // [d][entry]

  // The nearest entry and its distance.
  std::pair<size_t, float> Nearest(const float* x, const float* h) const {
    std::array<float, kVectorEntries> distance;
    for (size_t k = 0; k < kVectorEntries; ++k) {
      const float d0 = x[0] - at[0][k], d1 = x[1] - at[1][k], d2 = x[2] - at[2][k], d3 = x[3] - at[3][k];
      distance[k] = h[0] * d0 * d0 + h[1] * d1 * d1 + h[2] * d2 * d2 + h[3] * d3 * d3;
    }
    size_t best = 0;
    for (size_t k = 1; k < kVectorEntries; ++k) best = distance[k] < distance[best] ? k : best;
    return {best, distance[best]};
  }
};

struct Sample {
  std::vector<float> x, h;  // [n, 4]
  size_t size() const { return x.size() / kVectorSize; }
};

// All vectors, or kSample of them drawn with equal chances, one from each of as many equal stretches.
Sample Draw(absl::Span<const float> x, absl::Span<const float> h, const CounterRng& rng) {
  const size_t n = x.size() / kVectorSize;
  if (n <= kSample) return {{x.begin(), x.end()}, {h.begin(), h.end()}};
  Sample sample;
  for (size_t i = 0; i < kSample; ++i) {
    const size_t first = i * n / kSample, last = (i + 1) * n / kSample;
    const size_t pick = first + static_cast<size_t>(rng.Uniform(i) * static_cast<double>(last - first));
    for (size_t d = 0; d < kVectorSize; ++d) {
      sample.x.push_back(x[pick * kVectorSize + d]);
      sample.h.push_back(h[pick * kVectorSize + d]);
    }
  }
  return sample;
}

// k-means++: each next centroid is a vector drawn in proportion to its distance from those that there are.
Centroids Seed(const Sample& sample, const CounterRng& rng) {
  Centroids c;  // entry 0: zero
  std::vector<double> distance(sample.size(), std::numeric_limits<double>::infinity());
  for (size_t k = 0; k + 1 < kVectorEntries; ++k) {
    double total = 0;
    for (size_t i = 0; i < sample.size(); ++i) {
      double next = 0;
      for (size_t d = 0; d < kVectorSize; ++d) {
        const double difference = sample.x[i * kVectorSize + d] - c.at[d][k];
        next += sample.h[i * kVectorSize + d] * difference * difference;
      }
      distance[i] = std::min(distance[i], next);
      total += distance[i];
    }
    double left = rng.Uniform(k) * total;
    size_t pick = 0;
    while (pick + 1 < sample.size() && left >= distance[pick]) left -= distance[pick++];
    for (size_t d = 0; d < kVectorSize; ++d) c.at[d][k + 1] = sample.x[pick * kVectorSize + d];
  }
  return c;
}

// One round of Lloyd's algorithm; an entry that nobody is nearest to stays. Returns the error before the move.
double Move(const Sample& sample, Centroids* c) {
  std::array<std::array<double, kVectorEntries>, kVectorSize> sum = {}, weight = {};
  double error = 0;
  for (size_t i = 0; i < sample.size(); ++i) {
    const float* x = &sample.x[i * kVectorSize];
    const float* h = &sample.h[i * kVectorSize];
    const auto [k, distance] = c->Nearest(x, h);
    error += distance;
    for (size_t d = 0; d < kVectorSize; ++d) {
      sum[d][k] += static_cast<double>(h[d]) * x[d];
      weight[d][k] += h[d];
    }
  }
  for (size_t k = 1; k < kVectorEntries; ++k) {
    for (size_t d = 0; d < kVectorSize; ++d) {
      if (weight[d][k] > 0) c->at[d][k] = static_cast<float>(sum[d][k] / weight[d][k]);
    }
  }
  return error;
}

}  // namespace

VectorCodebook FitVectors(absl::Span<const float> x, absl::Span<const float> h, int largest, uint64_t seed) {
  const Sample sample = Draw(x, h, CounterRng(seed, 0));
  Centroids c = Seed(sample, CounterRng(seed, 1));
  double before = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) {
    const double error = Move(sample, &c);
    if (!(error < before * (1 - 1e-4))) break;
    before = error;
  }
  float magnitude = 0;
  for (const auto& row : c.at) magnitude = std::max(magnitude, LargestMagnitude(row));
  VectorCodebook book;
  if (magnitude > 0) book.unit = PowerOfTwoAbove(magnitude / static_cast<float>(largest));
  for (size_t k = 0; k < kVectorEntries; ++k) {
    for (size_t d = 0; d < kVectorSize; ++d) {
      book.levels.push_back(static_cast<int8_t>(std::nearbyint(c.at[d][k] / book.unit)));
    }
  }
  return book;
}

void AssignVectors(absl::Span<const float> x, absl::Span<const float> h, absl::Span<const int8_t> levels,
                   absl::Span<uint8_t> codes) {
  Centroids c;
  for (size_t k = 0; k < kVectorEntries; ++k) {
    for (size_t d = 0; d < kVectorSize; ++d) c.at[d][k] = levels[k * kVectorSize + d];
  }
  for (size_t i = 0; i < codes.size(); ++i) {
    codes[i] = static_cast<uint8_t>(c.Nearest(&x[i * kVectorSize], &h[i * kVectorSize]).first);
  }
}

}  // namespace octet::compress
