// Temperatures against a grid search, against a known one, and through the compressor.
#include "compress/ensemble_temperature.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"
#include "compress/compress.h"
#include "engine/test_util.h"
#include "graph/ensemble.h"

namespace octet::compress {
namespace {

constexpr int64_t kClasses = 4;

std::vector<float> Logits(int64_t rows, uint64_t seed, double size) {
  const CounterRng rng(seed);
  std::vector<float> out;
  for (uint64_t i = 0; i < static_cast<uint64_t>(rows * kClasses); ++i) {
    out.push_back(static_cast<float>(size * (rng.Uniform(i) - 0.5)));
  }
  return out;
}

// The cross entropy of the mean of softmax(draw / t) with softmax(reference), in plain loops.
double Loss(const std::vector<float>& reference, const std::vector<std::vector<float>>& draws, double t) {
  double sum = 0;
  for (size_t at = 0; at < reference.size(); at += kClasses) {
    for (size_t c = 0; c < kClasses; ++c) {
      double q = 0, mean = 0;
      for (size_t o = 0; o < kClasses; ++o) q += std::exp(reference[at + o] - reference[at + c]);
      for (const std::vector<float>& draw : draws) {
        double p = 0;
        for (size_t o = 0; o < kClasses; ++o) p += std::exp((draw[at + o] - draw[at + c]) / t);
        mean += 1 / p / static_cast<double>(draws.size());
      }
      sum -= std::log(mean) / q;
    }
  }
  return sum;
}

TEST(FitTemperature, FindsTheOneThatWasApplied) {
  const std::vector<float> reference = Logits(50, 1, 6);
  for (const double t : {0.5, 1.0, 3.0}) {
    std::vector<float> draw = reference;
    for (float& x : draw) x = static_cast<float>(x * t);
    EXPECT_NEAR(FitTemperature(reference, {{draw}}, kClasses), t, 2e-3 * t);
  }
}

TEST(FitTemperature, NoOtherIsLikelier) {
  const std::vector<float> reference = Logits(60, 1, 5);
  std::vector<std::vector<float>> draws;
  for (uint64_t k = 0; k < 3; ++k) {
    draws.push_back(Logits(60, 10 + k, 6));
    for (size_t i = 0; i < reference.size(); ++i) draws.back()[i] += 2 * reference[i];
  }
  const double found = FitTemperature(reference, draws, kClasses), least = Loss(reference, draws, found);
  for (double t = 0.1; t < 10; t *= 1.02) EXPECT_GE(Loss(reference, draws, t), least - 1e-4) << t << " against " << found;
  EXPECT_GT(found, 1.2) << "draws twice as large as the reference are too sure";
}

class MemorySamples final : public data::SampleReader {
 public:
  int64_t size() const override { return 40; }
  absl::StatusOr<data::Sample> Read(int64_t i) override {
    std::vector<float> values;
    const CounterRng rng(7, static_cast<uint64_t>(i));
    for (uint64_t k = 0; k < 16; ++k) values.push_back(static_cast<float>(2 * rng.Uniform(k) - 0.5));
    return data::Sample{absl::StrCat("memory[", i, "]"), {Tensor::FromF32({16}, values)}};
  }
};

// x[N,16] -> Gemm -> Relu -> Gemm -> logits[N,4], or their softmax
graph::Graph Network(bool softmax) {
  engine::GraphMaker m;
  Shape shape = {kUnknownDim};
  shape.push_back(16);
  auto y = m.Node("Gemm", {m.Input("x", shape), m.Random("w1", {16, 16}, 1)}, "h");
  y = m.Node("Relu", {y}, "r");
  y = m.Node("Gemm", {y, m.Random("w2", {16, kClasses}, 2)}, "y");
  if (softmax) y = m.Node("Softmax", {y}, "p", {{"axis", int64_t{1}}});
  m.Output(y);
  return m.g;
}

TEST(EnsembleTemperature, TheCompressorWritesOneForTwoFourAndEightSamplesWhenAsked) {
  for (const bool softmax : {false, true}) {
    MemorySamples samples;
    Recipe recipe = *ParseRecipe("layers { grid: 'ternary' rounding: LEARNED distribution { samples: 8 } }");
    auto without = Compress(Network(softmax), samples, recipe, {});
    ASSERT_TRUE(without.ok()) << without.status();
    EXPECT_FALSE(without->graph.metadata.contains(std::string(graph::kTemperatures))) << "OFF by default";
    recipe.mutable_corrections()->set_ensemble_temperature(compression::v1::Corrections::ON);
    auto result = Compress(Network(softmax), samples, recipe, {});
    ASSERT_TRUE(result.ok()) << result.status();
    const std::string text = result->graph.metadata.at(std::string(graph::kTemperatures));
    EXPECT_THAT(text, ::testing::MatchesRegex("2:[0-9.]+ 4:[0-9.]+ 8:[0-9.]+"));
    EXPECT_TRUE(graph::TemperatureOf(text, 8).ok());
    EXPECT_THAT(result->report.notes, ::testing::Contains(::testing::HasSubstr(text)));
    EXPECT_TRUE(graph::MakeEnsemble(result->graph, {.samples = 2}).ok());
  }
}

TEST(EnsembleTemperature, WithoutDistributionsThereIsNone) {
  MemorySamples samples;
  Recipe recipe = *ParseRecipe("layers { grid: 'ternary' } corrections { ensemble_temperature: ON }");
  auto result = Compress(Network(false), samples, recipe, {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->graph.metadata.empty());
  const graph::Graph network = Network(false);
  EXPECT_EQ(FitTemperatures(network, network, samples, {}, 1).status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace octet::compress
