// Every implementation of MatmulNBits against the reference loops, on every instruction set of this
// CPU.
//
// Tolerance of a result: (groups + 4) 2^-23 255 s sum|w| |alpha|, two roundings for each group
// where the CPU has no fused multiply-add, and 2^-22 of the result; equal bit by bit where scales
// are powers of two and sums below 2^24.
#include "kernels/matmul_nbits/matmul_nbits.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "hwy/targets.h"
#include "kernels/matmul_nbits/matmul_nbits_reference.h"
#include "kernels/product_testing.h"

namespace octet::kernels {
namespace {

using Transpose = MatmulNBitsParams::Transpose;
using Params = MatmulNBitsParams;

enum class ZeroPoints : uint8_t { kNone, kRandom };

struct Case {
  int64_t m = 1, n = 1, k = 1;
  DType weights = DType::kS4;
  int64_t block = 32;  // 0: per column
  ZeroPoints zero_points = ZeroPoints::kNone;
  Transpose transpose = Transpose::kNo;
  float alpha = 1;
  bool power_of_two = false;
  std::vector<int8_t> levels = {};
  int vector = 1;
};

std::string Trace(const Case& c) {
  return absl::StrCat("M ", c.m, " N ", c.n, " K ", c.k, " ", NameOf(c.weights), " block ", c.block,
                      c.zero_points == ZeroPoints::kRandom ? " zero points" : "",
                      c.transpose == Transpose::kYes ? " transposed" : "", " levels ", c.levels.size(), "/", c.vector);
}

// Codes below `entries`, as the type or, of vectors, a byte each.
Tensor RandomCodes(const Case& c, const Shape& shape, uint64_t seed) {
  Buffer buffer = *Buffer::Allocate(ByteSize(c.weights, shape));
  const CounterRng rng(seed);
  const uint64_t entries = c.levels.size() / static_cast<size_t>(c.vector);
  for (int64_t i = 0; i < NumElements(shape) / c.vector; ++i) {
    const auto code = static_cast<int64_t>(rng.Bits(static_cast<uint64_t>(i)) % entries);
    StoreInteger(c.vector > 1 ? DType::kU8 : c.weights, buffer.data(), i, code);
  }
  return Tensor::FromBuffer(c.weights, shape, std::move(buffer));
}

std::vector<int8_t> RandomLevels(size_t n, int limit) {
  const CounterRng rng(n);
  std::vector<int8_t> levels;
  for (size_t i = 0; i < n; ++i) {
    levels.push_back(static_cast<int8_t>(static_cast<int>(rng.Bits(i) % static_cast<uint64_t>(2 * limit + 1)) - limit));
  }
  return levels;
}

// Codes of every kind, without shapes and blocks.
std::vector<Case> CodeCases() {
  std::vector<Case> cases(6);
  cases[0].weights = DType::kU4;
  cases[0].levels = RandomLevels(16, 127);
  cases[1].weights = DType::kU4;
  cases[1].levels = RandomLevels(7, 64);
  cases[2].weights = DType::kU2;
  cases[2].levels = {-1, 0, 1};
  cases[3].weights = DType::kU2;
  cases[3].levels = {-128, -43, 51, 127};
  cases[4].weights = DType::kU1;
  cases[4].levels = {-1, 1};
  cases[5].weights = DType::kU2;
  cases[5].levels = RandomLevels(1024, 127);
  cases[5].vector = 4;
  return cases;
}

Tensor RandomWeights(DType dtype, const Shape& shape, uint64_t seed) {
  Buffer buffer = *Buffer::Allocate(ByteSize(dtype, shape));
  const CounterRng rng(seed);
  const auto [low, high] = IntegerRange(dtype);
  for (int64_t i = 0; i < NumElements(shape); ++i) {
    // Extreme values every so often, in runs that meet in one accumulator.
    const double u = rng.Uniform(static_cast<uint64_t>(i));
    const int64_t value = i / 97 % 5 == 0 ? low
                          : i / 97 % 5 == 1
                              ? high
                              : low + static_cast<int64_t>(u * static_cast<double>(high - low + 1));
    StoreInteger(dtype, buffer.data(), i, value);
  }
  return Tensor::FromBuffer(dtype, shape, std::move(buffer));
}

Params MakeParams(const Case& c, uint64_t seed) {
  Params p;
  p.src = F32Spec({c.m, c.k});
  p.dst = F32Spec({c.m, c.n});
  const bool transposed = c.transpose == Transpose::kYes;
  p.transpose_weights = c.transpose;
  p.alpha = c.alpha;
  p.weights.dtype = c.weights;
  p.weights.shape = transposed ? Shape{c.n, c.k} : Shape{c.k, c.n};
  QuantParams q;
  q.block = c.block;
  q.axis = (c.block > 0) == transposed ? 1 : 0;  // along K in blocks, else along N
  const int64_t blocks = c.block > 0 ? (c.k + c.block - 1) / c.block : 1;
  const CounterRng rng(seed, 7);
  for (int64_t i = 0; i < blocks * c.n; ++i) {
    const double u = rng.Uniform(static_cast<uint64_t>(i));
    q.scale.push_back(c.power_of_two ? std::ldexp(1.0f, static_cast<int>(i % 3) - 5)
                                     : static_cast<float>(0.001 + 0.05 * u));
    if (i % 11 == 5) q.scale.back() = i % 2 == 0 ? 0 : -q.scale.back();  // quantizers write such
    const int64_t range = BitsOf(c.weights) == 4 ? 16 : 1;
    const int low = c.weights == DType::kS4 ? -8 : 0;
    if (c.zero_points == ZeroPoints::kRandom) {
      q.zero_point.push_back(low + static_cast<int>(rng.Bits(static_cast<uint64_t>(i)) %
                                                    static_cast<uint64_t>(range)));
    } else if (c.levels.empty() && (c.weights == DType::kU4 || c.weights == DType::kU8)) {
      q.zero_point.push_back(c.weights == DType::kU4 ? 8 : 128);
    }
  }
  q.levels = c.levels;
  q.vector = c.vector;
  p.weights.quant = q;
  p.weights_constant = {1,
                        c.levels.empty() ? RandomWeights(c.weights, p.weights.shape, seed)
                                         : RandomCodes(c, p.weights.shape, seed),
                        {}};
  return p;
}

std::vector<double> Bias(const Params& p) {
  return p.bias.present() ? p.bias.tensor.ToF64() : std::vector<double>{};
}

// What any implementation may differ by, per result.
std::vector<double> Allowed(const Params& p, const void* src, double steps_of_source,
                            const std::vector<double>& want) {
  const NBitsWeights w(p.weights, p.transpose_weights, p.weights_constant.tensor.data());
  std::vector<double> column(static_cast<size_t>(w.n()), 0);
  for (int64_t n = 0; n < w.n(); ++n) {
    for (int64_t k = 0; k < w.k(); ++k) {
      column[static_cast<size_t>(n)] +=
          std::fabs(static_cast<double>(w.scale(k / w.block(), n)) *
                    static_cast<double>(w.stored(k, n) - w.zero_point(k / w.block(), n)));
    }
  }
  const double groups = static_cast<double>(w.groups() + w.k() / Params::kColumnGroup);
  std::vector<double> allowed;
  for (size_t i = 0; i < want.size(); ++i) {
    const QuantizedRow row = SourceRow(p.src, src, static_cast<int64_t>(i) / w.n());
    const double unit = std::fabs(p.alpha) * row.scale * column[i % column.size()];
    allowed.push_back(unit * (steps_of_source + 255 * (groups + 4) * std::ldexp(1.0, -23)) +
                      std::fabs(want[i]) * std::ldexp(1.0, -22));
  }
  return allowed;
}

std::vector<double> Reference(const Params& p, const void* src, const Buffer* residual = nullptr) {
  Buffer dst = *Buffer::Allocate(p.dst.size_bytes() + 1);
  if (residual != nullptr)
    std::memcpy(dst.data(), residual->data(), static_cast<size_t>(p.dst.size_bytes()));
  MatmulNBitsReference(p, src, p.weights_constant.tensor.data(), Bias(p), dst.data());
  std::vector<double> out;
  for (int64_t i = 0; i < NumElements(p.dst.shape); ++i)
    out.push_back(LoadNumber(DType::kF32, dst.data(), i));
  return out;
}

// dst of one entry; empty when it refuses.
std::vector<float> RunEntry(const Implementation<Params>& entry, const Params& p, const void* src,
                            int threads = 2, const Buffer* residual = nullptr) {
  WeightStore store;
  auto kernel = entry.create(p, KernelEnv{&store, threads});
  if (!kernel.ok()) {
    EXPECT_TRUE(absl::IsUnimplemented(kernel.status())) << kernel.status();
    return {};
  }
  std::vector<float> dst(static_cast<size_t>(NumElements(p.dst.shape)) + 1, -7.5f);
  if (residual != nullptr)
    std::memcpy(dst.data(), residual->data(), static_cast<size_t>(p.dst.size_bytes()));
  EXPECT_TRUE(RunOnce(**kernel, {src}, dst.data(), threads).ok());
  EXPECT_EQ(dst.back(), -7.5f) << "wrote behind dst";
  dst.pop_back();
  return dst;
}

// Compares all entries but the reference; returns how many accepted.
int ExpectAllMatch(const Params& p, const void* src, bool exact = false,
                   const Buffer* residual = nullptr) {
  const std::vector<double> want = Reference(p, src, residual);
  const std::vector<double> allowed = Allowed(p, src, 0, want);
  int accepted = 0;
  for (const auto& entry : MatmulNBitsImplementations()) {
    if (std::string(entry.name) == "reference") continue;
    const std::vector<float> got = RunEntry(entry, p, src, 2, residual);
    accepted += !got.empty();
    int failures = 0;
    for (size_t i = 0; i < got.size() && failures < 3; ++i) {
      const double limit = exact ? 0 : allowed[i];
      if (std::fabs(got[i] - want[i]) <= limit) continue;
      ADD_FAILURE() << entry.name << ": element " << i << " is " << got[i] << ", reference "
                    << want[i] << ", allowed difference " << limit;
      ++failures;
    }
  }
  return accepted;
}

class MatmulNBitsTest : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(GetParam()); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};
INSTANTIATE_TEST_SUITE_P(Targets, MatmulNBitsTest,
                         ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& target) {
                           return std::string(hwy::TargetName(target.param));
                         });

