// Softmax: hand-computed values against the reference, every implementation against the reference.
#include "kernels/softmax/softmax.h"

#include <cmath>

#include "gmock/gmock.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using ::testing::Contains;
using ::testing::DoubleNear;
using ::testing::Pointwise;
using Form = SoftmaxParams::Form;

TEST(SoftmaxReferenceTest, KnownValuesAlongEachAxis) {
  const TensorSpec spec = Spec(DType::kF32, {2, 3});
  const auto reference = [&](Form form, int axis, const std::vector<double>& values) {
    return ReferenceNumbers(SoftmaxImplementations(), SoftmaxParams{form, spec, spec, axis},
                            Operands(MakeOperand(spec, values)), spec);
  };
  EXPECT_THAT(
      reference(Form::kSoftmax, 1, {1, 2, 3, 1000, 1000, 1000}),
      Pointwise(DoubleNear(1e-7), {0.09003057, 0.24472847, 0.66524096, 1.0 / 3, 1.0 / 3, 1.0 / 3}));
  EXPECT_THAT(reference(Form::kLogSoftmax, 1, {1, 2, 3, -1000, 0, 0}),
              Pointwise(DoubleNear(1e-4), {-2.40760596, -1.40760596, -0.40760596, -1000.6931,
                                           -0.6931472, -0.6931472}));
  EXPECT_THAT(reference(Form::kSoftmax, 0, {0, 1, 2, 0, 1, 2}),
              Pointwise(DoubleNear(1e-7), {0.5, 0.5, 0.5, 0.5, 0.5, 0.5}));
}

TEST(SoftmaxTest, EqualsTheReferenceForEveryAxisLayoutAndForm) {
  for (const Shape& shape :
       {Shape{1, 10}, Shape{7, 1000}, Shape{2, 21, 9, 5}, Shape{3, 1, 1, 17}, Shape{0, 4}}) {
    for (Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
      for (Form form : {Form::kSoftmax, Form::kLogSoftmax}) {
        for (int axis = 0; axis < static_cast<int>(shape.size()); ++axis) {
          const TensorSpec spec = Spec(DType::kF32, shape, layout);
          const auto accepted = CompareImplementations(
              SoftmaxImplementations(), SoftmaxParams{form, spec, spec, axis},
              Operands(MakeRandom(spec, -20, 20, 1)), spec, {5e-6, 1e-5},  // oneDNN's log near 1

              absl::StrCat(ShapeString(shape), NameOf(layout), " axis ", axis));
          if (NumElements(shape) > 0) {
            EXPECT_THAT(accepted, Contains("onednn"));
          }
        }
      }
    }
  }
}

TEST(SoftmaxTest, WorksInPlace) {
  const TensorSpec spec = Spec(DType::kF32, {4, 10});
  for (const auto& entry : SoftmaxImplementations()) {
    Operand x = MakeOperand(spec, std::vector<double>(40, 3.0));
    const auto kernel = entry.create({Form::kSoftmax, spec, spec, 1}, KernelEnv{});
    ASSERT_TRUE(kernel.ok());
    ASSERT_TRUE(RunKernel(**kernel, {x.data()}, {x.data()}).ok());
    for (double v : Numbers(x)) EXPECT_NEAR(v, 0.1, 1e-7) << entry.name;
  }
}

TEST(SoftmaxTest, RefusesWhatContradictsItself) {
  const auto code = [](const SoftmaxParams& p) {
    return CreateSoftmax(p, KernelEnv{}).status().code();
  };
  const TensorSpec spec = Spec(DType::kF32, {4, 10});
  EXPECT_EQ(code({Form::kSoftmax, spec, spec, 2}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({Form::kSoftmax, spec, Spec(DType::kF32, {4}), 0}),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({Form::kSoftmax, Spec(DType::kS32, {4, 10}), spec, 0}),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace octet::kernels
