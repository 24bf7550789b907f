// Programs on small graphs: folding, fusion, quantized regions, batching, memory, bad shapes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "engine/program.h"
#include "engine/test_util.h"
#include "graph/rewrites.h"
#include "graph/shape_inference.h"

namespace octet::engine {
namespace {

using ::testing::HasSubstr;

Tensor RandomTensor(Shape shape, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(NumElements(shape)));
  const CounterRng rng(seed);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(rng.Uniform(i) * 2 - 1);
  return Tensor::FromF32(std::move(shape), values);
}

// conv(x, w) + b by plain loops, [1, c, h, w] with 3x3 kernels, padding 1.
std::vector<float> Conv3x3(const std::vector<float>& x, const std::vector<float>& w, const std::vector<float>& b,
                           int cin, int cout, int h, int wd) {
  std::vector<float> y(static_cast<size_t>(cout * h * wd));
  for (int o = 0; o < cout; ++o)
    for (int i = 0; i < h; ++i)
      for (int j = 0; j < wd; ++j) {
        double sum = b[o];
        for (int c = 0; c < cin; ++c)
          for (int ki = 0; ki < 3; ++ki)
            for (int kj = 0; kj < 3; ++kj) {
              const int yi = i + ki - 1, xj = j + kj - 1;
              if (yi < 0 || yi >= h || xj < 0 || xj >= wd) continue;
              sum += double{x[(c * h + yi) * wd + xj]} * w[((o * cin + c) * 3 + ki) * 3 + kj];
            }
        y[(o * h + i) * wd + j] = static_cast<float>(sum);
      }
  return y;
}

std::vector<std::string> Ops(const Specialisation& s) {
  std::vector<std::string> ops;
  for (const StepInfo& step : s.Steps()) ops.push_back(step.op);
  return ops;
}

// x -> Conv -> BatchNormalization -> Relu (first) -> Conv -> Relu -> Conv -> Add(first) -> Relu
GraphMaker ResidualGraph() {
  GraphMaker m;
  const auto x = m.Input("x", {kUnknownDim, 4, 6, 5});
  const std::vector<std::pair<std::string, graph::Attribute>> same = {
      {"pads", std::vector<int64_t>{1, 1, 1, 1}}, {"kernel_shape", std::vector<int64_t>{3, 3}}};
  auto y = m.Node("Conv", {x, m.Random("w1", {8, 4, 3, 3}, 1)}, "c1", same);
  y = m.Node("BatchNormalization",
             {y, m.F32("s", {8}, {1, 2, 3, 4, 5, 6, 7, 8}), m.Random("bb", {8}, 3), m.Random("mean", {8}, 4),
              m.F32("var", {8}, {1, 1, 2, 2, 3, 3, 4, 4})},
             "bn", {{"epsilon", 1e-3f}});
  const auto first = m.Node("Relu", {y}, "r1");
  y = m.Node("Conv", {first, m.Random("w2", {8, 8, 3, 3}, 2), m.Random("b2", {8}, 5)}, "c2", same);
  y = m.Node("Relu", {y}, "r2");
  y = m.Node("Conv", {y, m.Random("w3", {8, 8, 3, 3}, 6)}, "c3", same);
  y = m.Node("Add", {first, y}, "sum");
  y = m.Node("Relu", {y}, "r3");
  m.Output(y);
  return m;
}

std::vector<float> ResidualExpected(const Tensor& x, const graph::Graph& g) {
  auto constant = [&](const std::string& name) {
    for (const graph::Value& v : g.values) {
      if (v.name == name) return v.data->ToF32();
    }
    return std::vector<float>{};
  };
  std::vector<float> y = Conv3x3(x.ToF32(), constant("w1"), std::vector<float>(8, 0), 4, 8, 6, 5);
  const auto s = constant("s"), b = constant("bb"), mean = constant("mean"), var = constant("var");
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t c = i / 30;
    y[i] = std::max(0.0f, (y[i] - mean[c]) * s[c] / std::sqrt(var[c] + 1e-3f) + b[c]);
  }
  std::vector<float> z = Conv3x3(y, constant("w2"), constant("b2"), 8, 8, 6, 5);
  for (float& f : z) f = std::max(0.0f, f);
  z = Conv3x3(z, constant("w3"), std::vector<float>(8, 0), 8, 8, 6, 5);
  for (size_t i = 0; i < z.size(); ++i) z[i] = std::max(0.0f, z[i] + y[i]);
  return z;
}

