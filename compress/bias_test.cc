// Weights and biases on their integer grids, against direct arithmetic.
#include "compress/weights.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"

namespace octet::compress {
namespace {

TEST(QuantizeWeightsTest, PerChannelScalesAlongEitherAxis) {
  const std::vector<float> w = {1, -2, 4, 10, 20, -40};  // two channels of three, then three of two
  const QuantizedWeights rows = QuantizeWeights(w, 1, 2, 3, WeightRange::kMaximum);
  EXPECT_FLOAT_EQ(rows.scale[0], 4.0f / 127);
  EXPECT_FLOAT_EQ(rows.scale[1], 40.0f / 127);
  EXPECT_EQ(rows.values[2], 127);
  EXPECT_EQ(rows.values[5], -127);
  EXPECT_EQ(rows.values[0], 32);  // 31.75
  const QuantizedWeights columns = QuantizeWeights(w, 2, 3, 1, WeightRange::kMaximum);
  EXPECT_FLOAT_EQ(columns.scale[0], 10.0f / 127);
  EXPECT_FLOAT_EQ(columns.scale[2], 40.0f / 127);
  EXPECT_EQ(columns.values[3], 127);
  EXPECT_EQ(columns.values[0], 13);  // 12.7
}

TEST(QuantizeWeightsTest, MseNeverLosesToTheMaximum) {
  const CounterRng rng(3);
  std::vector<float> w(2000);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(std::pow(rng.Uniform(i) * 2 - 1, 9));
  double errors[2];
  for (int m = 0; m < 2; ++m) {
    const auto q = QuantizeWeights(w, 1, 4, 500, m == 0 ? WeightRange::kMaximum : WeightRange::kMse);
    errors[m] = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      errors[m] += std::pow(w[i] - static_cast<double>(q.values[i]) * q.scale[i / 500], 2);
      EXPECT_GE(q.values[i], -127);
    }
  }
  EXPECT_LE(errors[1], errors[0]);
}

TEST(QuantizeWeightsTest, DeadChannelStaysZero) {
  const auto q = QuantizeWeights(std::vector<float>(4, 0.0f), 1, 2, 2, WeightRange::kMse);
  EXPECT_EQ(q.scale[0], 1.0f);
  EXPECT_EQ(q.values, (std::vector<int8_t>{0, 0, 0, 0}));
}

TEST(QuantizeBiasTest, LargeBiasEnlargesTheScaleInsteadOfOverflowing) {
  const std::vector<float> bias = {1e6f, 0.5f};
  const float src_scale = 1e-3f;
  const auto minimum = MinimumScaleForBias(bias, src_scale);
  const auto q = QuantizeWeights({1e-5f, 1e-5f}, 1, 2, 1, WeightRange::kMaximum, minimum);
  const auto b = QuantizeBias(bias, src_scale, q.scale);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_NEAR(b[i] * (double{src_scale} * q.scale[i]), bias[i], double{src_scale} * q.scale[i]);
    EXPECT_LE(std::abs(static_cast<int64_t>(b[i])), (int64_t{1} << 30) + 1024) << "f32 scales round";
  }
}

TEST(Bias, ScaleStaysANormalNumberForVanishingWeights) {
  const float src_scale = 1e-3f;
  const auto minimum = MinimumScaleForBias(std::vector<float>{0.0f}, src_scale);
  const auto q = QuantizeWeights({3e-36f}, 1, 1, 1, WeightRange::kMse, minimum);
  EXPECT_GE(src_scale * q.scale[0], 0x1p-121f);  // largest / 127 alone would give 2e-41
}

}  // namespace
}  // namespace octet::compress
