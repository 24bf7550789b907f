// Products with weights of less than 8 bits: which kernel they get, what they compute, what they keep in
// memory.
//
// Tolerance: a row's source is rounded to steps of s, so a result is off by at most 0.51 s sum|w|.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "engine/test_util.h"
#include "graph/constant_quantization.h"
#include "kernels/elements.h"

namespace octet::engine {
namespace {

using ::testing::HasSubstr;

struct Weights {
  graph::ValueId id;
  std::vector<double> reals;  // [K, N], whatever the stored order
  int64_t k, n;
};

enum class Stored : uint8_t { kRowsOfK, kColumnsOfK };

// Random codes over the whole range of `dtype`, one scale (a multiple of 2^-16: exact in f16) and
// zero point per block.
Weights AddWeights(GraphMaker& m, DType dtype, int64_t k, int64_t n, int64_t block, Stored stored,
                   bool zero_points) {
  const bool transposed = stored == Stored::kColumnsOfK;
  const Shape shape = transposed ? Shape{n, k} : Shape{k, n};
  const int64_t blocks = (k + block - 1) / block;
  const auto [low, high] = kernels::IntegerRange(dtype);
  const CounterRng rng(77);
  QuantParams q;
  q.axis = transposed ? 1 : 0;
  q.block = block;
  for (uint64_t i = 0; i < static_cast<uint64_t>(blocks * n); ++i) {
    q.scale.push_back(static_cast<float>(1 + rng.Bits(i) % 1000) / 65536.0f);
    if (zero_points)
      q.zero_point.push_back(static_cast<int>(low + static_cast<int64_t>(rng.Bits(i * 3) % 16)));
  }
  Weights w{graph::kNoValue, std::vector<double>(static_cast<size_t>(k * n)), k, n};
  Buffer data = *Buffer::Allocate(ByteSize(dtype, shape));
  for (int64_t i = 0; i < k * n; ++i) {
    const int64_t code = low + static_cast<int64_t>(rng.Bits(static_cast<uint64_t>(i) + 1000000) %
                                                    static_cast<uint64_t>(high - low + 1));
    kernels::StoreInteger(dtype, data.data(), i, code);
    const int64_t row = transposed ? i % k : i / n, column = transposed ? i / k : i % n;
    const auto at =
        static_cast<size_t>(transposed ? column * blocks + row / block : row / block * n + column);
    w.reals[static_cast<size_t>(row * n + column)] =
        double{q.scale[at]} * static_cast<double>(code - q.zero_point_at(at));
  }
  w.id = m.g.AddConstant("w", Tensor::FromBuffer(dtype, shape, std::move(data)));
  m.g.value(w.id).quant = q;
  return w;
}

Tensor RandomInput(const Shape& shape, uint64_t seed) {
  const CounterRng rng(seed);
  std::vector<float> values;
  for (int64_t i = 0; i < NumElements(shape); ++i)
    values.push_back(static_cast<float>(rng.Uniform(static_cast<uint64_t>(i)) * 4 - 2));
  return Tensor::FromF32(shape, values);
}

// Results before anything that follows, and what they may be off by.
struct Expected {
  std::vector<double> values, allowed;
};
Expected Product(const Weights& w, const std::vector<float>& x) {
  Expected out;
  for (size_t m = 0; m < x.size() / static_cast<size_t>(w.k); ++m) {
    const float* row = x.data() + m * static_cast<size_t>(w.k);
    const auto [low, high] = std::minmax_element(row, row + w.k);
    const double step = (std::max(0.0f, *high) - std::min(0.0f, *low)) / 255.0;
    for (int64_t n = 0; n < w.n; ++n) {
      double sum = 0, weights = 0;
      for (int64_t k = 0; k < w.k; ++k) {
        sum += row[k] * w.reals[static_cast<size_t>(k * w.n + n)];
        weights += std::fabs(w.reals[static_cast<size_t>(k * w.n + n)]);
      }
      out.values.push_back(sum);
      out.allowed.push_back(0.51 * step * weights + 1e-5);
    }
  }
  return out;
}

std::string Implementations(Program& program, const Shape& shape) {
  auto specialisation = program.Specialise({shape}, 1);
  EXPECT_TRUE(specialisation.ok()) << specialisation.status();
  if (!specialisation.ok()) return "";
  std::string all;
  for (const StepInfo& step : (*specialisation)->Steps())
    absl::StrAppend(&all, step.op, " ", step.implementation, "; ");
  return all;
}

void ExpectWithin(const Tensor& got, const Expected& want) {
  const std::vector<float> values = got.ToF32();
  ASSERT_EQ(values.size(), want.values.size());
  for (size_t i = 0; i < values.size(); ++i)
    ASSERT_LE(std::fabs(values[i] - want.values[i]), want.allowed[i]) << i;
}

TEST(LowerNBitsTest, MatMulAndGemmWithBlockedWeightsStayPacked) {
  for (const DType dtype : {DType::kS4, DType::kU4, DType::kS8}) {
    for (const Stored stored : {Stored::kRowsOfK, Stored::kColumnsOfK}) {
      for (const int64_t block : {16, 32}) {
        SCOPED_TRACE(
            absl::StrCat(NameOf(dtype), " block ", block, " stored ", static_cast<int>(stored)));
        GraphMaker m;
        const auto x = m.Input("x", {2, 3, 200});
        const Weights w = AddWeights(m, dtype, 200, 300, block, stored, dtype == DType::kU4);
        graph::ValueId y;
        if (stored == Stored::kColumnsOfK) {
          const auto flat = m.Node("Reshape", {x, m.Ints("rows", {6, 200})}, "flat");
          y = m.Node("Gemm", {flat, w.id}, "y", {{"transB", int64_t{1}}});
        } else {
          y = m.Node("MatMul", {x, w.id}, "y");
        }
        m.Output(y);
        auto program = Program::Compile(m.g);
        ASSERT_TRUE(program.ok()) << program.status();
        const Tensor input = RandomInput({2, 3, 200}, 5);
        auto out = RunProgram(**program, {input}, 2);
        ASSERT_TRUE(out.ok()) << out.status();
        ExpectWithin((*out)[0], Product(w, input.ToF32()));
        EXPECT_THAT(Implementations(**program, {2, 3, 200}), HasSubstr("panels64"));
        const int64_t columns = 304, blocks = (200 + block - 1) / block;
        const int64_t codes = 200 * columns * BitsOf(dtype) / 8;
        const int64_t scales = blocks * columns * (2 + (dtype == DType::kU4 ? 1 : 0));
        EXPECT_LE((*program)->Memory().weights, codes + scales + 4 * columns + 256);
        (*program)->ReleaseInitializers();  // another number of rows uses the packed copy
        if (stored == Stored::kRowsOfK) continue;
        EXPECT_THAT(Implementations(**program, {2, 3, 200}), HasSubstr("panels64"));
      }
    }
  }
}

TEST(LowerNBitsTest, BiasResidualAndActivationsFollowTheProduct) {
  GraphMaker m;
  const auto x = m.Input("x", {4, 64});
  const Weights w = AddWeights(m, DType::kS4, 64, 48, 32, Stored::kRowsOfK, false);
  const auto bias = m.Random("bias", {48}, 9);
  const auto relu =
      m.Node("Relu", {m.Node("Add", {m.Node("MatMul", {x, w.id}, "p"), bias}, "b")}, "r");
  const auto other = m.Node("Neg", {relu}, "other");
  const auto sum = m.Node("Add", {m.Node("MatMul", {x, w.id}, "p2"), other}, "sum");
  m.Output(m.Node("Tanh", {sum}, "y"));
  const std::vector<float> bias_values = m.g.value(bias).data->ToF32();
  auto program = Program::Compile(m.g);
  ASSERT_TRUE(program.ok()) << program.status();
  const Tensor input = RandomInput({4, 64}, 6);
  auto out = RunProgram(**program, {input}, 2);
  ASSERT_TRUE(out.ok()) << out.status();
  Expected want = Product(w, input.ToF32());
  for (size_t i = 0; i < want.values.size(); ++i) {
    const double r = std::max(0.0, want.values[i] + bias_values[i % 48]);
    want.values[i] = std::tanh(want.values[i] - r);
    want.allowed[i] *= 2;  // both products; neither function enlarges a difference
  }
  ExpectWithin((*out)[0], want);
  const std::string steps = Implementations(**program, {4, 64});
  EXPECT_THAT(steps, HasSubstr("panels64"));
  EXPECT_FALSE(absl::StrContains(steps, "MatMul onednn")) << steps;
}

TEST(LowerNBitsTest, ARowAloneEqualsItsRowInABatch) {
  GraphMaker m;
  const auto x = m.Input("x", {kUnknownDim, 96});
  const Weights w = AddWeights(m, DType::kS4, 96, 80, 32, Stored::kRowsOfK, false);
  m.Output(m.Node("MatMul", {x, w.id}, "y"));
  auto program = Program::Compile(m.g);
  ASSERT_TRUE(program.ok()) << program.status();
  const Tensor batch = RandomInput({24, 96}, 7);
  auto together = RunProgram(**program, {batch}, 2);
  ASSERT_TRUE(together.ok()) << together.status();
  (*program)->ReleaseInitializers();
  const std::vector<float> values = batch.ToF32(), all = (*together)[0].ToF32();
  for (size_t row = 0; row < 24; row += 5) {
    auto alone = RunProgram(
        **program, {Tensor::FromF32({1, 96}, absl::MakeConstSpan(values).subspan(row * 96, 96))},
        2);
    ASSERT_TRUE(alone.ok()) << alone.status();
    const std::vector<float> got = (*alone)[0].ToF32();
    for (size_t n = 0; n < 80; ++n) ASSERT_EQ(got[n], all[row * 80 + n]) << "row " << row;
  }
}

TEST(LowerNBitsTest, WeightsThatNoPackedKernelTakesAreComputedInFloat) {
  GraphMaker m;
  const auto x = m.Input("x", {4, 60});
  const Weights w = AddWeights(m, DType::kS4, 60, 20, 12, Stored::kRowsOfK, false);  // blocks of 12
  m.Output(m.Node("MatMul", {x, w.id}, "y"));
  auto program = Program::Compile(m.g);
  ASSERT_TRUE(program.ok()) << program.status();
  const Tensor input = RandomInput({4, 60}, 8);
  auto out = RunProgram(**program, {input}, 2);
  ASSERT_TRUE(out.ok()) << out.status();
  Expected want = Product(w, input.ToF32());
  for (double& allowed : want.allowed) allowed = 1e-5;
  ExpectWithin((*out)[0], want);
}

// Random codes of `levels` for a matrix [K, N]; one scale per column, or per 32 k of it.
Weights AddCodes(GraphMaker& m, DType dtype, int64_t k, int64_t n, std::vector<int8_t> levels, int vector, int64_t block) {
  const CounterRng rng(78);
  QuantParams q{{}, {}, block > 0 ? 0 : 1, block, std::move(levels), vector};
  const int64_t blocks = block > 0 ? (k + block - 1) / block : 1;
  for (uint64_t i = 0; i < static_cast<uint64_t>(blocks * n); ++i) {
    q.scale.push_back(static_cast<float>(1 + rng.Bits(i) % 1000) / 65536.0f);
  }
  Weights w{graph::kNoValue, std::vector<double>(static_cast<size_t>(k * n)), k, n};
  Buffer data = *Buffer::Allocate(ByteSize(dtype, Shape{k, n}));
  for (int64_t i = 0; i < k * n; ++i) {
    // Vectors are stored by columns, bits by rows.
    const int64_t row = vector > 1 ? i % k : i / n, column = vector > 1 ? i / k : i % n;
    const size_t entries = q.levels.size() / static_cast<size_t>(vector);
    const size_t code = rng.Bits(static_cast<uint64_t>(i / vector) + 1000000) % entries;
    kernels::StoreInteger(vector > 1 ? DType::kU8 : dtype, data.data(), i / vector, static_cast<int64_t>(code));
    const int level = q.levels[code * static_cast<size_t>(vector) + static_cast<size_t>(row % vector)];
    const auto at = static_cast<size_t>(block > 0 ? row / block * n + column : column);
    w.reals[static_cast<size_t>(row * n + column)] = double{q.scale[at]} * level;
  }
  w.id = m.g.AddConstant("w", Tensor::FromBuffer(dtype, Shape{k, n}, std::move(data)));
  m.g.value(w.id).quant = q;
  return w;
}

std::vector<int8_t> RandomLevels(size_t n) {
  std::vector<int8_t> levels;
  const CounterRng rng(n);
  for (size_t i = 0; i < n; ++i) levels.push_back(static_cast<int8_t>(static_cast<int>(rng.Bits(i) % 255) - 127));
  return levels;
}

TEST(LowerNBitsTest, CodesOfMatricesStayPacked) {
  struct Form {
    const char* layout;
    DType dtype;
    std::vector<int8_t> levels;
    int vector = 1;
    int64_t bits = 4;
  };
  for (const Form& f : {Form{"levels4", DType::kU4, RandomLevels(16)}, Form{"levels2", DType::kU2, {-1, 0, 1}, 1, 2},
                        Form{"levels1", DType::kU1, {-1, 1}, 1, 1}, Form{"vectors", DType::kU2, RandomLevels(1024), 4, 2}}) {
    for (const int64_t block : {0, 32}) {
      SCOPED_TRACE(absl::StrCat(f.layout, " block ", block));
      GraphMaker m;
      const auto x = m.Input("x", {6, 192});
      const Weights w = AddCodes(m, f.dtype, 192, 304, f.levels, f.vector, block);
      m.Output(m.Node("MatMul", {x, w.id}, "y"));
      auto program = Program::Compile(m.g);
      ASSERT_TRUE(program.ok()) << program.status();
      const Tensor input = RandomInput({6, 192}, 5);
      auto out = RunProgram(**program, {input}, 2);
      ASSERT_TRUE(out.ok()) << out.status();
      ExpectWithin((*out)[0], Product(w, input.ToF32()));
      EXPECT_THAT(Implementations(**program, {6, 192}), HasSubstr(f.layout));
      const int64_t scales = (block > 0 ? 192 / block : 1) * 304 * 2;
      EXPECT_LE((*program)->Memory().weights, 192 * 304 * f.bits / 8 + scales + 4 * 304 + 256);
    }
  }
}

// A quantized convolution in groups: s4 weights in doubles against the packed ones. The result is u8: within one step.
TEST(LowerNBitsTest, ConvolutionsOfQuantizedSourcesKeepTheirCodes) {
  constexpr int64_t kInputs = 64, kOutputs = 32;
  GraphMaker m;
  const auto x = m.Input("x", {kUnknownDim, kInputs, 5, 6});
  const auto xq = m.Node("Quantize", {x}, "xq", {}, QuantParams::PerTensor(0.00787f, 128));
  const CounterRng rng(91);
  QuantParams q{{}, {}, 1, 32, {}, 1};
  for (uint64_t i = 0; i < kOutputs * 2 * 9; ++i) {
    const float base = 0.001f * static_cast<float>(1 + i / 18 % 5);  // one per output channel
    q.scale.push_back(base * static_cast<float>(1 + rng.Bits(i) % 15));
  }
  const Shape shape = {kOutputs, kInputs, 3, 3};
  Buffer data = *Buffer::Allocate(ByteSize(DType::kS4, shape));
  std::vector<double> reals;
  for (int64_t i = 0; i < NumElements(shape); ++i) {
    const auto code = static_cast<int64_t>(rng.Bits(static_cast<uint64_t>(i) + 5000) % 15) - 7;
    kernels::StoreInteger(DType::kS4, data.data(), i, code);
    const int64_t o = i / 9 / kInputs, c = i / 9 % kInputs;
    reals.push_back(double{q.scale[static_cast<size_t>((o * 2 + c / 32) * 9 + i % 9)]} * static_cast<double>(code));
  }
  const auto w = m.g.AddConstant("w", Tensor::FromBuffer(DType::kS4, shape, std::move(data)));
  m.g.value(w).quant = q;
  const auto conv = m.Node("Conv", {xq, w}, "c", {{"pads", std::vector<int64_t>{1, 1, 1, 1}}, {"kernel_shape", std::vector<int64_t>{3, 3}}},
                           QuantParams::PerTensor(0.05f, 117));
  m.Output(m.Node("Dequantize", {conv}, "y"));
  auto program = Program::Compile(m.g);
  ASSERT_TRUE(program.ok()) << program.status();
  for (const int64_t batch : {1, 3}) {
    const Tensor input = RandomInput({batch, kInputs, 5, 6}, 8);
    auto out = RunProgram(**program, {input}, 2);
    ASSERT_TRUE(out.ok()) << out.status();
    const std::vector<float> values = input.ToF32(), got = (*out)[0].ToF32();
    for (int64_t i = 0; i < batch * kOutputs * 30; ++i) {
      double sum = 0;
      const int64_t n = i / 30 / kOutputs, o = i / 30 % kOutputs, row = i % 30 / 6, column = i % 6;
      for (int64_t c = 0; c < kInputs; ++c) {
        for (int64_t t = 0; t < 9; ++t) {
          const int64_t r = row + t / 3 - 1, s = column + t % 3 - 1;
          if (r < 0 || r >= 5 || s < 0 || s >= 6) continue;
          const float v = values[static_cast<size_t>(((n * kInputs + c) * 5 + r) * 6 + s)];
          const double u = std::clamp(std::nearbyint(v / 0.00787f) + 128, 0.0f, 255.0f) - 128;
          sum += u * double{0.00787f} * reals[static_cast<size_t>((o * kInputs + c) * 9 + t)];
        }
      }
      const double want = (std::clamp(std::nearbyint(sum / 0.05) + 117, 0.0, 255.0) - 117) * double{0.05f};
      ASSERT_NEAR(got[static_cast<size_t>(i)], want, 0.0501) << i;
    }
    if (batch == 1) (*program)->ReleaseInitializers();
  }
  EXPECT_THAT(Implementations(**program, {1, kInputs, 5, 6}), HasSubstr("codes"));
  EXPECT_LE((*program)->Memory().weights, NumElements(shape) / 2 + kOutputs * 2 * 9 * 2 + 2048);
}

}  // namespace
}  // namespace octet::engine