TEST(ProgramTest, FusesBatchNormReluAndResidualAndComputesTheSame) {
  const GraphMaker m = ResidualGraph();
  auto program = Program::Compile(m.g);
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_TRUE((*program)->batch_proof().batchable) << (*program)->batch_proof().obstacle;
  const Tensor x = RandomTensor({1, 4, 6, 5}, 9);
  auto out = RunProgram(**program, {x});
  ASSERT_TRUE(out.ok()) << out.status();
  const std::vector<float> expected = ResidualExpected(x, m.g);
  const std::vector<float> found = (*out)[0].ToF32();
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    // f32 sums of up to 72 products, of size about 100 in the last layer, in another order.
    EXPECT_NEAR(found[i], expected[i], 2e-3 + 1e-5 * std::fabs(expected[i])) << i;
  }
  auto s = (*program)->Specialise({x.shape()}, 1);
  std::vector<std::string> ops = Ops(**s);
  EXPECT_THAT(ops, ::testing::Contains("Conv+Relu"));
  EXPECT_THAT(ops, ::testing::Contains("Conv+Add+Relu"));
}

TEST(ProgramTest, ARunThatGivesWayAsksBeforeEachStepAndComputesTheSame) {
  const GraphMaker m = ResidualGraph();
  auto program = Program::Compile(m.g);
  ASSERT_TRUE(program.ok()) << program.status();
  const Tensor x = RandomTensor({1, 4, 6, 5}, 9);
  auto expected = RunProgram(**program, {x});
  ASSERT_TRUE(expected.ok()) << expected.status();
  auto specialisation = (*program)->Specialise({x.shape()}, 1);
  ASSERT_TRUE(specialisation.ok()) << specialisation.status();
  auto context = Context::Create(*specialisation);
  ASSERT_TRUE(context.ok()) << context.status();
  std::memcpy((*context)->input(0).data(), x.data(), static_cast<size_t>(x.size_bytes()));
  size_t asked = 0;
  const auto output = [&] {
    const absl::Span<const std::byte> bytes = (*context)->output(0);
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  };
  ASSERT_TRUE((*context)->RunGivingWay([&] {
    ++asked;
    return absl::OkStatus();
  }).ok());
  EXPECT_EQ(asked, (*specialisation)->Steps().size());
  ASSERT_EQ(output().size(), static_cast<size_t>((*expected)[0].size_bytes()));
  EXPECT_EQ(std::memcmp(output().data(), (*expected)[0].data(), output().size()), 0);

  asked = 0;
  const absl::Status ended = (*context)->RunGivingWay([&] {
    return ++asked == 2 ? absl::CancelledError("no more") : absl::OkStatus();
  });
  EXPECT_EQ(ended, absl::CancelledError("no more"));
  EXPECT_EQ(asked, 2u);
}

TEST(ProgramTest, ARowAloneEqualsItsRowInABatchAndWeightsArePackedOnce) {
  auto program = Program::Compile(ResidualGraph().g);
  ASSERT_TRUE(program.ok()) << program.status();
  std::vector<float> all;
  std::vector<std::vector<float>> alone;
  for (uint64_t row = 0; row < 5; ++row) {
    const Tensor x = RandomTensor({1, 4, 6, 5}, 100 + row);
    const std::vector<float> values = x.ToF32();
    all.insert(all.end(), values.begin(), values.end());
    auto out = RunProgram(**program, {x}, 2);
    ASSERT_TRUE(out.ok()) << out.status();
    alone.push_back((*out)[0].ToF32());
  }
  const int64_t weights = (*program)->Memory().weights;
  (*program)->ReleaseInitializers();
  auto out = RunProgram(**program, {Tensor::FromF32({5, 4, 6, 5}, all)}, 2);
  ASSERT_TRUE(out.ok()) << out.status();
  const std::vector<float> batch = (*out)[0].ToF32();
  for (size_t i = 0; i < batch.size(); ++i) EXPECT_NEAR(batch[i], alone[i / 240][i % 240], 1e-3) << i;
  EXPECT_EQ((*program)->Memory().weights, weights) << "a second copy was packed for batch 5";
}

TEST(ProgramTest, RefusesShapesThatContradictTheModel) {
  auto program = Program::Compile(ResidualGraph().g);
  ASSERT_TRUE(program.ok());
  const auto bad = (*program)->Specialise({Shape{1, 3, 6, 5}}, 1);
  EXPECT_EQ(bad.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(bad.status().message()), HasSubstr("input 'x' has shape [1, 3, 6, 5], expected [?, 4, 6, 5]"));
  EXPECT_FALSE((*program)->Specialise({}, 1).ok());
}

