// Fitted tables and codebooks, against brute force on small cases.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "base/rng.h"
#include "compress/codebook_kmeans.h"
#include "compress/codebook_vector.h"
#include "compress/level_histogram.h"
#include "compress/multi_binary.h"

namespace octet::compress {
namespace {

struct Points {
  std::vector<float> x;
  std::vector<double> h;

  LevelHistogram Histogram() const {
    LevelHistogram histogram;
    for (size_t i = 0; i < x.size(); ++i) histogram.Add(x[i], h[i]);
    histogram.Finish();
    return histogram;
  }
  double Error(const std::vector<int8_t>& levels) const {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      double best = std::numeric_limits<double>::infinity();
      for (int8_t level : levels) best = std::min(best, std::pow(x[i] - static_cast<double>(level), 2));
      sum += h[i] * best;
    }
    return sum;
  }
};

Points RandomPoints(size_t n, double spread, uint64_t seed) {
  const CounterRng a(seed, 1), b(seed, 2);
  Points p;
  for (size_t i = 0; i < n; ++i) {
    p.x.push_back(static_cast<float>(spread * std::pow(2 * a.Uniform(i) - 1, 3)));
    if (i % 7 == 0) p.x.back() = std::round(2 * p.x.back()) / 2;  // levels and midpoints themselves
    p.h.push_back(0.1 + b.Uniform(i));
  }
  return p;
}

TEST(LevelHistogramTest, ErrorEqualsTheSumOverWeights) {
  const Points p = RandomPoints(500, 140, 3);  // also beyond the outermost level
  const LevelHistogram histogram = p.Histogram();
  for (const std::vector<int8_t>& levels :
       {std::vector<int8_t>{0}, {-127, 127}, {-90, -3, 0, 4, 5, 120}, {-127, -1, 0, 1}, {3, 4}}) {
    EXPECT_NEAR(histogram.Error(levels), p.Error(levels), 1e-9 * p.Error(levels));
  }
}

TEST(KMeansLevelsTest, EqualsBruteForce) {
  constexpr int kLargest = 5;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const Points p = RandomPoints(60, 7, seed);
    for (int entries = 1; entries <= 5; ++entries) {
      double best = std::numeric_limits<double>::infinity();
      for (unsigned set = 0; set < 1u << (2 * kLargest + 1); ++set) {
        if ((set >> kLargest & 1u) == 0) continue;
        std::vector<int8_t> levels;
        for (int l = -kLargest; l <= kLargest; ++l) {
          if ((set >> (l + kLargest) & 1u) != 0) levels.push_back(static_cast<int8_t>(l));
        }
        if (static_cast<int>(levels.size()) == entries) best = std::min(best, p.Error(levels));
      }
      const std::vector<int8_t> found = KMeansLevels(p.Histogram(), entries, kLargest);
      ASSERT_EQ(static_cast<int>(found.size()), entries);
      for (size_t i = 1; i < found.size(); ++i) EXPECT_LT(found[i - 1], found[i]);
      EXPECT_NE(std::find(found.begin(), found.end(), 0), found.end());
      EXPECT_NEAR(p.Error(found), best, 1e-9 * best + 1e-12) << entries << " entries, seed " << seed;
    }
  }
}

TEST(KMeansLevelsTest, TakesAllLevelsThereAre) {
  const Points p = RandomPoints(20, 3, 1);
  EXPECT_EQ(KMeansLevels(p.Histogram(), 7, 3), (std::vector<int8_t>{-3, -2, -1, 0, 1, 2, 3}));
}

TEST(SignedSumsTest, EqualsBruteForce) {
  constexpr int kLargest = 12;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const Points p = RandomPoints(80, 14, seed);
    for (int terms : {2, 3}) {
      double best = std::numeric_limits<double>::infinity();
      for (int a = 1; a <= kLargest; ++a) {
        for (int b = 1; a + b <= kLargest; ++b) {
          for (int c = terms == 3 ? 1 : 0; a + b + c <= kLargest && (terms == 3 || c == 0); ++c) {
            std::set<int> sums;
            for (int s = 0; s < 8; ++s) {
              sums.insert((s & 1 ? a : -a) + (s & 2 ? b : -b) + (s & 4 ? c : -c));
            }
            best = std::min(best, p.Error(std::vector<int8_t>(sums.begin(), sums.end())));
          }
        }
      }
      const std::vector<int8_t> found = SignedSums(p.Histogram(), terms, kLargest);
      EXPECT_LE(found.size(), size_t{1} << terms);
      for (size_t i = 1; i < found.size(); ++i) EXPECT_LT(found[i - 1], found[i]);
      EXPECT_NEAR(p.Error(found), best, 1e-9 * best) << terms << " terms, seed " << seed;
    }
  }
}

TEST(VectorCodebookTest, FindsVectorsThatRepeat) {
  // 40 vectors of levels up to 100, each 10 times: the codebook can hold them all.
  const CounterRng rng(5);
  std::vector<float> x;
  for (size_t repeat = 0; repeat < 10; ++repeat) {
    for (size_t i = 0; i < 160; ++i) x.push_back(static_cast<float>(std::floor(rng.Uniform(i) * 200) - 100));
  }
  const std::vector<float> h(x.size(), 1.0f);
  const VectorCodebook book = FitVectors(x, h, 127, 1);
  EXPECT_EQ(book.unit, 1.0f);
  ASSERT_EQ(book.levels.size(), kVectorEntries * kVectorSize);
  for (size_t d = 0; d < kVectorSize; ++d) EXPECT_EQ(book.levels[d], 0);
  std::vector<uint8_t> codes(x.size() / kVectorSize);
  AssignVectors(x, h, book.levels, absl::MakeSpan(codes));
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(static_cast<float>(book.levels[codes[i / 4] * size_t{4} + i % 4]), x[i]) << i;
  }
}

TEST(VectorCodebookTest, AssignsTheNearestUnderImportance) {
  const CounterRng rng(6), other(7);
  std::vector<int8_t> levels;
  for (size_t i = 0; i < kVectorEntries * kVectorSize; ++i) {
    levels.push_back(static_cast<int8_t>(std::floor(rng.Uniform(i) * 255) - 127));
  }
  std::vector<float> x, h;
  for (size_t i = 0; i < 400; ++i) {
    x.push_back(static_cast<float>(other.Uniform(i) * 300 - 150));
    h.push_back(static_cast<float>(rng.Uniform(5000 + i)));
  }
  std::vector<uint8_t> codes(100);
  AssignVectors(x, h, levels, absl::MakeSpan(codes));
  for (size_t v = 0; v < codes.size(); ++v) {
    const auto error = [&](size_t k) {
      double sum = 0;
      for (size_t d = 0; d < 4; ++d) {
        sum += h[4 * v + d] * std::pow(x[4 * v + d] - static_cast<double>(levels[4 * k + d]), 2);
      }
      return sum;
    };
    for (size_t k = 0; k < kVectorEntries; ++k) EXPECT_LE(error(codes[v]), error(k) * (1 + 1e-5)) << v;
  }
}

}  // namespace
}  // namespace octet::compress
