// Scales of blocks as multiples of one per channel, and the s8 weights that follow from them.
#include "kernels/narrow_weights.h"

#include <gtest/gtest.h>

#include <vector>

#include "absl/strings/match.h"
#include "base/rng.h"
#include "kernels/elements.h"

namespace octet::kernels {
namespace {

TensorSpec Weights(DType dtype, Shape shape, QuantParams quant) {
  return {dtype, std::move(shape), Layout::kPlain, std::move(quant)};
}

TEST(FactorScalesTest, FindsTheDivisorOfRoundedProducts) {
  const CounterRng rng(5);
  constexpr int64_t kOutputs = 200, kBlocks = 6;
  QuantParams quant{{}, {}, 1, 32, {}, 1};
  for (uint64_t o = 0; o < kOutputs; ++o) {
    const auto base = static_cast<float>(rng.Uniform(o) * 0.01 + 1e-4);
    for (uint64_t b = 0; b < kBlocks; ++b) {
      quant.scale.push_back(base * static_cast<float>(1 + rng.Bits(o * 100 + b + 7777) % 18));
    }
  }
  const TensorSpec weights = Weights(DType::kS4, {kOutputs, kBlocks * 32}, quant);
  const absl::StatusOr<ChannelScales> scales = FactorScales(weights);
  ASSERT_TRUE(scales.ok()) << scales.status();
  for (size_t i = 0; i < quant.scale.size(); ++i) {
    EXPECT_EQ(scales->scale[i / kBlocks] * static_cast<float>(scales->multiplier[i]), quant.scale[i]);
    EXPECT_LE(scales->multiplier[i], 18);
  }
}

TEST(FactorScalesTest, RefusesArbitraryScales) {
  const TensorSpec weights = Weights(DType::kS4, {1, 96}, {{0.1f, 0.1234567f, 0.0891f}, {}, 1, 32, {}, 1});
  const auto scales = FactorScales(weights);
  EXPECT_TRUE(absl::IsUnimplemented(scales.status()));
  EXPECT_TRUE(absl::StrContains(scales.status().message(), "output channel 0"));
}

TEST(FactorScalesTest, LimitsMultipliersToWhatFits8Bits) {
  // 40 * 7 is beyond 127, 40 * 1 is not.
  const QuantParams integers{{0.5f, 20.0f, 1.5f}, {}, 1, 8, {}, 1};
  EXPECT_FALSE(FactorScales(Weights(DType::kS4, {1, 24}, integers)).ok());
  QuantParams ternary = integers;
  ternary.levels = {-1, 0, 1};
  const auto scales = FactorScales(Weights(DType::kU2, {1, 24}, ternary));
  ASSERT_TRUE(scales.ok()) << scales.status();
  EXPECT_EQ(scales->multiplier, (std::vector<uint8_t>{1, 40, 3}));
}

TEST(FactorScalesTest, RefusesOtherForms) {
  EXPECT_FALSE(FactorScales(Weights(DType::kS8, {2, 8}, QuantParams::PerTensor(1, 0))).ok());
  EXPECT_FALSE(FactorScales(Weights(DType::kS4, {2, 8}, {std::vector<float>(8, 1.0f), {}, 1, 0, {}, 1})).ok());
  EXPECT_FALSE(FactorScales(Weights(DType::kU2, {2, 8}, QuantParams::PerTensor(1, 0))).ok()) << "no levels";
  EXPECT_FALSE(FactorScales(Weights(DType::kU2, {2, 6}, {{1.0f}, {}, -1, 0, std::vector<int8_t>(1024, 1), 4})).ok())
      << "vectors across channels";
}

TEST(ExpandNarrowTest, ValuesAreRealsOverTheChannelsScale) {
  // [2, 8, 3]: blocks of 4 along axis 1, zero points.
  QuantParams quant{{}, {}, 1, 4, {}, 1};
  for (int i = 0; i < 12; ++i) {
    quant.scale.push_back(0.25f * static_cast<float>(1 + i % 3));
    quant.zero_point.push_back(i % 8);
  }
  Buffer data = *Buffer::Allocate(24);
  const CounterRng rng(3);
  for (uint64_t i = 0; i < 48; ++i) StoreInteger(DType::kU4, data.data(), static_cast<int64_t>(i), rng.Bits(i) % 16);
  const TensorSpec weights = Weights(DType::kU4, {2, 8, 3}, quant);
  const auto scales = FactorScales(weights);
  ASSERT_TRUE(scales.ok()) << scales.status();
  const auto elements = ExpandNarrow(weights, *scales, data.data());
  ASSERT_TRUE(elements.ok()) << elements.status();
  for (int64_t i = 0; i < 48; ++i) {
    const int64_t o = i / 24, c = i / 3 % 8, k = i % 3;
    const auto g = static_cast<size_t>((o * 2 + c / 4) * 3 + k);
    const float real = quant.scale[g] * static_cast<float>(LoadInteger(DType::kU4, data.data(), i) - quant.zero_point[g]);
    EXPECT_EQ(static_cast<float>(elements->values[static_cast<size_t>(i)]) * scales->scale[static_cast<size_t>(o)], real) << i;
  }
}

TEST(ExpandNarrowTest, VectorCodesRunAlongInputChannels) {
  // [1, 8, 2]: codes in the order [kernel position][input channel / 4].
  QuantParams quant{{1.0f}, {}, -1, 0, {}, 4};
  for (int i = 0; i < 16; ++i) quant.levels.push_back(static_cast<int8_t>(i));
  const std::byte codes[4] = {std::byte{3}, std::byte{0}, std::byte{2}, std::byte{1}};
  const TensorSpec weights = Weights(DType::kU2, {1, 8, 2}, quant);
  const auto elements = ExpandNarrow(weights, *FactorScales(weights), codes);
  ASSERT_TRUE(elements.ok()) << elements.status();
  EXPECT_EQ(elements->values, (std::vector<int8_t>{12, 8, 13, 9, 14, 10, 15, 11, 0, 4, 1, 5, 2, 6, 3, 7}));
}

TEST(ExpandNarrowTest, RefusesValuesBeyond8Bits) {
  const TensorSpec weights = Weights(DType::kS4, {1, 16}, {{1.0f, 18.0f}, {}, 1, 8, {}, 1});
  std::vector<uint8_t> data(8, 0x78);
  EXPECT_TRUE(absl::IsUnimplemented(ExpandNarrow(weights, *FactorScales(weights), reinterpret_cast<std::byte*>(data.data())).status()));
}

}  // namespace
}  // namespace octet::kernels
