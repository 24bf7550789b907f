// Constants with levels where a program does more than run one product: folding, branches, released initializers.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/test_util.h"
#include "graph/test_weights.h"

namespace octet::engine {
namespace {

using graph::MakeWeights;
using graph::StoredWeights;
using graph::ValueId;
using graph::WeightForm;
using graph::WeightForms;

ValueId AddWeights(graph::Graph* g, const StoredWeights& weights, const std::string& name) {
  graph::Value v = weights.value;
  v.name = name;
  return g->AddValue(std::move(v));
}

std::shared_ptr<Program> Compiled(graph::Graph g) {
  auto program = Program::Compile(std::move(g));
  EXPECT_TRUE(program.ok()) << program.status();
  return program.ok() ? *program : nullptr;
}

std::vector<float> Output(Program& program, const std::vector<Tensor>& inputs) {
  const auto outputs = RunProgram(program, inputs);
  EXPECT_TRUE(outputs.ok()) << outputs.status();
  return outputs.ok() ? (*outputs)[0].ToVector<float>() : std::vector<float>();
}

// x [rows, K] times reals [K, N].
std::vector<double> Product(const std::vector<float>& x, const std::vector<float>& w, size_t k, size_t n) {
  std::vector<double> y(x.size() / k * n);
  for (size_t r = 0; r < x.size() / k; ++r) {
    for (size_t i = 0; i < k; ++i) {
      for (size_t c = 0; c < n; ++c) y[r * n + c] += static_cast<double>(x[r * k + i]) * double{w[i * n + c]};
    }
  }
  return y;
}

// Of sources in [-1, 1]: a kernel may round them to 8 bits.
void ExpectNear(const std::vector<float>& y, const std::vector<double>& expected, const std::vector<float>& w,
                size_t n) {
  std::vector<double> sums(n);
  for (size_t i = 0; i < w.size(); ++i) sums[i % n] += static_cast<double>(std::abs(w[i]));
  ASSERT_EQ(y.size(), expected.size());
  for (size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(double{y[i]}, expected[i], 0.51 * 2 / 255 * sums[i % n]);
}

std::vector<float> Ramp(size_t n) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i) x[i] = static_cast<float>(i * 7 % 31) / 15.0f - 1;
  return x;
}

TEST(WeightLevels, FoldIntoOtherConstants) {
  for (const WeightForm& form : WeightForms()) {
    SCOPED_TRACE(form.name);
    const Shape shape = {8, 36};
    const StoredWeights weights = MakeWeights(form, shape, 0, 1);
    GraphMaker m;
    const ValueId x = m.Input("x", {1});
    const ValueId w = AddWeights(&m.g, weights, "w");
    const ValueId turned = m.Node("Transpose", {m.Node("Neg", {w}, "negated")}, "turned");
    m.Output(m.Node("Add", {x, turned}, "y"));
    const auto program = Compiled(std::move(m.g));
    ASSERT_NE(program, nullptr);
    const std::vector<float> y = Output(*program, {Tensor::FromF32({1}, {0})});
    ASSERT_EQ(y.size(), weights.reals.size());
    for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], -weights.reals[i % 8 * 36 + i / 8]) << i;
  }
}

TEST(WeightLevels, BranchesReadThem) {
  for (const WeightForm& form : WeightForms()) {
    SCOPED_TRACE(form.name);
    const StoredWeights weights = MakeWeights(form, {36, 5}, 1, 1);
    GraphMaker m;
    const ValueId cond = m.Input("cond", {}, DType::kBool), x = m.Input("x", {2, 36});
    auto branch = std::make_shared<graph::Graph>();
    const ValueId outer = branch->AddValue(m.g.value(x));
    const ValueId w = AddWeights(branch.get(), weights, "w");
    const ValueId y = branch->AddValue({"inner", DType::kF32, Shape{2, 5}, {}, {}, {}});
    branch->nodes.push_back({"MatMul", "", "", {outer, w}, {y}, {}});
    branch->outputs = {y};
    const std::shared_ptr<const graph::Graph> taken = branch;
    m.Output(m.Node("If", {cond}, "y", {{"then_branch", taken}, {"else_branch", taken}}));
    const auto program = Compiled(std::move(m.g));
    ASSERT_NE(program, nullptr);
    const std::vector<float> source = Ramp(72);
    const std::vector<uint8_t> yes = {1};
    ExpectNear(Output(*program, {Tensor::FromValues<uint8_t>(DType::kBool, {}, yes), Tensor::FromF32({2, 36}, source)}),
               Product(source, weights.reals, 36, 5), weights.reals, 5);
  }
}

// Stored the other way round: codes and scales are transposed, or the reals.
TEST(WeightLevels, AreTransposed) {
  for (const WeightForm& form : WeightForms()) {
    SCOPED_TRACE(form.name);
    const StoredWeights weights = MakeWeights(form, {5, 36}, 0, 1);
    GraphMaker m;
    const ValueId x = m.Input("x", {2, 36});
    const ValueId turned = m.Node("Transpose", {AddWeights(&m.g, weights, "w")}, "turned");
    m.Output(m.Node("MatMul", {x, turned}, "y"));
    const auto program = Compiled(std::move(m.g));
    ASSERT_NE(program, nullptr);
    std::vector<float> reals;
    for (size_t i = 0; i < 36 * 5; ++i) reals.push_back(weights.reals[i % 5 * 36 + i / 5]);
    const std::vector<float> source = Ramp(72);
    ExpectNear(Output(*program, {Tensor::FromF32({2, 36}, source)}), Product(source, reals, 36, 5), reals, 5);
  }
}

// Other shapes after the codes are gone: the weight store has what the kernels need.
TEST(WeightLevels, OutliveTheirInitializers) {
  for (const WeightForm& form : WeightForms()) {
    SCOPED_TRACE(form.name);
    const StoredWeights weights = MakeWeights(form, {36, 5}, 1, 1);
    GraphMaker m;
    const ValueId x = m.Input("x", {kUnknownDim, 36});
    m.Output(m.Node("MatMul", {x, AddWeights(&m.g, weights, "w")}, "y"));
    const auto program = Compiled(std::move(m.g));
    ASSERT_NE(program, nullptr);
    for (size_t rows : {1u, 3u}) {
      const std::vector<float> source = Ramp(rows * 36);
      const Tensor input = Tensor::FromF32({static_cast<int64_t>(rows), 36}, source);
      ExpectNear(Output(*program, {input}), Product(source, weights.reals, 36, 5), weights.reals, 5);
      program->ReleaseInitializers();
    }
  }
}

}  // namespace
}  // namespace octet::engine
