// Binary: hand-computed values against the reference, every implementation against the reference.
#include "kernels/binary/binary.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<double> Reference(BinaryKind kind, const TensorSpec& a, std::vector<double> va,
                              const TensorSpec& b, std::vector<double> vb, const TensorSpec& dst,
                              std::vector<PostOp> post_ops = {}) {
  const BinaryParams params{kind, a, b, dst, std::move(post_ops)};
  return ReferenceNumbers(BinaryImplementations(), params,
                          Operands(MakeOperand(a, va), MakeOperand(b, vb)), dst);
}

std::vector<double> Counts(BinaryKind kind, std::vector<double> a, std::vector<double> b,
                           DType type = DType::kS64) {
  const TensorSpec spec = Spec(type, {static_cast<int64_t>(a.size())});
  return Reference(kind, spec, a, spec, b, spec);
}

std::vector<double> Reals(BinaryKind kind, std::vector<double> a, std::vector<double> b) {
  return Counts(kind, std::move(a), std::move(b), DType::kF32);
}

TEST(BinaryReferenceTest, RealArithmetic) {
  EXPECT_THAT(Reals(BinaryKind::kAdd, {1, 2}, {0.5, -3}), ElementsAre(1.5, -1));
  EXPECT_THAT(Reals(BinaryKind::kSub, {1, 2}, {0.5, -3}), ElementsAre(0.5, 5));
  EXPECT_THAT(Reals(BinaryKind::kDiv, {1, -3}, {4, 2}), ElementsAre(0.25, -1.5));
  EXPECT_THAT(Reals(BinaryKind::kPow, {3, 4, 2}, {2, 0.5, -1}), ElementsAre(9, 2, 0.5));
  EXPECT_THAT(Reals(BinaryKind::kMod, {-5, 5, 4.5}, {3, -3, 3}), ElementsAre(1, -1, 1.5));
  EXPECT_THAT(Reals(BinaryKind::kFmod, {-5, 5, 4.5}, {3, -3, 3}), ElementsAre(-2, 2, 1.5));
  EXPECT_THAT(Reals(BinaryKind::kPrelu, {-2, 2}, {0.25, 0.25}), ElementsAre(-0.5, 2));
  EXPECT_THAT(Reals(BinaryKind::kMax, {-2, 2}, {1, 1}), ElementsAre(1, 2));
  EXPECT_TRUE(std::isnan(Reals(BinaryKind::kMin, {kNan}, {1})[0]));
}

TEST(BinaryReferenceTest, CountArithmeticTruncatesWrapsAndNeverTraps) {
  EXPECT_THAT(Counts(BinaryKind::kDiv, {-7, 7, 5}, {2, -2, 0}), ElementsAre(-3, -3, 0));
  EXPECT_THAT(Counts(BinaryKind::kMod, {-7, 7, 5, 5}, {3, -3, 0, -1}), ElementsAre(2, -2, 0, 0));
  EXPECT_THAT(Counts(BinaryKind::kFmod, {-7, 7}, {3, -3}), ElementsAre(-1, 1));
  EXPECT_THAT(Counts(BinaryKind::kPow, {2, -3, 7, 2, -1}, {10, 3, 0, -1, -3}),
              ElementsAre(1024, -27, 1, 0, -1));
  EXPECT_THAT(Counts(BinaryKind::kAdd, {250}, {10}, DType::kU8), ElementsAre(4));
  EXPECT_THAT(Counts(BinaryKind::kMul, {-3}, {5}, DType::kS32), ElementsAre(-15));
  const double smallest = -9223372036854775808.0;
  EXPECT_THAT(Counts(BinaryKind::kDiv, {smallest}, {-1}), ElementsAre(smallest));
}

