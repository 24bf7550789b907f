// Histograms keep exact counts; range methods find what they promise.
#include "compress/ranges.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/rng.h"

namespace octet::compress {
namespace {

std::vector<float> Normal(size_t n, uint64_t seed) {
  const CounterRng rng(seed);
  std::vector<float> out(n);
  for (size_t i = 0; i < n; ++i) {
    out[i] = static_cast<float>(std::sqrt(-2 * std::log(1 - rng.Uniform(2 * i))) *
                                std::cos(2 * M_PI * rng.Uniform(2 * i + 1)));
  }
  return out;
}

TEST(StreamingHistogramTest, CountsSurviveDoublingInBothDirections) {
  StreamingHistogram h;
  const std::vector<float> batches[] = {{0.1f, 0.2f}, {50.0f}, {-700.0f, 3.0f}, {0.0f}};
  for (const auto& batch : batches) EXPECT_EQ(h.Add(batch), -1);
  EXPECT_EQ(h.count(), 6);
  EXPECT_EQ(std::accumulate(h.bins().begin(), h.bins().end(), uint64_t{0}), 6u);
  EXPECT_EQ(h.minimum(), -700);
  EXPECT_EQ(h.maximum(), 50);
  // Every value lies in the bin that covers it.
  const auto bin = static_cast<size_t>((50.0 - h.origin()) / h.width());
  EXPECT_EQ(h.bins()[bin], 1u);
  EXPECT_EQ(h.bins().size(), static_cast<size_t>(StreamingHistogram::kBins));
}

TEST(StreamingHistogramTest, NamesTheFirstBadValueAndTakesNothing) {
  StreamingHistogram h;
  EXPECT_EQ(h.Add({1, 2, std::numeric_limits<float>::quiet_NaN()}), 2);
  EXPECT_EQ(h.Add({std::numeric_limits<float>::infinity()}), 0);
  EXPECT_EQ(h.count(), 0);
}

TEST(StreamingHistogramTest, ConstantAndEmptyInputsAreFine) {
  StreamingHistogram h;
  EXPECT_EQ(h.Add({}), -1);
  EXPECT_EQ(h.Add(std::vector<float>(10, 0.0f)), -1);
  EXPECT_EQ(h.Add(std::vector<float>(10, 0.0f)), -1);
  const QuantParams p = U8Params(ChooseRange(h, RangeMethod::kMse, 1));
  EXPECT_EQ(p.scale[0], 1.0f);
  EXPECT_EQ(p.zero_point_at(0), 0);
}

TEST(RangeTest, MinMaxContainsZero) {
  StreamingHistogram h;
  h.Add({2, 5});
  const Range r = ChooseRange(h, RangeMethod::kMinMax, 1);
  EXPECT_EQ(r.low, 0);
  EXPECT_EQ(r.high, 5);
}

TEST(RangeTest, PercentileCutsTheTails) {
  StreamingHistogram h;
  std::vector<float> values = Normal(100000, 1);
  values[5] = 1000;
  h.Add(values);
  const Range r = ChooseRange(h, RangeMethod::kPercentile, 0.999);
  // 0.05 % of a normal distribution on either side lies beyond 3.29; bins are 0.3 wide here because of the outlier.
  EXPECT_NEAR(r.high, 3.29, 0.5);
  EXPECT_NEAR(r.low, -3.29, 0.5);
}

TEST(RangeTest, MseIsNeverWorseThanMinMaxAndClipsAnOutlier) {
  for (uint64_t seed = 1; seed < 6; ++seed) {
    StreamingHistogram h;
    std::vector<float> values = Normal(20000, seed);
    values[0] = 30;
    h.Add(values);
    const Range all = ChooseRange(h, RangeMethod::kMinMax, 1);
    const Range best = ChooseRange(h, RangeMethod::kMse, 1);
    EXPECT_LE(QuantizationError(h, U8Params(best)), QuantizationError(h, U8Params(all))) << seed;
    // One value of 30 among 20000 costs 30^2/20000 = 0.045 at most; steps of 35/255 cost 0.0016 each: some is clipped
    // only when it pays, so compare with the direct error of the values themselves.
    auto direct = [&](const QuantParams& p) {
      double error = 0;
      for (float v : values) {
        const double q = std::min(255.0, std::max(0.0, std::nearbyint(double{v} / p.scale[0]) + p.zero_point[0]));
        error += std::pow(v - (q - p.zero_point[0]) * p.scale[0], 2);
      }
      return error;
    };
    EXPECT_LE(direct(U8Params(best)), direct(U8Params(all)) * 1.05) << seed;
  }
}

// ---- each method against brute force

// ReLU-like: two thirds zeros, the rest a decaying tail; or two-sided with outliers.
StreamingHistogram Skewed(uint64_t seed, bool two_sided) {
  const CounterRng rng(seed);
  std::vector<float> values(30000);
  for (size_t i = 0; i < values.size(); ++i) {
    const double u = rng.Uniform(3 * i);
    if (!two_sided && rng.Uniform(3 * i + 1) < 0.66) continue;
    values[i] = static_cast<float>(-std::log(1 - u) * (two_sided && rng.Uniform(3 * i + 2) < 0.4 ? -0.5 : 1));
  }
  values[7] = 40;
  StreamingHistogram h;
  h.Add(values);
  return h;
}

TEST(StreamingHistogramTest, ZerosLieInTheBinThatStartsAtZeroHoweverTheRangeGrew) {
  const CounterRng rng(4);
  StreamingHistogram h;
  for (int batch = 0; batch < 40; ++batch) {
    std::vector<float> values = {0.0f, -0.0f};
    const double scale = std::pow(1.7, batch) * (batch % 3 == 0 ? -1 : 1);
    for (uint64_t i = 0; i < 20; ++i) values.push_back(static_cast<float>(rng.Uniform(static_cast<uint64_t>(batch) * 20 + i) * scale));
    h.Add(values);
  }
  EXPECT_EQ(h.zeros(), 80);
  const double position = -h.origin() / h.width();
  ASSERT_NEAR(position, std::round(position), 1e-9) << "0 is an edge";
  EXPECT_GE(h.bins()[static_cast<size_t>(std::lround(position))], 80u);
  EXPECT_EQ(std::accumulate(h.bins().begin(), h.bins().end(), uint64_t{0}), static_cast<uint64_t>(h.count()));
  EXPECT_LE(h.origin(), h.minimum());
  EXPECT_GE(h.origin() + h.width() * StreamingHistogram::kBins, h.maximum());
}

// Rounds many points of every bin.
double SampledError(const StreamingHistogram& h, const QuantParams& p) {
  double error = 0;
  constexpr int kPoints = 200;
  const auto zero_bin = static_cast<size_t>(std::lround(std::max(0.0, -h.origin() / h.width())));
  for (size_t i = 0; i < h.bins().size(); ++i) {
    double count = static_cast<double>(h.bins()[i]);
    if (i == zero_bin) count -= static_cast<double>(h.zeros());
    if (count == 0) continue;
    for (int k = 0; k < kPoints; ++k) {
      const double x = h.origin() + (static_cast<double>(i) + (k + 0.5) / kPoints) * h.width();
      const double q = std::clamp(std::nearbyint(x / p.scale[0]) + p.zero_point[0], 0.0, 255.0);
      error += count / kPoints * std::pow(x - (q - p.zero_point[0]) * p.scale[0], 2);
    }
  }
  return error / static_cast<double>(h.count());
}

TEST(QuantizationErrorTest, AgreesWithRoundingPointsOfEveryBin) {
  for (bool two_sided : {false, true}) {
    const StreamingHistogram h = Skewed(1, two_sided);
    for (double high : {40.0, 9.0, 2.0}) {
      const QuantParams p = U8Params({two_sided ? -4.0 : 0.0, high});
      const double sampled = SampledError(h, p);
      EXPECT_NEAR(QuantizationError(h, p), sampled, 1e-3 * sampled) << high;
    }
  }
}

TEST(RangeTest, MseFindsTheBestOfAnExhaustiveGrid) {
  for (bool two_sided : {false, true}) {
    for (uint64_t seed : {1, 2}) {
      const StreamingHistogram h = Skewed(seed, two_sided);
      double best = 1e300;
      constexpr int kSteps = 100;
      for (int i = 1; i <= kSteps; ++i) {
        for (int k = two_sided ? 1 : kSteps; k <= kSteps; ++k) {
          best = std::min(best, QuantizationError(h, U8Params({h.minimum() * k / kSteps, h.maximum() * i / kSteps})));
        }
      }
      EXPECT_LE(QuantizationError(h, U8Params(ChooseRange(h, RangeMethod::kMse, 1))), 1.01 * best);
    }
  }
}

// By the definition, bin by bin.
double PlainDivergence(const StreamingHistogram& h, int first, int last) {
  std::vector<double> counts(h.bins().begin(), h.bins().end());
  const double zero_bin = -h.origin() / h.width();
  if (h.zeros() > 0) counts[static_cast<size_t>(std::lround(zero_bin))] -= static_cast<double>(h.zeros());
  const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  const int n = last - first;
  std::vector<double> p(counts.begin() + first, counts.begin() + last), q(static_cast<size_t>(n), 0.0);
  const std::vector<double> inside = p;
  for (int i = 0; i < first; ++i) p.front() += counts[static_cast<size_t>(i)];
  for (size_t i = static_cast<size_t>(last); i < counts.size(); ++i) p.back() += counts[i];
  for (int cell = 0; cell < 256; ++cell) {
    double sum = 0, filled = 0;
    for (int i = cell * n / 256; i < (cell + 1) * n / 256; ++i) {
      sum += inside[static_cast<size_t>(i)];
      filled += p[static_cast<size_t>(i)] > 0 ? 1 : 0;
    }
    for (int i = cell * n / 256; i < (cell + 1) * n / 256; ++i) {
      if (p[static_cast<size_t>(i)] > 0) q[static_cast<size_t>(i)] = sum / filled;
    }
  }
  const double q_total = std::accumulate(q.begin(), q.end(), 0.0);
  double divergence = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] > 0) divergence += p[i] / total * std::log((p[i] / total) / (q[i] / q_total));
  }
  return divergence;
}

