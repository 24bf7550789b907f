// Normalizations: hand-computed values against the reference, every implementation against the reference.
//
// Tolerance 2e-5: float sums in another order, a variance of float differences, a fused multiply-add.
#include "kernels/normalize/normalize.h"

#include <cmath>

#include "gmock/gmock.h"
#include "kernels/normalize/lrn.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using ::testing::Contains;
using ::testing::DoubleNear;
using ::testing::Not;
using ::testing::Pointwise;
using Kind = NormalizeKind;

std::vector<double> Reference(NormalizeParams p, const std::vector<double>& values) {
  return ReferenceNumbers(NormalizeImplementations(), p, Operands(MakeOperand(p.src, values)), p.dst);
}

TEST(NormalizeReferenceTest, KnownValuesOfEveryKind) {
  NormalizeParams p;
  p.src = p.dst = Spec(DType::kF32, {2, 2});
  p.axes = {1};
  p.epsilon = 5;
  p.kind = Kind::kDeviation;  // means 3 and 0, variances 4 and 0
  EXPECT_THAT(Reference(p, {1, 5, 0, 0}), Pointwise(DoubleNear(1e-6), std::vector<double>{-2.0 / 3, 2.0 / 3, 0, 0}));
  p.kind = Kind::kMvn;
  EXPECT_THAT(Reference(p, {1, 5, 0, 0}), Pointwise(DoubleNear(1e-6), std::vector<double>{-2.0 / 7, 2.0 / 7, 0, 0}));
  p.kind = Kind::kRms;  // mean squares 20 and 4
  EXPECT_THAT(Reference(p, {2, 6, 2, -2}), Pointwise(DoubleNear(1e-6), std::vector<double>{2.0 / 5, 6.0 / 5, 2.0 / 3, -2.0 / 3}));
  p.kind = Kind::kL1;
  EXPECT_THAT(Reference(p, {1, -3, 0, 0}), Pointwise(DoubleNear(1e-6), std::vector<double>{0.25, -0.75, 0, 0}));
  p.kind = Kind::kL2;
  EXPECT_THAT(Reference(p, {3, -4, 0, 0}), Pointwise(DoubleNear(1e-6), std::vector<double>{0.6, -0.8, 0, 0}));
  p.axes = {0};
  EXPECT_THAT(Reference(p, {3, 1, 4, 0}), Pointwise(DoubleNear(1e-6), std::vector<double>{0.6, 1, 0.8, 0}));
}

struct Case {
  const char* name;
  Shape src;
  std::vector<int> axes;
  Shape factors;  // of scale and shift; empty: none
  Layout layout = Layout::kPlain;
  bool in_rows = true;  // false: the rows must refuse
};

TEST(NormalizeTest, EveryImplementationEqualsTheReference) {
  const Case cases[] = {
      {"layer", {3, 5, 37}, {2}, {1, 1, 37}},
      {"layer of one row", {1, 768}, {1}, {1, 768}},
      {"layer over two axes", {4, 6, 7}, {1, 2}, {1, 6, 7}},
      {"layer with one factor per row", {4, 6, 7}, {2}, {4, 6, 1}},
      {"instance", {2, 19, 8, 9}, {2, 3}, {1, 19, 1, 1}},
      {"instance channels-last", {2, 19, 8, 9}, {2, 3}, {1, 19, 1, 1}, Layout::kChannelsLast},
      {"instance of many channels", {1, 150, 3, 3}, {2, 3}, {1, 150, 1, 1}, Layout::kChannelsLast},
      {"instance of one pixel", {2, 19, 1, 1}, {2, 3}, {1, 19, 1, 1}},
      {"group", {2, 4, 8, 15}, {2, 3}, {1, 4, 8, 1}},
      {"mean variance", {3, 5, 4, 4}, {0, 2, 3}, {}, Layout::kPlain, false},
      {"mean variance channels-last", {3, 5, 4, 4}, {0, 2, 3}, {}, Layout::kChannelsLast},
      {"along axis 1", {3, 70, 65}, {1}, {}},
      {"along axis 1 with factors", {3, 7, 65}, {1}, {1, 7, 65}},
      {"everything", {5, 7}, {0, 1}, {}},
      {"nothing", {5, 7}, {}, {5, 7}},
      {"empty", {0, 7}, {1}, {1, 7}, Layout::kPlain, false},
  };
  for (const Case& c : cases) {
    for (Kind kind : {Kind::kDeviation, Kind::kMvn, Kind::kRms, Kind::kL1, Kind::kL2}) {
      SCOPED_TRACE(absl::StrCat(c.name, " kind ", static_cast<int>(kind)));
      NormalizeParams p;
      p.kind = kind;
      p.src = p.dst = Spec(DType::kF32, c.src, c.layout);
      p.axes = c.axes;
      p.epsilon = 1e-3f;
      std::vector<Operand> operands = Operands(MakeRandom(p.src, -3, 5, 1));
      if (!c.factors.empty()) {
        p.scale = p.shift = Spec(DType::kF32, c.factors);
        operands.push_back(MakeRandom(*p.scale, -2, 2, 2));
        operands.push_back(MakeRandom(*p.shift, -2, 2, 3));
      }
      const auto accepted = CompareImplementations(NormalizeImplementations(), p, operands, p.dst, {2e-5, 2e-5}, c.name);
      if (c.in_rows) {
        EXPECT_THAT(accepted, Contains("rows"));
      } else {
        EXPECT_THAT(accepted, Not(Contains("rows")));
      }
    }
  }
}

