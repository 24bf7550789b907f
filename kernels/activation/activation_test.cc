// Activation: hand-computed values against the reference, every implementation against the
// reference.
#include "kernels/activation/activation.h"

#include <cmath>

#include "gmock/gmock.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;

constexpr int kKinds = static_cast<int>(ActivationKind::kLinear) + 1;

Activation Sample(int kind) {
  Activation f{static_cast<ActivationKind>(kind), 0.25f, 0.5f};
  if (f.kind == ActivationKind::kClip) f = {f.kind, -1, 2.5f};
  if (f.kind == ActivationKind::kHardSwish) f.alpha = 1.0f / 6;
  return f;
}

bool WantsPositive(ActivationKind kind) {
  return kind == ActivationKind::kLog || kind == ActivationKind::kSqrt;
}

TEST(ActivationReferenceTest, RealsAndQuantized) {
  const Shape shape{4};
  const auto reference = [&](const ActivationParams& p, const std::vector<double>& values) {
    return ReferenceNumbers(ActivationImplementations(), p, Operands(MakeOperand(p.src, values)),
                            p.dst);
  };
  const Activation relu{ActivationKind::kRelu}, leaky{ActivationKind::kLeakyRelu, 0.5f};
  EXPECT_THAT(
      reference({Spec(DType::kF32, shape), Spec(DType::kF32, shape), relu}, {-1, 0, 2, -0.5}),
      ElementsAre(0, 0, 2, 0));
  // (q - 10) * 2, halved when negative, / 4 + 100: ties go to even.
  EXPECT_THAT(
      reference({QuantSpec(DType::kU8, shape, 2, 10), QuantSpec(DType::kS8, shape, 4, 100), leaky},
                {10, 11, 4, 255}),
      ElementsAre(100, 100, 98, 127));
  EXPECT_THAT(reference({QuantSpec(DType::kS8, shape, 1, 0), Spec(DType::kF32, shape), leaky},
                        {-128, -1, 0, 127}),
              ElementsAre(-64, -0.5, 0, 127));
}

TEST(ActivationTest, OneDnnEqualsTheReferenceWithinRounding) {
  for (int kind = 0; kind < kKinds; ++kind) {
    for (const Shape& shape :
         {Shape{17}, Shape{2, 3, 5, 7}, Shape{1, 65, 33, 31}, Shape{0, 3, 2, 2}}) {
      for (Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
        const TensorSpec spec = Spec(DType::kF32, shape, layout);
        const ActivationParams params{spec, spec, Sample(kind)};
        const double low = WantsPositive(params.activation.kind) ? 0.01 : -4;
        CompareImplementations(
            ActivationImplementations(), params, Operands(MakeRandom(spec, low, 4, 3)), spec,
            {5e-6, 1e-5} /* oneDNN's log near 1 */, std::string(NameOf(params.activation.kind)));
      }
    }
  }
}

TEST(ActivationTest, TableEqualsTheReferenceForEveryValueAndKind) {
  std::vector<double> all;
  for (int i = 0; i < 256; ++i) all.push_back(i);
  for (int kind = 0; kind < kKinds; ++kind) {
    for (DType type : {DType::kU8, DType::kS8}) {
      const TensorSpec src = QuantSpec(type, {256}, 0.03f, type == DType::kU8 ? 110 : -7);
      std::vector<double> values = all;
      if (type == DType::kS8) {
        for (double& x : values) x -= 128;
      }
      for (const TensorSpec& dst :
           {QuantSpec(DType::kU8, {256}, 0.02f, 30), QuantSpec(DType::kS8, {256}, 0.02f, 1),
            Spec(DType::kF32, {256})}) {
        const auto accepted = CompareImplementations(
            ActivationImplementations(), ActivationParams{src, dst, Sample(kind)},
            Operands(MakeOperand(src, values)), dst, {}, absl::StrCat("kind ", kind));
        EXPECT_THAT(accepted, Contains("table"));
      }
    }
  }
}

TEST(ActivationTest, TableSplitsOverThreadsInAnyLayout) {
  const Shape shape{3, 40, 33, 17};
  const TensorSpec src = QuantSpec(DType::kU8, shape, 0.03f, 110, Layout::kChannelsLast);
  const TensorSpec dst = QuantSpec(DType::kU8, shape, 0.01f, 0, Layout::kChannelsLast);
  CompareImplementations(ActivationImplementations(), ActivationParams{src, dst, Sample(0)},
                         Operands(MakeRandom(src, 1)), dst, {}, "large");
}

TEST(ActivationTest, SoftplusIsExactWhereItIsSmall) {
  const std::vector<double> x = {-80, -20, -7.7, -1e-3, 0, 1e-3, 7.7, 20, 80, -INFINITY, INFINITY, NAN};
  const TensorSpec spec = Spec(DType::kF32, {static_cast<int64_t>(x.size())});
  const Operand src = MakeOperand(spec, x);
  Operand dst = MakeOperand(spec);
  const auto kernel = CreateActivation({spec, spec, {ActivationKind::kSoftplus}}, KernelEnv{});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  ASSERT_TRUE(RunKernel(**kernel, {src.data()}, {dst.data()}).ok());
  for (size_t i = 0; i + 3 < x.size(); ++i) {
    const double want = std::log1p(std::exp(x[i]));
    EXPECT_NEAR(dst.number(static_cast<int64_t>(i)), want, 4e-7 * want) << x[i];  // the library's 3 ulp
  }
  EXPECT_EQ(dst.number(9), 0);
  EXPECT_EQ(dst.number(10), INFINITY);
  EXPECT_TRUE(std::isnan(dst.number(11)));
}

TEST(ActivationTest, WorksInPlace) {
  for (const TensorSpec& spec :
       {Spec(DType::kF32, {1000}), QuantSpec(DType::kU8, {1000}, 0.1f, 100)}) {
    const ActivationParams params{spec, spec, {ActivationKind::kRelu}};
    Operand x = MakeRandom(spec, 5);
    const std::vector<double> want =
        ReferenceNumbers(ActivationImplementations(), params, Operands(MakeRandom(spec, 5)), spec);
    const auto kernel = CreateActivation(params, KernelEnv{});
    ASSERT_TRUE(kernel.ok());
    ASSERT_TRUE(RunKernel(**kernel, {x.data()}, {x.data()}).ok());  // relu twice is relu
    EXPECT_EQ(Numbers(x), want);
  }
}

TEST(ActivationTest, RefusesAChangeOfShapeOrOrder) {
  const auto code = [](const TensorSpec& src, const TensorSpec& dst) {
    return CreateActivation({src, dst, {ActivationKind::kRelu}}, KernelEnv{}).status().code();
  };
  EXPECT_EQ(code(Spec(DType::kF32, {2}), Spec(DType::kF32, {3})),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(
      code(Spec(DType::kF32, {1, 2, 3, 4}), Spec(DType::kF32, {1, 2, 3, 4}, Layout::kChannelsLast)),
      absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace octet::kernels
