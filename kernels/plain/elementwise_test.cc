// Plain element functions against the C library in double, and integer functions against worked-out
// values.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "kernels/plain/bitwise.h"
#include "kernels/plain/unary.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using Kind = PlainUnaryKind;

Operand RunUnary(Kind kind, const Operand& src, float alpha = 0, float beta = 0,
                 Activation activation = {}) {
  PlainUnaryParams params{kind, alpha, beta, activation, src.spec, src.spec};
  if (kind == Kind::kIsNan || kind == Kind::kIsInf || kind == Kind::kNot)
    params.dst.dtype = DType::kBool;
  Operand dst = MakeOperand(params.dst);
  const auto kernel = CreatePlainUnary(params, {});
  EXPECT_TRUE(kernel.ok()) << kernel.status();
  if (kernel.ok()) {
    EXPECT_TRUE(RunKernel(**kernel, {src.data()}, {dst.data()}).ok());
  }
  return dst;
}

TEST(PlainUnaryTest, FloatFunctionsMatchTheLibrary) {
  struct Case {
    Kind kind;
    double low, high;
    double (*function)(double);
  };
  const Case cases[] = {{Kind::kAcos, -1, 1, std::acos},  {Kind::kAcosh, 1, 9, std::acosh},
                        {Kind::kAsin, -1, 1, std::asin},  {Kind::kAsinh, -5, 5, std::asinh},
                        {Kind::kAtan, -9, 9, std::atan},  {Kind::kAtanh, -0.9, 0.9, std::atanh},
                        {Kind::kCosh, -4, 4, std::cosh},  {Kind::kSinh, -4, 4, std::sinh},
                        {Kind::kTan, -1.5, 1.5, std::tan}};
  for (const Case& c : cases) {
    for (DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16}) {
      const Operand src = MakeRandom(Spec(dtype, {3, 37}), c.low, c.high, 5);
      const Operand dst = RunUnary(c.kind, src);
      // One rounding of the result's type, twice for the library's own last digit.
      const double tolerance = dtype == DType::kF64   ? 1e-13
                               : dtype == DType::kF32 ? 1e-6
                               : dtype == DType::kF16 ? 1e-3
                                                      : 8e-3;
      for (int64_t i = 0; i < 3 * 37; ++i) {
        const double want = c.function(src.number(i));
        EXPECT_NEAR(dst.number(i), want, tolerance * (std::fabs(want) + 1e-3))
            << NameOf(dtype) << " " << src.number(i);
      }
    }
  }
}

TEST(PlainUnaryTest, ActivationsWithParametersFollowTheirFormulas) {
  const Operand src = MakeOperand(Spec(DType::kF32, {5}), {-2, -0.5, 0, 0.5, 2});
  const auto expect = [&](const Operand& dst, const std::vector<double>& want) {
    for (size_t i = 0; i < want.size(); ++i)
      EXPECT_NEAR(dst.number(static_cast<int64_t>(i)), want[i], 1e-6) << i;
  };
  expect(RunUnary(Kind::kCelu, src, 2),
         {2 * (std::exp(-1.0) - 1), 2 * (std::exp(-0.25) - 1), 0, 0.5, 2});
  expect(RunUnary(Kind::kSelu, src, 2, 3),
         {6 * (std::exp(-2.0) - 1), 6 * (std::exp(-0.5) - 1), 0, 1.5, 6});
  expect(RunUnary(Kind::kShrink, src, 1, 0.25f), {-1.75, 0, 0, 0, 1.75});
  expect(RunUnary(Kind::kThresholdedRelu, src, 0.5f), {0, 0, 0, 0, 2});
  expect(RunUnary(Kind::kActivation, src, 0, 0, {ActivationKind::kLeakyRelu, 0.5f, 0}),
         {-1, -0.25, 0, 0.5, 2});
}

