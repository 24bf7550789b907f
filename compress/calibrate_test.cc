// Statistics of a run against plain loops over all samples, and that their memory does not grow with the samples.
#include "compress/calibrate.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "base/cpu.h"
#include "engine/test_util.h"

namespace octet::compress {
namespace {

// Sample i is made when it is read.
class GeneratedSamples final : public data::SampleReader {
 public:
  GeneratedSamples(int64_t count, Shape shape) : count_(count), shape_(std::move(shape)) {}
  int64_t size() const override { return count_; }
  absl::StatusOr<data::Sample> Read(int64_t i) override {
    const CounterRng rng(5, static_cast<uint64_t>(i));
    std::vector<float> values(static_cast<size_t>(NumElements(shape_)));
    for (size_t k = 0; k < values.size(); ++k) {
      values[k] = static_cast<float>((rng.Uniform(k) - 0.3) * (1 + static_cast<double>(k % 7) + static_cast<double>(i % 3)));
    }
    return data::Sample{absl::StrCat("generated[", i, "]"), {Tensor::FromF32(shape_, values)}};
  }

 private:
  int64_t count_;
  Shape shape_;
};

std::vector<int64_t> UpTo(int64_t n) {
  std::vector<int64_t> indices(static_cast<size_t>(n));
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

TEST(CalibrateTest, ChannelsAndMovingRangesAgreeWithPlainLoops) {
  engine::GraphMaker m;
  const auto image = m.Input("image", {1, 3, 4, 5});
  m.Output(m.Node("Conv", {image, m.Random("w", {2, 3, 1, 1}, 1)}, "y"));
  GeneratedSamples samples(40, {3, 4, 5});
  const auto statistics = Calibrate(m.g, {image}, samples, UpTo(40), {});
  ASSERT_TRUE(statistics.ok()) << statistics.status();
  const ValueStatistics& s = statistics->at(image);
  std::vector<double> sum(3), squares(3), maximum(3);
  double moving_low = 0, moving_high = 0;
  for (int64_t i = 0; i < 40; ++i) {
    const std::vector<float> values = samples.Read(i)->inputs[0].ToF32();
    for (size_t k = 0; k < values.size(); ++k) {
      const size_t c = k / 20;
      sum[c] += values[k];
      squares[c] += double{values[k]} * values[k];
      maximum[c] = std::max(maximum[c], std::fabs(double{values[k]}));
    }
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    moving_low = i == 0 ? *low : 0.99 * moving_low + 0.01 * *low;
    moving_high = i == 0 ? *high : 0.99 * moving_high + 0.01 * *high;
  }
  ASSERT_EQ(s.channel_sum.size(), 3u);
  for (size_t c = 0; c < 3; ++c) {
    const double mean = sum[c] / 800, square = squares[c] / 800;
    EXPECT_NEAR(s.ChannelMeans()[c], mean, 1e-9);
    EXPECT_NEAR(s.ChannelSquareMeans()[c], square, 1e-9);
    EXPECT_NEAR(s.ChannelDeviations()[c], std::sqrt(square - mean * mean), 1e-9);
    EXPECT_FLOAT_EQ(s.channel_maximum[c], static_cast<float>(maximum[c]));
  }
  const Range moving = ChooseRange(s.histogram, RangeMethod::kMovingAverage, 1);
  EXPECT_NEAR(moving.low, moving_low, 1e-9);
  EXPECT_NEAR(moving.high, moving_high, 1e-9);
}

TEST(CalibrateTest, ChannelsOfMatricesAreTheLastAxis) {
  engine::GraphMaker m;
  const auto x = m.Input("x", {1, 6, 4});
  const auto y = m.Node("MatMul", {x, m.Random("w", {4, 5}, 1)}, "y");
  m.Output(m.Node("Relu", {y}, "z"));
  GeneratedSamples samples(3, {6, 4});
  const auto statistics = Calibrate(m.g, {x, y}, samples, UpTo(3), {});
  ASSERT_TRUE(statistics.ok()) << statistics.status();
  EXPECT_EQ(statistics->at(x).channel_sum.size(), 4u);
  EXPECT_EQ(statistics->at(x).channel_count, 18);
  EXPECT_EQ(statistics->at(y).channel_sum.size(), 5u);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which keep freed memory
TEST(CalibrateTest, TenThousandSamplesTakeTheMemoryOfTen) {
  engine::GraphMaker m;
  const auto image = m.Input("image", {1, 3, 16, 16});
  const auto y = m.Node("Conv", {image, m.Random("w", {8, 3, 3, 3}, 1)}, "y");
  m.Output(m.Node("Relu", {y}, "z"));
  GeneratedSamples samples(10000, {3, 16, 16});
  const auto resident_after = [&](int64_t count) {
    EXPECT_TRUE(Calibrate(m.g, {image, y}, samples, UpTo(count), {}).ok());
    malloc_trim(0);
    return ResidentBytes();
  };
  (void)resident_after(10);
  const int64_t few = resident_after(10);
  const int64_t many = resident_after(10000);  // 40 MB of samples, 110 MB of values
  std::printf("resident after 10 samples %.2f MB, after 10,000 %.2f MB\n", static_cast<double>(few) / 1e6,
              static_cast<double>(many) / 1e6);
  // Held statistics would show while the call lasts; what it keeps is looked at directly, below.
  EXPECT_LE(many - few, 2 << 20);
}

// The peak within the call: the reader looks at resident memory as it is read.
TEST(CalibrateTest, MemoryStaysLevelDuringARun) {
  class Watching final : public data::SampleReader {
   public:
    int64_t size() const override { return samples_.size(); }
    absl::StatusOr<data::Sample> Read(int64_t i) override {
      if (i == 10) early = ResidentBytes();
      if (i == 9999) late = ResidentBytes();
      return samples_.Read(i);
    }
    int64_t early = 0, late = 0;

   private:
    GeneratedSamples samples_{10000, {3, 16, 16}};
  };
  engine::GraphMaker m;
  const auto image = m.Input("image", {1, 3, 16, 16});
  const auto y = m.Node("Conv", {image, m.Random("w", {8, 3, 3, 3}, 1)}, "y");
  m.Output(m.Node("Relu", {y}, "z"));
  Watching samples;
  ASSERT_TRUE(Calibrate(m.g, {image, y}, samples, UpTo(10000), {}).ok());
  std::printf("resident at sample 10 %.2f MB, at sample 9999 %.2f MB\n", static_cast<double>(samples.early) / 1e6,
              static_cast<double>(samples.late) / 1e6);
  ASSERT_GT(samples.early, 0);
  EXPECT_LE(samples.late - samples.early, 1 << 20);
}
#endif

}  // namespace
}  // namespace octet::compress
