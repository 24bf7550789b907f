// Layers that one scale would ruin are found, others are not.
#include "compress/traps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/test_util.h"

namespace octet::compress {
namespace {

using ::testing::HasSubstr;

std::optional<PerTensorRisk> RiskOf(const engine::GraphMaker& m, int bits = 8) {
  const std::vector<Product> products = FindProducts(m.g);
  return FindPerTensorRisk(products[0], MatrixOf(m.g, m.g.nodes[static_cast<size_t>(products[0].node)]), bits);
}

std::optional<PerTensorRisk> RiskOfDepthwise(const std::vector<float>& weights) {
  engine::GraphMaker m;
  const auto x = m.Input("x", {1, 4, 8, 8});
  m.Output(m.Node("Conv", {x, m.F32("w", {4, 1, 3, 3}, weights)}, "y", {{"group", int64_t{4}}}));
  return RiskOf(m);
}

TEST(PerTensorRiskTest, FindsTheDepthwiseLayerWhoseChannelsDiffer) {
  std::vector<float> even(4 * 9, 0.5f), uneven(4 * 9, 0.5f);
  for (size_t i = 0; i < 9; ++i) uneven[i] = 100;  // the other three keep 8 - log2(200) < 1 bit
  for (size_t i = 27; i < 36; ++i) uneven[i] = 0;  // a dead channel does not count
  EXPECT_FALSE(RiskOfDepthwise(even).has_value());
  const std::optional<PerTensorRisk> risk = RiskOfDepthwise(uneven);
  ASSERT_TRUE(risk.has_value());
  EXPECT_TRUE(risk->depthwise);
  EXPECT_DOUBLE_EQ(risk->spread, 200);
  EXPECT_DOUBLE_EQ(risk->starved_share, 2.0 / 3);
  EXPECT_THAT(risk->Warning(), HasSubstr("depthwise"));
  EXPECT_THAT(risk->Warning(), HasSubstr("67 % of them keep fewer than 4 of 8 bits"));
}

TEST(PerTensorRiskTest, ColumnsOfMatricesAreChannelsToo) {
  engine::GraphMaker m;
  m.Output(m.Node("MatMul", {m.Input("x", {1, 3}), m.F32("w", {3, 4}, {1, 1, 9, 100, 1, 1, 9, 1, 1, 1, 1, 1})}, "y"));
  const std::optional<PerTensorRisk> risk = RiskOf(m);
  ASSERT_TRUE(risk.has_value());
  EXPECT_FALSE(risk->depthwise);
  EXPECT_DOUBLE_EQ(risk->starved_share, 0.5);
  // Of 4 bits, 9 of 100 leaves fewer than 2, too.
  EXPECT_DOUBLE_EQ(RiskOf(m, 4)->starved_share, 0.75);
}

TEST(PerTensorRiskTest, NothingIsAtRiskWithoutWeights) {
  engine::GraphMaker m;
  m.Output(m.Node("MatMul", {m.Input("x", {1, 3}), m.F32("w", {3, 4}, std::vector<float>(12, 0))}, "y"));
  EXPECT_FALSE(RiskOf(m).has_value());
}

}  // namespace
}  // namespace octet::compress
