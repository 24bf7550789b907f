// Reduce: hand-computed values against the reference, every implementation against the reference.
#include "kernels/reduce/reduce.h"

#include <cmath>

#include "gmock/gmock.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using ::testing::Contains;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pointwise;

Shape Reduced(Shape shape, const std::vector<int>& axes) {
  for (int axis : axes) shape[static_cast<size_t>(axis)] = 1;
  return shape;
}

std::vector<double> Reference(ReduceKind kind, const TensorSpec& src, DType dst,
                              const std::vector<int>& axes, const std::vector<double>& values) {
  const ReduceParams params{kind, src, Spec(dst, Reduced(src.shape, axes)), axes};
  return ReferenceNumbers(ReduceImplementations(), params, Operands(MakeOperand(src, values)),
                          params.dst);
}

TEST(ReduceReferenceTest, EveryKindOfReals) {
  const TensorSpec s = Spec(DType::kF32, {2, 3});
  const auto rows = [&](ReduceKind kind) {
    return Reference(kind, s, DType::kF32, {1}, {1, -2, 3, 4, 5, 6});
  };
  EXPECT_THAT(rows(ReduceKind::kSum), ElementsAre(2, 15));
  EXPECT_THAT(rows(ReduceKind::kMean), Pointwise(DoubleNear(1e-6), {2.0 / 3, 5.0}));
  EXPECT_THAT(rows(ReduceKind::kMax), ElementsAre(3, 6));
  EXPECT_THAT(rows(ReduceKind::kMin), ElementsAre(-2, 4));
  EXPECT_THAT(rows(ReduceKind::kProd), ElementsAre(-6, 120));
  EXPECT_THAT(rows(ReduceKind::kL1), ElementsAre(6, 15));
  EXPECT_THAT(rows(ReduceKind::kSumSquare), ElementsAre(14, 77));
  EXPECT_THAT(rows(ReduceKind::kL2), Pointwise(DoubleNear(1e-6), {3.7416574, 8.7749644}));
  EXPECT_THAT(rows(ReduceKind::kLogSum), Pointwise(DoubleNear(1e-6), {0.6931472, 2.7080502}));
  EXPECT_THAT(rows(ReduceKind::kLogSumExp), Pointwise(DoubleNear(1e-6), {3.1328454, 6.4076060}));
}

TEST(ReduceReferenceTest, CountsAxesAndArguments) {
  const TensorSpec s = Spec(DType::kS64, {2, 3});
  EXPECT_THAT(Reference(ReduceKind::kSum, s, DType::kS64, {0}, {1, 2, 3, 4, 5, 6}),
              ElementsAre(5, 7, 9));
  EXPECT_THAT(Reference(ReduceKind::kMean, s, DType::kS64, {0, 1}, {1, 2, 3, 4, 5, 7}),
              ElementsAre(3));
  EXPECT_THAT(Reference(ReduceKind::kSumSquare, s, DType::kS64, {}, {1, 2, 3, 4, 5, 6}),
              ElementsAre(1, 4, 9, 16, 25, 36));
  const TensorSpec f = Spec(DType::kF32, {2, 4});
  const std::vector<double> x{1, 3, 3, 0, -1, -1, -5, -5};
  EXPECT_THAT(Reference(ReduceKind::kArgMaxFirst, f, DType::kS64, {1}, x), ElementsAre(1, 0));
  EXPECT_THAT(Reference(ReduceKind::kArgMaxLast, f, DType::kS64, {1}, x), ElementsAre(2, 1));
  EXPECT_THAT(Reference(ReduceKind::kArgMinFirst, f, DType::kS64, {1}, x), ElementsAre(3, 2));
  EXPECT_THAT(Reference(ReduceKind::kArgMinLast, f, DType::kS64, {1}, x), ElementsAre(3, 3));
  EXPECT_THAT(Reference(ReduceKind::kArgMaxFirst, f, DType::kS64, {0}, x), ElementsAre(0, 0, 0, 0));
}

TEST(ReduceReferenceTest, EmptySumsAndQuantizedMeans) {
  const TensorSpec empty = Spec(DType::kF32, {2, 0});
  EXPECT_THAT(Reference(ReduceKind::kSum, empty, DType::kF32, {1}, {}), ElementsAre(0, 0));
  EXPECT_THAT(Reference(ReduceKind::kProd, empty, DType::kF32, {1}, {}), ElementsAre(1, 1));
  EXPECT_THAT(Reference(ReduceKind::kMax, empty, DType::kF32, {1}, {}),
              ElementsAre(-INFINITY, -INFINITY));
  const TensorSpec q = QuantSpec(DType::kU8, {2, 2}, 0.5f, 100);
  EXPECT_THAT(Reference(ReduceKind::kMean, q, DType::kF32, {1}, {100, 104, 90, 91}),
              ElementsAre(1, -4.75));
}

