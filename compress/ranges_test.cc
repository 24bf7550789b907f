// Histograms keep exact counts; range methods find what they promise.
#include "compress/ranges.h"

#include <gtest/gtest.h>

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
