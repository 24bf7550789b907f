// Refitted scales against enumeration, plain loops in f64 and the start.
#include "compress/refit_scales.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "compress/gram_error.h"
#include "compress/learned_rounding.h"
#include "compress/rounding_testing.h"
#include "compress/scale_multiples.h"

namespace octet::compress {
namespace {

// The least e^T G e of a row of a binary matrix over all codes, each with its own best scale of the whole row.
double BestBinary(const WeightMatrix& w, const Moments& moments, int64_t row) {
  const int64_t n = w.columns();
  double best = INFINITY;
  for (uint64_t choice = 0; choice < (uint64_t{1} << n); ++choice) {
    double cross = 0, energy = 0, signal = 0;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        const double g = moments.gram[static_cast<size_t>(i * n + j)];
        const double a = (choice >> i & 1) != 0 ? 1 : -1, b = (choice >> j & 1) != 0 ? 1 : -1;
        const double wi = w.values[static_cast<size_t>(row * n + i)], wj = w.values[static_cast<size_t>(row * n + j)];
        cross += a * g * wj;
        energy += a * g * b;
        signal += wi * g * wj;
      }
    }
    if (energy > 0) best = std::min(best, signal - cross * cross / energy);
  }
  return best;
}

TEST(RefitScalesTest, ComesCloseToTheBestOfAllCodesAndScales) {
  double learned_sum = 0, refitted_sum = 0, best_sum = 0;
  for (uint64_t seed = 0; seed < 16; ++seed) {
    const WeightMatrix w = RandomMatrix(4, 1, 9, 1, seed);
    const Moments moments = CorrelatedMoments(9, 1, 100, 4, seed);
    QuantizedMatrix m = *FitGrid(w, *MakeGrid("binary"), {}, {});
    LearnedRoundingOptions learned;
    learned.damping = 0;
    ASSERT_TRUE(RoundLearned(w, moments, learned, &m).ok());
    learned_sum += GramError(w, m, moments);
    RefitScalesOptions options;
    options.damping = 0;
    ASSERT_TRUE(RefitScales(w, moments, options, &m).ok());
    refitted_sum += GramError(w, m, moments);
    for (int64_t r = 0; r < 4; ++r) best_sum += BestBinary(w, moments, r);
  }
  // Measured: 2.10 times the best loss before, 1.62 times it after.
  EXPECT_LT(refitted_sum, 0.85 * learned_sum);
  EXPECT_LT(refitted_sum, 1.7 * best_sum) << learned_sum << " before, best " << best_sum;
}

// Whether a row's scales are multiples of one of them over k, up to `most`.
void ExpectMultiples(const QuantizedMatrix& m) {
  int largest = 0;
  for (int8_t level : m.grid.levels) largest = std::max(largest, std::abs(level));
  const int most = LargestMultiple(largest);
  const size_t per_row = m.scale.size() / static_cast<size_t>(m.rows);
  for (size_t first = 0; first < m.scale.size(); first += per_row) {
    bool fits = false;
    const double least = *std::min_element(m.scale.begin() + static_cast<int64_t>(first),
                                           m.scale.begin() + static_cast<int64_t>(first + per_row));
    for (int k = 1; k <= most && !fits; ++k) {
      fits = true;
      for (size_t i = 0; i < per_row; ++i) {
        const double multiple = double{m.scale[first + i]} * k / least;
        fits = fits && multiple == std::nearbyint(multiple) && multiple <= most;
      }
    }
    EXPECT_TRUE(fits) << "row " << first / per_row;
  }
}

struct Case {
  const char* name;
  int64_t rows, positions, inputs, conv_groups;
  const char* grid;
  int64_t group;
  ScaleForm form;
};

