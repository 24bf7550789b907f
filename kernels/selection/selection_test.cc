// Known answers, mostly those of numpy's functions of the same name.
#include "kernels/selection/selection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace octet::kernels {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(NonZeroTest, GivesCoordinatesInRowMajorOrder) {
  const auto out = NonZero(Tensor::FromF32({2, 3}, {0, 1.5f, 0, -2, 0, std::nanf("")}));
  ASSERT_TRUE(out.ok());
  EXPECT_EQ(out->shape(), Shape({2, 3}));
  EXPECT_THAT(out->ToS64(), ElementsAre(0, 1, 1, 1, 0, 2));
}

TEST(NonZeroTest, HandlesScalarsEmptyAndAllZero) {
  EXPECT_EQ(NonZero(Tensor::FromF32({}, {3.0f}))->shape(), Shape({1, 1}));
  EXPECT_EQ(NonZero(Tensor::FromF32({2, 0}, {}))->shape(), Shape({2, 0}));
  EXPECT_EQ(NonZero(Tensor::FromS64({4}, {0, 0, 0, 0}))->shape(), Shape({1, 0}));
}

Tensor Bools(std::vector<uint8_t> v) {
  const auto n = static_cast<int64_t>(v.size());
  return Tensor::FromValues<uint8_t>(DType::kBool, {n}, v);
}

TEST(CompressTest, TakesSlicesOrElements) {
  const Tensor x = Tensor::FromF32({3, 2}, {1, 2, 3, 4, 5, 6});
  EXPECT_THAT(Compress(x, Bools({0, 1, 1}), 0)->ToF32(), ElementsAre(3, 4, 5, 6));
  EXPECT_THAT(Compress(x, Bools({0, 1}), -1)->ToF32(), ElementsAre(2, 4, 6));
  EXPECT_THAT(Compress(x, Bools({0, 1, 0, 0, 1}), std::nullopt)->ToF32(), ElementsAre(2, 5));
  EXPECT_EQ(Compress(x, Bools({0, 0}), 1)->shape(), Shape({3, 0}));
}

TEST(CompressTest, RefusesWhatDoesNotFit) {
  const Tensor x = Tensor::FromF32({2}, {1, 2});
  EXPECT_TRUE(absl::IsInvalidArgument(Compress(x, Bools({0, 0, 1}), 0).status()));
  EXPECT_TRUE(Compress(x, Bools({0, 1, 0}), 0).ok()) << "what is not selected may lie outside";
  EXPECT_TRUE(absl::IsInvalidArgument(Compress(x, Bools({1}), 1).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Compress(x, Tensor::FromS64({1}, {1}), 0).status()));
}

TEST(UniqueTest, SortsOrKeepsTheOrder) {
  const Tensor x = Tensor::FromF32({6}, {2, 1, 1, 3, 4, 3});
  const auto sorted = Unique(x, std::nullopt, true);
  EXPECT_THAT(sorted->values.ToF32(), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(sorted->first.ToS64(), ElementsAre(1, 0, 3, 4));
  EXPECT_THAT(sorted->inverse.ToS64(), ElementsAre(1, 0, 0, 2, 3, 2));
  EXPECT_THAT(sorted->counts.ToS64(), ElementsAre(2, 1, 2, 1));
  const auto kept = Unique(x, std::nullopt, false);
  EXPECT_THAT(kept->values.ToF32(), ElementsAre(2, 1, 3, 4));
  EXPECT_THAT(kept->inverse.ToS64(), ElementsAre(0, 1, 1, 2, 3, 2));
}

TEST(UniqueTest, ComparesSlices) {
  const Tensor x = Tensor::FromS64({3, 3}, {1, 0, 0, 1, 0, 0, 2, 3, 4});
  const auto rows = Unique(x, 0, true);
  EXPECT_EQ(rows->values.shape(), Shape({2, 3}));
  EXPECT_THAT(rows->inverse.ToS64(), ElementsAre(0, 0, 1));
  const auto columns = Unique(Tensor::FromS64({2, 3}, {5, 1, 5, 6, 2, 6}), -1, true);
  EXPECT_THAT(columns->values.ToS64(), ElementsAre(1, 5, 2, 6));
  EXPECT_THAT(columns->counts.ToS64(), ElementsAre(1, 2));
}

TEST(UniqueTest, KeepsLargeIntegersApartAndHandlesNothing) {
  const int64_t big = (int64_t{1} << 60);
  EXPECT_THAT(Unique(Tensor::FromS64({2}, {big, big + 1}), std::nullopt, true)->values.ToS64(),
              ElementsAre(big, big + 1));
  EXPECT_THAT(Unique(Tensor::FromF32({0}, {}), std::nullopt, true)->values.ToF32(), IsEmpty());
}

TEST(NonMaxSuppressionTest, KeepsTheBestOfEachCluster) {
  const Tensor boxes = Tensor::FromF32({1, 4, 4}, {0, 0, 1, 1, 0, 0.1f, 1, 1.1f, 0, 10, 1, 11, 1, 11.1f, 0, 10.1f});
  const Tensor scores = Tensor::FromF32({1, 1, 4}, {0.9f, 0.95f, 0.5f, 0.3f});
  EXPECT_THAT(NonMaxSuppression(boxes, scores, {3, 0.5f, 0.0f, false})->ToS64(), ElementsAre(0, 0, 1, 0, 0, 2));
  EXPECT_THAT(NonMaxSuppression(boxes, scores, {1, 0.5f, 0.0f, false})->ToS64(), ElementsAre(0, 0, 1));
  EXPECT_THAT(NonMaxSuppression(boxes, scores, {3, 0.5f, 0.6f, false})->ToS64(), ElementsAre(0, 0, 1));
  EXPECT_EQ(NonMaxSuppression(boxes, scores, {0, 0.5f, 0.0f, false})->shape(), Shape({0, 3}));
  EXPECT_FALSE(NonMaxSuppression(scores, boxes, {3, 0.5f, 0.0f, false}).ok());
}

}  // namespace
}  // namespace octet::kernels
