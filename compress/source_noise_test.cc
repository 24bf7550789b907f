// Noise of single sources against plain loops, the choice among them, and what a recipe makes of it.
#include "compress/source_noise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "compress/compress.h"
#include "compress/memory_samples.h"
#include "engine/test_util.h"

namespace octet::compress {
namespace {

using compression::v1::Corrections;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int kInputs = 6, kHidden = 8, kOutputs = 5;

// Row-major [n, k] times x, behind which Relu.
std::vector<double> Layer(const std::vector<float>& w, const std::vector<double>& x, bool relu) {
  std::vector<double> y(w.size() / x.size());
  for (size_t i = 0; i < y.size(); ++i) {
    for (size_t k = 0; k < x.size(); ++k) y[i] += static_cast<double>(w[i * x.size() + k]) * x[k];
    if (relu) y[i] = std::max(y[i], 0.0);
  }
  return y;
}

// image -> Gemm Relu -> Gemm Relu -> Gemm. The first layer's first result is 500 times the others and counts 500 times less.
struct Network {
  Network() {
    const auto random = [](int64_t rows, int64_t inputs, uint64_t seed) {
      std::vector<float> w(static_cast<size_t>(rows * inputs));
      const CounterRng rng(seed);
      for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(rng.Uniform(i) * 2 - 0.8);
      return w;
    };
    w1 = random(kHidden, kInputs, 1);
    w2 = random(kHidden, kHidden, 2);
    w3 = random(kOutputs, kHidden, 3);
    for (size_t k = 0; k < kInputs; ++k) w1[k] *= 500;
    for (size_t i = 0; i < kHidden; ++i) w2[i * kHidden] /= 500;
    image = m.Input("image", {kUnknownDim, kInputs});
    const auto gemm = [&](graph::ValueId x, const std::vector<float>& w, int64_t rows, const std::string& name) {
      return m.Node("Gemm", {x, m.F32("w" + name, {rows, static_cast<int64_t>(w.size()) / rows}, w)}, name,
                    {{"transB", int64_t{1}}});
    };
    first = m.Node("Relu", {gemm(image, w1, kHidden, "a")}, "first");
    second = m.Node("Relu", {gemm(first, w2, kHidden, "b")}, "second");
    m.Output(gemm(second, w3, kOutputs, "logits"));
  }

  std::vector<Tensor> Samples(int count) const {
    std::vector<Tensor> samples;
    for (int s = 0; s < count; ++s) {
      std::vector<float> x(kInputs);
      const CounterRng rng(9, static_cast<uint64_t>(s));
      for (size_t k = 0; k < x.size(); ++k) x[k] = static_cast<float>(rng.Uniform(k));
      samples.push_back(Tensor::FromF32({kInputs}, x));
    }
    return samples;
  }

