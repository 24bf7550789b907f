// Products whose weights, bias or parameters are inputs compute what they compute with constants.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "engine/test_util.h"

namespace octet::engine {
namespace {

using graph::ValueId;

Tensor RandomTensor(Shape shape, uint64_t seed, double low = -1) {
  std::vector<float> values(static_cast<size_t>(NumElements(shape)));
  const CounterRng rng(seed);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(low + rng.Uniform(i) * (1 - low));
  return Tensor::FromF32(std::move(shape), values);
}

// Makes the graph twice, with the parameters as constants and as inputs, and compares the results of `build`.
using BuildFn = void (*)(GraphMaker& m, const std::vector<ValueId>& parameters);
void ExpectSameWithInputs(const std::vector<Tensor>& inputs, const std::vector<Tensor>& parameters, BuildFn build) {
  std::vector<Tensor> results;
  for (bool constant : {true, false}) {
    GraphMaker m;
    std::vector<ValueId> ids;
    std::vector<Tensor> given = inputs;
    for (size_t i = 0; i < inputs.size(); ++i) ids.push_back(m.Input(absl::StrCat("x", i), inputs[i].shape()));
    for (size_t i = 0; i < parameters.size(); ++i) {
      const std::string name = absl::StrCat("p", i);
      ids.push_back(constant ? m.g.AddConstant(name, parameters[i]) : m.Input(name, parameters[i].shape()));
      if (!constant) given.push_back(parameters[i]);
    }
    build(m, ids);
    const auto program = Program::Compile(m.g);
    ASSERT_TRUE(program.ok()) << program.status();
    const auto outputs = RunProgram(**program, given, 2);
    ASSERT_TRUE(outputs.ok()) << outputs.status();
    results.push_back(outputs->at(0));
  }
  ASSERT_EQ(results[0].shape(), results[1].shape());
  const std::vector<float> want = results[0].ToF32(), found = results[1].ToF32();
  // Sums of at most 32 products of numbers below 1, in f32 on one side.
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(found[i], want[i], 2e-5) << i;
}

TEST(PlainProductsTest, ConvolutionWithResidualAndActivation) {
  ExpectSameWithInputs({RandomTensor({2, 3, 6, 5}, 1), RandomTensor({2, 4, 6, 5}, 2)},
                       {RandomTensor({4, 3, 3, 3}, 3), RandomTensor({4}, 4)}, [](GraphMaker& m, const auto& ids) {
                         const ValueId conv = m.Node("Conv", {ids[0], ids[2], ids[3]}, "conv",
                                                     {{"pads", std::vector<int64_t>{1, 1, 1, 1}}});
                         const ValueId sum = m.Node("Add", {conv, ids[1]}, "sum");
                         m.Output(m.Node("Relu", {sum}, "y"));
                       });
}

TEST(PlainProductsTest, GemmWithComputedBiasScalesIt) {
  ExpectSameWithInputs({RandomTensor({3, 8}, 1), RandomTensor({8, 4}, 2)}, {RandomTensor({1, 4}, 3)},
                       [](GraphMaker& m, const auto& ids) {
                         const ValueId gemm = m.Node("Gemm", {ids[0], ids[1], ids[2]}, "gemm",
                                                     {{"alpha", 0.5f}, {"beta", -2.0f}});
                         m.Output(m.Node("Relu", {gemm}, "y"));
                       });
}

TEST(PlainProductsTest, BatchNormalizationWithComputedParameters) {
  ExpectSameWithInputs({RandomTensor({2, 3, 4}, 1)},
                       {RandomTensor({3}, 2), RandomTensor({3}, 3), RandomTensor({3}, 4), RandomTensor({3}, 5, 0.5)},
                       [](GraphMaker& m, const auto& ids) {
                         m.Output(m.Node("BatchNormalization", ids, "y", {{"epsilon", 1e-3f}}));
                       });
}

TEST(PlainProductsTest, ClipWithComputedBounds) {
  ExpectSameWithInputs({RandomTensor({2, 3, 4}, 1)}, {RandomTensor({}, 2, 0.9), Tensor::FromF32({}, {0.25f})},
                       [](GraphMaker& m, const auto& ids) {
                         const ValueId low = m.Node("Neg", {ids[1]}, "low");
                         m.Output(m.Node("Clip", {ids[0], low, ids[2]}, "y"));
                       });
}

}  // namespace
}  // namespace octet::engine