TEST(DivergenceTest, AgreesWithItsDefinition) {
  const StreamingHistogram h = Skewed(3, true);
  for (int first : {0, 300, 420}) {
    for (int last : {700, 1000, 2777, 4096}) {
      const double plain = PlainDivergence(h, first, last);
      if (std::isinf(plain)) {
        EXPECT_TRUE(std::isinf(Divergence(h, first, last)));
      } else {
        EXPECT_NEAR(Divergence(h, first, last), plain, 1e-9 + 1e-6 * plain) << first << " " << last;
      }
    }
  }
}

TEST(RangeTest, EntropyFindsTheLeastDivergenceOfAllRangesOfPositiveValues) {
  for (uint64_t seed : {1, 2, 3}) {
    const StreamingHistogram h = Skewed(seed, false);
    const int zero = static_cast<int>(std::lround(-h.origin() / h.width()));
    const int highest = static_cast<int>(std::floor((h.maximum() - h.origin()) / h.width())) + 1;
    double best = 1e300;
    for (int last = zero + 256; last <= highest; ++last) best = std::min(best, PlainDivergence(h, zero, last));
    const Range r = ChooseRange(h, RangeMethod::kEntropy, 1);
    const int chosen = std::min(highest, static_cast<int>(std::lround((r.high - h.origin()) / h.width())));
    EXPECT_EQ(r.low, 0);
    EXPECT_LE(Divergence(h, zero, std::max(chosen, zero + 256)), best * 1.01 + 1e-9);
    EXPECT_LT(r.high, 30) << "the outlier at 40 is not worth it";
    EXPECT_GT(r.high, 2);
  }
}

