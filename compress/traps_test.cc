// Layers that one scale would ruin are named, others are not.
#include "compress/traps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/test_util.h"

namespace octet::compress {
namespace {

using ::testing::HasSubstr;

TEST(PerTensorRisksTest, NamesTheDepthwiseLayerWhoseChannelsDiffer) {
  engine::GraphMaker m;
  const auto x = m.Input("x", {1, 4, 8, 8});
  std::vector<float> even(4 * 9, 0.5f), uneven(4 * 9, 0.5f);
  for (size_t i = 0; i < 9; ++i) uneven[i] = 100;    // the other three keep 8 - log2(200) < 1 bit
  for (size_t i = 27; i < 36; ++i) uneven[i] = 0;    // a dead channel does not count
  auto y = m.Node("Conv", {x, m.F32("w1", {4, 1, 3, 3}, even)}, "calm", {{"group", int64_t{4}}});
  y = m.Node("Conv", {y, m.F32("w2", {4, 1, 3, 3}, uneven)}, "wild", {{"group", int64_t{4}}});
  m.Output(y);
  const std::vector<PerTensorRisk> risks = PerTensorRisks(m.g);
  ASSERT_EQ(risks.size(), 1u);
  EXPECT_THAT(risks[0].node, HasSubstr("node_wild"));
  EXPECT_TRUE(risks[0].depthwise);
  EXPECT_DOUBLE_EQ(risks[0].spread, 200);
  EXPECT_DOUBLE_EQ(risks[0].starved_share, 2.0 / 3);
  EXPECT_THAT(risks[0].Warning(), HasSubstr("(depthwise)"));
  EXPECT_THAT(risks[0].Warning(), HasSubstr("67 %"));
}

TEST(PerTensorRisksTest, WorstFirstAndRowsOfMatricesToo) {
  engine::GraphMaker m;
  const auto x = m.Input("x", {1, 3});
  // Columns of [K, N] are the output channels: 1 of 4 and 2 of 4 starve.
  auto y = m.Node("MatMul", {x, m.F32("a", {3, 4}, {1, 1, 1, 100, 1, 90, 90, 1, 90, 1, 1, 1})}, "a_out");
  y = m.Node("MatMul", {y, m.F32("b", {4, 4}, {1, 1, 99, 100, 1, 1, 99, 1, 1, 1, 1, 1, 1, 1, 1, 1})}, "b_out");
  m.Output(y);
  const std::vector<PerTensorRisk> risks = PerTensorRisks(m.g);
  ASSERT_EQ(risks.size(), 1u);
  EXPECT_THAT(risks[0].node, HasSubstr("b_out"));
  EXPECT_FALSE(risks[0].depthwise);
  EXPECT_DOUBLE_EQ(risks[0].starved_share, 0.5);
}

}  // namespace
}  // namespace octet::compress
