// Products whose weights, bias or parameters are inputs, or 16-bit floats, compute what they
// compute with f32 constants.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/float16.h"
#include "engine/test_util.h"

namespace octet::engine {
namespace {

using graph::ValueId;

Tensor RandomTensor(Shape shape, uint64_t seed, double low = -1) {
  std::vector<float> values(static_cast<size_t>(NumElements(shape)));
  const CounterRng rng(seed);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(low + rng.Uniform(i) * (1 - low));
  return Tensor::FromF32(std::move(shape), values);
}

// Makes the graph twice, with the parameters as constants and as inputs, and compares the results
// of `build`.
using BuildFn = void (*)(GraphMaker& m, const std::vector<ValueId>& parameters);
void ExpectSameWithInputs(const std::vector<Tensor>& inputs, const std::vector<Tensor>& parameters,
                          BuildFn build) {
  std::vector<Tensor> results;
  for (bool constant : {true, false}) {
    GraphMaker m;
    std::vector<ValueId> ids;
    std::vector<Tensor> given = inputs;
    for (size_t i = 0; i < inputs.size(); ++i)
      ids.push_back(m.Input(absl::StrCat("x", i), inputs[i].shape()));
    for (size_t i = 0; i < parameters.size(); ++i) {
      const std::string name = absl::StrCat("p", i);
      ids.push_back(constant ? m.g.AddConstant(name, parameters[i])
                             : m.Input(name, parameters[i].shape()));
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
                       {RandomTensor({4, 3, 3, 3}, 3), RandomTensor({4}, 4)},
                       [](GraphMaker& m, const auto& ids) {
                         const ValueId conv = m.Node("Conv", {ids[0], ids[2], ids[3]}, "conv",
                                                     {{"pads", std::vector<int64_t>{1, 1, 1, 1}}});
                         const ValueId sum = m.Node("Add", {conv, ids[1]}, "sum");
                         m.Output(m.Node("Relu", {sum}, "y"));
                       });
}

TEST(PlainProductsTest, GemmWithComputedBiasScalesIt) {
  ExpectSameWithInputs({RandomTensor({3, 8}, 1), RandomTensor({8, 4}, 2)},
                       {RandomTensor({1, 4}, 3)}, [](GraphMaker& m, const auto& ids) {
                         const ValueId gemm = m.Node("Gemm", {ids[0], ids[1], ids[2]}, "gemm",
                                                     {{"alpha", 0.5f}, {"beta", -2.0f}});
                         m.Output(m.Node("Relu", {gemm}, "y"));
                       });
}

TEST(PlainProductsTest, BatchNormalizationWithComputedParameters) {
  ExpectSameWithInputs(
      {RandomTensor({2, 3, 4}, 1)},
      {RandomTensor({3}, 2), RandomTensor({3}, 3), RandomTensor({3}, 4), RandomTensor({3}, 5, 0.5)},
      [](GraphMaker& m, const auto& ids) {
        m.Output(m.Node("BatchNormalization", ids, "y", {{"epsilon", 1e-3f}}));
      });
}

TEST(PlainProductsTest, ClipWithComputedBounds) {
  ExpectSameWithInputs({RandomTensor({2, 3, 4}, 1)},
                       {RandomTensor({}, 2, 0.9), Tensor::FromF32({}, {0.25f})},
                       [](GraphMaker& m, const auto& ids) {
                         const ValueId low = m.Node("Neg", {ids[1]}, "low");
                         m.Output(m.Node("Clip", {ids[0], low, ids[2]}, "y"));
                       });
}

Tensor Halves(const Tensor& t) {
  std::vector<uint16_t> bits;
  for (float v : t.ToF32()) bits.push_back(F16FromF32(v));
  return Tensor::FromValues<uint16_t>(DType::kF16, t.shape(), bits);
}

// Convolution, normalisation and a residual in f16 give what f32 gives of the same numbers, rounded
// to f16.
TEST(HalfPrecisionTest, WeightsBiasesAndFoldedParameters) {
  const std::vector<Tensor> constants = {RandomTensor({4, 3, 3, 3}, 1), RandomTensor({4}, 2),
                                         RandomTensor({4}, 3),          RandomTensor({4}, 4),
                                         RandomTensor({4}, 5),          RandomTensor({4}, 6, 0.5)};
  const Tensor x = Halves(RandomTensor({2, 3, 6, 5}, 7));
  std::vector<Tensor> results;
  for (DType dtype : {DType::kF32, DType::kF16}) {
    GraphMaker m;
    std::vector<ValueId> c;
    for (const Tensor& t : constants) {
      const Tensor half = Halves(t);
      c.push_back(
          m.g.AddConstant(absl::StrCat("c", c.size()),
                          dtype == DType::kF16 ? half : Tensor::FromF32(t.shape(), half.ToF32())));
    }
    const auto input = m.Input("x", x.shape(), dtype);
    const auto conv =
        m.Node("Conv", {input, c[0], c[1]}, "conv", {{"pads", std::vector<int64_t>{1, 1, 1, 1}}});
    const auto norm = m.Node("BatchNormalization", {conv, c[2], c[3], c[4], c[5]}, "norm");
    const auto lone =
        m.Node("BatchNormalization", {m.Node("Tanh", {norm}, "t"), c[2], c[3], c[4], c[5]}, "lone");
    m.Output(m.Node("Relu", {lone}, "y"));
    for (graph::Value& value : m.g.values) value.dtype = dtype;
    const auto program = Program::Compile(m.g);
    ASSERT_TRUE(program.ok()) << program.status();
    const auto outputs = RunProgram(
        **program, {dtype == DType::kF16 ? x : Tensor::FromF32(x.shape(), x.ToF32())}, 2);
    ASSERT_TRUE(outputs.ok()) << outputs.status();
    EXPECT_EQ(outputs->at(0).dtype(), dtype);
    results.push_back(outputs->at(0));
  }
  const std::vector<float> want = results[0].ToF32(), found = results[1].ToF32();
  // Four roundings to 11 bits (folded weights, the convolution's result, Tanh, the factor), of
  // numbers below 8.
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(found[i], want[i], 4 * 8.0 / 2048) << i;
}

}  // namespace
}  // namespace octet::engine
