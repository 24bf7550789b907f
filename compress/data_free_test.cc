// Statistics from BatchNormalization against sampling, and their way through a network and its preparation.
#include "compress/data_free.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compress/compress.h"
#include "compress/observe.h"
#include "engine/test_util.h"
#include "graph/shape_inference.h"

namespace octet::compress {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double Normal(const CounterRng& rng, uint64_t i) {
  return std::sqrt(-2 * std::log(1 - rng.Uniform(2 * i))) * std::cos(2 * M_PI * rng.Uniform(2 * i + 1));
}

TEST(ClippedNormalTest, AgreesWithSampling) {
  const CounterRng rng(1);
  constexpr int kSamples = 400000;
  for (const auto& [mean, deviation] : std::vector<std::pair<double, double>>{{0, 1}, {-1, 0.5}, {2, 3}, {4, 1}}) {
    for (const auto& [low, high] : std::vector<std::pair<double, double>>{{0, kInfinity}, {0, 6}, {-kInfinity, 1}, {-1, 1}}) {
      double sum = 0, squares = 0;
      for (uint64_t i = 0; i < kSamples; ++i) {
        const double y = std::clamp(mean + deviation * Normal(rng, i), low, high);
        sum += y;
        squares += y * y;
      }
      const NormalMoments found = ClippedNormal({mean, deviation}, low, high);
      // Five standard errors of the mean.
      EXPECT_NEAR(found.mean, sum / kSamples, 5 * deviation / std::sqrt(kSamples)) << mean << " " << low << " " << high;
      EXPECT_NEAR(found.deviation, std::sqrt(squares / kSamples - sum * sum / kSamples / kSamples), 0.01 * deviation);
    }
  }
  EXPECT_EQ(ClippedNormal({3, 0}, 0, 2).mean, 2);
}

// Conv - BN - Relu, twice with a sum, a pooling and a Gemm; the statistics of BatchNormalization are those the first
// convolution really has on normal inputs of deviation 1, so that predictions can be checked by running it.
graph::Graph Network() {
  engine::GraphMaker m;
  const auto x = m.Input("image", {1, 3, 12, 12});
  const graph::ValueId w = m.Random("w1", {4, 3, 1, 1}, 1);
  std::vector<float> variance(4, 0.0f);
  const std::vector<float> weights = m.g.value(w).data->ToF32();
  for (size_t i = 0; i < 12; ++i) variance[i / 3] += weights[i] * weights[i];
  auto y = m.Node("Conv", {x, w}, "c1");
  y = m.Node("BatchNormalization",
             {y, m.F32("gamma", {4}, {1, 0.5f, -2, 0}), m.F32("shift", {4}, {0.3f, -1, 1, 2}),
              m.F32("mean", {4}, {0, 0, 0, 0}), m.F32("variance", {4}, variance)},
             "bn1");
  const auto relu = m.Node("Relu", {y}, "r1");
  y = m.Node("Conv", {relu, m.Random("w2", {4, 4, 1, 1}, 2)}, "c2");
  y = m.Node("BatchNormalization",
             {y, m.Random("gamma2", {4}, 3), m.Random("shift2", {4}, 4), m.Random("mean2", {4}, 5),
              m.F32("variance2", {4}, {1, 1, 1, 1})},
             "bn2");
  y = m.Node("Add", {y, relu}, "sum");
  y = m.Node("Conv", {y, m.Random("w3", {4, 4, 1, 1}, 6)}, "c3");
  y = m.Node("Relu", {y}, "r3");
  y = m.Node("Flatten", {m.Node("GlobalAveragePool", {y}, "gap")}, "flat");
  m.Output(m.Node("Gemm", {y, m.Random("w4", {4, 2}, 7)}, "logits"));
  EXPECT_TRUE(graph::InferShapes(&m.g).ok());
  return m.g;
}

graph::ValueId IdOf(const graph::Graph& g, const std::string& name) {
  for (size_t v = 0; v < g.values.size(); ++v) {
    if (g.values[v].name == name) return static_cast<graph::ValueId>(v);
  }
  ADD_FAILURE() << name;
  return graph::kNoValue;
}

TEST(DataFreeTest, FoldedProductsTakeTheStatisticsOfTheirNormalization) {
  const graph::Graph original = Network();
  const auto prepared = Prepare(original);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  const auto statistics = ComputeDataFreeStatistics(original, *prepared, {});
  ASSERT_TRUE(statistics.ok()) << statistics.status();
  // The convolution itself makes bn1's value now.
  const graph::ValueId bn = IdOf(*prepared, "bn1");
  EXPECT_EQ(prepared->nodes[0].op, "Conv");
  EXPECT_EQ(prepared->nodes[0].outputs[0], bn);
  const DataFreeStatistics& s = statistics->at(bn);
  EXPECT_THAT(s.mean, ElementsAre(0.3f, -1, 1, 2));
  EXPECT_THAT(s.deviation, ElementsAre(1, 0.5, 2, 0));
  EXPECT_DOUBLE_EQ(s.range().low, 1 - 6 * 2);
  EXPECT_DOUBLE_EQ(s.range().high, 1 + 6 * 2);
  const DataFreeStatistics& relu = statistics->at(IdOf(*prepared, "r1"));
  EXPECT_EQ(relu.range().low, 0);
  EXPECT_DOUBLE_EQ(relu.range().high, 13);
  const DataFreeStatistics &sum = statistics->at(IdOf(*prepared, "sum")), &bn2 = statistics->at(IdOf(*prepared, "bn2"));
  for (size_t c = 0; c < 4; ++c) {
    EXPECT_NEAR(sum.mean[c], relu.mean[c] + bn2.mean[c], 1e-12);
    EXPECT_NEAR(sum.deviation[c], std::hypot(relu.deviation[c], bn2.deviation[c]), 1e-12);
    EXPECT_NEAR(sum.high[c], relu.high[c] + bn2.high[c], 1e-12);
  }
  EXPECT_EQ(statistics->at(IdOf(*prepared, "image")).range(), (Range{0, 1}));
  EXPECT_FALSE(statistics->contains(IdOf(*prepared, "c3")));
  EXPECT_THAT(MissingRanges(*prepared, FindRegions(*prepared, FindProducts(*prepared), {}), *statistics), ::testing::Contains("r3"));
}

TEST(DataFreeTest, PredictedMeansAreThoseOfARun) {
  const graph::Graph original = Network();
  const auto statistics = ComputeDataFreeStatistics(original, original, {});
  ASSERT_TRUE(statistics.ok());
  const graph::ValueId relu = IdOf(original, "r1");
  auto observer = Observer::Create(original, {relu}, 1);
  ASSERT_TRUE(observer.ok()) << observer.status();
  const CounterRng rng(8);
  std::vector<double> mean(4), square(4);
  constexpr int kRuns = 100;
  double low = 0, high = 0;
  for (int run = 0; run < kRuns; ++run) {
    std::vector<float> image(3 * 144);
    for (size_t i = 0; i < image.size(); ++i) image[i] = static_cast<float>(Normal(rng, static_cast<uint64_t>(run) * 1000 + i));
    ASSERT_TRUE((*observer)->Run({"made", {Tensor::FromF32({3, 12, 12}, image)}}).ok());
    const absl::Span<const float> values = (*observer)->observed(0);
    for (size_t i = 0; i < values.size(); ++i) {
      mean[i / 144] += values[i] / (144.0 * kRuns);
      square[i / 144] += values[i] * values[i] / (144.0 * kRuns);
      low = std::min<double>(low, values[i]);
      high = std::max<double>(high, values[i]);
    }
  }
  const DataFreeStatistics& s = statistics->at(relu);
  for (size_t c = 0; c < 4; ++c) {
    EXPECT_NEAR(s.mean[c], mean[c], 0.05) << c;  // 14400 values of deviation up to 2: 3 standard errors
    EXPECT_NEAR(s.deviation[c], std::sqrt(std::max(0.0, square[c] - mean[c] * mean[c])), 0.05) << c;
  }
  EXPECT_GE(s.range().high, high);
  EXPECT_LE(s.range().low, low);
}

TEST(DataFreeTest, FunctionsMovesAndJoins) {
  engine::GraphMaker m;
  const auto x = m.Input("x", {1, 2, 4, 4});
  const auto bn = m.Node("BatchNormalization", {x, m.F32("g", {2}, {1, 2}), m.F32("b", {2}, {0, 1}), m.F32("m", {2}, {0, 0}),
                                                m.F32("v", {2}, {1, 1})}, "bn");
  const auto swish = m.Node("Mul", {bn, m.Node("Sigmoid", {bn}, "gate")}, "swish");
  const auto pooled = m.Node("MaxPool", {bn}, "pooled", {{"kernel_shape", std::vector<int64_t>{2, 2}}});
  const auto joined = m.Node("Concat", {bn, swish}, "joined", {{"axis", int64_t{1}}});
  const auto scaled = m.Node("Mul", {bn, m.F32("f", {1, 2, 1, 1}, {-3, 10})}, "scaled");
  const auto turned = m.Node("Transpose", {bn}, "turned", {{"perm", std::vector<int64_t>{0, 2, 3, 1}}});
  const auto unknown = m.Node("Conv", {bn, m.Random("w", {2, 2, 1, 1}, 1)}, "unknown");
  const auto bounded = m.Node("Clip", {unknown, m.F32("lo", {}, {0}), m.F32("hi", {}, {6})}, "bounded");
  for (auto id : {pooled, joined, scaled, turned, bounded}) m.Output(id);
  ASSERT_TRUE(graph::InferShapes(&m.g).ok());
  const auto s = ComputeDataFreeStatistics(m.g, m.g, {});
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->at(bn).range(), (Range{-11, 13}));
  EXPECT_NEAR(s->at(swish).range().low, -0.2784645, 1e-3) << "the minimum of x sigmoid(x)";
  EXPECT_NEAR(s->at(swish).high[1], 13, 1e-3);
  // E[x sigmoid(x)] of a standard normal x, by parts E[sigmoid'(x)]: about 0.2066.
  EXPECT_NEAR(s->at(swish).mean[0], 0.2066, 1e-3);
  EXPECT_TRUE(s->at(pooled).mean.empty()) << "a maximum's mean is higher";
  EXPECT_EQ(s->at(pooled).range(), s->at(bn).range());
  EXPECT_EQ(s->at(joined).mean.size(), 4u);
  EXPECT_EQ(s->at(joined).range(), s->at(bn).range());
  EXPECT_THAT(s->at(scaled).mean, ElementsAre(0, 10));
  EXPECT_THAT(s->at(scaled).deviation, ElementsAre(3, 20));
  EXPECT_EQ(s->at(scaled).range(), (Range{-110, 130}));
  EXPECT_EQ(s->at(turned).low.size(), 1u);
  EXPECT_FALSE(s->contains(unknown));
  EXPECT_EQ(s->at(bounded).range(), (Range{0, 6}));
}