TEST(NormalizeTest, AMeanFarFromZeroCancelsNothing) {
  NormalizeParams p;
  p.src = p.dst = Spec(DType::kF32, {2, 1000});
  p.axes = {1};
  const auto accepted = CompareImplementations(NormalizeImplementations(), p, Operands(MakeRandom(p.src, 9999, 10001, 4)),
                                               p.dst, {2e-3, 0}, "far from zero");
  EXPECT_THAT(accepted, Contains("rows"));
}

TEST(NormalizeTest, WritesMomentsAndWorksInPlace) {
  for (const Shape& shape : {Shape{6, 40}, Shape{3, 40, 5}}) {
    NormalizeParams p;
    p.src = p.dst = Spec(DType::kF32, shape);
    p.axes = {1};
    p.epsilon = 1e-5f;
    Shape moments = shape;
    moments[1] = 1;
    p.mean = p.inverse_deviation = Spec(DType::kF32, moments);
    std::vector<std::vector<double>> results;
    for (const auto& entry : NormalizeImplementations()) {
      const auto kernel = entry.create(p, KernelEnv{});
      ASSERT_TRUE(kernel.ok()) << entry.name << kernel.status();
      const Operand x = MakeRandom(p.src, 5);
      Operand y = MakeOperand(p.dst), mean = MakeOperand(*p.mean), inverse = MakeOperand(*p.mean);
      ASSERT_TRUE(RunKernel(**kernel, {x.data()}, {y.data(), mean.data(), inverse.data()}).ok());
      for (const Operand* o : {&y, &mean, &inverse}) results.push_back(Numbers(*o));
      // In place, once (a second run would normalize the result).
      Operand both = MakeRandom(p.src, 5);
      OpenMpFor team(2);
      const void* const src[] = {both.data()};
      void* const dst[] = {both.data(), mean.data(), inverse.data()};
      auto bound = (*kernel)->Bind({src, dst, nullptr, &team});
      ASSERT_TRUE(bound.ok() && (*bound)().ok());
      EXPECT_EQ(Numbers(both), Numbers(y)) << entry.name;
    }
    for (size_t i = 0; i < 3; ++i) EXPECT_THAT(results[i], Pointwise(DoubleNear(2e-5), results[i + 3])) << i;
  }
}

TEST(NormalizeTest, RefusesWhatDoesNotFit) {
  NormalizeParams good;
  good.src = good.dst = Spec(DType::kF32, {2, 3, 4});
  good.axes = {2};
  const auto fails = [](const NormalizeParams& p) { return absl::IsInvalidArgument(CreateNormalize(p, KernelEnv{}).status()); };
  ASSERT_TRUE(CreateNormalize(good, KernelEnv{}).ok());
  NormalizeParams p = good;
  p.axes = {3};
  EXPECT_TRUE(fails(p));
  p.axes = {1, 1};
  EXPECT_TRUE(fails(p));
  p = good;
  p.scale = Spec(DType::kF32, {1, 1, 3});
  EXPECT_TRUE(fails(p));
  p.scale = Spec(DType::kF32, {4});
  EXPECT_TRUE(fails(p));
  p = good;
  p.dst.shape = {2, 4, 3};
  EXPECT_TRUE(fails(p));
  p = good;
  p.src.dtype = p.dst.dtype = DType::kS32;
  EXPECT_TRUE(fails(p));
  p = good;
  p.mean = Spec(DType::kF32, {2, 3});
  EXPECT_TRUE(fails(p));
}

TEST(LrnTest, KnownValuesAndEvenWindows) {
  LrnParams p;
  p.src = p.dst = Spec(DType::kF32, {1, 4});
  p.size = 2;  // reads its channel and the next one
  p.alpha = 2;
  p.beta = 1;
  p.bias = 1;
  EXPECT_THAT(ReferenceNumbers(LrnImplementations(), p, Operands(MakeOperand(p.src, {1, 2, 0, 3})), p.dst),
              Pointwise(DoubleNear(1e-6), std::vector<double>{1.0 / 6, 2.0 / 5, 0, 3.0 / 10}));
  EXPECT_EQ((*CreateLrn(p, KernelEnv{}))->implementation(), "reference");
}

// oneDNN computes the power by another route: 1e-5.
TEST(LrnTest, EveryImplementationEqualsTheReference) {
  for (Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
    for (const Shape& shape : {Shape{2, 7, 5, 6}, Shape{1, 64, 13, 13}, Shape{1, 3, 4}, Shape{1, 16, 2, 3, 4}}) {
      for (int64_t size : {1, 2, 3, 5, 9}) {
        LrnParams p;
        p.src = p.dst = Spec(DType::kF32, shape, layout);
        p.size = size;
        p.alpha = 0.5f;
        CompareImplementations(LrnImplementations(), p, Operands(MakeRandom(p.src, 7)), p.dst, {1e-5, 1e-5},
                               absl::StrCat(ShapeString(shape), NameOf(layout), " size ", size));
      }
    }
  }
}

}  // namespace
}  // namespace octet::kernels