TEST(BinaryReferenceTest, ComparesAndCombinesBooleans) {
  const TensorSpec s = Spec(DType::kF32, {3}), t = Spec(DType::kBool, {3}),
                   one = Spec(DType::kF32, {});
  EXPECT_THAT(Reference(BinaryKind::kLess, s, {1, 2, kNan}, one, {2}, t), ElementsAre(1, 0, 0));
  EXPECT_THAT(Reference(BinaryKind::kGreaterOrEqual, s, {1, 2, 3}, one, {2}, t),
              ElementsAre(0, 1, 1));
  EXPECT_THAT(Reference(BinaryKind::kEqual, s, {1, 2, 3}, one, {2}, t), ElementsAre(0, 1, 0));
  const TensorSpec four = Spec(DType::kBool, {4});
  const std::vector<double> a{0, 0, 1, 1}, b{0, 1, 0, 1};
  EXPECT_THAT(Reference(BinaryKind::kAnd, four, a, four, b, four), ElementsAre(0, 0, 0, 1));
  EXPECT_THAT(Reference(BinaryKind::kOr, four, a, four, b, four), ElementsAre(0, 1, 1, 1));
  EXPECT_THAT(Reference(BinaryKind::kXor, four, a, four, b, four), ElementsAre(0, 1, 1, 0));
  const TensorSpec big = Spec(DType::kU64, {2});
  EXPECT_THAT(
      Reference(BinaryKind::kGreater, big, {1.8e19, 1}, big, {1, 1.8e19}, Spec(DType::kBool, {2})),
      ElementsAre(1, 0));
}

TEST(BinaryReferenceTest, BroadcastsBothSides) {
  EXPECT_THAT(Reference(BinaryKind::kMul, Spec(DType::kS32, {2, 1}), {1, 10},
                        Spec(DType::kS32, {3}), {1, 2, 3}, Spec(DType::kS32, {2, 3})),
              ElementsAre(1, 2, 3, 10, 20, 30));
}

TEST(BinaryReferenceTest, QuantizedAddRoundsOnceAfterThePostOp) {
  // (100-128)*0.5 + (3-1)*2 = -10; (200-128)*0.5 + 2*2 = 40; relu, then / 4 + 10.
  const PostOp relu{PostOp::Kind::kActivation, {ActivationKind::kRelu}, {}};
  EXPECT_THAT(
      Reference(BinaryKind::kAdd, QuantSpec(DType::kU8, {3}, 0.5f, 128), {100, 200, 129},
                QuantSpec(DType::kS8, {1}, 2, 1), {3}, QuantSpec(DType::kU8, {3}, 4, 10), {relu}),
      ElementsAre(10, 20, 11));
}

// ---- implementations

void Compare(const BinaryParams& p, Tolerance tolerance, const std::string& want_accepted) {
  const std::string what =
      absl::StrCat(NameOf(p.kind), ShapeString(p.a.shape), ShapeString(p.b.shape),
                   NameOf(p.dst.layout), NameOf(p.dst.dtype));
  const auto accepted = CompareImplementations(BinaryImplementations(), p,
                                               Operands(MakeRandom(p.a, 1), MakeRandom(p.b, 2)),
                                               p.dst, tolerance, what);
  EXPECT_THAT(accepted, Contains(want_accepted)) << what;
}

struct Case {
  Shape a, b, dst;
};
const std::vector<Case>& Cases() {
  static const auto* const cases =
      new std::vector<Case>{{{7}, {7}, {7}},
                            {{}, {}, {}},
                            {{0, 3}, {3}, {0, 3}},
                            {{1025}, {1}, {1025}},
                            {{3}, {}, {3}},
                            {{}, {40000}, {40000}},
                            {{2, 3, 5, 7}, {2, 3, 5, 7}, {2, 3, 5, 7}},
                            {{2, 3, 5, 7}, {1, 3, 1, 1}, {2, 3, 5, 7}},
                            {{2, 3, 5, 7}, {2, 3, 1, 1}, {2, 3, 5, 7}},
                            {{2, 3, 5, 7}, {1, 1, 1, 7}, {2, 3, 5, 7}},
                            {{1, 3, 1, 1}, {2, 1, 5, 7}, {2, 3, 5, 7}},
                            {{2, 33, 41, 9}, {1, 33, 1, 1}, {2, 33, 41, 9}},
                            {{1, 64, 31, 17}, {1, 64, 31, 17}, {1, 64, 31, 17}}};
  return *cases;
}

