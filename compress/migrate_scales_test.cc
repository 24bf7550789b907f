// Scale migration: the function stays, the error of quantization falls.
#include "compress/migrate_scales.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "compress/product_weights.h"
#include "engine/test_util.h"
#include "graph/shape_inference.h"

namespace octet::compress {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kHidden = 16, kTokens = 5, kCount = 12;

class MemorySamples final : public data::SampleReader {
 public:
  int64_t size() const override { return kCount; }
  absl::StatusOr<data::Sample> Read(int64_t i) override {
    return data::Sample{absl::StrCat("memory[", i, "]"), {Values(i)}};
  }
  static Tensor Values(int64_t i) {
    const CounterRng rng(3, static_cast<uint64_t>(i));
    std::vector<float> values(kTokens * kHidden);
    for (size_t k = 0; k < values.size(); ++k) values[k] = static_cast<float>(rng.Uniform(k) * 2 - 1);
    return Tensor::FromF32({kTokens, kHidden}, values);
  }
};

// LayerNormalization with two loud channels, read by Q, K and V; a product behind a Relu; a value that a sum reads, too.
graph::Graph Network() {
  engine::GraphMaker m;
  const auto x = m.Input("x", {1, kTokens, kHidden});
  std::vector<float> scale(kHidden, 1.0f);
  scale[3] = 60;
  scale[9] = 25;
  const auto norm = m.Node("LayerNormalization", {x, m.F32("gamma", {kHidden}, scale), m.Random("beta", {kHidden}, 1)}, "norm");
  const auto q = m.Node("MatMul", {norm, m.Random("wq", {kHidden, 8}, 2)}, "q");
  const auto k = m.Node("MatMul", {norm, m.Random("wk", {kHidden, 8}, 3), m.Random("bk", {8}, 9)}, "k");
  const auto v = m.Node("MatMul", {norm, m.Random("wv", {kHidden, 8}, 4)}, "v");
  auto y = m.Node("Add", {m.Node("Mul", {q, k}, "qk"), v}, "mixed");
  y = m.Node("MatMul", {y, m.Random("w1", {8, 12}, 5)}, "up");
  y = m.Node("MatMul", {m.Node("Relu", {y}, "r"), m.Random("w2", {12, 4}, 6)}, "down");
  m.Output(y);
  EXPECT_TRUE(graph::InferShapes(&m.g).ok());
  return m.g;
}

absl::flat_hash_map<graph::ValueId, ValueStatistics> StatisticsOf(const graph::Graph& g, const MigrateOptions& options) {
  MemorySamples samples;
  std::vector<int64_t> indices(kCount);
  std::iota(indices.begin(), indices.end(), 0);
  auto statistics = Calibrate(g, MigrationCandidates(g, options), samples, indices, {});
  EXPECT_TRUE(statistics.ok()) << statistics.status();
  return *std::move(statistics);
}

std::vector<float> RunOn(const graph::Graph& g, int64_t sample) {
  auto program = engine::Program::Compile(g);
  EXPECT_TRUE(program.ok()) << program.status();
  auto out = engine::RunProgram(**program, {MemorySamples::Values(sample).Reshaped({1, kTokens, kHidden})});
  EXPECT_TRUE(out.ok()) << out.status();
  return (*out)[0].ToF32();
}

void ExpectSameFunction(const graph::Graph& a, const graph::Graph& b) {
  const std::vector<float> before = RunOn(a, 0), after = RunOn(b, 0);
  double largest = 0;
  for (float v : before) largest = std::max(largest, std::fabs(double{v}));
  for (size_t i = 0; i < before.size(); ++i) ASSERT_NEAR(before[i], after[i], 1e-4 * largest) << i;
}

TEST(MigrateScalesTest, AGivenAlphaFollowsTheFormulaAndKeepsTheFunction) {
  const graph::Graph before = Network();
  graph::Graph after = before;
  MigrateOptions options;
  options.alpha = 0.5;
  const auto statistics = StatisticsOf(before, options);
  const auto report = MigrateScales(&after, statistics, options);
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_EQ(report->sites.size(), 2u);
  const MigratedSite& site = report->sites[0];
  EXPECT_EQ(site.value, "norm");
  EXPECT_THAT(site.folded_in, HasSubstr("LayerNormalization"));
  EXPECT_EQ(site.products.size(), 3u);
  const std::vector<float>& x = statistics.at(before.nodes[0].outputs[0]).channel_maximum;
  for (size_t j = 0; j < kHidden; ++j) {
    double w = 0;
    for (size_t product : {1, 2, 3}) w = std::max(w, ReadProduct(before, before.nodes[product]).InputMaxima()[j]);
    EXPECT_NEAR(site.divided_by[j], std::sqrt(x[j] / w), 1e-6 * site.divided_by[j]);
    EXPECT_NEAR(after.ConstantInput(after.nodes[0], 1)->ToF32()[j],
                before.ConstantInput(before.nodes[0], 1)->ToF32()[j] / site.divided_by[j], 1e-5);
  }
  EXPECT_THAT(report->sites[1].folded_in, HasSubstr("node_up")) << "through the Relu";
  ExpectSameFunction(before, after);
}

// The expected squared error of all products of `norm` by plain loops over the samples' values: u8 activations, s8 weights.
double MeasuredError(const graph::Graph& g, const graph::Graph& original) {
  graph::Graph shown = g;
  shown.outputs = {g.nodes[0].outputs[0]};
  graph::Graph real = original;
  real.outputs = shown.outputs;
  double maximum = 0, error = 0;
  for (int64_t i = 0; i < kCount; ++i) {
    for (float v : RunOn(shown, i)) maximum = std::max(maximum, std::fabs(double{v}));
  }
  const double step = 2 * maximum / 255;
  for (int64_t i = 0; i < kCount; ++i) {
    const std::vector<float> x = RunOn(shown, i), x_real = RunOn(real, i);
    for (size_t product : {1, 2, 3}) {
      const ProductWeights w = ReadProduct(g, g.nodes[product]), w_real = ReadProduct(original, original.nodes[product]);
      const std::vector<double> rows = w.RowMaxima();
      for (size_t t = 0; t < kTokens; ++t) {
        for (size_t r = 0; r < 8; ++r) {
          double exact = 0, rounded = 0;
          for (size_t j = 0; j < kHidden; ++j) {
            const double ws = rows[r] / 127;
            exact += double{x_real[t * kHidden + j]} * w_real.values[j * 8 + r];
            rounded += std::nearbyint(x[t * kHidden + j] / step) * step * std::nearbyint(w.values[j * 8 + r] / ws) * ws;
          }
          error += (exact - rounded) * (exact - rounded);
        }
      }
    }
  }
  return error / (kCount * kTokens);
}

TEST(MigrateScalesTest, TheSearchedAlphaLowersTheMeasuredErrorAsPredicted) {
  const graph::Graph before = Network();
  graph::Graph after = before;
  const MigrateOptions options;
  const auto report = MigrateScales(&after, StatisticsOf(before, options), options);
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_FALSE(report->sites.empty());
  const MigratedSite& site = report->sites[0];
  EXPECT_LT(site.error_after, 0.5 * site.error_before);
  const double measured_before = MeasuredError(before, before), measured_after = MeasuredError(after, before);
  std::printf("alpha %.2f; error predicted %.4g -> %.4g, measured %.4g -> %.4g\n", site.alpha, site.error_before,
              site.error_after, measured_before, measured_after);
  EXPECT_LT(measured_after, 0.6 * measured_before);
  EXPECT_NEAR(measured_before / site.error_before, 1, 0.5);
  EXPECT_NEAR(measured_after / site.error_after, 1, 0.5);
  ExpectSameFunction(before, after);
}

TEST(MigrateScalesTest, WeightOnlyGroupsAreSearchedWithoutActivations) {
  const graph::Graph before = Network();
  graph::Graph after = before;
  MigrateOptions options;
  options.activations = MigrateOptions::Activations::kReal;
  options.max_level = 7;
  options.group = 8;
  const auto report = MigrateScales(&after, StatisticsOf(before, options), options);
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_FALSE(report->sites.empty());
  EXPECT_GT(report->sites[0].divided_by[9] / report->sites[0].divided_by[8], 0.0);
  EXPECT_LT(report->sites[0].error_after, report->sites[0].error_before);
  ExpectSameFunction(before, after);
}

TEST(MigrateScalesTest, OtherReadersForbidFoldingButNotAMul) {
  engine::GraphMaker m;
  const auto x = m.Input("x", {1, kTokens, kHidden});
  std::vector<float> scale(kHidden, 1.0f);
  scale[3] = 60;
  const auto norm = m.Node("LayerNormalization", {x, m.F32("gamma", {kHidden}, scale)}, "norm");
  const auto y = m.Node("MatMul", {norm, m.Random("w", {kHidden, kHidden}, 2)}, "y");
  m.Output(m.Node("Add", {y, norm}, "residual"));
  ASSERT_TRUE(graph::InferShapes(&m.g).ok());
  MigrateOptions options;
  options.alpha = 0.5;
  graph::Graph after = m.g;
  auto report = MigrateScales(&after, {}, options);
  ASSERT_TRUE(report.ok());
  EXPECT_THAT(report->skipped, ElementsAre(HasSubstr("something else reads it")));
  options.insert = MigrateOptions::Insert::kMul;
  report = MigrateScales(&after, StatisticsOf(m.g, options), options);
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_EQ(report->sites.size(), 1u);
  EXPECT_EQ(after.nodes.size(), 4u);
  EXPECT_EQ(after.nodes[1].op, "Mul");
  ExpectSameFunction(m.g, after);
}

TEST(MigrateScalesTest, RefusesAnAlphaOutsideItsRange) {
  graph::Graph g = Network();
  MigrateOptions options;
  options.alpha = 1.5;
  const absl::Status status = MigrateScales(&g, {}, options).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(status.message(), HasSubstr("1.5"));
}

}  // namespace
}  // namespace octet::compress