TEST(ProgramTest, RunsOnlyOnATeamOfItsSize) {
  auto program = Program::Compile(ResidualGraph().g);
  auto s = (*program)->Specialise({Shape{1, 4, 6, 5}}, 1);
  ASSERT_TRUE(s.ok()) << s.status();
  auto context = Context::Create(*s);
  ASSERT_TRUE(context.ok());
  SetTeamSize(2);
  EXPECT_EQ((*context)->Run().code(), absl::StatusCode::kInternal);
  SetTeamSize(1);
  EXPECT_TRUE((*context)->Run().ok());
}

TEST(ProgramTest, TwoThreadsAskingForTheSameShapesGetOneSpecialisation) {
  auto program = Program::Compile(ResidualGraph().g);
  std::shared_ptr<const Specialisation> a, b;
  std::thread t([&] { a = *(*program)->Specialise({Shape{2, 4, 6, 5}}, 1); });
  b = *(*program)->Specialise({Shape{2, 4, 6, 5}}, 1);
  t.join();
  EXPECT_EQ(a.get(), b.get());
}

TEST(ProgramTest, SpecialisationsAreBounded) {
  CompileOptions options;
  options.max_specialisations = 2;
  auto program = Program::Compile(ResidualGraph().g, options);
  std::weak_ptr<const Specialisation> first;
  for (int64_t n = 1; n <= 4; ++n) {
    auto s = (*program)->Specialise({Shape{n, 4, 6, 5}}, 1);
    ASSERT_TRUE(s.ok());
    if (n == 1) first = *s;
  }
  EXPECT_TRUE(first.expired());
  options.max_specialisation_bytes = 1000;
  program = Program::Compile(ResidualGraph().g, options);
  EXPECT_EQ((*program)->Specialise({Shape{1, 4, 6, 5}}, 1).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(ProgramTest, ShapeArithmeticFoldsWhenShapesAreBound) {
  GraphMaker m;  // Reshape(x, concat(shape(x)[0:1], [-1]))
  const auto x = m.Input("x", {kUnknownDim, 3, kUnknownDim});
  const auto shape = m.Node("Shape", {x}, "shape");
  const auto n = m.Node("Slice", {shape, m.Ints("zero", {0}), m.Ints("one", {1})}, "n");
  const auto target = m.Node("Concat", {n, m.Ints("rest", {-1})}, "target", {{"axis", int64_t{0}}});
  m.Output(m.Node("Reshape", {x, target}, "y"));
  auto program = Program::Compile(m.g);
  ASSERT_TRUE(program.ok()) << program.status();
  const Tensor x_value = RandomTensor({2, 3, 7}, 1);
  auto out = RunProgram(**program, {x_value});
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ((*out)[0].shape(), (Shape{2, 21}));
  EXPECT_EQ((*out)[0].ToF32(), x_value.ToF32());
}

// x f32 -> Quantize -> Conv(s8) + Relu -> u8 -> MaxPool -> u8 -> Conv(s8) + residual... -> Dequantize
TEST(ProgramTest, AdjacentInt8LayersExchangeIntegersOnly) {
  GraphMaker m;
  const auto x = m.Input("x", {kUnknownDim, 4, 6, 6});
  const auto xq = m.Node("Quantize", {x}, "xq", {}, QuantParams::PerTensor(0.00787f, 128));
  auto weights = [&](const std::string& name, uint64_t seed) {
    std::vector<int8_t> w(4 * 4 * 9);
    const CounterRng rng(seed);
    for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<int8_t>(static_cast<int>(rng.Uniform(i) * 255) - 127);
    const auto id = m.g.AddConstant(name, Tensor::FromValues<int8_t>(DType::kS8, {4, 4, 3, 3}, w));
    m.g.value(id).quant = QuantParams{{0.0101f, 0.0203f, 0.0051f, 0.0097f}, {}, 0, 0};
    return id;
  };
  const std::vector<std::pair<std::string, graph::Attribute>> same = {
      {"pads", std::vector<int64_t>{1, 1, 1, 1}}, {"kernel_shape", std::vector<int64_t>{3, 3}}};
  const auto c1 = m.Node("Conv", {xq, weights("w1", 1)}, "c1", same);
  const auto r1 = m.Node("Relu", {c1}, "r1", {}, QuantParams::PerTensor(0.0513f, 0));
  const auto cm = m.Node("Conv", {r1, weights("wm", 4)}, "cm", same, QuantParams::PerTensor(0.0997f, 120));
  const auto c2 = m.Node("Conv", {cm, weights("w2", 2)}, "c2", same, QuantParams::PerTensor(0.3f, 128));
  const auto sum = m.Node("Add", {c2, r1}, "sum");
  const auto r2 = m.Node("Relu", {sum}, "r2", {}, QuantParams::PerTensor(0.1031f, 3));
  const auto pool = m.Node("MaxPool", {r2}, "pool",
                           {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}});
  const auto c3 = m.Node("Conv", {pool, weights("w3", 3)}, "c3", same);
  m.Output(c3);
  auto program = Program::Compile(m.g);
  ASSERT_TRUE(program.ok()) << program.status();
  auto s = (*program)->Specialise({Shape{2, 4, 6, 6}}, 1);
  ASSERT_TRUE(s.ok()) << s.status();
  for (const StepInfo& step : (*s)->Steps()) {
    if (step.op == "Quantize") continue;  // the network's input
    if (step.op == "Convert") {           // the network's output becomes row-major
      EXPECT_THAT(step.dst_types, HasSubstr("f32[2, 4, 3, 3]"));
      continue;
    }
    EXPECT_THAT(step.src_types, ::testing::StartsWith("u8")) << step.op << " " << step.node;
    if (step.node != "node_c3") {
      EXPECT_THAT(step.dst_types, ::testing::StartsWith("u8")) << step.node;
    }
  }
  EXPECT_THAT(Ops(**s), ::testing::ElementsAre("Quantize", "Conv+Relu", "Conv", "Conv+Add+Relu", "MaxPool", "Conv", "Convert"));

  // The same network in doubles with the same roundings.
  const Tensor input = RandomTensor({1, 4, 6, 6}, 5);
  auto out = RunProgram(**program, {input});
  ASSERT_TRUE(out.ok()) << out.status();
  auto real_weights = [&](const std::string& name) {
    for (const graph::Value& v : m.g.values) {
      if (v.name != name) continue;
      std::vector<float> w = v.data->ToF32();
      for (size_t i = 0; i < w.size(); ++i) w[i] *= v.quant->scale[i / 36];
      return w;
    }
    return std::vector<float>{};
  };
  auto round_to = [](std::vector<float> v, float scale, int zero) {
    for (float& f : v) {
      const double q = std::min(255.0, std::max(0.0, std::nearbyint(double{f} / scale) + zero));
      f = static_cast<float>((q - zero) * scale);
    }
    return v;
  };
  const std::vector<float> none(4, 0);
  const auto q = round_to(input.ToF32(), 0.00787f, 128);
  auto a = Conv3x3(q, real_weights("w1"), none, 4, 4, 6, 6);
  for (float& f : a) f = std::max(f, 0.0f);
  a = round_to(a, 0.0513f, 0);
  auto b = round_to(Conv3x3(a, real_weights("wm"), none, 4, 4, 6, 6), 0.0997f, 120);
  b = Conv3x3(b, real_weights("w2"), none, 4, 4, 6, 6);  // its own rounding is dropped in front of the addition
  for (size_t i = 0; i < b.size(); ++i) b[i] = std::max(b[i] + a[i], 0.0f);
  b = round_to(b, 0.1031f, 3);
  std::vector<float> p(4 * 9);
  for (int c = 0; c < 4; ++c)
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j)
        p[(c * 3 + i) * 3 + j] =
            std::max(std::max(b[(c * 6 + 2 * i) * 6 + 2 * j], b[(c * 6 + 2 * i) * 6 + 2 * j + 1]),
                     std::max(b[(c * 6 + 2 * i + 1) * 6 + 2 * j], b[(c * 6 + 2 * i + 1) * 6 + 2 * j + 1]));
  const auto expected = Conv3x3(p, real_weights("w3"), none, 4, 4, 3, 3);
  const auto found = (*out)[0].ToF32();
  int off = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    // A value on a rounding tie may go the other way in f32: one step of 0.1 through weights of up to 2.54.
    EXPECT_NEAR(found[i], expected[i], 1.0) << i;
    off += std::fabs(found[i] - expected[i]) > 1e-3 ? 1 : 0;
  }
  EXPECT_LE(off, 10) << "only rounding ties may differ";
}

TEST(ProgramTest, RefusesAnOperatorWithoutKernelNamingTheNode) {
  GraphMaker m;
  const auto x = m.Input("x", {1, 4});
  m.Output(m.Node("Frobnicate", {x}, "y"));
  const auto program = Program::Compile(m.g);
  absl::Status status = program.status();
  if (program.ok()) status = (*program)->Specialise({Shape{1, 4}}, 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("Frobnicate"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("node_y"));
}

}  // namespace
}  // namespace octet::engine
