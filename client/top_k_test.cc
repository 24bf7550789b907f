// Order and ties of the best classes.
#include "client/top_k.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace octet::client {
namespace {

using ::testing::ElementsAre;

std::vector<int64_t> Indices(const std::vector<Scored>& scored) {
  std::vector<int64_t> out;
  for (const Scored& s : scored) out.push_back(s.index);
  return out;
}

TEST(TopK, OrdersByScoreThenIndex) {
  const float scores[] = {0.5f, 2, -1, 2, 3};
  EXPECT_THAT(Indices(TopK(scores, 3)), ElementsAre(4, 1, 3));
  EXPECT_EQ(TopK(scores, 1)[0].score, 3);
  EXPECT_THAT(Indices(TopK(scores, 99)), ElementsAre(4, 1, 3, 0, 2));
  EXPECT_TRUE(TopK(scores, 0).empty());
  EXPECT_TRUE(TopK({}, 5).empty());
}

TEST(TopK, NanComesLast) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const float scores[] = {nan, -inf, 1, nan, inf};
  EXPECT_THAT(Indices(TopK(scores, 5)), ElementsAre(4, 2, 1, 0, 3));
}

TEST(TopKOfRows, SplitsTheLastAxis) {
  auto rows = TopKOfRows(Tensor::FromF32({2, 1, 3}, {1, 3, 2, 9, 7, 8}), 2);
  ASSERT_TRUE(rows.ok());
  ASSERT_EQ(rows->size(), 2u);
  EXPECT_THAT(Indices((*rows)[0]), ElementsAre(1, 2));
  EXPECT_THAT(Indices((*rows)[1]), ElementsAre(0, 2));
  EXPECT_FALSE(TopKOfRows(Tensor::FromF32({}, {1}), 1).ok());
  EXPECT_FALSE(TopKOfRows(Tensor::FromF32({2, 0}, {}), 1).ok());
}

}  // namespace
}  // namespace octet::client
