// Every implementation of Matmul against the reference loops.
//
// Tolerances as in conv_test.cc: f32 1e-5 sqrt(K) relative to 1 + |result|; 8-bit dst one step
// (float against double at ties); integers into f32 with power-of-two scales equal.
#include "kernels/matmul/matmul.h"

#include <gtest/gtest.h>

#include "kernels/matmul/matmul_reference.h"
#include "kernels/onednn_product.h"
#include "kernels/product_testing.h"

namespace octet::kernels {
namespace {

using Transpose = MatmulParams::Transpose;

struct Sizes {
  Shape a_batch, b_batch;
  int64_t m, n, k;
};

// Constant b: its batch is empty or ones.
const std::vector<Sizes>& ConstantSizes() {
  static const auto* const list = new std::vector<Sizes>{
      {{}, {}, 1, 1, 1},      {{}, {}, 1, 10, 64},     {{}, {}, 7, 13, 31},
      {{}, {}, 64, 64, 64},   {{}, {}, 33, 129, 65},   {{}, {}, 1, 257, 768},
      {{}, {}, 128, 31, 100}, {{2, 3}, {}, 5, 24, 17}, {{4}, {1}, 16, 48, 32},
      {{}, {1}, 6, 9, 20},
  };
  return *list;
}
const std::vector<Sizes>& DynamicSizes() {
  static const auto* const list = new std::vector<Sizes>{
      {{}, {}, 5, 7, 9},
      {{2, 3}, {2, 3}, 17, 19, 32},
      {{2, 1}, {2, 4}, 8, 8, 16},
      {{3}, {}, 4, 6, 12},
      {{}, {3}, 4, 6, 12},
      {{2, 2}, {2}, 1, 33, 64},
      {{1, 12}, {1, 12}, 32, 64, 32},
      {{4}, {1}, 1, 1, 3},
  };
  return *list;
}

enum class Right : uint8_t { kConstant, kDynamic };
enum class Bias : uint8_t { kNone, kF32, kS32 };

struct Case {
  Right right = Right::kConstant;
  TensorSpec a, dst;  // shapes are filled in
  Bias bias = Bias::kNone;
  std::vector<PostOp> post_ops = {};
  float alpha = 1;
  Transpose ta = Transpose::kNo, tb = Transpose::kNo;
  bool power_of_two = false;
};

Shape With(Shape batch, int64_t rows, int64_t columns, Transpose transpose) {
  if (transpose == Transpose::kYes) std::swap(rows, columns);
  batch.push_back(rows);
  batch.push_back(columns);
  return batch;
}

MatmulParams MakeParams(const Sizes& s, const Case& c) {
  MatmulParams p;
  p.a = c.a;
  p.a.shape = With(s.a_batch, s.m, s.k, c.ta);
  p.b = {c.a.quant ? DType::kS8 : DType::kF32, With(s.b_batch, s.k, s.n, c.tb), Layout::kPlain, {}};
  p.dst = c.dst;
  p.dst.shape = With(*BroadcastShapes(s.a_batch, s.b_batch), s.m, s.n, Transpose::kNo);
  p.transpose_a = c.ta;
  p.transpose_b = c.tb;
  p.alpha = c.alpha;
  if (c.a.quant && c.right == Right::kDynamic) {
    p.b.quant = QuantParams::PerTensor(c.power_of_two ? 0.0625f : 0.007f, 0);
  } else if (c.a.quant) {
    const int rank = static_cast<int>(p.b.shape.size());
    QuantParams q{{}, {}, c.tb == Transpose::kYes ? rank - 2 : rank - 1, 0};
    for (int64_t n = 0; n < s.n; ++n) {
      q.scale.push_back(c.power_of_two ? std::ldexp(1.0f, static_cast<int>(n % 3) - 6)
                                       : 0.004f + 0.0007f * static_cast<float>(n % 5));
    }
    p.b.quant = q;
  }
  if (c.right == Right::kConstant) {
    p.b_constant = {1, RandomConstant(p.b.dtype, p.b.shape, 21, WeightsLimit()), p.b.quant};
  }
  if (c.bias == Bias::kF32) {
    p.bias = {2, RandomConstant(DType::kF32, {s.n}, 22), {}};
  } else if (c.bias == Bias::kS32) {
    std::vector<int32_t> q;
    QuantParams quant{{}, {}, 0, 0};
    for (int32_t n = 0; n < s.n; ++n) {
      q.push_back(911 * (n % 5) - 1500);
      quant.scale.push_back(c.a.quant->scale[0] *
                            p.b.quant->scale[p.b.quant->per_tensor() ? 0 : static_cast<size_t>(n)]);
    }
    p.bias = {2, Tensor::FromValues<int32_t>(DType::kS32, {s.n}, q), quant};
  }
  p.post_ops = c.post_ops;
  for (PostOp& op : p.post_ops) op.residual.shape = p.dst.shape;
  return p;
}

Buffer InitialDst(const MatmulParams& p) {
  for (const PostOp& op : p.post_ops) {
    if (op.kind == PostOp::Kind::kAdd) return RandomOperand(op.residual, 24);
  }
  return RandomOperand(p.dst, 24);
}

// Operands of one run; b points to the constant or to the dynamic operand.
struct Operands {
  explicit Operands(const MatmulParams& p)
      : a(RandomOperand(p.a, 23)), dynamic_b(RandomOperand(p.b, 25)) {
    if (p.b.dtype == DType::kS8) {
      auto* q = reinterpret_cast<int8_t*>(dynamic_b.data());
      for (int64_t i = 0; i < NumElements(p.b.shape); ++i)
        q[i] = static_cast<int8_t>(q[i] % (WeightsLimit() + 1));
    }
    b = p.b_constant.present() ? p.b_constant.tensor.data() : dynamic_b.data();
  }
  Buffer a, dynamic_b;
  const void* b;
};

Buffer Expected(const MatmulParams& p, const Operands& operands) {
  Buffer dst = InitialDst(p);
  BiasView bias;
  if (p.bias.present()) bias = {BiasReals(p.bias, p.bias.tensor.ToF64()), p.bias.tensor.shape()};
  MatmulReference(p, operands.a.data(), operands.b, bias, dst.data());
  return dst;
}

// Runs every implementation of the list; none may refuse. Returns oneDNN's name.
std::string ExpectAllMatch(const MatmulParams& p, double limit) {
  SetTeamSize(2);
  const Operands operands(p);
  const Buffer expected = Expected(p, operands);
  std::string name;
  for (const auto& entry : MatmulImplementations()) {
    WeightStore store;
    auto kernel = entry.create(p, KernelEnv{&store, 2});
    EXPECT_TRUE(kernel.ok()) << entry.name << ": " << kernel.status();
    if (!kernel.ok()) continue;
    Buffer dst = InitialDst(p);
    EXPECT_TRUE(RunOnce(**kernel, {operands.a.data(), operands.b}, dst.data()).ok());
    EXPECT_EQ(Difference(p.dst, expected.data(), dst.data(), limit), "")
        << (*kernel)->implementation();
    if (name.empty()) name = (*kernel)->implementation();
  }
  return name;
}

double F32Limit(const Sizes& s) { return 1e-5 * std::sqrt(static_cast<double>(s.k)); }

PostOp Act(ActivationKind kind, float alpha = 0, float beta = 0) {
  return {PostOp::Kind::kActivation, {kind, alpha, beta}, {}};
}
PostOp Add(TensorSpec residual) { return {PostOp::Kind::kAdd, {}, std::move(residual)}; }

std::string Trace(const Sizes& s, Transpose ta, Transpose tb) {
  return absl::StrCat(ShapeString(s.a_batch), " ", ShapeString(s.b_batch), " M ", s.m, " N ", s.n,
                      " K ", s.k, " transposes ", static_cast<int>(ta), static_cast<int>(tb));
}

constexpr Transpose kBoth[] = {Transpose::kNo, Transpose::kYes};

TEST(MatmulTest, F32MatchesReference) {
  for (Transpose ta : kBoth) {
    for (Transpose tb : kBoth) {
      for (Right right : {Right::kConstant, Right::kDynamic}) {
        for (const Sizes& s : right == Right::kConstant ? ConstantSizes() : DynamicSizes()) {
          SCOPED_TRACE(Trace(s, ta, tb));
          const std::string plain = ExpectAllMatch(
              MakeParams(s, {right, F32Spec({}), F32Spec({}), Bias::kNone, {}, 1, ta, tb}),
              F32Limit(s));
          EXPECT_EQ(plain.find("ref"), std::string::npos) << plain;
          ExpectAllMatch(MakeParams(s, {right,
                                        F32Spec({}),
                                        F32Spec({}),
                                        Bias::kF32,
                                        {Act(ActivationKind::kRelu)},
                                        0.125f,
                                        ta,
                                        tb}),
                         F32Limit(s));
        }
      }
    }
  }
}

TEST(MatmulTest, IntegersIntoF32WithPowerOfTwoScalesAreExact) {
  for (const auto& [dtype, zero_point] : std::vector<std::pair<DType, int>>{
           {DType::kU8, 0}, {DType::kU8, 131}, {DType::kS8, 0}, {DType::kS8, -5}}) {
    if (dtype == DType::kS8 && !HasVnni()) continue;
    for (Transpose tb : kBoth) {
      for (Right right : {Right::kConstant, Right::kDynamic}) {
        for (const Sizes& s : right == Right::kConstant ? ConstantSizes() : DynamicSizes()) {
          SCOPED_TRACE(absl::StrCat(Trace(s, Transpose::kNo, tb), " ", NameOf(dtype),
                                    " zero point ", zero_point));
          ExpectAllMatch(MakeParams(s, {right,
                                        QuantSpec(dtype, {}, 0.125f, zero_point),
                                        F32Spec({}),
                                        Bias::kS32,
                                        {},
                                        0.5f,
                                        Transpose::kNo,
                                        tb,
                                        true}),
                         0);
        }
      }
    }
  }
}

TEST(MatmulTest, IntegersIntoIntegersAreWithinOneStep) {
  for (const TensorSpec& dst :
       {QuantSpec(DType::kU8, {}, 0.021f, 0), QuantSpec(DType::kU8, {}, 0.043f, 119),
        QuantSpec(DType::kS8, {}, 0.05f, -7)}) {
    for (Right right : {Right::kConstant, Right::kDynamic}) {
      for (const Sizes& s : right == Right::kConstant ? ConstantSizes() : DynamicSizes()) {
        SCOPED_TRACE(Trace(s, Transpose::kNo, Transpose::kNo));
        const TensorSpec a = QuantSpec(DType::kU8, {}, 0.013f, 117);
        ExpectAllMatch(MakeParams(s, {right, a, dst, Bias::kF32, {Act(ActivationKind::kRelu)}}), 1);
        ExpectAllMatch(
            MakeParams(s, {right, a, dst, Bias::kNone, {Act(ActivationKind::kGelu)}, 0.37f}), 1);
      }
    }
  }
}

TEST(MatmulTest, ResidualIsReadFromDstInItsOwnScale) {
  for (const Sizes& s : ConstantSizes()) {
    SCOPED_TRACE(Trace(s, Transpose::kNo, Transpose::kNo));
    const TensorSpec a = QuantSpec(DType::kU8, {}, 0.013f, 0);
    for (const TensorSpec& residual :
         {QuantSpec(DType::kU8, {}, 0.09f, 77), QuantSpec(DType::kS8, {}, 0.08f, -3)}) {
      for (const TensorSpec& dst :
           {QuantSpec(DType::kU8, {}, 0.061f, 0), QuantSpec(DType::kS8, {}, 0.11f, 4)}) {
        ExpectAllMatch(MakeParams(s, {Right::kConstant,
                                      a,
                                      dst,
                                      Bias::kF32,
                                      {Add(residual), Act(ActivationKind::kRelu)}}),
                       1);
        ExpectAllMatch(MakeParams(s, {Right::kConstant,
                                      a,
                                      dst,
                                      Bias::kF32,
                                      {Act(ActivationKind::kRelu), Add(residual)}}),
                       1);
      }
    }
    const std::vector<PostOp> chain = {Add(F32Spec({})), Act(ActivationKind::kRelu)};
    ExpectAllMatch(MakeParams(s, {Right::kConstant, a, F32Spec({}), Bias::kF32, chain}), 1e-4);
    ExpectAllMatch(
        MakeParams(s, {Right::kConstant, F32Spec({}), F32Spec({}), Bias::kF32, chain, 3}),
        10 * F32Limit(s));
  }
}

TEST(MatmulTest, ConstantIntegerProductsDoNotFallToOneDnnsReference) {
  for (const Sizes& s : ConstantSizes()) {
    for (int zero_point : {0, 9}) {
      const MatmulParams p = MakeParams(s, {Right::kConstant,
                                            QuantSpec(DType::kU8, {}, 0.013f, zero_point),
                                            QuantSpec(DType::kU8, {}, 0.02f, 3),
                                            Bias::kF32,
                                            {Act(ActivationKind::kRelu)}});
      auto kernel = CreateMatmul(p, KernelEnv{nullptr, 2});
      ASSERT_TRUE(kernel.ok()) << kernel.status();
      EXPECT_EQ((*kernel)->implementation().find("ref"), std::string::npos)
          << Trace(s, Transpose::kNo, Transpose::kNo) << " " << (*kernel)->implementation();
    }
  }
}

TEST(MatmulTest, BiasOverRowsGoesToTheReference) {
  MatmulParams p = MakeParams({{}, {}, 4, 6, 8}, {Right::kConstant, F32Spec({}), F32Spec({})});
  for (const Shape& shape : {Shape{4, 1}, Shape{4, 6}, Shape{1, 6}, Shape{1}, Shape{}}) {
    SCOPED_TRACE(ShapeString(shape));
    p.bias = {2, RandomConstant(DType::kF32, shape, 22), {}};
    const Operands operands(p);
    const Buffer expected = Expected(p, operands);
    auto kernel = CreateMatmul(p, KernelEnv{nullptr, 2});
    ASSERT_TRUE(kernel.ok()) << kernel.status();
    EXPECT_EQ((*kernel)->implementation() == "reference", !shape.empty() && shape[0] == 4);
    Buffer dst = InitialDst(p);
    ASSERT_TRUE(RunOnce(**kernel, {operands.a.data()}, dst.data()).ok());
    EXPECT_EQ(Difference(p.dst, expected.data(), dst.data(), 1e-4), "");
  }
}

TEST(MatmulTest, UnsignedRightSideGoesToTheReference) {
  MatmulParams p = MakeParams({{}, {}, 4, 6, 8}, {Right::kDynamic,
                                                  QuantSpec(DType::kU8, {}, 0.5f, 3),
                                                  F32Spec({}),
                                                  Bias::kNone,
                                                  {},
                                                  1,
                                                  Transpose::kNo,
                                                  Transpose::kNo,
                                                  true});
  p.b.dtype = DType::kU8;
  p.b.quant = QuantParams::PerTensor(0.25f, 128);
  const Operands operands(p);
  const Buffer expected = Expected(p, operands);
  auto kernel = CreateMatmul(p, KernelEnv{nullptr, 2});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  ASSERT_EQ((*kernel)->refusals().size(), 1u);
  Buffer dst = InitialDst(p);
  ASSERT_TRUE(RunOnce(**kernel, {operands.a.data(), operands.b}, dst.data()).ok());
  EXPECT_EQ(Difference(p.dst, expected.data(), dst.data(), 0), "");
}

TEST(MatmulTest, BucketsShareOnePackedCopyAndSurviveTheRelease) {
  SetTeamSize(2);
  for (const TensorSpec& a : {F32Spec({}), QuantSpec(DType::kU8, {}, 0.013f, 7)}) {
    WeightStore store;
    const Case c{Right::kConstant, a, F32Spec({}), Bias::kF32};
    ASSERT_TRUE(CreateMatmul(MakeParams({{}, {}, 1, 96, 64}, c), KernelEnv{&store, 2}).ok());
    const int64_t bytes = store.TotalBytes();
    for (int64_t m : {1, 3, 8, 64}) {
      MatmulParams p = MakeParams({{}, {}, m, 96, 64}, c);
      const Operands operands(p);
      const Buffer expected = Expected(p, operands);
      const Tensor keep = std::exchange(p.b_constant.tensor, Tensor());
      p.bias.tensor = Tensor();
      auto kernel = CreateMatmul(p, KernelEnv{&store, 2});
      ASSERT_TRUE(kernel.ok()) << kernel.status();
      EXPECT_EQ((*kernel)->refusals().size(), 0u) << (*kernel)->refusals()[0];
      EXPECT_EQ(store.TotalBytes(), bytes);
      Buffer out = InitialDst(p);
      ASSERT_TRUE(RunOnce(**kernel, {operands.a.data()}, out.data()).ok());
      EXPECT_EQ(Difference(p.dst, expected.data(), out.data(), 1e-4), "") << m;
    }
  }
}

TEST(MatmulTest, ContradictingParametersAreRejected) {
  const auto code = [](const MatmulParams& p) {
    return CreateMatmul(p, KernelEnv{}).status().code();
  };
  const MatmulParams p =
      MakeParams({{2}, {}, 4, 6, 8}, {Right::kConstant, F32Spec({}), F32Spec({})});
  EXPECT_EQ(code(p), absl::StatusCode::kOk);
  MatmulParams bad = p;
  bad.transpose_b = Transpose::kYes;
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
  bad = p;
  bad.dst.shape = {4, 6};
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
  bad = p;
  bad.bias = {2, RandomConstant(DType::kF32, {5}, 22), {}};
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
  bad = p;
  bad.b.dtype = DType::kS8;
  EXPECT_EQ(code(bad), absl::StatusCode::kUnimplemented);
}

TEST(MatmulTest, EmptyOperandsRun) {
  const MatmulParams none =
      MakeParams({{}, {}, 0, 4, 3}, {Right::kConstant, F32Spec({}), F32Spec({})});
  auto kernel = CreateMatmul(none, KernelEnv{});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  float values[8] = {5, 5, 5, 5, 5, 5, 5, 5};
  EXPECT_TRUE(RunOnce(**kernel, {values}, values).ok());
  EXPECT_EQ(values[0], 5);
  // A sum over nothing is the bias.
  const MatmulParams sum =
      MakeParams({{}, {}, 2, 4, 0}, {Right::kConstant, F32Spec({}), F32Spec({}), Bias::kF32});
  kernel = CreateMatmul(sum, KernelEnv{});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  EXPECT_TRUE(RunOnce(**kernel, {values}, values).ok());
  EXPECT_EQ(values[5], sum.bias.tensor.ToF32()[1]);
}

// The same parameters as operands of the run instead of as part of the specification.
TEST(MatmulTest, QuantizationAtRunTimeEqualsThatOfTheSpecification) {
  for (const auto& [dtype, zero] : std::vector<std::pair<DType, int32_t>>{
           {DType::kU8, 0}, {DType::kU8, 131}, {DType::kS8, -5}}) {
    if (dtype == DType::kS8 && !HasVnni()) continue;
    for (const Sizes& s : ConstantSizes()) {
      SCOPED_TRACE(absl::StrCat(Trace(s, Transpose::kNo, Transpose::kNo), NameOf(dtype), zero));
      const MatmulParams fixed =
          MakeParams(s, {Right::kConstant, QuantSpec(dtype, {}, 0.125f, zero), F32Spec({}),
                         Bias::kF32, {Act(ActivationKind::kRelu)}});
      const Operands operands(fixed);
      const Buffer expected = Expected(fixed, operands);
      MatmulParams p = fixed;
      p.a.quant.reset();
      p.runtime_quant = RuntimeQuant{1, 2};
      const float scale = 0.125f;
      for (const auto& entry : MatmulImplementations()) {
        WeightStore store;
        auto kernel = entry.create(p, KernelEnv{&store, 2});
        ASSERT_TRUE(kernel.ok()) << entry.name << ": " << kernel.status();
        Buffer dst = InitialDst(p);
        ASSERT_TRUE(RunOnce(**kernel, {operands.a.data(), &scale, &zero}, dst.data()).ok());
        EXPECT_EQ(Difference(p.dst, expected.data(), dst.data(), 1e-5), "")
            << (*kernel)->implementation();
      }
    }
  }
}

TEST(MatmulTest, BareAccumulatorsAreExact) {
  const Sizes sizes{{}, {}, 7, 24, 4000};  // sums beyond 2^24, where f32 is not exact
  for (int32_t b_zero : {0, 11}) {
    MatmulParams p = MakeParams(
        sizes, {Right::kConstant, QuantSpec(DType::kU8, {}, 1, 120), F32Spec({}), Bias::kNone, {}});
    p.b.quant = QuantParams::PerTensor(1, b_zero);
    p.dst.dtype = DType::kS32;
    const Operands operands(p);
    const Buffer expected = Expected(p, operands);
    const int32_t zero = 120;
    p.a.quant.reset();
    p.runtime_quant = RuntimeQuant{-1, 1};
    for (const auto& entry : MatmulImplementations()) {
      auto kernel = entry.create(p, KernelEnv{nullptr, 2});
      ASSERT_TRUE(kernel.ok()) << entry.name << ": " << kernel.status();
      Buffer dst = InitialDst(p);
      ASSERT_TRUE(RunOnce(**kernel, {operands.a.data(), &zero}, dst.data()).ok());
      EXPECT_EQ(Difference(p.dst, expected.data(), dst.data(), 0), "") << (*kernel)->implementation();
    }
  }
}

}  // namespace
}  // namespace octet::kernels