TEST_P(MatmulNBitsTest, ShapesOfEveryKindMatchTheReference) {
  const std::vector<Case> shapes = {
      {1, 1, 1},    {1, 16, 8},    {3, 64, 32},   {4, 65, 33},    {5, 17, 100},
      {6, 80, 64},  {7, 48, 129},  {13, 96, 40},  {16, 63, 257},  {40, 33, 96},
      {65, 70, 72}, {2, 200, 512}, {1, 129, 300}, {33, 128, 264},
  };
  uint64_t seed = 100;
  for (Case c : shapes) {
    for (const DType dtype : {DType::kS4, DType::kU4, DType::kS8, DType::kU8}) {
      for (const ZeroPoints zero_points : {ZeroPoints::kNone, ZeroPoints::kRandom}) {
        if (zero_points == ZeroPoints::kRandom && BitsOf(dtype) == 8) continue;
        c.weights = dtype;
        c.zero_points = zero_points;
        c.transpose = seed % 2 == 0 ? Transpose::kNo : Transpose::kYes;
        SCOPED_TRACE(absl::StrCat(Trace(c), " seed ", ++seed));
        const Params p = MakeParams(c, seed);
        EXPECT_GE(ExpectAllMatch(p, RandomOperand(p.src, seed).data()), 1);
      }
    }
  }
}

