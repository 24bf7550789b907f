// Noise and divergence at outputs against plain loops, and which order of layers a recipe takes by them.
#include "compress/output_noise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "compress/compress.h"
#include "compress/memory_samples.h"
#include "compress/recipe.h"
#include "engine/test_util.h"

namespace octet::compress {
namespace {

using compression::v1::Corrections;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// image [N, 2] -> two outputs: 3 x + shift, and the constant 7.
graph::Graph Scaled(float scale, float shift) {
  engine::GraphMaker m;
  const graph::ValueId image = m.Input("image", {kUnknownDim, 2});
  m.Output(m.Node("Add", {m.Node("Mul", {image, m.F32("s", {1}, {scale})}, "m"), m.F32("b", {1}, {shift})}, "y"));
  m.Output(m.Node("Add", {m.Node("Mul", {image, m.F32("z", {1}, {0})}, "n"), m.F32("c", {1}, {7})}, "k"));
  return *Prepare(m.g);
}

TEST(OutputNoiseTest, IsRelativeToWhatDiffersBetweenSamples) {
  const std::vector<Tensor> tensors = {Tensor::FromF32({2}, {1, 10}), Tensor::FromF32({2}, {2, 10}), Tensor::FromF32({2}, {6, 10})};
  MemorySamples samples(tensors);
  const absl::StatusOr<OutputNoise> noise = OutputNoise::Create(Scaled(3, 0), samples, {0, 1, 2}, 1);
  ASSERT_TRUE(noise.ok()) << noise.status();
  EXPECT_EQ(noise->Of(Scaled(3, 0))->noise, 0);
  // y: the first element is 3, 6, 18, of variance 9 * 14 / 2 about its mean and power 3 times that; the second and the other
  // output never differ. A shift of 1/2 errs by 1/4 on each of 6 elements; the mean is over two outputs.
  EXPECT_NEAR(noise->Of(Scaled(3, 0.5f))->noise, 6 * 0.25 / (3 * 9 * 7.0) / 2, 1e-9);
}

TEST(OutputNoiseTest, WhatIsNotFiniteIsWorst) {
  const std::vector<Tensor> tensors = {Tensor::FromF32({2}, {1, 10}), Tensor::FromF32({2}, {2, 10})};
  MemorySamples samples(tensors);
  const absl::StatusOr<OutputNoise> noise = OutputNoise::Create(Scaled(3, 0), samples, {0, 1}, 1);
  ASSERT_TRUE(noise.ok()) << noise.status();
  EXPECT_EQ(noise->Of(Scaled(NAN, 0))->noise, INFINITY);
  EXPECT_EQ(noise->Of(Scaled(INFINITY, 0))->noise, INFINITY);
  EXPECT_EQ(noise->Of(Scaled(NAN, 0))->divergence, INFINITY);
}

TEST(OutputNoiseTest, OneSampleCountsWithItsOwnPower) {
  const std::vector<Tensor> tensors = {Tensor::FromF32({2}, {1, 10})};
  MemorySamples samples(tensors);
  const absl::StatusOr<OutputNoise> noise = OutputNoise::Create(Scaled(3, 0), samples, {0}, 1);
  ASSERT_TRUE(noise.ok()) << noise.status();
  EXPECT_NEAR(noise->Of(Scaled(3, 1))->noise, 2.0 / (9 + 900) / 2, 1e-9);
}

TEST(OutputNoiseTest, ClassesDivergeByTheirProbabilities) {
  const std::vector<Tensor> tensors = {Tensor::FromF32({2}, {1, 2}), Tensor::FromF32({2}, {0.5f, -1})};
  MemorySamples samples(tensors);
  const auto scores = [](float scale, bool softmax) {
    engine::GraphMaker m;
    graph::ValueId y = m.Node("Mul", {m.Input("image", {kUnknownDim, 2}), m.F32("s", {2}, {1, scale})}, "y");
    if (softmax) y = m.Node("Softmax", {y}, "p", {{"axis", int64_t{1}}});
    m.Output(y);
    return *Prepare(m.g);
  };
  double expected = 0;
  for (const auto& [a, b] : {std::pair(1.0, 2.0), std::pair(0.5, -1.0)}) {
    const double p = 1 / (1 + std::exp(b - a)), q = 1 / (1 + std::exp(1.5 * b - a));
    expected += (p * std::log(p / q) + (1 - p) * std::log((1 - p) / (1 - q))) / 2;
  }
  for (const bool softmax : {false, true}) {
    const absl::StatusOr<OutputNoise> noise = OutputNoise::Create(scores(1, softmax), samples, {0, 1}, 1);
    ASSERT_TRUE(noise.ok()) << noise.status();
    EXPECT_TRUE(noise->has_classes());
    EXPECT_NEAR(noise->Of(scores(1.5f, softmax))->divergence, expected, 1e-6) << softmax;
    EXPECT_NEAR(noise->Of(scores(1, softmax))->divergence, 0, 1e-9) << softmax;
  }
}

TEST(SpreadTest, TakesEqualSteps) {
  EXPECT_THAT(Spread({3, 5, 7, 9}, 8), ElementsAre(3, 5, 7, 9));
  EXPECT_THAT(Spread({0, 1, 2, 3, 4, 5, 6, 7, 8}, 3), ElementsAre(1, 4, 7));
  EXPECT_THAT(Spread({}, 3), IsEmpty());
}

// Three layers; every sixteenth sample is ten times as large as the others.
struct Network {
  explicit Network(uint64_t seed) {
    const graph::ValueId image = m.Input("image", {kUnknownDim, 16});
    graph::ValueId x = image;
    for (int layer = 0; layer < 3; ++layer) {
      const int rows = layer == 2 ? 4 : 24;
      std::vector<float> w(static_cast<size_t>(rows * (layer == 0 ? 16 : 24)));
      const CounterRng rng(seed, static_cast<uint64_t>(layer));
      for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(rng.Uniform(i) - 0.45);
      const std::string name = absl::StrCat("l", layer);
      x = m.Node("Gemm", {x, m.F32("w" + name, {rows, static_cast<int64_t>(w.size()) / rows}, w)}, name, {{"transB", int64_t{1}}});
      if (layer < 2) x = m.Node("Relu", {x}, name + ".relu");
    }
    m.Output(x);
    for (int s = 0; s < 64; ++s) {
      std::vector<float> values(16);
      const CounterRng rng(seed + 100, static_cast<uint64_t>(s));
      for (size_t k = 0; k < values.size(); ++k) values[k] = static_cast<float>(rng.Uniform(k) * (s % 16 == 4 ? 10 : 1));
      samples.push_back(Tensor::FromF32({16}, values));
    }
  }