class RefitScalesShapes : public ::testing::TestWithParam<Case> {
 protected:
  const Case& c = GetParam();
  const WeightMatrix w = RandomMatrix(c.rows, c.positions, c.inputs, c.conv_groups, 3);
  const Moments moments = CorrelatedMoments(w.columns(), c.conv_groups, 200, 3, 9);
  QuantizedMatrix Start() const {
    const Granularity granularity{c.group > 0 ? Granularity::Kind::kGroup : Granularity::Kind::kChannel, c.group};
    FitOptions options;
    options.form = c.form;
    return *FitGrid(w, *MakeGrid(c.grid), granularity, options);
  }
};

TEST_P(RefitScalesShapes, NoRowIsWorseAndMostAreBetter) {
  const QuantizedMatrix start = Start();
  QuantizedMatrix m = start;
  RefitScalesOptions options;
  options.form = c.form;
  options.damping = 0;
  ASSERT_TRUE(RefitScales(w, moments, options, &m).ok());
  const std::vector<double> before = GramErrors(w, start, moments), after = GramErrors(w, m, moments);
  // f32 scales and the f64 sums of the descent: 1e-6 of the loss.
  for (size_t r = 0; r < before.size(); ++r) EXPECT_LE(after[r], before[r] * (1 + 1e-6)) << r;
  EXPECT_LT(std::accumulate(after.begin(), after.end(), 0.0), 0.8 * std::accumulate(before.begin(), before.end(), 0.0));
  EXPECT_NE(m.scale, start.scale);
  EXPECT_EQ(m.zero, start.zero);
  if (c.form == ScaleForm::kMultiples) ExpectMultiples(m);
}

// With codes as they are no scale can move to lower the loss: by 1 % either way where scales are free, by one multiple else.
TEST_P(RefitScalesShapes, EndsWhereNoScaleMovesForGood) {
  QuantizedMatrix m = Start();
  RefitScalesOptions options;
  options.form = c.form;
  options.damping = 0;
  options.rounds = 20;
  ASSERT_TRUE(RefitScales(w, moments, options, &m).ok());
  const std::vector<double> found = GramErrors(w, m, moments);
  const size_t per_row = m.scale.size() / static_cast<size_t>(m.rows);
  int better = 0;
  for (size_t s = 0; s < m.scale.size(); ++s) {
    for (const double factor : {0.9, 1.1}) {
      QuantizedMatrix other = m;
      other.scale[s] = static_cast<float>(m.scale[s] * factor);
      // A last flip of codes may leave a scale a little off: the rounds end when they gain little.
      if (GramErrors(w, other, moments)[s / per_row] < found[s / per_row] * 0.99) ++better;
    }
  }
  EXPECT_LE(better, static_cast<int>(m.scale.size()) / 10);
}

TEST_P(RefitScalesShapes, DoesNotDependOnThreads) {
  QuantizedMatrix one = Start(), three = one;
  RefitScalesOptions options;
  options.form = c.form;
  ASSERT_TRUE(RefitScales(w, moments, options, &one).ok());
  options.threads = 3;
  ASSERT_TRUE(RefitScales(w, moments, options, &three).ok());
  EXPECT_EQ(one.codes, three.codes);
  EXPECT_EQ(one.scale, three.scale);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, RefitScalesShapes,
    ::testing::Values(Case{"matrix", 70, 1, 50, 1, "ternary", 0, ScaleForm::kF32},
                      Case{"kernel", 5, 9, 4, 1, "int3", 0, ScaleForm::kF32},
                      Case{"grouped", 6, 4, 5, 3, "binary", 0, ScaleForm::kF32},
                      Case{"groups", 8, 3, 20, 1, "binary", 8, ScaleForm::kF32},
                      Case{"multiples", 40, 3, 20, 1, "binary", 8, ScaleForm::kMultiples},
                      Case{"ternary_multiples", 8, 1, 64, 1, "ternary", 16, ScaleForm::kMultiples},
                      Case{"int4_multiples", 8, 1, 64, 1, "int4", 16, ScaleForm::kMultiples},
                      Case{"affine", 8, 1, 40, 1, "uint3", 16, ScaleForm::kF32}),
    [](const auto& param) { return param.param.name; });