TEST_P(MatmulNBitsTest, GroupsOfEverySizeMatchTheReference) {
  uint64_t seed = 300;
  for (const int64_t m : {1, 9}) {
    for (const int64_t block : {0, 8, 16, 24, 48, 64, 128, 256, 1000}) {
      for (const ZeroPoints zero_points : {ZeroPoints::kNone, ZeroPoints::kRandom}) {
        Case c{m, 37, 520};
        c.block = block;
        c.zero_points = zero_points;
        SCOPED_TRACE(absl::StrCat(Trace(c), " seed ", ++seed));
        const Params p = MakeParams(c, seed);
        EXPECT_GE(ExpectAllMatch(p, RandomOperand(p.src, seed).data()), 1);
      }
    }
  }
  // Longer than what is summed in s32: split, whatever divides them.
  for (const auto& [block, k] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 5000}, {4096, 8192}, {2056, 4112}, {5000, 4999}}) {
    Case c{4, 19, k};
    c.block = block;
    SCOPED_TRACE(Trace(c));
    const Params p = MakeParams(c, ++seed);
    EXPECT_GE(ExpectAllMatch(p, RandomOperand(p.src, seed).data()), 1);
  }
}

TEST_P(MatmulNBitsTest, CodesOfEveryKindMatchTheReference) {
  uint64_t seed = 350;
  for (const Case& codes : CodeCases()) {
    for (const auto& [m, n, k, block] : std::vector<std::array<int64_t, 4>>{
             {1, 1, 4, 0}, {1, 16, 32, 0}, {2, 65, 100, 0}, {5, 33, 264, 32}, {1, 200, 512, 64}, {6, 70, 160, 16},
             {1, 129, 300, 48}, {33, 65, 264, 8}, {9, 37, 520, 1000}, {4, 19, 5000, 0}, {5, 20, 4096, 2048}, {45, 112, 640, 0},
             {32, 33, 1040, 0}, {64, 140, 512, 256}, {17, 330, 320, 0}}) {
      const bool long_for_the_reference = m * n * k > 1'000'000;  // in two of the four forms
      if (codes.vector > 1 && block % 16 != 0 && block < k) continue;
      for (const Transpose transpose : {Transpose::kNo, Transpose::kYes}) {
        for (const bool integers : {false, true}) {
          if (long_for_the_reference && integers == (transpose == Transpose::kYes)) continue;
          Case c = codes;
          c.m = m;
          c.n = n;
          c.k = k;
          c.block = block;
          c.transpose = transpose;
          SCOPED_TRACE(absl::StrCat(Trace(c), " seed ", ++seed));
          Params p = MakeParams(c, seed);
          if (integers) p.src = QuantSpec(DType::kU8, p.src.shape, 0.125f, 131);
          EXPECT_GE(ExpectAllMatch(p, RandomOperand(p.src, seed).data()), 1);
        }
      }
    }
  }
}

