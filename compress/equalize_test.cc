// Equalization changes weights and not the function; what it may not touch it leaves and says why.
#include "compress/equalize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "compress/product_weights.h"
#include "engine/test_util.h"
#include "graph/shape_inference.h"

namespace octet::compress {
namespace {

using ::testing::HasSubstr;
using Attributes = std::vector<std::pair<std::string, graph::Attribute>>;

const Attributes kSame = {{"pads", std::vector<int64_t>{1, 1, 1, 1}}, {"kernel_shape", std::vector<int64_t>{3, 3}}};

Attributes Depthwise(int64_t channels) {
  Attributes a = kSame;
  a.emplace_back("group", channels);
  return a;
}

// Random weights whose rows are spread over three orders of magnitude.
graph::ValueId Uneven(engine::GraphMaker* m, const std::string& name, Shape shape, uint64_t seed) {
  const CounterRng rng(seed);
  const auto rows = static_cast<size_t>(shape[0]), n = static_cast<size_t>(NumElements(shape));
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) {
    values[i] = static_cast<float>((rng.Uniform(i) * 2 - 1) * std::pow(10.0, static_cast<double>(i / (n / rows) % 4) - 2));
  }
  return m->F32(name, std::move(shape), std::move(values));
}

std::vector<float> RunOn(const graph::Graph& g, const Tensor& x) {
  auto program = engine::Program::Compile(g);
  EXPECT_TRUE(program.ok()) << program.status();
  auto out = engine::RunProgram(**program, {x});
  EXPECT_TRUE(out.ok()) << out.status();
  return (*out)[0].ToF32();
}

Tensor RandomInput(Shape shape) {
  const CounterRng rng(99);
  std::vector<float> values(static_cast<size_t>(NumElements(shape)));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(rng.Uniform(i) * 2 - 1);
  return Tensor::FromF32(std::move(shape), values);
}

// Largest difference over the largest magnitude.
double RelativeDifference(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, largest = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::fabs(double{a[i]} - b[i]));
    largest = std::max(largest, std::fabs(double{a[i]}));
  }
  return difference / largest;
}

double SpreadOfRows(const graph::Graph& g, int node) {
  double low = 1e300, high = 0;
  for (double m : ReadProduct(g, g.nodes[static_cast<size_t>(node)]).RowMaxima()) {
    low = std::min(low, m);
    high = std::max(high, m);
  }
  return high / low;
}

// Inverted residual: 1x1 - depthwise 3x3 - 1x1, then pooling and a Gemm.
graph::Graph MobileBlock(const std::string& activation, Attributes attributes = {}) {
  engine::GraphMaker m;
  auto y = m.Node("Conv", {m.Input("x", {1, 3, 9, 9}), Uneven(&m, "w1", {8, 3, 1, 1}, 1), m.Random("b1", {8}, 2)}, "expand");
  const auto act = [&](graph::ValueId v, const std::string& name) {
    std::vector<graph::ValueId> inputs = {v};
    if (activation == "PRelu") inputs.push_back(m.Random(name + "_slope", {8, 1, 1}, 11));
    if (activation == "Clip") {
      inputs.push_back(m.F32(name + "_low", {}, {0}));
      inputs.push_back(m.F32(name + "_high", {}, {6}));
    }
    return m.Node(activation, inputs, name, attributes);
  };
  y = act(y, "a1");
  y = m.Node("Conv", {y, Uneven(&m, "w2", {8, 1, 3, 3}, 3), m.Random("b2", {8}, 4)}, "dw", Depthwise(8));
  y = act(y, "a2");
  y = m.Node("Conv", {y, m.Random("w3", {4, 8, 1, 1}, 5)}, "project");
  m.Output(y);
  EXPECT_TRUE(graph::InferShapes(&m.g).ok());
  return m.g;
}

