// Strides, element access, saturation, loop nests.
#include "kernels/elements.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using ::testing::ElementsAre;

TEST(ElementsTest, StridesFollowTheLayout) {
  EXPECT_THAT(StridesIn(Spec(DType::kF32, {2, 3, 4, 5})), ElementsAre(60, 20, 5, 1));
  EXPECT_THAT(StridesIn(Spec(DType::kF32, {2, 3, 4, 5}, Layout::kChannelsLast)),
              ElementsAre(60, 1, 15, 3));
  EXPECT_THAT(StridesIn(Spec(DType::kF32, {2, 3}, Layout::kChannelsLast)), ElementsAre(3, 1));
}

TEST(ElementsTest, MemoryOrderIgnoresDimensionsOfOne) {
  const auto same = [](Shape shape) {
    return SameMemoryOrder(Spec(DType::kF32, shape),
                           Spec(DType::kF32, shape, Layout::kChannelsLast));
  };
  EXPECT_TRUE(same({8, 1, 28, 28}));
  EXPECT_TRUE(same({8, 10, 1, 1}));
  EXPECT_FALSE(same({1, 2, 3, 1}));
}

TEST(ElementsTest, EveryTypeKeepsItsExtremes) {
  for (DType type : {DType::kS8, DType::kU8, DType::kS16, DType::kU16, DType::kS32, DType::kU32,
                     DType::kS64, DType::kS4, DType::kU4, DType::kBool}) {
    alignas(8) std::byte data[24] = {};
    const auto [low, high] = IntegerRange(type);
    StoreInteger(type, data, 1, high);
    StoreInteger(type, data, 2, low);
    EXPECT_EQ(LoadInteger(type, data, 0), 0);
    EXPECT_EQ(LoadInteger(type, data, 1), high) << NameOf(type);
    EXPECT_EQ(LoadInteger(type, data, 2), low) << NameOf(type);
    if (type == DType::kBool) continue;
    StoreNumber(type, data, 1, 1e30);
    StoreNumber(type, data, 2, -1e30);
    EXPECT_EQ(LoadInteger(type, data, 1), high) << NameOf(type);
    EXPECT_EQ(LoadInteger(type, data, 2), low) << NameOf(type);
  }
}

TEST(ElementsTest, QuantizeRoundsHalfToEvenAndSaturates) {
  EXPECT_EQ(Quantize(0.5f, 1, 0, DType::kU8), 0);
  EXPECT_EQ(Quantize(1.5f, 1, 0, DType::kU8), 2);
  EXPECT_EQ(Quantize(2.5f, 1, 1, DType::kU8), 3);
  EXPECT_EQ(Quantize(-2.5f, 1, 0, DType::kS8), -2);
  EXPECT_EQ(Quantize(1e9f, 1, 0, DType::kS8), 127);
  EXPECT_EQ(Quantize(3e9f, 1, 0, DType::kS32), 2147483647);
  EXPECT_EQ(Quantize(std::numeric_limits<float>::quiet_NaN(), 1, 3, DType::kU8), 0);
}

TEST(ElementsTest, ForEachIndexVisitsScalarsOnceAndEmptyNever) {
  int visits = 0;
  ForEachIndex(Shape{},
               [&](absl::Span<const int64_t> index) { visits += index.empty() ? 1 : 100; });
  EXPECT_EQ(visits, 1);
  ForEachIndex(Shape{3, 0}, [&](absl::Span<const int64_t>) { ++visits; });
  EXPECT_EQ(visits, 1);
}

TEST(ElementsTest, LoopsMergeWhereAllOperandsAllow) {
  const LoopNest dense = MergeLoops(Shape{2, 3, 1, 4}, std::vector<Shape>{{12, 4, 4, 1}});
  EXPECT_THAT(dense.dims, ElementsAre(24));
  EXPECT_THAT(dense.strides[0], ElementsAre(1));
  const TensorSpec dst = Spec(DType::kF32, {2, 3, 4}), row = Spec(DType::kF32, {3, 1});
  const LoopNest nest = BroadcastNest({&dst, &row}, dst);
  EXPECT_THAT(nest.dims, ElementsAre(2, 3, 4));
  EXPECT_THAT(nest.strides[1], ElementsAre(0, 1, 0));
  const TensorSpec last = Spec(DType::kF32, {2, 3, 4, 5}, Layout::kChannelsLast);
  const TensorSpec bias = Spec(DType::kF32, {1, 3, 1, 1}, Layout::kChannelsLast);
  const LoopNest channels = BroadcastNest({&last, &bias}, last);
  EXPECT_THAT(channels.dims, ElementsAre(40, 3));
  EXPECT_THAT(channels.strides[0], ElementsAre(3, 1));
  EXPECT_THAT(channels.strides[1], ElementsAre(0, 1));
}

TEST(ElementsTest, RunsOfAnyRangeEqualTheOffsetsOfItsElements) {
  const TensorSpec dst = Spec(DType::kF32, {2, 3, 4, 5});
  const TensorSpec a = Spec(DType::kF32, {2, 1, 4, 1}), b = Spec(DType::kF32, {3, 1, 5});
  const LoopNest nest = BroadcastNest({&a, &b}, dst);
  std::vector<std::vector<int64_t>> want;
  ForEachIndex(dst.shape, [&](absl::Span<const int64_t> i) {
    want.push_back({i[0] * 4 + i[2], i[1] * 5 + i[3]});
  });
  const auto total = static_cast<int64_t>(want.size());
  for (int64_t begin = 0; begin < total; begin += 7) {
    for (int64_t end = begin; end <= total; end += 11) {
      int64_t at = begin;
      ForEachRun(nest, begin, end, [&](const int64_t* offsets, int64_t count) {
        for (int64_t j = 0; j < count; ++j, ++at) {
          for (size_t k = 0; k < 2; ++k) {
            EXPECT_EQ(offsets[k] + j * nest.strides[k].back(), want[static_cast<size_t>(at)][k]);
          }
        }
      });
      EXPECT_EQ(at, end);
    }
  }
}

TEST(ElementsTest, RunParallelWorksWithoutATeam) {
  int64_t covered = 0;
  RunParallel(nullptr, 10, 1, [&](int64_t begin, int64_t end) { covered += end - begin; });
  EXPECT_EQ(covered, 10);
}

}  // namespace
}  // namespace octet::kernels