TEST_P(MatmulNBitsTest, SumsArePreciseToTheLastBitWithPowerOfTwoScales) {
  uint64_t seed = 400;
  for (const DType source : {DType::kU8, DType::kS8}) {
    for (const DType dtype : {DType::kS4, DType::kU4, DType::kS8}) {
      for (const int64_t m : {1, 2, 6, 8, 20}) {
        Case c{m, 70, dtype == DType::kS8 ? 64 : 200};
        c.weights = dtype;
        c.power_of_two = true;
        c.zero_points = dtype == DType::kU4 ? ZeroPoints::kRandom : ZeroPoints::kNone;
        SCOPED_TRACE(absl::StrCat(Trace(c), " seed ", ++seed));
        Params p = MakeParams(c, seed);
        p.src = QuantSpec(source, p.src.shape, 0.125f, source == DType::kU8 ? 131 : -3);
        EXPECT_GE(ExpectAllMatch(p, RandomOperand(p.src, seed).data(), true), 1);
      }
    }
  }
}

TEST_P(MatmulNBitsTest, BiasAlphaAndPostOpsMatchTheReference) {
  const std::vector<PostOp> activations = {
      {PostOp::Kind::kActivation, {ActivationKind::kRelu, 0, 0}, {}},
      {PostOp::Kind::kActivation, {ActivationKind::kLeakyRelu, 0.1f, 0}, {}},
      {PostOp::Kind::kActivation, {ActivationKind::kClip, -0.5f, 0.75f}, {}},
      {PostOp::Kind::kActivation, {ActivationKind::kHardSigmoid, 0.2f, 0.5f}, {}},
      {PostOp::Kind::kActivation, {ActivationKind::kHardSwish, 1.0f / 6, 0.5f}, {}},
      {PostOp::Kind::kActivation, {ActivationKind::kLinear, -0.5f, 2}, {}},
  };
  for (const int64_t m : {2, 11}) {
    for (const PostOp& activation : activations) {
      Params p =
          MakeParams({m, 45, 96, DType::kS4, 32, ZeroPoints::kNone, Transpose::kNo, 0.25f}, 500);
      p.bias = {2, RandomConstant(DType::kF32, {45}, 501), {}};
      PostOp add{PostOp::Kind::kAdd, {}, p.dst};
      p.post_ops = {add, activation};
      ASSERT_TRUE(IsNBitsPostOp(activation));
      const Buffer residual = RandomOperand(p.dst, 502);
      SCOPED_TRACE(NameOf(activation.activation.kind));
      EXPECT_GE(ExpectAllMatch(p, RandomOperand(p.src, 503).data(), false, &residual), 1);
      p.post_ops = {activation};
      p.bias = {2, Tensor::FromF32({}, {0.375f}), {}};
      EXPECT_GE(ExpectAllMatch(p, RandomOperand(p.src, 504).data()), 1);
    }
  }
}