TEST(PlainUnaryTest, TestsTellInfinitiesAndNan) {
  for (DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16}) {
    const Operand src = MakeOperand(Spec(dtype, {4}), {-INFINITY, 1, INFINITY, NAN});
    EXPECT_EQ(Numbers(RunUnary(Kind::kIsNan, src)), (std::vector<double>{0, 0, 0, 1}));
    EXPECT_EQ(Numbers(RunUnary(Kind::kIsInf, src, 1, 1)), (std::vector<double>{1, 0, 1, 0}));
    EXPECT_EQ(Numbers(RunUnary(Kind::kIsInf, src, 0, 1)), (std::vector<double>{0, 0, 1, 0}));
  }
  const Operand bools = MakeOperand(Spec(DType::kBool, {2}), {0, 1});
  EXPECT_EQ(Numbers(RunUnary(Kind::kNot, bools)), (std::vector<double>{1, 0}));
}

TEST(PlainUnaryTest, IntegersStayExact) {
  Operand src = MakeOperand(Spec(DType::kS64, {3}));
  const int64_t values[] = {-9007199254740993, 9007199254740993, 0};  // 2^53 + 1: no double
  for (int64_t i = 0; i < 3; ++i) StoreInteger(DType::kS64, src.data(), i, values[i]);
  const Operand magnitude = RunUnary(Kind::kActivation, src, 0, 0, {ActivationKind::kAbs, 0, 0});
  const Operand negated = RunUnary(Kind::kActivation, src, 0, 0, {ActivationKind::kNeg, 0, 0});
  const Operand relu = RunUnary(Kind::kActivation, src, 0, 0, {ActivationKind::kRelu, 0, 0});
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(LoadInteger(DType::kS64, magnitude.data(), i), std::abs(values[i]));
    EXPECT_EQ(LoadInteger(DType::kS64, negated.data(), i), -values[i]);
    EXPECT_EQ(LoadInteger(DType::kS64, relu.data(), i), std::max<int64_t>(values[i], 0));
  }
  const Operand bytes = MakeOperand(Spec(DType::kU8, {3}), {0, 5, 255});
  EXPECT_EQ(Numbers(RunUnary(Kind::kBitwiseNot, bytes)), (std::vector<double>{255, 250, 0}));
  PlainUnaryParams exp{Kind::kActivation, 0, 0, {ActivationKind::kExp, 0, 0}, src.spec, src.spec};
  EXPECT_EQ(CreatePlainUnary(exp, {}).status().code(), absl::StatusCode::kUnimplemented);
}

std::vector<double> RunBitwise(BitwiseKind kind, const Operand& a, const Operand& b, Shape shape) {
  Operand dst = MakeOperand(Spec(a.spec.dtype, std::move(shape)));
  const auto kernel = CreateBitwise({kind, a.spec, b.spec, dst.spec}, {});
  EXPECT_TRUE(kernel.ok()) << kernel.status();
  if (kernel.ok()) {
    EXPECT_TRUE(RunKernel(**kernel, {a.data(), b.data()}, {dst.data()}).ok());
  }
  return Numbers(dst);
}

TEST(BitwiseTest, BroadcastsAndShifts) {
  const Operand a = MakeOperand(Spec(DType::kU8, {2, 2}), {0b1100, 0b1010, 0xff, 1});
  const Operand b = MakeOperand(Spec(DType::kU8, {2}), {0b1010, 3});
  EXPECT_EQ(RunBitwise(BitwiseKind::kAnd, a, b, {2, 2}),
            (std::vector<double>{0b1000, 0b0010, 0b1010, 1}));
  EXPECT_EQ(RunBitwise(BitwiseKind::kOr, a, b, {2, 2}),
            (std::vector<double>{0b1110, 0b1011, 0xff, 3}));
  EXPECT_EQ(RunBitwise(BitwiseKind::kXor, a, b, {2, 2}),
            (std::vector<double>{0b0110, 0b1001, 0xf5, 2}));
  const Operand by = MakeOperand(Spec(DType::kU8, {2}), {1, 8});
  EXPECT_EQ(RunBitwise(BitwiseKind::kShiftLeft, a, by, {2, 2}),
            (std::vector<double>{0b11000, 0, 0xfe, 0}));
  EXPECT_EQ(RunBitwise(BitwiseKind::kShiftRight, a, by, {2, 2}),
            (std::vector<double>{0b110, 0, 0x7f, 0}));
  const TensorSpec f32 = Spec(DType::kF32, {2});
  EXPECT_EQ(CreateBitwise({BitwiseKind::kAnd, f32, f32, f32}, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace octet::kernels
