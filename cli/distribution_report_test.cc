#include "cli/distribution_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace octet::cli {
namespace {

// y[1,2] = x[1,2] W^T; row 0 is decided, in row 1 one weight is at 1/2 and one at 1/254.
graph::Graph Network() {
  graph::Graph g;
  graph::Value x, w, y;
  x.name = "x";
  y.name = "y";
  x.dtype = y.dtype = DType::kF32;
  x.shape = y.shape = Shape{1, 2};
  w.name = "w";
  w.dtype = DType::kS8;
  w.shape = Shape{2, 2};
  w.data = Tensor::FromValues<int8_t>(DType::kS8, {2, 2}, std::vector<int8_t>{4, -4, 2, 0});
  w.quant = QuantParams{{0.5f, 0.25f}, {}, 0, 0};
  w.alternatives = graph::Alternatives{Tensor::FromValues<int8_t>(DType::kS8, {2, 2}, std::vector<int8_t>{0, 0, 127, -1}), 1};
  const graph::ValueId in = g.AddValue(x), weights = g.AddValue(w), out = g.AddValue(y);
  g.inputs = {in};
  g.outputs = {out};
  g.nodes.push_back({"Gemm", "", "gemm", {in, weights}, {out}, {{"transB", int64_t{1}}}});
  return g;
}

TEST(ReportDistribution, SumsAreThoseOfTheFormulas) {
  const auto report = ReportDistribution(Network());
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_EQ(report->layers.size(), 1u);
  const DistributionLayer& layer = report->layers[0];
  EXPECT_EQ(layer.undecided, 2);
  // H(1/2) = 1 bit; H(1/254) = 0.03712 bits counts as decided.
  EXPECT_DOUBLE_EQ(layer.decided_share, 0.75);
  EXPECT_NEAR(layer.entropy_bits, (1 + 0.03712) / 4, 1e-5);
  // Means 2, -2, 0.25 (2 + 1/2), -0.25 / 254; variances p (1 - p) 0.25^2; what the codes lie beside the means: (p 0.25)^2.
  const double p = 1.0 / 254, energy = 4 + 4 + 0.625 * 0.625 + (0.25 * p) * (0.25 * p);
  EXPECT_NEAR(layer.noise, 0.0625 * (0.25 + p * (1 - p)) / energy, 1e-9);
  EXPECT_NEAR(layer.sharpened, 0.0625 * (0.25 + p * p) / energy, 1e-9);
  EXPECT_EQ(layer.channels[0].channel, 1) << "least certain first";
  EXPECT_EQ(layer.channels[1].entropy_bits, 0);
  EXPECT_EQ(layer.probabilities.front() + layer.probabilities.back(), 2);
}

TEST(ReportDistribution, SaysWhenThereIsNone) {
  graph::Graph g = Network();
  g.values[1].alternatives.reset();
  EXPECT_EQ(ReportDistribution(g).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(ReportDistribution, JsonAndPageNameTheLayer) {
  const auto report = ReportDistribution(Network());
  ASSERT_TRUE(report.ok());
  EXPECT_THAT(DistributionJson(*report), ::testing::HasSubstr("\"node\":\"gemm\""));
  EXPECT_THAT(DistributionHtml(*report, "<m>"), ::testing::AllOf(::testing::HasSubstr("&lt;m&gt;"), ::testing::HasSubstr("<h2>gemm</h2>")));
}

}  // namespace
}  // namespace octet::cli
