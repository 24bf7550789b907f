// Integer operators as integer products: what they compute, and that they run on integers.
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/match.h"
#include "engine/test_util.h"

namespace octet::engine {
namespace {

constexpr int64_t kM = 5, kK = 24, kN = 7;

std::vector<uint8_t> Bytes(int64_t n, uint64_t seed) {
  const CounterRng rng(seed);
  std::vector<uint8_t> out;
  for (uint64_t i = 0; i < static_cast<uint64_t>(n); ++i) out.push_back(static_cast<uint8_t>(rng.Bits(i)));
  return out;
}

struct Product {
  GraphMaker m;
  std::vector<uint8_t> a = Bytes(kM * kK, 1), b = Bytes(kK * kN, 2), b_zero;
  int64_t a_zero = 119;

  // MatMulInteger(x, w, za, zb) with `zeros` zero points of the weights.
  graph::ValueId Make(int64_t zeros) {
    // Six bits on the right: exact without VNNI, too (kernels/onednn_product.h).
    for (uint8_t& code : b) code = static_cast<uint8_t>(96 + code % 64);
    for (int64_t n = 0; n < zeros; ++n) b_zero.push_back(static_cast<uint8_t>(120 + 3 * n));
    const graph::ValueId x = m.Input("x", {kM, kK}, DType::kU8);
    const graph::ValueId w = m.g.AddConstant("w", Tensor::FromValues<uint8_t>(DType::kU8, {kK, kN}, b));
    const std::vector<uint8_t> za = {static_cast<uint8_t>(a_zero)};
    const graph::ValueId z = m.g.AddConstant("za", Tensor::FromValues<uint8_t>(DType::kU8, {}, za));
    const Shape shape = zeros == 1 ? Shape{} : Shape{zeros};
    const graph::ValueId zb = m.g.AddConstant("zb", Tensor::FromValues<uint8_t>(DType::kU8, shape, b_zero));
    const graph::ValueId y = m.Node("MatMulInteger", {x, w, z, zb}, "integers");
    m.g.value(y).dtype = DType::kS32;
    return y;
  }

  double Sum(int64_t row, int64_t column) const {
    int64_t sum = 0;
    for (int64_t k = 0; k < kK; ++k) {
      const int64_t zero = b_zero[b_zero.size() == 1 ? 0 : static_cast<size_t>(column)];
      sum += (a[static_cast<size_t>(row * kK + k)] - a_zero) * (b[static_cast<size_t>(k * kN + column)] - zero);
    }
    return static_cast<double>(sum);
  }

  // Runs the graph; every product must read u8.
  std::vector<double> Run() {
    auto program = Program::Compile(m.g);
    EXPECT_TRUE(program.ok()) << program.status();
    if (!program.ok()) return {};
    const std::vector<Tensor> inputs = {Tensor::FromValues<uint8_t>(DType::kU8, {kM, kK}, a)};
    const auto outputs = RunProgram(**program, inputs);
    EXPECT_TRUE(outputs.ok()) << outputs.status();
    const auto made = (*program)->Specialise({Shape{kM, kK}}, 1);
    int products = 0;
    for (const StepInfo& step : (*made)->Steps()) {
      if (step.multiply_adds == 0) continue;
      ++products;
      EXPECT_TRUE(absl::StartsWith(step.src_types, "u8")) << step.op << ": " << step.src_types;
    }
    EXPECT_GE(products, 1);
    return outputs.ok() ? (*outputs)[0].ToF64() : std::vector<double>();
  }
};

TEST(IntegerProductsTest, AccumulatorsAreExact) {
  for (int64_t zeros : {int64_t{1}, kN}) {
    Product p;
    p.m.Output(p.Make(zeros));
    const std::vector<double> found = p.Run();
    ASSERT_EQ(found.size(), static_cast<size_t>(kM * kN));
    for (int64_t i = 0; i < kM * kN; ++i) EXPECT_EQ(found[static_cast<size_t>(i)], p.Sum(i / kN, i % kN)) << zeros;
  }
}

TEST(IntegerProductsTest, ScalesAndBiasBecomePartOfTheProduct) {
  for (int64_t zeros : {int64_t{1}, kN}) {
    Product p;
    const graph::ValueId integers = p.Make(zeros);
    const graph::ValueId real = p.m.Node("Cast", {integers}, "real", {{"to", int64_t{1}}});
    std::vector<float> scales, bias;
    for (int64_t n = 0; n < kN; ++n) {
      scales.push_back(0.25f * static_cast<float>(n + 1));
      bias.push_back(static_cast<float>(n) - 3);
    }
    const graph::ValueId scaled = p.m.Node("Mul", {p.m.F32("scales", {kN}, scales), real}, "scaled");
    const graph::ValueId halved = p.m.Node("Mul", {scaled, p.m.F32("half", {1}, {0.5f})}, "halved");
    p.m.Output(p.m.Node("Add", {halved, p.m.F32("bias", {kN}, bias)}, "y"));
    const std::vector<double> found = p.Run();
    ASSERT_EQ(found.size(), static_cast<size_t>(kM * kN));
    for (int64_t i = 0; i < kM * kN; ++i) {
      const auto n = static_cast<size_t>(i % kN);
      const double expected = p.Sum(i / kN, i % kN) * static_cast<double>(scales[n]) * 0.5 + static_cast<double>(bias[n]);
      EXPECT_NEAR(found[static_cast<size_t>(i)], expected, 1e-5 * (1 + std::abs(expected)));
    }
  }
}

}  // namespace
}  // namespace octet::engine
