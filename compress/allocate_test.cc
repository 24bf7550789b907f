// Allocation against enumeration of all choices.
#include "compress/allocate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/rng.h"

namespace octet::compress {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

// Layers whose cheaper candidates are noisier, as widths of a grid are.
std::vector<std::vector<Candidate>> RandomLayers(size_t count, uint64_t seed) {
  const CounterRng rng(seed);
  std::vector<std::vector<Candidate>> layers(count);
  for (size_t l = 0; l < count; ++l) {
    const double size = 100 + 900 * rng.Uniform(4 * l), sensitivity = 0.1 + rng.Uniform(4 * l + 1);
    const double speed = 0.2 + rng.Uniform(4 * l + 2);
    for (double bits : {32.0, 8.0, 4.0, 2.0}) {
      layers[l].push_back({sensitivity * std::exp2(-2 * bits), size * bits / 8, size * bits * speed * 1e-6});
    }
  }
  return layers;
}

// The least noise of all 4^n choices within the limits.
double Enumerate(const std::vector<std::vector<Candidate>>& layers, double max_bytes, double max_seconds) {
  double best = kNoLimit;
  for (size_t i = 0; i < size_t{1} << (2 * layers.size()); ++i) {
    Candidate sum;
    for (size_t l = 0; l < layers.size(); ++l) {
      const Candidate& c = layers[l][i >> (2 * l) & 3];
      sum.noise += c.noise;
      sum.bytes += c.bytes;
      sum.seconds += c.seconds;
    }
    if (sum.bytes <= max_bytes && sum.seconds <= max_seconds) best = std::min(best, sum.noise);
  }
  return best;
}

TEST(Allocate, WithoutLimitsTakesTheLeastNoise) {
  const auto layers = RandomLayers(5, 1);
  EXPECT_EQ(LeastNoise(layers, kNoLimit, kNoLimit).choice, std::vector<size_t>(5, 0));
}

TEST(Allocate, ComesCloseToEnumerationWithinLimits) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const auto layers = RandomLayers(6, seed);
    const Allocation cheapest = Choose(layers, 1e9, 0), dearest = Choose(layers, 0, 0);
    for (double share : {0.1, 0.3, 0.6}) {
      const double bytes = cheapest.total.bytes + share * (dearest.total.bytes - cheapest.total.bytes);
      const double seconds = seed % 2 == 0 ? kNoLimit : 0.5 * dearest.total.seconds;
      const Allocation found = LeastNoise(layers, bytes, seconds);
      EXPECT_LE(found.total.bytes, bytes) << "seed " << seed;
      EXPECT_LE(found.total.seconds, seconds) << "seed " << seed;
      // The hull misses what lies between its corners: within one step of two bits of the optimum (a factor of 16).
      EXPECT_LE(found.total.noise, 4 * Enumerate(layers, bytes, seconds)) << "seed " << seed << " share " << share;
    }
  }
}

TEST(Allocate, TellsTheNearestWhenNothingFits) {
  const auto layers = RandomLayers(4, 3);
  const Allocation found = LeastNoise(layers, 1, kNoLimit);
  EXPECT_EQ(found.choice, std::vector<size_t>(4, 3));
  EXPECT_GT(found.total.bytes, 1);
}

TEST(Allocate, PathTradesNoiseForBytesMonotonously) {
  const auto path = Path(RandomLayers(6, 5), 1, 0);
  ASSERT_GE(path.size(), 6u);
  EXPECT_EQ(path.front().choice, std::vector<size_t>(6, 0));
  EXPECT_EQ(path.back().choice, std::vector<size_t>(6, 3));
  for (size_t i = 1; i < path.size(); ++i) {
    EXPECT_LT(path[i].total.bytes, path[i - 1].total.bytes);
    EXPECT_GT(path[i].total.noise, path[i - 1].total.noise);
  }
}

}  // namespace
}  // namespace octet::compress