TEST(DataFreeTest, StatisticsFollowAnEqualization) {
  engine::GraphMaker m;
  auto y = m.Node("Conv", {m.Input("x", {1, 3, 4, 4}), m.Random("w1", {2, 3, 1, 1}, 1)}, "c1");
  y = m.Node("BatchNormalization", {y, m.F32("g", {2}, {1, 2}), m.F32("b", {2}, {0, 30}), m.F32("m", {2}, {0, 0}),
                                    m.F32("v", {2}, {1, 1})}, "bn");
  y = m.Node("Clip", {y, m.F32("lo", {}, {0}), m.F32("hi", {}, {6})}, "relu6");
  m.Output(m.Node("Conv", {y, m.Random("w2", {2, 2, 1, 1}, 2)}, "c2"));
  ASSERT_TRUE(graph::InferShapes(&m.g).ok());
  auto graph = Prepare(m.g);
  auto s = ComputeDataFreeStatistics(m.g, *graph, {});
  ASSERT_TRUE(s.ok());
  EqualizeOptions options;
  options.clips = EqualizeOptions::Clips::kMakeRelu;
  const auto report = Equalize(&*graph, options, MomentsOf(*s));
  ASSERT_TRUE(report.ok());
  ASSERT_EQ(report->pairs.size(), 1u);
  EXPECT_EQ(report->pairs[0].absorbed_channels, 1);
  Rescale(*report, &*s);
  const DataFreeStatistics &before = s->at(IdOf(*graph, "bn")), &relu = s->at(IdOf(*graph, "relu6"));
  const std::vector<double>&d = report->values[0].divided_by, &l = report->values[0].lowered_by;
  EXPECT_NEAR(l[1] * d[1], 30 - 3 * 2, 1e-5);
  EXPECT_NEAR(before.mean[1], 30 / d[1] - l[1], 1e-5);
  EXPECT_NEAR(before.deviation[1], 2 / d[1], 1e-6);
  EXPECT_NEAR(relu.high[1], 42 / d[1] - l[1], 1e-5) << "no longer 6";
  EXPECT_NEAR(relu.low[1], 18 / d[1] - l[1] < 0 ? 0 : 18 / d[1] - l[1], 1e-5);
}

TEST(DataFreeTest, RefusalsNameWhatIsWrong) {
  const graph::Graph g = Network();
  DataFreeOptions options;
  options.inputs["picture"] = {0, 1};
  EXPECT_THAT(ComputeDataFreeStatistics(g, g, options).status().message(), HasSubstr("'picture'"));
  options.inputs.clear();
  options.input = {2, 2};
  EXPECT_THAT(ComputeDataFreeStatistics(g, g, options).status().message(), HasSubstr("no width"));
  options.input = {0, 1};
  options.sigmas = 0;
  EXPECT_THAT(ComputeDataFreeStatistics(g, g, options).status().message(), HasSubstr("sigmas 0"));
}

}  // namespace
}  // namespace octet::compress
