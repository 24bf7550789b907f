// LayerNorm: hand-computed values against the reference, every implementation against the reference.
#include "kernels/layer_norm/layer_norm.h"

#include <cmath>

#include "gmock/gmock.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using ::testing::Contains;
using Form = LayerNormParams::Form;
using Wanted = LayerNormParams::Wanted;

LayerNormParams Params(Form form, const TensorSpec& src, const TensorSpec& dst, int64_t row, Wanted bias) {
  LayerNormParams p;
  p.form = form;
  p.src = src;
  p.dst = dst;
  p.row = row;
  p.bias = bias;
  return p;
}

TEST(LayerNormReferenceTest, KnownValues) {
  const TensorSpec spec = Spec(DType::kF32, {1, 4});
  const auto run = [&](Form form) {
    auto p = Params(form, spec, spec, 4, Wanted::kYes);
    p.epsilon = 0;
    return ReferenceNumbers(LayerNormImplementations(), p,
                            Operands(MakeOperand(spec, {1, 2, 3, 6}), MakeOperand(Spec(DType::kF32, {4}), {1, 1, 2, 1}),
                                     MakeOperand(Spec(DType::kF32, {4}), {0, 10, 0, 0})),
                            spec);
  };
  const double s = std::sqrt(3.5);  // mean 3, squared differences 4, 1, 0, 9
  EXPECT_THAT(run(Form::kLayer), testing::Pointwise(testing::DoubleNear(1e-6), {-2 / s, 10 - 1 / s, 0.0, 3 / s}));
  const double r = std::sqrt(12.5);  // 1 + 4 + 9 + 36 over 4
  EXPECT_THAT(run(Form::kRms), testing::Pointwise(testing::DoubleNear(1e-6), {1 / r, 10 + 2 / r, 6 / r, 6 / r}));
}

TEST(LayerNormTest, EveryImplementationEqualsTheReference) {
  for (const Shape& shape : {Shape{1, 1}, Shape{3, 7}, Shape{2, 5, 16}, Shape{128, 768}, Shape{9, 129}, Shape{0, 8}}) {
    for (Form form : {Form::kLayer, Form::kRms}) {
      for (Wanted bias : {Wanted::kNo, Wanted::kYes}) {
        for (const TensorSpec& src : {Spec(DType::kF32, shape), QuantSpec(DType::kU8, shape, 0.02f, 100),
                                      QuantSpec(DType::kS8, shape, 0.02f, -3)}) {
          for (const TensorSpec& dst : {Spec(DType::kF32, shape), QuantSpec(DType::kU8, shape, 0.02f, 128),
                                        QuantSpec(DType::kS8, shape, 0.03f, 2)}) {
            const TensorSpec row = Spec(DType::kF32, {shape.back()});
            std::vector<Operand> operands =
                Operands(MakeRandom(src, 1), MakeRandom(row, 0.5, 1.5, 2), MakeRandom(row, -0.5, 0.5, 3));
            // Integers: a real next to a tie may round to either side.
            const Tolerance tolerance = dst.quant ? Tolerance{1, 0} : Tolerance{2e-5, 2e-5};
            const auto accepted = CompareImplementations(
                LayerNormImplementations(), Params(form, src, dst, shape.back(), bias), operands, dst, tolerance,
                absl::StrCat(ShapeString(shape), " ", NameOf(src.dtype), " to ", NameOf(dst.dtype)));
            EXPECT_THAT(accepted, Contains("rows"));
          }
        }
      }
    }
  }
}

TEST(LayerNormTest, WritesBothFormsAndTheMoments) {
  const Shape shape{5, 40};
  const TensorSpec f32 = Spec(DType::kF32, shape), u8 = QuantSpec(DType::kU8, shape, 0.03f, 120),
                   moments = Spec(DType::kF32, {5, 1});
  auto p = Params(Form::kLayer, f32, f32, 40, Wanted::kNo);
  p.copy = u8;
  p.mean = p.inverse_deviation = Wanted::kYes;
  const Operand x = MakeRandom(f32, 7), scale = MakeRandom(Spec(DType::kF32, {40}), 0.5, 2, 8);
  std::vector<std::vector<Operand>> results;
  for (const auto& entry : LayerNormImplementations()) {
    const auto kernel = entry.create(p, KernelEnv{nullptr, 2});
    ASSERT_TRUE(kernel.ok()) << kernel.status();
    auto out = Operands(MakeOperand(f32), MakeOperand(u8), MakeOperand(moments), MakeOperand(moments));
    ASSERT_TRUE(RunKernel(**kernel, {x.data(), scale.data()},
                          {out[0].data(), out[1].data(), out[2].data(), out[3].data()}).ok());
    results.push_back(std::move(out));
  }
  for (size_t k = 0; k < 4; ++k) {
    ExpectClose(results[0][k], results[1][k], k == 1 ? Tolerance{1, 0} : Tolerance{1e-5, 1e-5}, absl::StrCat("dst ", k));
  }
  for (int64_t i = 0; i < 200; ++i) {
    EXPECT_EQ(results[1][1].number(i), static_cast<double>(Quantize(static_cast<float>(results[1][0].number(i)), 0.03f, 120, DType::kU8)));
  }
}

TEST(LayerNormTest, RefusesWhatContradictsItself) {
  const auto code = [](const LayerNormParams& p) { return CreateLayerNorm(p, KernelEnv{}).status().code(); };
  const TensorSpec spec = Spec(DType::kF32, {4, 10});
  EXPECT_EQ(code(Params(Form::kLayer, spec, spec, 7, Wanted::kNo)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Params(Form::kLayer, spec, Spec(DType::kF32, {40}), 10, Wanted::kNo)),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Params(Form::kLayer, Spec(DType::kS32, {4, 10}), spec, 10, Wanted::kNo)),
            absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace octet::kernels
