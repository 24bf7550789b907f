// Plain products against worked-out values and against the folders' own references.
#include "kernels/plain/products.h"

#include <gtest/gtest.h>

#include "kernels/conv/conv.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

TEST(PlainConvTest, MatchesTheConvolutionOfConstantWeights) {
  const Operand src = MakeRandom(Spec(DType::kF32, {2, 4, 5, 6}), -1, 1, 1);
  const Operand weights = MakeRandom(Spec(DType::kF32, {6, 2, 3, 2}), -1, 1, 2);
  const Operand bias = MakeRandom(Spec(DType::kF32, {6}), -1, 1, 3);
  Operand plain = MakeOperand(Spec(DType::kF32, {2, 6, 3, 7}));
  PlainConvParams params{src.spec, weights.spec, plain.spec, true, 2, {2, 1}, {1, 2}, {1, 2}};
  const auto kernel = CreatePlainConv(params, {});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  ASSERT_TRUE(RunKernel(**kernel, {src.data(), weights.data(), bias.data()}, {plain.data()}).ok());

  WeightStore store;
  ConvParams reference;
  reference.src = src.spec;
  reference.dst = plain.spec;
  reference.weights_shape = weights.spec.shape;
  const auto tensor = [](const Operand& o) {
    return Tensor(o.spec.dtype, o.spec.shape, static_cast<const std::byte*>(o.data()), nullptr);
  };
  reference.weights = {0, tensor(weights), std::nullopt};
  reference.bias = {1, tensor(bias), std::nullopt};
  reference.groups = 2;
  reference.strides = {2, 1};
  reference.dilations = {1, 2};
  reference.pads_begin = {1, 2};
  reference.pads_end = {1, 1};
  Operand want = MakeOperand(plain.spec);
  const auto conv = ConvImplementations().back().create(reference, {&store, 1});
  ASSERT_TRUE(conv.ok()) << conv.status();
  ASSERT_TRUE(RunKernel(**conv, {src.data()}, {want.data()}).ok());
  for (int64_t i = 0; i < NumElements(plain.spec.shape); ++i)
    EXPECT_NEAR(plain.number(i), want.number(i), 1e-6) << i;
}

TEST(PlainMatmulTest, TransposesAndBroadcasts) {
  using Transpose = PlainMatmulParams::Transpose;
  for (DType dtype : {DType::kF64, DType::kF32, DType::kS32, DType::kU8}) {
    // a: two matrices [2, 1, 2, 3]; b stored transposed [2, 3] -> [3, 2].
    const Operand a = MakeOperand(Spec(dtype, {2, 2, 3}), {1, 2, 3, 4, 5, 6, 1, 0, 0, 0, 1, 0});
    const Operand b = MakeOperand(Spec(dtype, {2, 3}), {1, 0, 2, 0, 1, 1});
    Operand dst = MakeOperand(Spec(dtype, {2, 2, 2}));
    const auto kernel =
        CreatePlainMatmul({a.spec, b.spec, dst.spec, Transpose::kNo, Transpose::kYes, 1}, {});
    ASSERT_TRUE(kernel.ok()) << kernel.status();
    ASSERT_TRUE(RunKernel(**kernel, {a.data(), b.data()}, {dst.data()}).ok());
    EXPECT_EQ(Numbers(dst), (std::vector<double>{7, 5, 16, 11, 1, 0, 0, 1})) << NameOf(dtype);
  }
  const Operand a =
      MakeOperand(Spec(DType::kF64, {2, 3}), {1, 2, 3, 4, 5, 6});  // [3, 2] stored transposed
  const Operand b = MakeOperand(Spec(DType::kF64, {2, 1}), {10, 100});
  Operand dst = MakeOperand(Spec(DType::kF64, {3, 1}));
  const auto kernel =
      CreatePlainMatmul({a.spec, b.spec, dst.spec, Transpose::kYes, Transpose::kNo, 0.5f}, {});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  ASSERT_TRUE(RunKernel(**kernel, {a.data(), b.data()}, {dst.data()}).ok());
  EXPECT_EQ(Numbers(dst), (std::vector<double>{205, 260, 315}));
}

TEST(PlainMatmulTest, SixtyFourBitIntegersAreExact) {
  const int64_t a[] = {(int64_t{1} << 53) + 1, 1}, b[] = {1, 1};
  int64_t dst = 0;
  const auto kernel = CreatePlainMatmul(
      {Spec(DType::kS64, {1, 2}), Spec(DType::kS64, {2, 1}), Spec(DType::kS64, {1, 1})}, {});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  ASSERT_TRUE(RunKernel(**kernel, {a, b}, {&dst}).ok());
  EXPECT_EQ(dst, (int64_t{1} << 53) + 2);
}

TEST(PlainBatchNormTest, NormalizesEachChannel) {
  const Operand src = MakeOperand(Spec(DType::kF32, {1, 2, 2}), {1, 3, 10, 20});
  const float scale[] = {2, 1}, bias[] = {0.5f, -1}, mean[] = {1, 10}, variance[] = {3, 99};
  Operand dst = MakeOperand(src.spec);
  const auto kernel = CreatePlainBatchNorm({src.spec, dst.spec, 1}, {});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  ASSERT_TRUE(RunKernel(**kernel, {src.data(), scale, bias, mean, variance}, {dst.data()}).ok());
  EXPECT_EQ(Numbers(dst), (std::vector<double>{0.5, 2.5, -1, 0}));
}

}  // namespace
}  // namespace octet::kernels