TEST(BinaryTest, F32RowsEqualTheReferenceExactly) {
  for (BinaryKind kind :
       {BinaryKind::kAdd, BinaryKind::kSub, BinaryKind::kMul, BinaryKind::kDiv, BinaryKind::kMax,
        BinaryKind::kMin, BinaryKind::kPrelu, BinaryKind::kPow}) {
    for (const Case& c : Cases()) {
      for (Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
        // oneDNN multiplies where the formula divides: one rounding more.
        Compare({kind,
                 Spec(DType::kF32, c.a, layout),
                 Spec(DType::kF32, c.b, layout),
                 Spec(DType::kF32, c.dst, layout),
                 {}},
                {0, kind == BinaryKind::kDiv || kind == BinaryKind::kPow ? 1e-6 : 0.0}, "rows");
      }
    }
  }
}

TEST(BinaryTest, MixedQuantizedRowsEqualTheReferenceExactly) {
  const PostOp clip{PostOp::Kind::kActivation, {ActivationKind::kClip, 0, 6}, {}};
  const PostOp leaky{PostOp::Kind::kActivation, {ActivationKind::kLeakyRelu, 0.125f}, {}};
  for (BinaryKind kind : {BinaryKind::kAdd, BinaryKind::kSub, BinaryKind::kMul, BinaryKind::kMax}) {
    for (const Case& c : Cases()) {
      for (Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
        const TensorSpec u8 = QuantSpec(DType::kU8, c.a, 0.031f, 117, layout);
        const TensorSpec s8 = QuantSpec(DType::kS8, c.b, 0.017f, -3, layout);
        const TensorSpec f32 = Spec(DType::kF32, c.b, layout);
        Compare({kind, u8, s8, QuantSpec(DType::kU8, c.dst, 0.04f, 100, layout), {}}, {}, "rows");
        Compare({kind, u8, s8, QuantSpec(DType::kS8, c.dst, 0.04f, 0, layout), {clip}}, {}, "rows");
        Compare({kind, u8, f32, QuantSpec(DType::kU8, c.dst, 0.04f, 1, layout), {leaky}}, {},
                "rows");
        Compare({kind, u8, s8, Spec(DType::kF32, c.dst, layout), {clip}}, {}, "rows");
      }
    }
  }
}

TEST(BinaryTest, OneDnnTakesSameShapes) {
  const TensorSpec s = Spec(DType::kF32, {2, 16, 5, 7}, Layout::kChannelsLast);
  Compare({BinaryKind::kAdd, s, s, s, {}}, {}, "onednn");
}

TEST(BinaryTest, WorksInPlace) {
  const TensorSpec spec = QuantSpec(DType::kU8, {3, 1000}, 0.5f, 3);
  Operand a = MakeRandom(spec, 1);
  const Operand b = MakeRandom(spec, 2);
  const BinaryParams params{BinaryKind::kAdd, spec, spec, spec, {}};
  const std::vector<double> want = ReferenceNumbers(
      BinaryImplementations(), params, Operands(MakeRandom(spec, 1), MakeRandom(spec, 2)), spec);
  const auto kernel = CreateBinary(params, KernelEnv{});
  ASSERT_TRUE(kernel.ok());
  OpenMpFor team(2);
  const std::vector<const void*> src{a.data(), b.data()};
  const std::vector<void*> dst{a.data()};
  ASSERT_TRUE((*(*kernel)->Bind({src, dst, nullptr, &team}))().ok());
  EXPECT_EQ(Numbers(a), want);
}

TEST(BinaryTest, RefusesWhatContradictsItself) {
  const auto code = [](const BinaryParams& p) {
    return CreateBinary(p, KernelEnv{}).status().code();
  };
  const TensorSpec three = Spec(DType::kF32, {3}), two = Spec(DType::kF32, {2});
  EXPECT_EQ(code({BinaryKind::kAdd, three, two, three, {}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({BinaryKind::kAdd, three, three, two, {}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({BinaryKind::kLess, three, three, three, {}}), absl::StatusCode::kInvalidArgument);
  const TensorSpec last = Spec(DType::kF32, {1, 2, 3, 4}, Layout::kChannelsLast);
  EXPECT_EQ(code({BinaryKind::kAdd, last, Spec(DType::kF32, {4}), last, {}}),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace octet::kernels