  engine::GraphMaker m;
  std::vector<float> w1, w2, w3;
  graph::ValueId image = 0, first = 0, second = 0;
};

TEST(SourceNoiseTest, MeasuresEachSourceAlone) {
  const Network net;
  const std::vector<Tensor> tensors = net.Samples(3);
  MemorySamples samples(tensors);
  const QuantParams params = QuantParams::PerTensor(0.02f, 0);  // coarse: rounding, no clipping
  const QuantParams wide = QuantParams::PerTensor(8, 0);
  const auto params_of = [&](graph::ValueId id) { return id == net.first ? wide : params; };  // Prepare keeps ids
  const absl::StatusOr<graph::Graph> graph = Prepare(net.m.g);  // shapes
  ASSERT_TRUE(graph.ok()) << graph.status();
  const auto sources = MeasureSources(*graph, FindProducts(*graph), params_of, samples, {0, 1, 2}, {});
  ASSERT_TRUE(sources.ok()) << sources.status();
  ASSERT_EQ(sources->size(), 3u);

  const auto round = [](std::vector<double> x, double scale) {
    for (double& v : x) v = std::clamp(std::nearbyint(v / scale), 0.0, 255.0) * scale;
    return x;
  };
  std::vector<std::vector<double>> clean;
  double noise[3] = {};
  for (const Tensor& t : tensors) {
    const std::vector<float> pixels = t.ToF32();
    const std::vector<double> x(pixels.begin(), pixels.end());
    const auto run = [&](int rounded) {
      auto y = Layer(net.w1, rounded == 0 ? round(x, 0.02f) : x, true);
      y = Layer(net.w2, rounded == 1 ? round(y, 8) : y, true);
      return Layer(net.w3, rounded == 2 ? round(y, 0.02f) : y, false);
    };
    clean.push_back(run(-1));
    for (int i = 0; i < 3; ++i) {
      const std::vector<double> found = run(i);
      for (size_t k = 0; k < found.size(); ++k) noise[i] += std::pow(found[k] - clean.back()[k], 2);
    }
  }
  double power = 0;  // about each output's mean, unbiased, of three samples
  for (size_t k = 0; k < kOutputs; ++k) {
    const double mean = (clean[0][k] + clean[1][k] + clean[2][k]) / 3;
    for (const auto& y : clean) power += std::pow(y[k] - mean, 2) * 3 / 2;
  }
  const graph::ValueId ids[] = {net.image, net.first, net.second};
  const double counts[] = {kInputs * kHidden, kHidden * kHidden, kHidden * kOutputs};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ((*sources)[i].src, ids[i]);
    EXPECT_EQ((*sources)[i].multiply_adds, counts[i]);
    // A sum in f32 may round to the other code: one code in some fifty.
    EXPECT_NEAR((*sources)[i].noise, noise[i] / power, 0.05 * noise[i] / power) << i;
  }
}

SourceNoise Source(double noise, double multiply_adds) { return {0, noise, multiply_adds}; }

TEST(ChooseRealTest, TakesTheNoisiestForItsCostUntilTheRestIsGoodEnough) {
  const std::vector<SourceNoise> sources = {Source(0.1, 50), Source(0.2, 10), Source(0.0005, 1), Source(0.05, 1)};
  EXPECT_THAT(ChooseReal(sources, {.noise = 1e-3, .share = 0.001, .multiply_adds = 1000}), ElementsAre(0, 1, 3));
  EXPECT_THAT(ChooseReal(sources, {.noise = 0.11, .share = 0.001, .multiply_adds = 1000}), ElementsAre(1, 3));
  EXPECT_THAT(ChooseReal(sources, {.noise = 0.4, .share = 0.001, .multiply_adds = 1000}), IsEmpty());
}

TEST(ChooseRealTest, StaysWithinTheMultiplyAdds) {
  const std::vector<SourceNoise> sources = {Source(0.1, 50), Source(0.2, 10), Source(0.0005, 1), Source(0.05, 1)};
  EXPECT_THAT(ChooseReal(sources, {.noise = 0, .share = 0, .multiply_adds = 12}), ElementsAre(1, 2, 3));
  EXPECT_THAT(ChooseReal(sources, {.noise = 0, .share = 0, .multiply_adds = 51}), ElementsAre(1, 2, 3));
  EXPECT_THAT(ChooseReal(sources, {.noise = 0, .share = 0, .multiply_adds = 0}), IsEmpty());
  EXPECT_THAT(ChooseReal(sources, {.noise = 0, .share = 0.2, .multiply_adds = 100}), ElementsAre(0, 1));
}

Recipe WideRecipe() {
  return *ParseRecipe("layers { grid: 'int8' } corrections { wide_activations: WHERE_NEEDED }");
}

TEST(WideActivationsTest, TheAppliedRecipeNamesWhatReadsReals) {
  // Three wide layers behind, so that 5 % of the multiply-adds pay for the one that suffers.
  Network net;
  net.m.g.outputs.clear();
  auto y = net.m.Node("Gemm", {net.second, net.m.Random("w4", {64, kHidden}, 4)}, "c", {{"transB", int64_t{1}}});
  y = net.m.Node("Gemm", {y, net.m.Random("w5", {64, 64}, 5)}, "d", {{"transB", int64_t{1}}});
  net.m.Output(net.m.Node("Gemm", {y, net.m.Random("w6", {5, 64}, 6)}, "e", {{"transB", int64_t{1}}}));
  MemorySamples samples(net.Samples(60));
  const auto narrow = Compress(net.m.g, samples, *ParseRecipe("layers { grid: 'int8' }"), {});
  ASSERT_TRUE(narrow.ok()) << narrow.status();
  const auto wide = Compress(net.m.g, samples, WideRecipe(), {});
  ASSERT_TRUE(wide.ok()) << wide.status();
  EXPECT_GT(wide->report.outputs[0].sqnr_db, narrow->report.outputs[0].sqnr_db + 10);
  EXPECT_EQ(wide->recipe.corrections().wide_activations(), Corrections::OFF);
  ASSERT_EQ(wide->recipe.rules_size(), 1);
  EXPECT_EQ(wide->recipe.rules(0).node(), "node_b");
  EXPECT_EQ(wide->recipe.rules(0).scheme().activations(), LayerScheme::DYNAMIC);
  // What was applied can be applied again.
  const auto again = Compress(net.m.g, samples, wide->recipe, {});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->report.outputs[0].sqnr_db, wide->report.outputs[0].sqnr_db);
}

TEST(WideActivationsTest, NothingIsDoneWhereNothingFits) {
  const Network net;  // the suffering layer does more than a third of all
  MemorySamples samples(net.Samples(60));
  const auto wide = Compress(net.m.g, samples, WideRecipe(), {});
  ASSERT_TRUE(wide.ok()) << wide.status();
  EXPECT_EQ(wide->recipe.rules_size(), 0);
}

TEST(WideActivationsTest, ASourceThatOthersRoundStaysRounded) {
  // The addition's result is read as integers, so both its sides are.
  Network net;
  net.m.g.outputs.clear();
  auto y = net.m.Node("Add", {net.first, net.second}, "sum");
  y = net.m.Node("Gemm", {y, net.m.Random("w4", {64, kHidden}, 4)}, "c", {{"transB", int64_t{1}}});
  y = net.m.Node("Gemm", {y, net.m.Random("w5", {64, 64}, 5)}, "d", {{"transB", int64_t{1}}});
  net.m.Output(net.m.Node("Gemm", {y, net.m.Random("w6", {5, 64}, 6)}, "e", {{"transB", int64_t{1}}}));
  MemorySamples samples(net.Samples(60));
  const auto wide = Compress(net.m.g, samples, WideRecipe(), {});
  ASSERT_TRUE(wide.ok()) << wide.status();
  for (const auto& rule : wide->recipe.rules()) EXPECT_NE(rule.node(), "node_b");
}

}  // namespace
}  // namespace octet::compress
