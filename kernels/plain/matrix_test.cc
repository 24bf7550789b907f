// Matrix functions against worked-out values.
#include "kernels/plain/matrix.h"

#include <gtest/gtest.h>

#include "kernels/testing.h"

namespace octet::kernels {
namespace {

std::vector<double> Numbered(int64_t n) {
  std::vector<double> values;
  for (int64_t i = 1; i <= n; ++i) values.push_back(static_cast<double>(i));
  return values;
}

TEST(TriluTest, KeepsTheTriangleOfEachMatrix) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kS64, DType::kBool}) {
    const double one = dtype == DType::kBool ? 1 : 0;  // a bool is 1 whatever is stored
    const Operand src = MakeOperand(Spec(dtype, {2, 2, 3}), Numbered(12));
    const auto run = [&](Triangle keep, std::optional<int64_t> k) {
      Operand dst = MakeOperand(src.spec);
      const auto kernel = CreateTrilu({keep, k.has_value(), src.spec, src.spec}, {});
      EXPECT_TRUE(kernel.ok()) << kernel.status();
      const int64_t diagonal = k.value_or(0);
      EXPECT_TRUE(RunKernel(**kernel, {src.data(), &diagonal}, {dst.data()}).ok());
      return Numbers(dst);
    };
    const auto expect = [&](std::vector<double> found, std::vector<double> want) {
      if (one == 1) {
        for (double& x : want) x = x != 0;
      }
      EXPECT_EQ(found, want) << NameOf(dtype);
    };
    expect(run(Triangle::kUpper, {}), {1, 2, 3, 0, 5, 6, 7, 8, 9, 0, 11, 12});
    expect(run(Triangle::kUpper, 1), {0, 2, 3, 0, 0, 6, 0, 8, 9, 0, 0, 12});
    expect(run(Triangle::kLower, -1), {0, 0, 0, 4, 0, 0, 0, 0, 0, 10, 0, 0});
    expect(run(Triangle::kLower, 9), Numbered(12));
    expect(run(Triangle::kUpper, INT64_MAX), std::vector<double>(12, 0));
  }
}

TEST(EyeTest, PutsOnesOnTheDiagonal) {
  for (DType dtype : {DType::kF64, DType::kBF16, DType::kS32, DType::kBool}) {
    Operand dst = MakeOperand(Spec(dtype, {2, 3}));
    const auto kernel = CreateEye({1, dst.spec}, {});
    ASSERT_TRUE(kernel.ok()) << kernel.status();
    ASSERT_TRUE(RunKernel(**kernel, {}, {dst.data()}).ok());
    EXPECT_EQ(Numbers(dst), (std::vector<double>{0, 1, 0, 0, 0, 1})) << NameOf(dtype);
  }
}

TEST(DetTest, EliminatesWithPivots) {
  const Operand src =
      MakeOperand(Spec(DType::kF32, {3, 3, 3}), {0, 2, 1, 1, 0, 3, 4, 1, 0,  // needs a pivot: 25
                                                 1, 2, 3, 2, 4, 6, 1, 1, 1,  // singular
                                                 2, 0, 0, 0, 3, 0, 0, 0, -4});
  Operand dst = MakeOperand(Spec(DType::kF32, {3}));
  const auto kernel = CreateDet({src.spec, dst.spec}, {});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  ASSERT_TRUE(RunKernel(**kernel, {src.data()}, {dst.data()}).ok());
  EXPECT_NEAR(dst.number(0), 25, 1e-4);
  EXPECT_NEAR(dst.number(1), 0, 1e-4);
  EXPECT_NEAR(dst.number(2), -24, 1e-4);
  EXPECT_FALSE(CreateDet({Spec(DType::kF32, {2, 3}), Spec(DType::kF32, {})}, {}).ok());
}

TEST(HardmaxTest, MarksTheFirstLargest) {
  const Operand src = MakeOperand(Spec(DType::kF32, {2, 3}), {1, 3, 3, -2, -1, -5});
  Operand dst = MakeOperand(src.spec);
  const auto along = [&](int axis) {
    const auto kernel = CreateHardmax({src.spec, src.spec, axis}, {});
    EXPECT_TRUE(kernel.ok()) << kernel.status();
    EXPECT_TRUE(RunKernel(**kernel, {src.data()}, {dst.data()}).ok());
    return Numbers(dst);
  };
  EXPECT_EQ(along(1), (std::vector<double>{0, 1, 0, 0, 1, 0}));
  EXPECT_EQ(along(0), (std::vector<double>{1, 1, 1, 0, 0, 0}));
}

}  // namespace
}  // namespace octet::kernels