TEST(EqualizeTest, DepthwiseTripleEndsAtTheCubeRoot) {
  for (const std::string activation : {"Relu", "LeakyRelu", "PRelu"}) {
    const graph::Graph before = MobileBlock(activation);
    graph::Graph after = before;
    const auto report = Equalize(&after, {});
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->pairs.size(), 2u);
    EXPECT_LT(report->rounds, 100);
    EXPECT_LT(RelativeDifference(RunOn(before, RandomInput({1, 3, 9, 9})), RunOn(after, RandomInput({1, 3, 9, 9}))), 1e-4)
        << activation;
    const auto maxima = [](const graph::Graph& g, size_t node, bool inputs) {
      const ProductWeights w = ReadProduct(g, g.nodes[node]);
      return inputs ? w.InputMaxima() : w.RowMaxima();
    };
    const auto r1 = maxima(before, 0, false), r2 = maxima(before, 2, false), r3 = maxima(before, 4, true);
    for (size_t c = 0; c < 8; ++c) {
      const double root = std::cbrt(r1[c] * r2[c] * r3[c]);
      EXPECT_NEAR(maxima(after, 0, false)[c], root, 5e-3 * root);
      EXPECT_NEAR(maxima(after, 2, false)[c], root, 5e-3 * root);
      EXPECT_NEAR(maxima(after, 4, true)[c], root, 5e-3 * root);
    }
    EXPECT_LT(SpreadOfRows(after, 2), SpreadOfRows(before, 2) / 5) << "what a per-tensor scale would suffer from";
    EXPECT_NEAR(report->pairs[0].spread_before, SpreadOfRows(before, 0), 1e-6 * SpreadOfRows(before, 0));
  }
}

TEST(EqualizeTest, GroupsMatricesAndPoolingsKeepTheFunction) {
  engine::GraphMaker m;
  Attributes grouped = kSame;
  grouped.emplace_back("group", int64_t{2});
  auto y = m.Node("Conv", {m.Input("x", {1, 4, 8, 8}), Uneven(&m, "w1", {6, 4, 3, 3}, 1)}, "c1", kSame);
  y = m.Node("MaxPool", {m.Node("Relu", {y}, "r1")}, "p", {{"kernel_shape", std::vector<int64_t>{2, 2}},
                                                            {"strides", std::vector<int64_t>{2, 2}}});
  y = m.Node("Conv", {y, Uneven(&m, "w2", {4, 3, 3, 3}, 2), m.Random("b2", {4}, 3)}, "c2", grouped);
  y = m.Node("Flatten", {m.Node("GlobalAveragePool", {y}, "gap")}, "flat");
  y = m.Node("Gemm", {y, Uneven(&m, "w3", {7, 4}, 4), m.Random("b3", {7}, 5)}, "g1", {{"transB", int64_t{1}}});
  y = m.Node("Relu", {y}, "r3");
  y = m.Node("Gemm", {y, m.Random("w4", {7, 5}, 6)}, "g2");
  m.Output(m.Node("MatMul", {y, m.Random("w5", {5, 3}, 7)}, "g3"));
  ASSERT_TRUE(graph::InferShapes(&m.g).ok());
  graph::Graph after = m.g;
  const auto report = Equalize(&after, {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->pairs.size(), 3u);  // c1-c2, g1-g2, g2-g3
  const Tensor x = RandomInput({1, 4, 8, 8});
  EXPECT_LT(RelativeDifference(RunOn(m.g, x), RunOn(after, x)), 1e-4);
  EXPECT_LT(SpreadOfRows(after, 0), SpreadOfRows(m.g, 0));
}

TEST(EqualizeTest, ASharedWeightIsNotChangedForItsOtherReader) {
  engine::GraphMaker m;
  const auto shared = Uneven(&m, "w", {4, 4, 1, 1}, 1);
  auto y = m.Node("Conv", {m.Input("x", {1, 4, 5, 5}), shared}, "c1");
  y = m.Node("Conv", {m.Node("Relu", {y}, "r1"), shared}, "c2");
  m.Output(m.Node("Sigmoid", {y}, "s"));
  ASSERT_TRUE(graph::InferShapes(&m.g).ok());
  graph::Graph after = m.g;
  ASSERT_EQ(Equalize(&after, {})->pairs.size(), 1u);
  const Tensor x = RandomInput({1, 4, 5, 5});
  EXPECT_LT(RelativeDifference(RunOn(m.g, x), RunOn(after, x)), 1e-4);
}

TEST(EqualizeTest, ValuesThatOthersSeeAreLeftAlone) {
  engine::GraphMaker m;
  auto y = m.Node("Conv", {m.Input("x", {1, 4, 5, 5}), Uneven(&m, "w1", {4, 4, 1, 1}, 1)}, "c1");
  const auto seen = m.Node("Relu", {y}, "r1");
  m.Output(m.Node("Conv", {seen, m.Random("w2", {4, 4, 1, 1}, 2)}, "c2"));
  m.Output(seen);
  ASSERT_TRUE(graph::InferShapes(&m.g).ok());
  const auto report = Equalize(&m.g, {});
  ASSERT_TRUE(report.ok());
  EXPECT_TRUE(report->pairs.empty());
}

TEST(EqualizeTest, AnUpperBoundIsSkippedOrGivenUp) {
  graph::Graph kept = MobileBlock("Clip");
  const auto report = Equalize(&kept, {});
  ASSERT_TRUE(report.ok());
  EXPECT_TRUE(report->pairs.empty());
  ASSERT_EQ(report->skipped.size(), 2u);
  EXPECT_THAT(report->skipped[0], HasSubstr("upper bound"));
  EqualizeOptions options;
  options.clips = EqualizeOptions::Clips::kMakeRelu;
  graph::Graph given_up = MobileBlock("Clip");
  const auto second = Equalize(&given_up, options);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->pairs.size(), 2u);
  const Tensor x = RandomInput({1, 3, 9, 9});
  EXPECT_LT(RelativeDifference(RunOn(MobileBlock("Relu"), x), RunOn(given_up, x)), 1e-4);
  EXPECT_EQ(second->values[1].relu_of, given_up.nodes[1].inputs[0]);
}