  engine::GraphMaker m;
  std::vector<Tensor> samples;
};

// SQNR of output 0 as the report gives it, on all held-back samples.
double SqnrOf(const Network& net, const Recipe& recipe) {
  MemorySamples samples(net.samples);
  const absl::StatusOr<CompressResult> result = Compress(net.m.g, samples, recipe, {});
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? result->report.outputs[0].sqnr_db : NAN;
}

TEST(SequentialWhereNeeded, TakesTheOrderThatDiffersLeast) {
  bool in_order = false, at_once = false;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    const Network net(seed);
    const Recipe recipe = *ParseRecipe(
        "layers { grid: 'int8' weighted: true rounding: ERROR_FEEDBACK_ORDERED } corrections { sequential: WHERE_NEEDED }");
    MemorySamples samples(net.samples);
    const absl::StatusOr<CompressResult> result = Compress(net.m.g, samples, recipe, {});
    ASSERT_TRUE(result.ok()) << result.status();
    double least = 0;
    bool first = true;
    const std::vector<NamedOrder> orders = OrdersOf(recipe);
    ASSERT_EQ(orders.size(), 3u);
    MemorySamples again(net.samples);
    std::vector<int64_t> held;  // one in five, as compress.cc shares out
    for (int64_t k = 4; k < 64; k += 5) held.push_back(k);
    const graph::Graph reference = *Prepare(net.m.g);
    const OutputNoise outputs = *OutputNoise::Create(reference, again, held, 1);
    for (const NamedOrder& order : orders) {
      EXPECT_NE(order.recipe.corrections().sequential(), Corrections::WHERE_NEEDED);
      MemorySamples own(net.samples);
      const absl::StatusOr<CompressResult> tried = Compress(net.m.g, own, order.recipe, {});
      ASSERT_TRUE(tried.ok()) << tried.status();
      const double divergence = outputs.Of(tried->graph)->divergence;
      least = first ? divergence : std::min(least, divergence);
      first = false;
    }
    EXPECT_EQ(outputs.Of(result->graph)->divergence, least) << "seed " << seed;
    EXPECT_THAT(result->report.notes, ::testing::Contains(HasSubstr("in order")));
    // The applied recipe gives the same network.
    EXPECT_NE(result->recipe.corrections().sequential(), Corrections::WHERE_NEEDED);
    EXPECT_EQ(SqnrOf(net, result->recipe), result->report.outputs[0].sqnr_db);
    (result->recipe.corrections().sequential() == Corrections::ON ? in_order : at_once) = true;
  }
  EXPECT_TRUE(in_order && at_once) << "the seeds ask for one order only: this test says nothing";
}

// Codes of the last layer, in order and rounded to nearest, so that nothing but its target decides them.
std::vector<int64_t> LastCodes(const Network& net, const std::string& damping, const std::string& sequential) {
  MemorySamples samples(net.samples);
  const absl::StatusOr<CompressResult> result = Compress(
      net.m.g, samples,
      *ParseRecipe(absl::StrCat("layers { grid: 'int8' ", damping, " } corrections { sequential: ", sequential, " }")), {});
  EXPECT_TRUE(result.ok()) << result.status();
  if (!result.ok()) return {};
  const graph::Graph& g = result->graph;
  const graph::Node* last = nullptr;
  for (const graph::Node& node : g.nodes) {
    if (node.op == "Gemm" || node.op == "MatMul") last = &node;
  }
  return g.value(last->inputs[1]).data->ToS64();
}

TEST(TargetDamping, HoldsWeightsToTheFloatOnes) {
  const Network net(3);
  const std::vector<int64_t> plain = LastCodes(net, "", "OFF"), corrected = LastCodes(net, "", "ON");
  ASSERT_FALSE(plain.empty());
  EXPECT_NE(corrected, plain) << "nothing to correct: this test says nothing";
  EXPECT_EQ(LastCodes(net, "target_damping: 1e6", "ON"), plain);
  EXPECT_EQ(LastCodes(net, "target_damping: 0.01", "ON"), corrected) << "the default";
}

TEST(SequentialWhereNeeded, SaysWhatItFoundBesideAReducedRange) {
  const Network net(1);
  MemorySamples samples(net.samples);
  const absl::StatusOr<CompressResult> result = Compress(
      net.m.g, samples,
      *ParseRecipe("layers { grid: 'int8' rounding: LEARNED } corrections { sequential: WHERE_NEEDED reduced_range: WHERE_NEEDED }"), {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->report.notes, ::testing::Contains(HasSubstr("8-bit layers to nearest")));
}

TEST(OrdersOf, GivesRecipesThatCanBeReadAgain) {
  for (const NamedOrder& order : OrdersOf(*ParseRecipe(
           "layers { grid: 'int8' rounding: STOCHASTIC draws: 16 } corrections { sequential: WHERE_NEEDED }"))) {
    EXPECT_TRUE(ParseRecipe(RecipeText(order.recipe)).ok()) << order.name;
  }
}

TEST(OrdersOf, NearestIsNoContenderWhereNothingIsFitted) {
  std::vector<std::string> names;
  for (const NamedOrder& order : OrdersOf(*ParseRecipe("layers { grid: 'int8' }"))) names.push_back(order.name);
  EXPECT_THAT(names, ElementsAre("all layers at once", "in order"));
  const Recipe mixed = *ParseRecipe(
      "layers { grid: 'int4' rounding: LEARNED } rules { position: FIRST scheme { grid: 'int8' rounding: LEARNED } }");
  const std::vector<NamedOrder> orders = OrdersOf(mixed);
  ASSERT_EQ(orders.size(), 3u);
  EXPECT_EQ(orders[1].recipe.layers().rounding(), LayerScheme::LEARNED) << "only 8-bit layers are rounded to nearest";
  EXPECT_EQ(orders[1].recipe.rules(0).scheme().rounding(), LayerScheme::NEAREST);
}

}  // namespace
}  // namespace octet::compress