TEST_P(MatmulNBitsTest, ARowsResultDependsOnNeitherBatchNorThreadsNorUnit) {
  // Groups of one AMX step, of many, and of a column: with and without tiles of their own.
  for (const auto& [dtype, block, n, k] : std::vector<std::tuple<DType, int64_t, int64_t, int64_t>>{
           {DType::kS4, 32, 150, 320}, {DType::kS8, 32, 150, 320}, {DType::kS4, 0, 330, 320}, {DType::kS8, 128, 112, 384}}) {
    Case c{130, n, k};
    c.weights = dtype;
    c.block = block;
    SCOPED_TRACE(Trace(c));
    const Params all = MakeParams(c, 600);
    const Buffer src = RandomOperand(all.src, 601);
    const std::vector<float> want = RunEntry(MatmulNBitsImplementations()[1], all, src.data(), 1);
    ASSERT_FALSE(want.empty());
    for (const auto& entry : MatmulNBitsImplementations()) {
      if (std::string(entry.name) == "reference") continue;
      if (std::string(entry.name) == "amx" && GetParam() > HWY_AVX3)
        continue;  // fuses, these targets may not
      for (const int64_t rows : {1, 2, 3, 4, 8, 17, 48, 65, 130}) {
        c.m = rows;
        const Params p = MakeParams(c, 600);
        const std::vector<float> got = RunEntry(entry, p, src.data());
        for (size_t i = 0; i < got.size(); ++i)
          ASSERT_EQ(got[i], want[i]) << entry.name << ", " << rows << " rows, element " << i;
      }
    }
  }
}

TEST_P(MatmulNBitsTest, TheErrorAgainstTheFloatProductIsBoundedByTheRowsStep) {
  for (const uint64_t seed : {700u, 701u, 702u}) {
    for (const int64_t m : {1, 18}) {
      Case c{m, 50, 384};
      c.zero_points = seed == 701 ? ZeroPoints::kRandom : ZeroPoints::kNone;
      SCOPED_TRACE(absl::StrCat(Trace(c), " seed ", seed));
      const Params p = MakeParams(c, seed);
      Buffer src = RandomOperand(p.src, seed);
      auto* a = reinterpret_cast<float*>(src.data());
      for (int64_t i = 0; i < m * c.k; ++i)
        a[i] = std::ldexp(a[i], static_cast<int>(i / c.k % 7) * 9 - 27) + (seed == 702 ? 3 : 0);
      const NBitsWeights w(p.weights, p.transpose_weights, p.weights_constant.tensor.data());
      std::vector<double> want;
      for (int64_t i = 0; i < m * c.n; ++i) {
        double sum = 0;
        for (int64_t k = 0; k < c.k; ++k) {
          const int64_t n = i % c.n, g = k / w.block();
          sum += double{a[i / c.n * c.k + k]} * w.scale(g, n) *
                 static_cast<double>(w.stored(k, n) - w.zero_point(g, n));
        }
        want.push_back(sum);
      }
      const std::vector<double> allowed = Allowed(p, src.data(), 0.5001, want);
      for (const auto& entry : MatmulNBitsImplementations()) {
        const std::vector<float> got = RunEntry(entry, p, src.data());
        for (size_t i = 0; i < got.size(); ++i) {
          ASSERT_LE(std::fabs(got[i] - want[i]), allowed[i]) << entry.name << ", element " << i;
        }
      }
    }
  }
}

