// Biases against direct arithmetic.
#include "compress/bias.h"

#include <gtest/gtest.h>

#include <cmath>

#include "compress/fit_grid.h"

namespace octet::compress {
namespace {

QuantizedMatrix Fit(const WeightMatrix& weights, const std::vector<float>& minimum_scale) {
  FitOptions options;
  options.method = ScaleMethod::kMaximum;
  options.minimum_scale = minimum_scale;
  return *FitGrid(weights, *MakeGrid("int8"), {}, options);
}

TEST(QuantizeBiasTest, LargeBiasEnlargesTheScaleInsteadOfOverflowing) {
  const std::vector<float> bias = {1e6f, 0.5f};
  const float src_scale = 1e-3f;
  const auto minimum = MinimumScaleForBias(bias, src_scale);
  const QuantizedMatrix q = Fit({2, 1, 1, 1, {1e-5f, 1e-5f}}, minimum);
  const auto b = QuantizeBias(bias, src_scale, q.scale);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_NEAR(b[i] * (double{src_scale} * q.scale[i]), bias[i], double{src_scale} * q.scale[i]);
    EXPECT_LE(std::abs(static_cast<int64_t>(b[i])), (int64_t{1} << 30) + 1024) << "f32 scales round";
  }
}

TEST(Bias, ScaleStaysANormalNumberForVanishingWeights) {
  const float src_scale = 1e-3f;
  const auto minimum = MinimumScaleForBias(std::vector<float>{0.0f}, src_scale);
  const QuantizedMatrix q = Fit({1, 1, 1, 1, {3e-36f}}, minimum);
  EXPECT_GE(src_scale * q.scale[0], 0x1p-121f);  // largest / 127 alone would give 2e-41
}

TEST(MeanShift, IsTheMeanThatRoundingTakesAway) {
  // Two conv groups of one row each, two positions of two inputs.
  const WeightMatrix w{2, 2, 2, 2, {0.3f, -1.0f, 0.6f, 0.2f, 1.0f, 0.4f, -0.4f, 0.1f}};
  const QuantizedMatrix q = *FitGrid(w, *MakeGrid("int4"), {}, {});
  const std::vector<float> means = ColumnMeans(w, {1, 2, 3, 4});
  ASSERT_EQ(means, (std::vector<float>{1, 2, 1, 2, 3, 4, 3, 4}));
  const std::vector<float> shift = MeanShift(w, q, means);
  for (int64_t r = 0; r < 2; ++r) {
    double expected = 0;
    for (int64_t c = 0; c < 4; ++c) {
      expected += (w.values[static_cast<size_t>(r * 4 + c)] - q.Real(r, c)) * means[static_cast<size_t>(r * 4 + c)];
    }
    EXPECT_NEAR(shift[static_cast<size_t>(r)], expected, 1e-6);
  }
  EXPECT_TRUE(ColumnMeans(w, {1, 2, 3}).empty()) << "another number of channels";
}

}  // namespace
}  // namespace octet::compress