TEST(RangeTest, EntropyCutsFromBothSides) {
  const StreamingHistogram h = Skewed(5, true);
  const Range r = ChooseRange(h, RangeMethod::kEntropy, 1);
  EXPECT_LT(r.high, 30);
  EXPECT_LT(r.low, -0.5);
  EXPECT_GE(r.low, h.minimum());
}

// Numerical integration of the clipped error plus the step's, on a fine grid of kappas.
double BruteForceClipping(Distribution distribution, int bits) {
  double best = 1e300, best_kappa = 0;
  for (double kappa = 0.5; kappa < 16; kappa += 0.005) {
    double clip = 0;
    constexpr double kStep = 0.002;
    for (double x = kappa + kStep / 2; x < kappa + 12; x += kStep) {
      const double density = distribution == Distribution::kLaplace ? std::exp(-x) / 2
                                                                    : std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
      clip += 2 * (x - kappa) * (x - kappa) * density * kStep;
    }
    const double step = 2 * kappa / std::exp2(bits), error = clip + step * step / 12;
    if (error < best) {
      best = error;
      best_kappa = kappa;
    }
  }
  return best_kappa;
}

TEST(OptimalClippingTest, AgreesWithIntegrationAndThePaper) {
  for (int bits : {2, 4, 8}) {
    for (Distribution d : {Distribution::kNormal, Distribution::kLaplace}) {
      EXPECT_NEAR(OptimalClipping(d, bits), BruteForceClipping(d, bits), 0.01) << bits;
    }
  }
  // arXiv:1810.05723, section 3: 2.83, 3.89 and 5.03 times b for 2, 3 and 4 bits of a Laplace distribution.
  EXPECT_NEAR(OptimalClipping(Distribution::kLaplace, 2), 2.83, 0.01);
  EXPECT_NEAR(OptimalClipping(Distribution::kLaplace, 3), 3.89, 0.01);
  EXPECT_NEAR(OptimalClipping(Distribution::kLaplace, 4), 5.03, 0.01);
}