TEST_P(MatmulNBitsTest, RowsOfZerosAndRowsThatAreNotFiniteAreAsDocumented) {
  constexpr float kInf = std::numeric_limits<float>::infinity(),
                  kMax = std::numeric_limits<float>::max();
  for (const int64_t m : {6, 1}) {
    Params p = MakeParams({m, 20, 40}, 800);
    p.bias = {2, RandomConstant(DType::kF32, {20}, 801), {}};
    const std::vector<float> bias = p.bias.tensor.ToF32();
    for (const float odd : {0.0f, kInf, -kInf, std::nanf("")}) {
      Buffer src = RandomOperand(p.src, 802);
      auto* a = reinterpret_cast<float*>(src.data());
      if (odd == 0)
        std::fill(a, a + 40, 0.0f);
      else
        a[m > 1 ? 37 : 3] = odd;
      for (const auto& entry : MatmulNBitsImplementations()) {
        const std::vector<float> got = RunEntry(entry, p, src.data());
        for (size_t n = 0; n < got.size() && n < 20; ++n) {
          if (odd == 0)
            EXPECT_EQ(got[n], bias[n]) << entry.name;
          else
            EXPECT_TRUE(std::isnan(got[n])) << entry.name << " " << odd;
        }
        for (size_t i = 20; i < got.size(); ++i) EXPECT_TRUE(std::isfinite(got[i])) << entry.name;
      }
    }
    // The whole range of f32, and steps below the smallest normal number.
    for (const float size : {kMax, 1e-42f}) {
      Buffer src = RandomOperand(p.src, 803);
      auto* a = reinterpret_cast<float*>(src.data());
      for (int64_t i = 0; i < m * 40; ++i) a[i] *= size;
      a[0] = size;
      a[1] = -size;
      const QuantizedRow row = QuantizeRowReference(a, 40);
      for (int64_t k = 0; k < 40; ++k) {
        const double back =
            double{row.scale} * static_cast<double>(row.q[static_cast<size_t>(k)] - row.zero_point);
        EXPECT_LE(std::fabs(back - a[k]), 0.5001 * row.scale);
      }
      if (size < 1) ExpectAllMatch(p, src.data());
    }
  }
}

TEST_P(MatmulNBitsTest, RandomProblemsMatchTheReference) {
  const auto base = static_cast<uint64_t>(::testing::UnitTest::GetInstance()->random_seed());
  const CounterRng rng(base, 5);
  for (uint64_t i = 0; i < 60; ++i) {
    const auto pick = [&](uint64_t what, uint64_t n) {
      return static_cast<int64_t>(rng.Bits(i * 16 + what) % n);
    };
    Case c{1 + pick(0, 40), 1 + pick(1, 150), 1 + pick(2, 400)};
    c.weights = std::vector<DType>{DType::kS4, DType::kU4, DType::kS8,
                                   DType::kU8}[static_cast<size_t>(pick(3, 4))];
    c.block = 8 * pick(4, 20);
    if (BitsOf(c.weights) == 4 && pick(5, 2) == 1) c.zero_points = ZeroPoints::kRandom;
    c.transpose = pick(6, 2) == 1 ? Transpose::kYes : Transpose::kNo;
    c.power_of_two = pick(7, 4) == 0;
    SCOPED_TRACE(absl::StrCat(Trace(c), " seed ", base, " number ", i));
    const Params p = MakeParams(c, base + i);
    EXPECT_GE(ExpectAllMatch(p, RandomOperand(p.src, base + i).data()), 1);
  }
}

TEST(MatmulNBitsMemoryTest, WeightsStayPacked) {
  for (const auto& [power_of_two, scale_bytes] :
       std::vector<std::pair<bool, int64_t>>{{true, 2}, {false, 4}}) {
    Case c{1, 1024, 2048};
    c.power_of_two = power_of_two;
    WeightStore store;
    Params p = MakeParams(c, 900);
    ASSERT_TRUE(CreateMatmulNBits(p, KernelEnv{&store, 2}).ok());
    const int64_t weights = c.k * c.n / 2, scales = c.k / 32 * c.n * scale_bytes;
    EXPECT_EQ(store.TotalBytes(), weights + scales + c.n * 4);
    // Another number of rows uses the same copy, also when the original is gone.
    p.src.shape[0] = p.dst.shape[0] = 50;
    p.weights_constant.tensor = Tensor();
    ASSERT_TRUE(CreateMatmulNBits(p, KernelEnv{&store, 2}).ok());
    EXPECT_EQ(store.Entries().size(), 1u);
  }
}

