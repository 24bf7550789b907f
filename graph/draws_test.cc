// Draws and ensembles as graphs; what they compute is tested behind the engine.
#include "graph/draws.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "graph/ensemble.h"
#include "graph/graph_builder.h"

namespace octet::graph {
namespace {

using ::testing::HasSubstr;

template <typename T>
Tensor Bytes(DType dtype, Shape shape, std::vector<T> values) {
  Tensor flat = Tensor::FromValues<T>(DType::kU8, {static_cast<int64_t>(values.size())}, values);
  auto owner = std::make_shared<Tensor>(flat);
  return Tensor(dtype, std::move(shape), owner->data(), owner);
}

// [rows, 8] weights of one scale whose codes are 0 and whose steps are `step`.
Value Weights(int64_t rows, int step, DType dtype = DType::kS8) {
  Value value;
  value.name = "w";
  value.dtype = dtype;
  value.shape = Shape{rows, 8};
  const auto bytes = static_cast<size_t>(ByteSize(dtype, *value.shape));
  value.data = Bytes<uint8_t>(dtype, *value.shape, std::vector<uint8_t>(bytes, 0));
  value.quant = QuantParams::PerTensor(0.5f, 0);
  value.alternatives = Alternatives{
      Bytes<uint8_t>(DType::kS8, *value.shape, std::vector<uint8_t>(static_cast<size_t>(rows * 8), static_cast<uint8_t>(step))), 7};
  return value;
}

TEST(DrawCodes, TakesTheAlternativeAsOftenAsItsProbabilitySays) {
  for (const int step : {1, 20, -64, 127, -127}) {
    const Value w = Weights(4096, step);
    const std::vector<int64_t> codes = DrawCodes(w, 5, 0).ToS64();
    const double p = AlternativeProbability(step, DType::kS8), n = static_cast<double>(codes.size());
    double moved = 0;
    for (int64_t code : codes) {
      EXPECT_TRUE(code == 0 || code == (step > 0 ? 1 : -1));
      moved += code != 0;
    }
    // 5 standard deviations of a binomial: one in a million fair generators; the seed is fixed.
    EXPECT_NEAR(moved / n, p, 5 * std::sqrt(p * (1 - p) / n)) << step;
  }
}

// Of T = 2^k samples floor(T p) or ceil(T p) take the alternative, whatever the weight, and each sample as often
// as p says.
TEST(DrawCodes, SamplesOfOneWeightSpreadEvenly) {
  for (const int step : {1, 20, -64, 100, 127}) {
    const Value w = Weights(512, step);
    const double p = AlternativeProbability(step, DType::kS8);
    std::vector<int> taken(512 * 8, 0);
    int samples = 0;
    for (uint32_t t = 0; t < 16; ++t) {
      const std::vector<int64_t> codes = DrawCodes(w, 5, t).ToS64();
      for (size_t i = 0; i < taken.size(); ++i) taken[i] += codes[i] != 0;
      const double share = static_cast<double>(std::count_if(codes.begin(), codes.end(), [](int64_t c) { return c != 0; })) / 4096;
      EXPECT_NEAR(share, p, 5 * std::sqrt(p * (1 - p) / 4096)) << step << " sample " << t;
      ++samples;
      if ((samples & (samples - 1)) != 0) continue;
      double total = 0;
      for (int n : taken) {
        EXPECT_GE(n, std::floor(samples * p)) << step << " of " << samples;
        EXPECT_LE(n, std::ceil(samples * p)) << step << " of " << samples;
        total += n;
      }
      const double f = samples * p - std::floor(samples * p);
      EXPECT_NEAR(total / 4096, samples * p, 5 * std::sqrt(f * (1 - f) / 4096) + 1e-9) << step << " of " << samples;
    }
  }
}

// What alternatives of different weights do in one sample says nothing about each other.
TEST(DrawCodes, WeightsAreIndependentInEverySample) {
  const Value w = Weights(4096, 127);
  for (uint32_t t = 0; t < 8; ++t) {
    const std::vector<int64_t> codes = DrawCodes(w, 5, t).ToS64();
    for (const size_t lag : {1, 2, 4, 8}) {
      double together = 0;
      const size_t pairs = codes.size() - lag;
      for (size_t i = 0; i < pairs; ++i) together += codes[i] != 0 && codes[i + lag] != 0;
      EXPECT_NEAR(together / static_cast<double>(pairs), 0.25, 5 * std::sqrt(0.25 * 0.75 / static_cast<double>(pairs))) << t << " " << lag;
    }
  }
}

TEST(DrawCodes, EverySampleIsReproducibleAndItsOwn) {
  const Value w = Weights(64, 100);
  EXPECT_EQ(DrawCodes(w, 5, 3).ToS64(), DrawCodes(w, 5, 3).ToS64());
  EXPECT_NE(DrawCodes(w, 5, 3).ToS64(), DrawCodes(w, 5, 4).ToS64());
  EXPECT_NE(DrawCodes(w, 5, 3).ToS64(), DrawCodes(w, 6, 3).ToS64());
  Value other = w;
  other.alternatives->stream = 8;
  EXPECT_NE(DrawCodes(w, 5, 3).ToS64(), DrawCodes(other, 5, 3).ToS64());
}

TEST(DrawCodes, PackedCodesMoveOneByOne) {
  for (const DType dtype : {DType::kS4, DType::kU4, DType::kU2, DType::kU1}) {
    Value w = Weights(2, 0, dtype);
    if (dtype == DType::kU2 || dtype == DType::kU1) {
      w.quant->levels = dtype == DType::kU2 ? std::vector<int8_t>{-1, 0, 1} : std::vector<int8_t>{-1, 1};
    }
    std::vector<uint8_t> steps(16, 0);
    steps[3] = steps[11] = 127;
    w.alternatives->steps = Bytes<uint8_t>(DType::kS8, *w.shape, steps);
    ASSERT_EQ(CheckAlternatives(w), absl::OkStatus()) << NameOf(dtype);
    std::vector<bool> seen(4);
    for (uint32_t t = 0; t < 40; ++t) {
      const std::vector<int64_t> codes = DrawCodes(w, 1, t).ToS64();
      for (size_t i = 0; i < codes.size(); ++i) EXPECT_TRUE(codes[i] == 0 || (codes[i] == 1 && (i == 3 || i == 11)));
      seen[static_cast<size_t>(codes[3] + 2 * codes[11])] = true;
    }
    EXPECT_THAT(seen, ::testing::Each(true)) << NameOf(dtype);
  }
}

TEST(CheckAlternatives, NamesWhatIsWrong) {
  const auto message = [](const Value& w) { return std::string(CheckAlternatives(w).message()); };
  EXPECT_EQ(CheckAlternatives(Weights(1, -5)), absl::OkStatus());
  EXPECT_THAT(message(Weights(1, -128)), HasSubstr("element 0 is -128, expected -127 or more"));
  EXPECT_THAT(message(Weights(1, -1, DType::kU4)), HasSubstr("a step from code 0 to -1, expected codes from 0 to 15"));
  Value w = Weights(1, 1);
  w.alternatives->steps = w.alternatives->steps.Reshaped({8, 1});
  EXPECT_THAT(message(w), HasSubstr("shape [8, 1], the codes have [1, 8]"));
  w = Weights(1, 1);
  w.alternatives->steps = Bytes<uint8_t>(DType::kU8, {1, 8}, std::vector<uint8_t>(8));
  EXPECT_THAT(message(w), HasSubstr("type u8, expected s8 or s4"));
  w = Weights(1, 1, DType::kU2);
  w.quant->levels = {-1};
  EXPECT_THAT(message(w), HasSubstr("to 1, expected codes from 0 to 0"));
}

struct Network {
  GraphBuilder b;
  ValueId decided, undecided, logits;
};

// x[N,8] -> decided product -> Relu -> undecided product -> logits[N,4]
Network TwoLayers() {
  Network n;
  const ValueId x = n.b.Input("x", Shape{kUnknownDim, 8});
  n.decided = n.b.Weights({8, 8});
  Value w = Weights(4, 60);
  w.quant = QuantParams{{1, 1, 1, 1}, {}, 0, 0};
  n.undecided = n.b.graph.AddValue(std::move(w));
  const ValueId h = n.b.Add("Relu", {n.b.Add("MatMul", {x, n.decided})});
  n.logits = n.b.Add("Gemm", {h, n.undecided}, {{"transB", int64_t{1}}});
  n.b.graph.value(n.logits).shape = Shape{kUnknownDim, 4};
  n.b.Output(n.logits, "logits");
  return n;
}

TEST(MakeEnsemble, RepeatsOnlyWhatDependsOnUndecidedWeights) {
  const absl::StatusOr<Graph> ensemble = MakeEnsemble(TwoLayers().b.graph, {.samples = 4});
  ASSERT_TRUE(ensemble.ok()) << ensemble.status();
  int matmuls = 0, gemms = 0;
  for (const Node& node : ensemble->nodes) {
    matmuls += node.op == "MatMul";
    gemms += node.op == "Gemm";
  }
  EXPECT_EQ(matmuls, 1);
  EXPECT_EQ(gemms, 4);
  std::vector<std::string> names;
  for (ValueId id : ensemble->outputs) names.push_back(ensemble->value(id).name);
  EXPECT_THAT(names, ::testing::ElementsAre("logits", "logits_predictive_entropy", "logits_mutual_information"));
}

TEST(MakeEnsemble, WhatOutputsAreCanBeSaid) {
  Network n = TwoLayers();
  n.b.graph.metadata["ai.octet.outputs"] = "values";
  const absl::StatusOr<Graph> values = MakeEnsemble(n.b.graph, {.samples = 2});
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_EQ(values->value(values->outputs[1]).name, "logits_std");
  n.b.graph.metadata["ai.octet.outputs"] = "numbers";
  EXPECT_THAT(std::string(MakeEnsemble(n.b.graph, {.samples = 2}).status().message()), HasSubstr("'numbers', expected classes or values"));
}

TEST(TemperatureOf, IsThatOfTheMostSamplesThatAreNotMore) {
  EXPECT_EQ(*TemperatureOf("2:1.5 4:1.25 8:0.5", 2), 1.5);
  EXPECT_EQ(*TemperatureOf("2:1.5 4:1.25 8:0.5", 7), 1.25);
  EXPECT_EQ(*TemperatureOf("2:1.5 4:1.25 8:0.5", 64), 0.5);
  EXPECT_EQ(*TemperatureOf("4:1.25 8:0.5", 2), 1.25);
  EXPECT_EQ(*TemperatureOf("", 8), 1);
  for (const char* bad : {"2:", "2:0", "2:nan", "2:1000", "x:1", "4:1 2:1", "1.5"}) {
    EXPECT_THAT(std::string(TemperatureOf(bad, 8).status().message()), HasSubstr("expected SAMPLES:TEMPERATURE")) << bad;
  }
}

TEST(MakeEnsemble, RefusesATemperatureItCannotRead) {
  Network n = TwoLayers();
  n.b.graph.metadata[std::string(kTemperatures)] = "8=1";
  EXPECT_THAT(std::string(MakeEnsemble(n.b.graph, {.samples = 2}).status().message()), HasSubstr("'8=1'"));
}

TEST(MakeEnsemble, RefusesWhatHasNothingToDraw) {
  Network n = TwoLayers();
  EXPECT_THAT(std::string(MakeEnsemble(n.b.graph, {.samples = 1}).status().message()), HasSubstr("expected 2 to 64"));
  n.b.graph.value(n.undecided).alternatives.reset();
  EXPECT_EQ(MakeEnsemble(n.b.graph, {}).status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace octet::graph