TEST(ReduceTest, EqualsTheReferenceForEveryKindAndAxes) {
  const std::vector<std::vector<int>> sets = {{},        {0},          {1},    {3},       {2, 3},
                                              {1, 2, 3}, {0, 1, 2, 3}, {0, 2}, {0, 2, 3}, {1, 3}};
  for (const Shape& shape : {Shape{2, 3, 5, 7}, Shape{1, 17, 49, 33}, Shape{3, 1, 1, 2}}) {
    for (const std::vector<int>& axes : sets) {
      for (int kind = 0; kind <= static_cast<int>(ReduceKind::kSumSquare); ++kind) {
        const TensorSpec src = Spec(DType::kF32, shape);
        const ReduceParams params{static_cast<ReduceKind>(kind), src,
                                  Spec(DType::kF32, Reduced(shape, axes)), axes};
        CompareImplementations(
            ReduceImplementations(), params, Operands(MakeRandom(src, 0.1, 4, 3)), params.dst,
            {1e-5, 2e-5}, absl::StrCat(ShapeString(shape), " kind ", kind, " axes ", axes.size()));
      }
    }
  }
}

TEST(ReduceTest, TakesRowsWhereAxesAreNeighbours) {
  const TensorSpec src = Spec(DType::kF32, {8, 64, 7, 7});
  const auto name = [&](const std::vector<int>& axes) {
    return (*CreateReduce(
                {ReduceKind::kMean, src, Spec(DType::kF32, Reduced(src.shape, axes)), axes},
                KernelEnv{}))
        ->implementation();
  };
  EXPECT_EQ(name({2, 3}), "rows");
  EXPECT_EQ(name({1}), "rows");
  EXPECT_EQ(name({1, 3}), "reference");
}

TEST(ReduceTest, QuantizedSumsAndMeansStayWithinOneStep) {
  for (DType type : {DType::kU8, DType::kS8}) {
    const TensorSpec src = QuantSpec(type, {4, 32, 7, 7}, 0.03f, type == DType::kU8 ? 120 : -4);
    const Shape dst{4, 32, 1, 1};
    for (ReduceKind kind : {ReduceKind::kSum, ReduceKind::kMean}) {
      const auto run = [&](const TensorSpec& to, Tolerance tolerance) {
        EXPECT_THAT(
            CompareImplementations(ReduceImplementations(), ReduceParams{kind, src, to, {2, 3}},
                                   Operands(MakeRandom(src, 5)), to, tolerance, "quantized"),
            Contains("rows"));
      };
      run(QuantSpec(DType::kU8, dst, kind == ReduceKind::kSum ? 1.0f : 0.01f, 90), {1, 0});
      run(Spec(DType::kF32, dst), {1e-5, 1e-5});
    }
  }
}

TEST(ReduceTest, IntegersOfAnyWidthAreExact) {
  const auto run = [](ReduceKind kind, DType type, const std::vector<uint64_t>& values) {
    const TensorSpec src = Spec(type, {1, static_cast<int64_t>(values.size())});
    const bool arg = kind >= ReduceKind::kArgMaxFirst;
    Operand x = MakeOperand(src), y = MakeOperand(Spec(arg ? DType::kS64 : type, {1, 1}));
    for (size_t i = 0; i < values.size(); ++i) {
      StoreInteger(type, x.data(), static_cast<int64_t>(i), static_cast<int64_t>(values[i]));
    }
    const auto kernel = CreateReduce({kind, src, y.spec, {1}}, KernelEnv{});
    EXPECT_TRUE(kernel.ok()) << kernel.status();
    EXPECT_TRUE(RunKernel(**kernel, {x.data()}, {y.data()}).ok());
    return static_cast<uint64_t>(LoadInteger(y.spec.dtype, y.data(), 0));
  };
  const uint64_t top = uint64_t{1} << 63;
  EXPECT_EQ(run(ReduceKind::kMax, DType::kU64, {1, top + 1, top}), top + 1);
  EXPECT_EQ(run(ReduceKind::kMin, DType::kU64, {top + 1, top, 5}), 5u);
  EXPECT_EQ(run(ReduceKind::kArgMaxFirst, DType::kU64, {1, top + 1, top}), 1u);
  EXPECT_EQ(run(ReduceKind::kSum, DType::kU64, {top, 7}), top + 7);
  EXPECT_EQ(run(ReduceKind::kSum, DType::kS64, {(uint64_t{1} << 53) + 1, 2}), (uint64_t{1} << 53) + 3);
  EXPECT_EQ(run(ReduceKind::kSum, DType::kU8, {200, 100}), 44u);  // wraps, as the type does
  EXPECT_EQ(run(ReduceKind::kMax, DType::kS16, {static_cast<uint64_t>(-5), static_cast<uint64_t>(-9)}),
            static_cast<uint64_t>(-5));
  EXPECT_EQ(run(ReduceKind::kMax, DType::kBool, {0, 1, 0}), 1u);
  EXPECT_EQ(run(ReduceKind::kMin, DType::kBool, {0, 1, 0}), 0u);
}

TEST(ReduceTest, RefusesWhatContradictsItself) {
  const auto code = [](const ReduceParams& p) {
    return CreateReduce(p, KernelEnv{}).status().code();
  };
  const TensorSpec src = Spec(DType::kF32, {2, 3}), dst = Spec(DType::kF32, {2, 1});
  EXPECT_TRUE(CreateReduce({ReduceKind::kSum, src, dst, {1}}, KernelEnv{}).ok());
  EXPECT_EQ(code({ReduceKind::kSum, src, dst, {0}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({ReduceKind::kSum, src, dst, {2}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({ReduceKind::kArgMaxFirst, src, dst, {1}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(
      code({ReduceKind::kArgMaxFirst, Spec(DType::kF32, {2, 0}), Spec(DType::kS64, {2, 1}), {1}}),
      absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace octet::kernels
