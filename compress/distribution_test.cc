#include "compress/distribution.h"

#include <gtest/gtest.h>

#include <cmath>

#include "compress/fit_grid.h"
#include "compress/rounding_testing.h"

namespace octet::compress {
namespace {

QuantizedMatrix Fitted(const WeightMatrix& w, const char* grid) {
  FitOptions options;
  return *FitGrid(w, *MakeGrid(grid), {Granularity::Kind::kChannel, 0}, options);
}

double Gap(const QuantizedMatrix& m, int64_t r, int64_t c) {
  const auto i = static_cast<size_t>(r * m.columns() + c);
  const int code = m.codes[i], other = code + (m.steps[i] > 0 ? 1 : -1);
  return std::fabs(m.scale[m.ScaleIndex(r, c)] * (m.grid.levels[static_cast<size_t>(other)] - m.grid.levels[static_cast<size_t>(code)]));
}

// Every outcome of two independent samples of a row of 3 weights, by enumeration: 64 pairs. The expected squared error of
// their mean, with the bias correcting the most probable codes' mean, must be what ExpectedErrors says.
TEST(ExpectedErrors, AreThoseOfEnumeration) {
  for (const char* grid : {"ternary", "int3", "binary", "log3"}) {
    const WeightMatrix w = RandomMatrix(4, 1, 3, 1, 11);
    const Moments moments = CorrelatedMoments(3, 1, 50, 0, 12);
    QuantizedMatrix m = Fitted(w, grid);
    ASSERT_EQ(FitDistribution(w, moments, {.samples = 4}, &m), absl::OkStatus());
    // So that every weight of the test is undecided.
    for (size_t i = 0; i < m.steps.size(); ++i) {
      const bool up = m.codes[i] + 1u < m.grid.levels.size();
      m.steps[i] = static_cast<int8_t>((up ? 1 : -1) * static_cast<int>(20 + 9 * i));
    }
    const std::vector<ExpectedError> found = ExpectedErrors(w, moments, m);
    for (int64_t r = 0; r < m.rows; ++r) {
      double offset = 0;
      for (int64_t c = 0; c < 3; ++c) {
        offset += (w.values[static_cast<size_t>(r * 3 + c)] - m.Real(r, c)) * moments.mean[static_cast<size_t>(c)];
      }
      double expected_one = 0, expected_two = 0;
      for (int outcome = 0; outcome < 64; ++outcome) {
        double probability = 1, one[3], two[3];
        for (int64_t c = 0; c < 3; ++c) {
          const auto i = static_cast<size_t>(r * 3 + c);
          const double p = std::abs(m.steps[i]) / 254.0, move = (m.steps[i] > 0 ? 1 : -1) * Gap(m, r, c);
          const bool first = (outcome >> c & 1) != 0, second = (outcome >> (c + 3) & 1) != 0;
          probability *= (first ? p : 1 - p) * (second ? p : 1 - p);
          const double e = w.values[i] - m.Real(r, c);
          one[c] = e - (first ? move : 0);
          two[c] = e - ((first ? move : 0) + (second ? move : 0)) / 2;
        }
        const auto error = [&](const double* e) {
          double quadratic = 0, linear = 0;
          for (int64_t a = 0; a < 3; ++a) {
            linear += e[a] * moments.mean[static_cast<size_t>(a)];
            for (int64_t b = 0; b < 3; ++b) quadratic += e[a] * e[b] * moments.gram[static_cast<size_t>(a * 3 + b)];
          }
          return quadratic - 2 * linear * offset + offset * offset;
        };
        expected_one += probability * error(one);
        expected_two += probability * error(two);
      }
      const ExpectedError& got = found[static_cast<size_t>(r)];
      EXPECT_NEAR(got.OfSamples(1), expected_one, 1e-5 * expected_one + 1e-9) << grid << " row " << r;
      EXPECT_NEAR(got.OfSamples(2), expected_two, 1e-5 * expected_two + 1e-9) << grid << " row " << r;
    }
  }
}

// Against the best of a grid over all means of a row of 3 weights: 101 steps each way from the code, all combinations.
TEST(FitDistribution, FindsTheBestMeansOfASmallRow) {
  const WeightMatrix w = RandomMatrix(3, 1, 3, 1, 5);
  const Moments moments = CorrelatedMoments(3, 1, 50, 0, 6);
  constexpr double kSamples = 4;
  QuantizedMatrix m = Fitted(w, "ternary");
  ASSERT_EQ(FitDistribution(w, moments, {.samples = kSamples, .damping = 0, .sweeps = 1000}, &m), absl::OkStatus());
  const std::vector<ExpectedError> found = ExpectedErrors(w, moments, m);
  for (int64_t r = 0; r < m.rows; ++r) {
    double best = HUGE_VAL;
    QuantizedMatrix tried = m;
    std::vector<int> choices[3];
    for (int64_t c = 0; c < 3; ++c) {
      const int code = m.codes[static_cast<size_t>(r * 3 + c)];
      for (int step = -127; step <= 127; step += 6) {
        if ((step < 0 && code == 0) || (step > 0 && code + 1u >= m.grid.levels.size())) continue;
        choices[c].push_back(step);
      }
    }
    for (int a : choices[0]) {
      for (int b : choices[1]) {
        for (int c : choices[2]) {
          tried.steps[static_cast<size_t>(r * 3)] = static_cast<int8_t>(a);
          tried.steps[static_cast<size_t>(r * 3 + 1)] = static_cast<int8_t>(b);
          tried.steps[static_cast<size_t>(r * 3 + 2)] = static_cast<int8_t>(c);
          best = std::min(best, ExpectedErrors(w, moments, tried)[static_cast<size_t>(r)].OfSamples(kSamples));
        }
      }
    }
    // Steps are rounded to 1/254: a little above the best may be right.
    EXPECT_LE(found[static_cast<size_t>(r)].OfSamples(kSamples), best * 1.02 + 1e-7) << r;
  }
}

TEST(FitDistribution, AnEnsembleIsNeverExpectedToBeWorseThanItsMostProbableNetwork) {
  for (const char* grid : {"int4", "int3", "ternary", "binary", "kmeans3"}) {
    const WeightMatrix w = RandomMatrix(40, 9, 8, 1, 3);
    const Moments moments = CorrelatedMoments(72, 1, 300, 12, 4);
    for (const int bits : {8, 4}) {
      QuantizedMatrix m = Fitted(w, grid);
      ASSERT_EQ(FitDistribution(w, moments, {.samples = 8, .bits = bits, .damping = 0}, &m), absl::OkStatus());
      int64_t undecided = 0;
      for (int8_t step : m.steps) undecided += step != 0;
      EXPECT_GT(undecided, 0) << grid;
      EXPECT_LT(undecided, static_cast<int64_t>(m.steps.size())) << grid;
      double mode = 0, eight = 0;
      for (const ExpectedError& e : ExpectedErrors(w, moments, m)) {
        mode += e.mode;
        eight += e.OfSamples(8);
      }
      EXPECT_LT(eight, mode) << grid << " " << bits;
    }
  }
}

TEST(FitDistribution, ThreadsChangeNothingAndGroupsAreApart) {
  const WeightMatrix w = RandomMatrix(64, 9, 4, 4, 3);
  const Moments moments = CorrelatedMoments(36, 4, 100, 9, 4);
  QuantizedMatrix one = Fitted(w, "int3"), two = one;
  ASSERT_EQ(FitDistribution(w, moments, {.threads = 1}, &one), absl::OkStatus());
  ASSERT_EQ(FitDistribution(w, moments, {.threads = 2}, &two), absl::OkStatus());
  EXPECT_EQ(one.steps, two.steps);
}

TEST(FitDistribution, RefusesWhatItCannotDo) {
  const WeightMatrix w = RandomMatrix(2, 1, 8, 1, 1);
  Moments moments = CorrelatedMoments(8, 1, 50, 0, 1);
  QuantizedMatrix m = Fitted(w, "int4");
  EXPECT_EQ(FitDistribution(w, moments, {.samples = 1}, &m).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FitDistribution(w, moments, {.bits = 3}, &m).code(), absl::StatusCode::kInvalidArgument);
  moments.diagonal.assign(8, 1.0f);
  moments.gram.clear();
  EXPECT_EQ(FitDistribution(w, moments, {}, &m).code(), absl::StatusCode::kFailedPrecondition);
  QuantizedMatrix vectors = Fitted(w, "vq2");
  EXPECT_EQ(FitDistribution(w, moments, {}, &vectors).code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace octet::compress
