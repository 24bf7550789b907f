// An ensemble answers what its samples, run one by one, answer together.
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "engine/test_util.h"
#include "graph/draws.h"
#include "graph/ensemble.h"

namespace octet::engine {
namespace {

using graph::Graph;
using graph::Value;
using graph::ValueId;

constexpr int64_t kRows = 3, kClasses = 5;

// s8 weights per output channel, all undecided by up to 0.5.
ValueId Undecided(GraphMaker* m, const std::string& name, Shape shape, uint64_t seed) {
  const CounterRng rng(seed);
  std::vector<int8_t> codes, steps;
  for (uint64_t i = 0; i < static_cast<uint64_t>(NumElements(shape)); ++i) {
    codes.push_back(static_cast<int8_t>(rng.Uniform(2 * i) * 9 - 4));
    steps.push_back(static_cast<int8_t>(rng.Uniform(2 * i + 1) * 254 - 127));
  }
  Value value;
  value.name = name;
  value.dtype = DType::kS8;
  value.shape = shape;
  value.data = Tensor::FromValues<int8_t>(DType::kS8, shape, codes);
  value.alternatives = graph::Alternatives{Tensor::FromValues<int8_t>(DType::kS8, shape, steps), graph::StreamOf(name)};
  value.quant = QuantParams{std::vector<float>(static_cast<size_t>(shape[0]), 0.05f), {}, 0, 0};
  return m->g.AddValue(std::move(value));
}

// x[3,2,6,6] -> decided convolution -> undecided convolution -> pooling -> undecided product -> y[3,5]
Graph Network(bool softmax) {
  GraphMaker m;
  const ValueId x = m.Input("x", {kUnknownDim, 2, 6, 6});
  const ValueId a = m.Node("Relu", {m.Node("Conv", {x, m.Random("w0", {4, 2, 3, 3}, 1)}, "c0")}, "a");
  const ValueId b = m.Node("Relu", {m.Node("Conv", {a, Undecided(&m, "w1", {8, 4, 3, 3}, 2)}, "c1")}, "b");
  const ValueId p = m.Node("Flatten", {m.Node("GlobalAveragePool", {b}, "p")}, "f");
  ValueId y = m.Node("Gemm", {p, Undecided(&m, "w2", {kClasses, 8}, 3)}, softmax ? "logits" : "y", {{"transB", int64_t{1}}});
  if (softmax) y = m.Node("Softmax", {y}, "y", {{"axis", int64_t{1}}});
  m.g.value(y).shape = Shape{kUnknownDim, kClasses};
  m.g.outputs = {y};
  return m.g;
}

// x[3,2,6,6] -> undecided convolution -> decided convolutions, a residual sum and a decided product -> undecided product.
Graph DecidedBehind() {
  GraphMaker m;
  const std::vector<std::pair<std::string, graph::Attribute>> same = {{"pads", std::vector<int64_t>{1, 1, 1, 1}}};
  const ValueId x = m.Input("x", {kUnknownDim, 2, 6, 6});
  const ValueId a = m.Node("Relu", {m.Node("Conv", {x, Undecided(&m, "w1", {4, 2, 3, 3}, 2)}, "c1")}, "a");
  const ValueId b = m.Node("Relu", {m.Node("Conv", {a, m.Random("w0", {4, 4, 3, 3}, 1)}, "c0", same)}, "b");
  const ValueId p = m.Node("Flatten", {m.Node("GlobalAveragePool", {m.Node("Add", {b, a}, "s")}, "p")}, "f");
  const ValueId h = m.Node("Relu", {m.Node("Gemm", {p, m.Random("w3", {4, 8}, 5)}, "g")}, "h");
  const ValueId y = m.Node("Gemm", {h, Undecided(&m, "w2", {kClasses, 8}, 3)}, "y", {{"transB", int64_t{1}}});
  m.g.value(y).shape = Shape{kUnknownDim, kClasses};
  m.g.outputs = {y};
  return m.g;
}

std::vector<std::vector<float>> Outputs(const Graph& graph, const std::vector<float>& x) {
  auto program = Program::Compile(graph);
  EXPECT_TRUE(program.ok()) << program.status();
  const auto tensors = RunProgram(**program, {Tensor::FromF32({kRows, 2, 6, 6}, x)});
  EXPECT_TRUE(tensors.ok()) << tensors.status();
  std::vector<std::vector<float>> out;
  for (const Tensor& t : *tensors) out.push_back(t.ToF32());
  return out;
}

std::vector<float> Input() {
  std::vector<float> x(kRows * 2 * 36);
  const CounterRng rng(9);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(rng.Uniform(i) * 2 - 1);
  return x;
}

// The formulas of graph/ensemble.h in f64 on the outputs of T programs of one sample each. Tolerance: f32 sums of 5 classes
// and 4 samples, and exp and log within some units in the last place.
void ExpectClasses(Graph network, bool softmax, double temperature = 1) {
  constexpr int kSamples = 4;
  constexpr uint64_t kSeed = 77;
  if (temperature != 1) network.metadata[std::string(graph::kTemperatures)] = absl::StrCat("2:9 4:", temperature, " 8:7");
  const std::vector<float> x = Input();
  const auto ensemble = graph::MakeEnsemble(network, {.samples = kSamples, .seed = kSeed});
  ASSERT_TRUE(ensemble.ok()) << ensemble.status();
  const auto found = Outputs(*ensemble, x);
  ASSERT_EQ(found.size(), 3u);
  std::vector<double> mean(kRows * kClasses), within(kRows);
  for (uint32_t t = 0; t < kSamples; ++t) {
    const std::vector<float> y = Outputs(graph::DrawSample(network, kSeed, t), x)[0];
    for (size_t r = 0; r < kRows; ++r) {
      double sum = 0, p[kClasses];
      for (size_t c = 0; c < kClasses; ++c) {
        const double logit = softmax ? std::log(double{y[r * kClasses + c]}) : y[r * kClasses + c];
        sum += p[c] = std::exp(logit / temperature);
      }
      for (size_t c = 0; c < kClasses; ++c) {
        mean[r * kClasses + c] += p[c] / sum / kSamples;
        within[r] -= p[c] / sum * std::log(p[c] / sum) / kSamples;
      }
    }
  }
  double apart = 0;
  for (size_t r = 0; r < kRows; ++r) {
    double total = 0;
    for (size_t c = 0; c < kClasses; ++c) {
      const double p = mean[r * kClasses + c];
      total -= p * std::log(p);
      EXPECT_NEAR(found[0][r * kClasses + c], softmax ? p : std::log(p), 2e-5);
    }
    EXPECT_NEAR(found[1][r], total, 2e-5);
    EXPECT_NEAR(found[2][r], total - within[r], 2e-5);
    apart += total - within[r];
  }
  EXPECT_GT(apart, 1e-4 / (temperature * temperature)) << "the samples do not differ: nothing was tested";
}

TEST(Ensemble, OfLogitsIsTheLogarithmOfTheMeanProbability) { ExpectClasses(Network(false), false); }
TEST(Ensemble, OfProbabilitiesIsTheirMean) { ExpectClasses(Network(true), true); }

TEST(Ensemble, EverySampleIsAtTheTemperatureThatTheFileSays) {
  for (const bool softmax : {false, true}) {
    ExpectClasses(Network(softmax), softmax, 0.5);
    ExpectClasses(Network(softmax), softmax, 2);
  }
}

TEST(Ensemble, OfValuesIsMeanAndStandardDeviation) {
  constexpr int kSamples = 3;
  const Graph network = Network(false);
  const std::vector<float> x = Input();
  const auto ensemble =
      graph::MakeEnsemble(network, {.samples = kSamples, .seed = 5, .outputs = graph::EnsembleOptions::Outputs::kValues});
  ASSERT_TRUE(ensemble.ok()) << ensemble.status();
  const auto found = Outputs(*ensemble, x);
  ASSERT_EQ(found.size(), 2u);
  std::vector<std::vector<float>> each;
  for (uint32_t t = 0; t < kSamples; ++t) each.push_back(Outputs(graph::DrawSample(network, 5, t), x)[0]);
  double spread = 0;
  for (size_t i = 0; i < found[0].size(); ++i) {
    double mean = 0, squares = 0;
    for (const auto& y : each) mean += double{y[i]} / kSamples;
    for (const auto& y : each) squares += (y[i] - mean) * (y[i] - mean) / (kSamples - 1);
    EXPECT_NEAR(found[0][i], mean, 2e-5);
    EXPECT_NEAR(found[1][i], std::sqrt(squares), 2e-5);
    spread += squares;
  }
  EXPECT_GT(spread, 1e-4);
}

// Behind an undecided layer decided ones run once, on the samples' rows below each other.
TEST(Ensemble, RunsDecidedLayersOnceBehindUndecidedOnes) {
  ExpectClasses(DecidedBehind(), false);
  const auto ensemble = graph::MakeEnsemble(DecidedBehind(), {.samples = 4});
  ASSERT_TRUE(ensemble.ok()) << ensemble.status();
  const auto program = Program::Compile(*ensemble);
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_TRUE((*program)->batch_proof().batchable) << (*program)->batch_proof().obstacle;
  std::string stacked;
  for (const PassNote& note : (*program)->PassNotes()) {
    if (note.pass == "stack-siblings") absl::StrAppend(&stacked, note.node, "\n");
  }
  for (const char* decided : {"Conv 'node_c0", "Gemm 'node_g"}) EXPECT_NE(stacked.find(decided), std::string::npos) << stacked;
  for (const char* undecided : {"node_c1", "node_y"}) EXPECT_EQ(stacked.find(undecided), std::string::npos) << stacked;
}

TEST(Ensemble, RowsStayApart) {
  const auto ensemble = graph::MakeEnsemble(Network(false), {.samples = 2});
  ASSERT_TRUE(ensemble.ok()) << ensemble.status();
  const auto program = Program::Compile(*ensemble);
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_TRUE((*program)->batch_proof().batchable) << (*program)->batch_proof().obstacle;
}

// What no undecided weight reaches, and every decided weight, is packed once; undecided ones once a sample.
TEST(Ensemble, KeepsDecidedWeightsOnce) {
  const auto packed = [](int samples) {
    Graph g = samples == 1 ? graph::DrawSample(Network(false), 0, 0) : *graph::MakeEnsemble(Network(false), {.samples = samples});
    auto program = *Program::Compile(std::move(g));
    SetTeamSize(1);
    EXPECT_TRUE(program->Specialise({Shape{1, 2, 6, 6}}, 1).ok());
    int own = 0, shared = 0;
    for (const std::string& copy : program->PackedCopies()) (copy.rfind("w0", 0) == 0 ? shared : own)++;
    return std::pair(shared, own);
  };
  const auto one = packed(1), four = packed(4);
  EXPECT_EQ(four.first, one.first);
  EXPECT_GE(four.second, 4);
}

}  // namespace
}  // namespace octet::engine