TEST(RangeTest, ClosedFormTellsNormalFromLaplaceAndFoldedFromWhole) {
  const CounterRng rng(6);
  std::vector<float> normal = Normal(200000, 6), laplace(200000);
  for (size_t i = 0; i < laplace.size(); ++i) {
    const double magnitude = -std::log(1 - rng.Uniform(2 * i));
    laplace[i] = static_cast<float>(rng.Uniform(2 * i + 1) < 0.5 ? magnitude : -magnitude);
  }
  const auto high_of = [](std::vector<float> values, bool folded) {
    if (folded) {
      for (float& v : values) v = std::max(v, 0.0f);
    }
    StreamingHistogram h;
    h.Add(values);
    return ChooseRange(h, RangeMethod::kClosedForm, 1).high;
  };
  EXPECT_NEAR(high_of(normal, false), OptimalClipping(Distribution::kNormal, 8), 0.05);
  EXPECT_NEAR(high_of(normal, true), OptimalClipping(Distribution::kNormal, 9), 0.05);
  EXPECT_NEAR(high_of(laplace, false), OptimalClipping(Distribution::kLaplace, 8), 0.1);
  EXPECT_NEAR(high_of(laplace, true), OptimalClipping(Distribution::kLaplace, 9), 0.15);
}

TEST(RangeTest, EveryMethodTakesConstantsAndZeros) {
  for (float value : {0.0f, 3.0f, -2.0f}) {
    StreamingHistogram h;
    h.Add(std::vector<float>(50, value));
    for (RangeMethod m : {RangeMethod::kMinMax, RangeMethod::kMovingAverage, RangeMethod::kPercentile, RangeMethod::kEntropy,
                          RangeMethod::kMse, RangeMethod::kClosedForm}) {
      const Range r = ChooseRange(h, m, 0.999);
      EXPECT_NEAR(r.low, std::min(value, 0.0f), 1e-2) << NameOf(m) << " " << value;
      EXPECT_NEAR(r.high, std::max(value, 0.0f), 1e-2) << NameOf(m) << " " << value;
      EXPECT_EQ(*ParseRangeMethod(NameOf(m)), m);
    }
  }
  EXPECT_FALSE(ParseRangeMethod("kl").ok());
}

TEST(GuardedRangeTest, APercentileThatCutsMostOfTheEnergyGivesWayToMse) {
  // A transformer's residual stream: 1 element in 5000 is 100 times as large as the others.
  std::vector<float> values = Normal(200000, 2);
  for (size_t i = 0; i < values.size(); i += 5000) values[i] = 100;
  StreamingHistogram h;
  h.Add(values);
  const ChosenRange cut = ChooseGuardedRange(h, RangeMethod::kPercentile, 0.999);
  EXPECT_EQ(cut.method, RangeMethod::kMse);
  EXPECT_NE(cut.reason.find("percentile cuts"), std::string::npos) << cut.reason;
  EXPECT_GT(cut.range.high, 50);
  EXPECT_GT(ClippedShare(h, ChooseRange(h, RangeMethod::kPercentile, 0.999)), 0.5);
  // One that keeps them, and one on harmless tails, are taken as asked.
  EXPECT_EQ(ChooseGuardedRange(h, RangeMethod::kPercentile, 0.99999).reason, "");
  StreamingHistogram calm;
  calm.Add(Normal(200000, 3));
  const ChosenRange fine = ChooseGuardedRange(calm, RangeMethod::kPercentile, 0.9999);
  EXPECT_EQ(fine.method, RangeMethod::kPercentile);
  EXPECT_EQ(fine.reason, "");
}

TEST(GuardedRangeTest, ClippedShareAgreesWithThePlainSum) {
  const std::vector<float> values = Normal(50000, 9);
  StreamingHistogram h;
  h.Add(values);
  double clipped = 0, energy = 0;
  for (float v : values) {
    clipped += std::pow(v - std::clamp(double{v}, -1.0, 2.0), 2);
    energy += double{v} * v;
  }
  EXPECT_NEAR(ClippedShare(h, {-1, 2}), clipped / energy, 2e-3 * clipped / energy);
}

TEST(U8ParamsTest, ZeroIsExact) {
  for (const Range r : {Range{-1, 3}, Range{0, 6}, Range{-5, 0}, Range{-0.001, 1000}}) {
    const QuantParams p = U8Params(r);
    EXPECT_GE(p.zero_point[0], 0);
    EXPECT_LE(p.zero_point[0], 255);
    EXPECT_NEAR(double{p.scale[0]} * (255 - p.zero_point[0]), r.high, p.scale[0]);
    EXPECT_NEAR(-double{p.scale[0]} * p.zero_point[0], r.low, p.scale[0]);
  }
}

}  // namespace
}  // namespace octet::compress