TEST(EqualizeTest, AHighBiasMovesOnWithoutAChange) {
  engine::GraphMaker m;
  std::vector<float> bias = {50, 0, -50, 30};
  auto y = m.Node("Conv", {m.Input("x", {1, 3, 6, 6}), m.Random("w1", {4, 3, 3, 3}, 1), m.F32("b1", {4}, bias)}, "c1", kSame);
  y = m.Node("Relu", {y}, "r");
  m.Output(m.Node("Conv", {y, m.Random("w2", {2, 4, 3, 3}, 2)}, "c2", {{"kernel_shape", std::vector<int64_t>{3, 3}}}));
  ASSERT_TRUE(graph::InferShapes(&m.g).ok());
  graph::Graph after = m.g;
  // |27 products of at most 1| < 27: channel 0 never falls below 50 - 27, channel 3 never below 30 - 27.
  const absl::flat_hash_map<graph::ValueId, ChannelMoments> moments = {
      {m.g.nodes[0].outputs[0], {{50, 0, -50, 30}, {9, 9, 9, 9}}}};
  const auto report = Equalize(&after, {}, moments);
  ASSERT_TRUE(report.ok());
  ASSERT_EQ(report->pairs.size(), 1u);
  EXPECT_EQ(report->pairs[0].absorbed_channels, 2);
  const Tensor x = RandomInput({1, 3, 6, 6});
  EXPECT_LT(RelativeDifference(RunOn(m.g, x), RunOn(after, x)), 1e-4);
  const RescaledValue& result = report->values[0];
  const std::vector<float> lowered = ReadProduct(after, after.nodes[0]).bias;
  for (size_t c = 0; c < 4; ++c) {
    EXPECT_NEAR(lowered[c], bias[c] / result.divided_by[c] - result.lowered_by[c], 1e-4);
    EXPECT_NEAR(result.lowered_by[c] * result.divided_by[c], c == 0 ? 23 : c == 3 ? 3 : 0, 1e-9);
  }
}

TEST(EqualizeTest, NothingIsAbsorbedInFrontOfPadding) {
  graph::Graph g = MobileBlock("Relu");
  absl::flat_hash_map<graph::ValueId, ChannelMoments> moments;
  for (size_t node : {0, 2}) {
    moments[g.nodes[node].outputs[0]] = {std::vector<double>(8, 50), std::vector<double>(8, 1)};
  }
  const auto report = Equalize(&g, {}, moments);
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->pairs[0].absorbed_channels, 0) << "the depthwise layer pads";
  EXPECT_EQ(report->pairs[1].absorbed_channels, 8);
}

}  // namespace
}  // namespace octet::compress