TEST(RefitScalesTest, KeepsTheMinimumScale) {
  const WeightMatrix w = RandomMatrix(6, 1, 40, 1, 3);
  const Moments moments = CorrelatedMoments(40, 1, 200, 3, 9);
  QuantizedMatrix m = *FitGrid(w, *MakeGrid("int3"), {}, {});
  const std::vector<float> minimum = m.scale;
  RefitScalesOptions options;
  options.minimum_scale = minimum;
  ASSERT_TRUE(RefitScales(w, moments, options, &m).ok());
  for (size_t i = 0; i < minimum.size(); ++i) EXPECT_GE(m.scale[i], minimum[i]);
}

TEST(RefitScalesTest, LeavesPowersOfTwoAndTensorsAndRefusesVectors) {
  const WeightMatrix w = RandomMatrix(4, 1, 16, 1, 6);
  const Moments moments = CorrelatedMoments(16, 1, 100, 3, 3);
  const QuantizedMatrix tensor = *FitGrid(w, *MakeGrid("int3"), {Granularity::Kind::kTensor, 0}, {});
  QuantizedMatrix m = tensor;
  ASSERT_TRUE(RefitScales(w, moments, {}, &m).ok());
  EXPECT_EQ(m.scale, tensor.scale);
  Grid vectors = *MakeGrid("vq2");
  vectors.levels.resize(1024, 1);
  m = RoundNearest(w, vectors);
  EXPECT_TRUE(absl::IsUnimplemented(RefitScales(w, moments, {}, &m)));
}

// Centred moments are those of x - E[x]: sums over the drawn inputs themselves in f64.
TEST(CentredMomentsTest, AreWhatABiasLeavesOfAnError) {
  constexpr int64_t kColumns = 7, kSamples = 60;
  const WeightMatrix w = RandomMatrix(3, 1, kColumns, 1, 4);
  const CounterRng rng(12);
  std::vector<double> x(kColumns * kSamples);
  for (size_t i = 0; i < x.size(); ++i) x[i] = 1 + rng.Uniform(i) * static_cast<double>(i % kColumns);
  Moments moments;
  moments.columns = kColumns;
  moments.count = kSamples;
  moments.mean.resize(kColumns);
  moments.gram.resize(kColumns * kColumns);
  for (size_t s = 0; s < kSamples; ++s) {
    for (size_t i = 0; i < kColumns; ++i) {
      moments.mean[i] += static_cast<float>(x[s * kColumns + i] / kSamples);
      for (size_t j = 0; j < kColumns; ++j) {
        moments.gram[i * kColumns + j] += static_cast<float>(x[s * kColumns + i] * x[s * kColumns + j] / kSamples);
      }
    }
  }
  const Moments centred = Centred(moments);
  const std::vector<double> found = GramEnergies(w, w.values, centred);
  Moments diagonal = moments;
  for (size_t i = 0; i < kColumns; ++i) diagonal.diagonal.push_back(moments.gram[i * kColumns + i]);
  diagonal.gram.clear();
  const std::vector<double> apart = GramEnergies(w, w.values, Centred(diagonal));
  for (size_t r = 0; r < 3; ++r) {
    double sum = 0, squares = 0, uncorrelated = 0;
    for (size_t s = 0; s < kSamples; ++s) {
      double y = 0;
      for (size_t c = 0; c < kColumns; ++c) y += w.values[r * kColumns + c] * x[s * kColumns + c];
      sum += y / kSamples;
      squares += y * y / kSamples;
    }
    for (size_t c = 0; c < kColumns; ++c) {
      const double variance = moments.gram[c * kColumns + c] - double{moments.mean[c]} * moments.mean[c];
      uncorrelated += w.values[r * kColumns + c] * variance * w.values[r * kColumns + c];
    }
    // Sums in f32 of numbers up to 50: 1e-4.
    EXPECT_NEAR(found[r], squares - sum * sum, 1e-4);
    EXPECT_NEAR(apart[r], uncorrelated, 1e-4);
  }
  for (float mean : centred.mean) EXPECT_EQ(mean, 0);
}

}  // namespace
}  // namespace octet::compress