TEST(MatmulNBitsMemoryTest, CodesStayAtTheirBits) {
  const std::vector<Case> codes = CodeCases();
  for (const auto& [which, bits] : std::vector<std::pair<size_t, int64_t>>{{0, 4}, {2, 2}, {4, 1}, {5, 2}}) {
    for (const int64_t block : {0, 64}) {
      Case c = codes[which];
      c.k = 1024;
      c.n = 2048;
      c.block = block;
      c.power_of_two = true;
      WeightStore store;
      ASSERT_TRUE(CreateMatmulNBits(MakeParams(c, 905), KernelEnv{&store, 2}).ok());
      const int64_t groups = c.k / (block > 0 ? block : Params::kColumnGroup);
      EXPECT_EQ(store.TotalBytes(), c.k * c.n * bits / 8 + groups * c.n * 2 + c.n * 4) << Trace(c);
    }
  }
}

TEST(MatmulNBitsRulesTest, RefusesCodesWithoutLevelsAndVectorsAcrossBlocks) {
  const auto error = [](const Params& p) { return CreateMatmulNBits(p, KernelEnv{}).status(); };
  Case ternary = CodeCases()[2], vectors = CodeCases()[5];
  ternary.k = vectors.k = 64;
  EXPECT_TRUE(error(MakeParams(ternary, 906)).ok());
  Params p = MakeParams(ternary, 906);
  p.weights.quant->levels.clear();
  EXPECT_TRUE(absl::IsUnimplemented(error(p))) << error(p);
  p = MakeParams(ternary, 906);
  p.weights.quant->levels.resize(5);
  EXPECT_TRUE(absl::IsUnimplemented(error(p))) << error(p);
  vectors.block = 8;
  EXPECT_TRUE(absl::IsUnimplemented(error(MakeParams(vectors, 907))));
  vectors.block = 0;
  vectors.k = 62;
  EXPECT_TRUE(absl::IsUnimplemented(error(MakeParams(vectors, 907))));
}

TEST(MatmulNBitsRulesTest, RefusesWhatItCannotRepresent) {
  const auto error = [](const Params& p) { return CreateMatmulNBits(p, KernelEnv{}).status(); };
  const Params good = MakeParams({2, 8, 64}, 901);
  EXPECT_TRUE(error(good).ok());
  Params p = good;
  p.src.shape = {2, 65};
  EXPECT_TRUE(absl::IsInvalidArgument(error(p))) << error(p);
  p = good;
  p.dst.shape = {2, 9};
  EXPECT_TRUE(absl::IsInvalidArgument(error(p))) << error(p);
  p = MakeParams({2, 8, 64, DType::kS4, 12}, 902);
  EXPECT_TRUE(absl::IsUnimplemented(error(p))) << error(p);
  p = good;
  p.weights.quant->axis = 1;
  EXPECT_TRUE(absl::IsUnimplemented(error(p))) << error(p);
  p = MakeParams({2, 8, 64, DType::kU8}, 903);
  p.weights.quant->zero_point[3] = 127;
  EXPECT_TRUE(absl::IsUnimplemented(error(p))) << error(p);
  p = good;
  p.post_ops = {{PostOp::Kind::kActivation, {ActivationKind::kGelu, 0, 0}, {}}};
  EXPECT_TRUE(absl::IsUnimplemented(error(p))) << error(p);
}

TEST(MatmulNBitsRulesTest, EmptyExtentsHaveAResult) {
  Params p = MakeParams({3, 4, 8}, 904);
  p.src.shape = {0, 8};
  p.dst.shape = {0, 4};
  auto kernel = CreateMatmulNBits(p, KernelEnv{});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  float dst = 5;
  EXPECT_TRUE(RunOnce(**kernel, {&dst}, &dst).ok());
  EXPECT_EQ(dst, 5);
}

}  // namespace
}  // namespace octet::kernels
