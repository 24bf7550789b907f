// Every implementation of Conv against the reference loops.
//
// Tolerances. f32: 1e-5 sqrt(K) relative to 1 + |result| (float summation in another order). 8-bit
// dst: one step, because implementations scale and divide in float and the reference in double,
// which may fall on two sides of a tie. Integers into f32 with power-of-two scales: equal, every
// intermediate is exact below 2^24.
#include "kernels/conv/conv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "base/parallel_for.h"
#include "kernels/conv/conv_reference.h"
#include "kernels/narrow_weights.h"
#include "kernels/onednn_product.h"
#include "kernels/product_testing.h"

namespace octet::kernels {
namespace {

struct Geometry {
  const char* name;
  int64_t batch, channels, outputs, groups;
  std::vector<int64_t> src, kernel, strides, dilations, pads_begin, pads_end;
};

const std::vector<Geometry>& Geometries() {
  static const auto* const list = new std::vector<Geometry>{
      {"basic3x3", 2, 16, 24, 1, {9, 11}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"one", 1, 1, 1, 1, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
      {"stem7x7", 1, 3, 32, 1, {23, 21}, {7, 7}, {2, 2}, {1, 1}, {3, 3}, {3, 3}},
      {"gray", 3, 1, 8, 1, {10, 10}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"pointwise", 2, 33, 17, 1, {5, 6}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
      {"pointwise_stride", 1, 64, 128, 1, {8, 8}, {1, 1}, {2, 2}, {1, 1}, {0, 0}, {0, 0}},
      {"depthwise", 2, 40, 40, 40, {7, 9}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"depthwise_stride", 1, 32, 32, 32, {9, 9}, {5, 5}, {2, 2}, {1, 1}, {2, 2}, {2, 2}},
      {"depthwise_multiplier", 1, 8, 16, 8, {6, 6}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"grouped", 1, 32, 64, 4, {6, 7}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"grouped_odd", 1, 6, 9, 3, {6, 7}, {3, 2}, {1, 1}, {1, 1}, {0, 1}, {0, 0}},
      {"dilated", 1, 16, 16, 1, {12, 13}, {3, 3}, {1, 1}, {2, 3}, {2, 3}, {2, 3}},
      {"asymmetric", 1, 16, 16, 1, {10, 10}, {3, 3}, {2, 2}, {1, 1}, {0, 0}, {1, 1}},
      {"asymmetric_begin", 1, 5, 7, 1, {8, 9}, {4, 3}, {1, 2}, {1, 1}, {3, 2}, {0, 1}},
      {"whole", 2, 20, 10, 1, {4, 5}, {4, 5}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
      {"deep", 1, 512, 40, 1, {3, 3}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"one_dimension", 2, 12, 20, 1, {31}, {5}, {1}, {1}, {2}, {2}},
      {"one_dimension_strided", 1, 16, 16, 1, {40}, {3}, {2}, {2}, {1}, {3}},
      {"three_dimensions",
       1,
       16,
       16,
       1,
       {4, 5, 6},
       {3, 3, 3},
       {1, 1, 1},
       {1, 1, 1},
       {1, 1, 1},
       {1, 1, 1}},
      {"three_dimensions_odd",
       1,
       3,
       5,
       1,
       {4, 5, 6},
       {2, 3, 1},
       {1, 2, 1},
       {1, 1, 1},
       {0, 1, 0},
       {1, 1, 0}},
  };
  return *list;
}

enum class Bias : uint8_t { kNone, kF32, kS32 };

struct Case {
  TensorSpec src, dst;  // shapes are filled in
  Bias bias = Bias::kNone;
  std::vector<PostOp> post_ops = {};  // residual shapes are filled in
  bool power_of_two = false;
};

ConvParams MakeParams(const Geometry& g, const Case& c, int first_id = 1) {
  ConvParams p;
  p.src = c.src;
  p.dst = c.dst;
  p.src.shape = {g.batch, g.channels};
  p.dst.shape = {g.batch, g.outputs};
  p.weights_shape = {g.outputs, g.channels / g.groups};
  for (size_t i = 0; i < g.src.size(); ++i) {
    p.src.shape.push_back(g.src[i]);
    p.weights_shape.push_back(g.kernel[i]);
    p.dst.shape.push_back(
        (g.src[i] + g.pads_begin[i] + g.pads_end[i] - (g.kernel[i] - 1) * g.dilations[i] - 1) /
            g.strides[i] +
        1);
  }
  p.groups = g.groups;
  p.strides = g.strides;
  p.dilations = g.dilations;
  p.pads_begin = g.pads_begin;
  p.pads_end = g.pads_end;
  p.weights_dtype = c.src.quant ? DType::kS8 : DType::kF32;
  p.weights = {first_id, RandomConstant(p.weights_dtype, p.weights_shape, 11, WeightsLimit()), {}};
  if (c.src.quant) {
    QuantParams q{{}, {}, 0, 0};
    for (int64_t o = 0; o < g.outputs; ++o) {
      q.scale.push_back(c.power_of_two ? std::ldexp(1.0f, static_cast<int>(o % 3) - 6)
                                       : 0.004f + 0.0007f * static_cast<float>(o % 5));
    }
    p.weights.quant = q;
  }
  const Shape bias_shape = {g.outputs};
  if (c.bias == Bias::kF32) {
    p.bias = {first_id + 1, RandomConstant(DType::kF32, bias_shape, 12), {}};
  } else if (c.bias == Bias::kS32) {
    std::vector<int32_t> q;
    QuantParams quant{{}, {}, 0, 0};
    for (int32_t o = 0; o < g.outputs; ++o) {
      q.push_back(977 * (o % 7) - 2000);
      quant.scale.push_back(c.src.quant->scale[0] * p.weights.quant->scale[static_cast<size_t>(o)]);
    }
    p.bias = {first_id + 1, Tensor::FromValues<int32_t>(DType::kS32, bias_shape, q), quant};
  }
  p.post_ops = c.post_ops;
  for (PostOp& op : p.post_ops) {
    op.residual.shape = p.dst.shape;
    op.residual.layout = p.dst.layout;
  }
  return p;
}

int64_t Depth(const ConvParams& p) { return NumElements(p.weights_shape) / p.weights_shape[0]; }

// What dst's memory holds before the run: the residual's stored values.
Buffer InitialDst(const ConvParams& p) {
  for (const PostOp& op : p.post_ops) {
    if (op.kind == PostOp::Kind::kAdd) return RandomOperand(op.residual, 14);
  }
  return RandomOperand(p.dst, 14);
}

Buffer Expected(const ConvParams& p, const Buffer& src) {
  Buffer dst = InitialDst(p);
  std::vector<double> bias;
  if (p.bias.present()) bias = BiasReals(p.bias, p.bias.tensor.ToF64());
  const std::byte* w = p.weights.tensor.data();
  if (p.src.dtype == DType::kF32) {
    ConvReference<double, float>(p, src.data(), reinterpret_cast<const float*>(w), bias,
                                 dst.data());
  } else if (p.src.dtype == DType::kU8) {
    ConvReference<int64_t, uint8_t>(p, src.data(), reinterpret_cast<const int8_t*>(w), bias,
                                    dst.data());
  } else {
    ConvReference<int64_t, int8_t>(p, src.data(), reinterpret_cast<const int8_t*>(w), bias,
                                   dst.data());
  }
  return dst;
}

// Those for weights of 8 bits and more: the first two of the list are for less.
absl::Span<const Implementation<ConvParams>> WholeImplementations() { return ConvImplementations().subspan(2); }

// Runs every one of them; none may refuse.
void ExpectAllMatch(const ConvParams& p, double limit) {
  SetTeamSize(2);
  const Buffer src = RandomOperand(p.src, 13);
  const Buffer expected = Expected(p, src);
  for (const auto& entry : WholeImplementations()) {
    WeightStore store;
    auto kernel = entry.create(p, KernelEnv{&store, 2});
    ASSERT_TRUE(kernel.ok()) << entry.name << ": " << kernel.status();
    Buffer dst = InitialDst(p);
    ASSERT_TRUE(RunOnce(**kernel, {src.data()}, dst.data()).ok());
    EXPECT_EQ(Difference(p.dst, expected.data(), dst.data(), limit), "")
        << (*kernel)->implementation();
  }
}

PostOp Act(ActivationKind kind, float alpha = 0, float beta = 0) {
  return {PostOp::Kind::kActivation, {kind, alpha, beta}, {}};
}
PostOp Add(TensorSpec residual) { return {PostOp::Kind::kAdd, {}, std::move(residual)}; }

constexpr Layout kNhwc = Layout::kChannelsLast;

TEST(ConvTest, F32MatchesReferenceInBothLayouts) {
  for (const Geometry& g : Geometries()) {
    for (Layout layout : {Layout::kPlain, kNhwc}) {
      SCOPED_TRACE(absl::StrCat(g.name, " ", NameOf(layout)));
      const Case c{F32Spec({}, layout), F32Spec({}, layout), Bias::kF32, {}};
      const ConvParams p = MakeParams(g, c);
      ExpectAllMatch(p, 1e-5 * std::sqrt(static_cast<double>(Depth(p))));
    }
  }
}

TEST(ConvTest, IntegersIntoF32WithPowerOfTwoScalesAreExact) {
  for (const Geometry& g : Geometries()) {
    for (const auto& [dtype, zero_point] : std::vector<std::pair<DType, int>>{
             {DType::kU8, 0}, {DType::kU8, 131}, {DType::kS8, 0}, {DType::kS8, -5}}) {
      if (dtype == DType::kS8 && !HasVnni()) continue;
      SCOPED_TRACE(absl::StrCat(g.name, " ", NameOf(dtype), " zero point ", zero_point));
      Case c{QuantSpec(dtype, {}, 0.125f, zero_point, kNhwc),
             F32Spec({}, kNhwc),
             Bias::kS32,
             {},
             true};
      ExpectAllMatch(MakeParams(g, c), 0);
    }
  }
}

TEST(ConvTest, IntegersIntoIntegersAreWithinOneStep) {
  for (const Geometry& g : Geometries()) {
    for (const auto& dst : {QuantSpec(DType::kU8, {}, 0.021f, 0, kNhwc),
                            QuantSpec(DType::kU8, {}, 0.043f, 119, kNhwc),
                            QuantSpec(DType::kS8, {}, 0.05f, -7, kNhwc)}) {
      SCOPED_TRACE(absl::StrCat(g.name, " into ", NameOf(dst.dtype)));
      ExpectAllMatch(
          MakeParams(g, {QuantSpec(DType::kU8, {}, 0.013f, 117, kNhwc), dst, Bias::kF32, {}}), 1);
      if (!HasVnni()) continue;
      ExpectAllMatch(MakeParams(g, {QuantSpec(DType::kS8, {}, 0.017f, 0, kNhwc),
                                    dst,
                                    Bias::kNone,
                                    {Act(ActivationKind::kRelu)}}),
                     1);
    }
  }
}

TEST(ConvTest, ResidualIsReadFromDstInItsOwnScale) {
  for (size_t i : {0u, 4u, 6u, 9u}) {
    const Geometry& g = Geometries()[i];
    for (const TensorSpec& residual :
         {QuantSpec(DType::kU8, {}, 0.11f, 0), QuantSpec(DType::kU8, {}, 0.09f, 77),
          QuantSpec(DType::kS8, {}, 0.08f, -3)}) {
      for (const TensorSpec& dst : {QuantSpec(DType::kU8, {}, 0.061f, 0, kNhwc),
                                    QuantSpec(DType::kS8, {}, 0.11f, 4, kNhwc)}) {
        const TensorSpec src = QuantSpec(DType::kU8, {}, 0.013f, 0, kNhwc);
        SCOPED_TRACE(absl::StrCat(g.name, " residual ", NameOf(residual.dtype), " into ",
                                  NameOf(dst.dtype)));
        ExpectAllMatch(MakeParams(g, {src, dst, Bias::kF32, {Add(residual)}}), 1);
        ExpectAllMatch(
            MakeParams(g, {src, dst, Bias::kF32, {Add(residual), Act(ActivationKind::kRelu)}}), 1);
        ExpectAllMatch(
            MakeParams(g,
                       {src, dst, Bias::kF32, {Act(ActivationKind::kClip, 0, 2), Add(residual)}}),
            1);
      }
    }
    const std::vector<PostOp> f32_chain = {Add(F32Spec({})), Act(ActivationKind::kRelu)};
    ExpectAllMatch(MakeParams(g, {QuantSpec(DType::kU8, {}, 0.013f, 9, kNhwc), F32Spec({}, kNhwc),
                                  Bias::kF32, f32_chain}),
                   1e-4);
    ExpectAllMatch(MakeParams(g, {F32Spec({}, kNhwc), F32Spec({}, kNhwc), Bias::kF32, f32_chain}),
                   1e-4);
  }
}

// Every element function, on reals within its domain (a clip in front). 1e-4: oneDNN's polynomials.
TEST(ConvTest, ActivationsMatchOrAreRefused) {
  const Geometry& g = Geometries()[0];
  for (int k = 0; k <= static_cast<int>(ActivationKind::kLinear); ++k) {
    const auto kind = static_cast<ActivationKind>(k);
    SCOPED_TRACE(NameOf(kind));
    const bool positive = kind == ActivationKind::kLog || kind == ActivationKind::kSqrt ||
                          kind == ActivationKind::kReciprocal;
    const bool is_relu = kind == ActivationKind::kLeakyRelu;
    const PostOp act = kind == ActivationKind::kClip ? Act(kind, -0.5f, 0.75f)
                                                     : Act(kind, is_relu ? 0.1f : 0.9f, 0.3f);
    const PostOp domain = Act(ActivationKind::kClip, positive ? 0.1f : -3, 3);
    const ConvParams p =
        MakeParams(g, {F32Spec({}, kNhwc), F32Spec({}, kNhwc), Bias::kF32, {domain, act}});
    const ConvParams q = MakeParams(g, {QuantSpec(DType::kU8, {}, 0.013f, 3, kNhwc),
                                        QuantSpec(DType::kU8, {}, 0.02f, 100, kNhwc),
                                        Bias::kF32,
                                        {domain, act}});
    if (kind == ActivationKind::kRound)
      continue;  // jumps: a rounding difference becomes a whole step
    if (EltwiseOf(act.activation).ok()) {
      ExpectAllMatch(p, 1e-4);
      ExpectAllMatch(q, 1);
    } else {
      const auto refusal = WholeImplementations()[0].create(p, KernelEnv{nullptr, 2});
      EXPECT_TRUE(absl::IsUnimplemented(refusal.status())) << refusal.status();
    }
  }
}

TEST(ConvTest, PlainSourceIntoChannelsLastIsReordered) {
  const Geometry& stem = Geometries()[2];
  ExpectAllMatch(MakeParams(stem, {F32Spec({}), F32Spec({}, kNhwc), Bias::kF32, {}}), 1e-4);
  ExpectAllMatch(MakeParams(stem, {QuantSpec(DType::kU8, {}, 0.013f, 9),
                                   QuantSpec(DType::kU8, {}, 0.03f, 0, kNhwc),
                                   Bias::kF32,
                                   {}}),
                 1);
}

TEST(ConvTest, HotShapesDoNotFallToOneDnnsReference) {
  for (const Geometry& g : Geometries()) {
    if (std::string(g.name) == "depthwise_multiplier" || std::string(g.name) == "grouped_odd")
      continue;
    for (const TensorSpec& src : {F32Spec({}, kNhwc), QuantSpec(DType::kU8, {}, 0.013f, 0, kNhwc),
                                  QuantSpec(DType::kU8, {}, 0.013f, 7, kNhwc)}) {
      TensorSpec dst = src;
      if (dst.quant) dst.quant = QuantParams::PerTensor(0.02f, 0);
      auto kernel = CreateConv(MakeParams(g, {src, dst, Bias::kF32, {Act(ActivationKind::kRelu)}}),
                               KernelEnv{nullptr, 2});
      ASSERT_TRUE(kernel.ok()) << kernel.status();
      EXPECT_EQ((*kernel)->implementation().find("ref"), std::string::npos)
          << g.name << " " << NameOf(src.dtype) << ": " << (*kernel)->implementation();
    }
  }
}

// A stem of 3 channels on 8 bits and a float depthwise layer: where oneDNN's first choice was measured slower.
TEST(ConvTest, TakesTheImplementationMeasuredFaster) {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto has = [&](dnnl::cpu_isa wanted) {
    return (isa & static_cast<unsigned>(wanted)) == static_cast<unsigned>(wanted);
  };
  if (!has(dnnl::cpu_isa::avx512_core_vnni)) GTEST_SKIP() << "measured on AVX512-VNNI and AMX only";
  SetTeamSize(2);
  const Geometry depthwise = {"", 1, 64, 64, 64, {56, 56}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}};
  auto kernel = CreateConv(MakeParams(depthwise, {F32Spec({}, kNhwc), F32Spec({}, kNhwc), Bias::kF32, {}}),
                           KernelEnv{nullptr, 2});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  EXPECT_TRUE(absl::StrContains((*kernel)->implementation(), "jit_dw:avx512_core")) << (*kernel)->implementation();
  const Geometry stem = {"", 1, 3, 32, 1, {64, 64}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}};
  kernel = CreateConv(MakeParams(stem, {QuantSpec(DType::kU8, {}, 0.02f, 7, kNhwc),
                                        QuantSpec(DType::kU8, {}, 0.05f, 0, kNhwc), Bias::kF32, {}}),
                      KernelEnv{nullptr, 2});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  EXPECT_TRUE(absl::StrContains((*kernel)->implementation(), "jit_int8:avx512_core_vnni"))
      << (*kernel)->implementation();
}

TEST(ConvTest, SaturationReplacesReluAndClipOnlyWhereItGivesTheSame) {
  const TensorSpec zero = QuantSpec(DType::kU8, {1}, 6.0f / 255, 0),
                   middle = QuantSpec(DType::kU8, {1}, 0.1f, 128);
  EXPECT_TRUE(SaturationGives({ActivationKind::kRelu}, zero));
  EXPECT_FALSE(SaturationGives({ActivationKind::kRelu}, middle));
  EXPECT_FALSE(SaturationGives({ActivationKind::kRelu}, F32Spec({1})));
  EXPECT_TRUE(SaturationGives({ActivationKind::kRelu}, QuantSpec(DType::kS8, {1}, 0.1f, -128)));
  EXPECT_TRUE(SaturationGives({ActivationKind::kClip, 0, 6}, zero));
  EXPECT_FALSE(SaturationGives({ActivationKind::kClip, 0, 5}, zero));
  EXPECT_FALSE(SaturationGives({ActivationKind::kLeakyRelu, 0.1f}, zero));
}

TEST(ConvTest, BucketsShareOnePackedCopyAndSurviveTheRelease) {
  SetTeamSize(2);
  for (const TensorSpec& src : {F32Spec({}, kNhwc), QuantSpec(DType::kU8, {}, 0.013f, 7, kNhwc)}) {
    TensorSpec dst = src;
    if (dst.quant) dst.quant = QuantParams::PerTensor(0.02f, 3);
    WeightStore store;
    Geometry g = Geometries()[0];
    ConvParams p = MakeParams(g, {src, dst, Bias::kF32, {}});
    ASSERT_TRUE(CreateConv(p, KernelEnv{&store, 2}).ok());
    const int64_t bytes = store.TotalBytes();
    EXPECT_GE(bytes, p.weights.tensor.size_bytes());
    g.batch = 8;
    ConvParams wide = MakeParams(g, {src, dst, Bias::kF32, {}});
    const Buffer input = RandomOperand(wide.src, 13);
    const Buffer expected = Expected(wide, input);
    wide.weights.tensor = Tensor();
    wide.bias.tensor = Tensor();
    auto kernel = CreateConv(wide, KernelEnv{&store, 2});
    ASSERT_TRUE(kernel.ok()) << kernel.status();
    EXPECT_EQ(store.TotalBytes(), bytes);
    Buffer out = InitialDst(wide);
    ASSERT_TRUE(RunOnce(**kernel, {input.data()}, out.data()).ok());
    EXPECT_EQ(Difference(wide.dst, expected.data(), out.data(), src.quant ? 1 : 1e-4), "");
  }
}

// oneDNN wants another layout for larger batches of some shapes on AMX (here) and accepts no other:
// it is made from the first copy, compensation or not, when the weights have been released.
TEST(ConvTest, LaterBucketsAvoidOneDnnsReferenceAfterTheRelease) {
  SetTeamSize(2);
  Geometry g{"s4_3x3", 1, 256, 256, 1, {14, 14}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}};
  for (int zero_point : {0, 9}) {
    const Case c{QuantSpec(DType::kU8, {}, 0.013f, zero_point, kNhwc), F32Spec({}, kNhwc),
                 Bias::kF32};
    WeightStore store, fresh_store;
    g.batch = 1;
    ASSERT_TRUE(CreateConv(MakeParams(g, c), KernelEnv{&store, 2}).ok());
    g.batch = 4;
    ConvParams p = MakeParams(g, c);
    const Buffer input = RandomOperand(p.src, 13);
    Buffer expected = InitialDst(p), out = InitialDst(p);
    auto fresh = CreateConv(p, KernelEnv{&fresh_store, 2});
    ASSERT_TRUE(fresh.ok() && RunOnce(**fresh, {input.data()}, expected.data()).ok());
    p.weights.tensor = Tensor();
    p.bias.tensor = Tensor();
    auto kernel = CreateConv(p, KernelEnv{&store, 2});
    ASSERT_TRUE(kernel.ok()) << kernel.status();
    EXPECT_EQ((*kernel)->implementation(), (*fresh)->implementation());
    ASSERT_TRUE(RunOnce(**kernel, {input.data()}, out.data()).ok());
    EXPECT_EQ(Difference(p.dst, expected.data(), out.data(), 0), "") << zero_point;
  }
}

TEST(ConvTest, PackedWeightsUnpackToWhatWasPacked) {
  using Tag = dnnl::memory::format_tag;
  const Tensor tensor = RandomConstant(DType::kS8, {2, 40, 33, 3, 3}, 5, WeightsLimit());
  const auto type = dnnl::memory::data_type::s8;
  const dnnl::memory::dims dims = {2, 40, 33, 3, 3};
  const dnnl::memory::desc plain(dims, type, Tag::goihw), swapped(dims, type, Tag::hwigo);
  for (Tag tag : {Tag::gOIhw4i16o4i, Tag::gOhwI16o4i, Tag::goihw}) {
    WeightStore store;
    ASSERT_TRUE(
        PackWeights(store, "1/conv/", tensor, plain, dnnl::memory::desc(dims, type, tag)).ok());
    auto again = PackWeights(store, "1/conv/", Tensor(), plain, swapped);
    ASSERT_TRUE(again.ok()) << again.status();
    auto direct = PackWeights(store, "2/conv/", tensor, plain, swapped);
    ASSERT_TRUE(direct.ok()) << direct.status();
    EXPECT_EQ(std::memcmp((*again)->data.data(), (*direct)->data.data(),
                          static_cast<size_t>(tensor.size_bytes())),
              0);
  }
}

TEST(ConvTest, ContradictingParametersAreRejected) {
  ConvParams p = MakeParams(Geometries()[0], {F32Spec({}), F32Spec({}), Bias::kNone, {}});
  const auto code = [](const ConvParams& params) {
    return CreateConv(params, KernelEnv{}).status().code();
  };
  EXPECT_EQ(code(p), absl::StatusCode::kOk);
  ConvParams bad = p;
  bad.groups = 3;
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
  bad = p;
  bad.dst.shape[2] += 1;
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
  bad = p;
  bad.strides[0] = 0;
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
  bad = p;
  bad.weights_dtype = DType::kS8;
  EXPECT_EQ(code(bad), absl::StatusCode::kUnimplemented);
}

TEST(ConvTest, EmptyBatchRuns) {
  Geometry g = Geometries()[0];
  g.batch = 0;
  const ConvParams p = MakeParams(g, {F32Spec({}), F32Spec({}), Bias::kNone, {}});
  auto kernel = CreateConv(p, KernelEnv{});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  float nothing = 0;
  EXPECT_TRUE(RunOnce(**kernel, {&nothing}, &nothing).ok());
}

// The same parameters as operands of the run instead of as part of the specification.
TEST(ConvTest, QuantizationAtRunTimeEqualsThatOfTheSpecification) {
  for (const auto& [dtype, zero] : std::vector<std::pair<DType, int32_t>>{
           {DType::kU8, 0}, {DType::kU8, 131}, {DType::kS8, -5}}) {
    if (dtype == DType::kS8 && !HasVnni()) continue;
    for (const Geometry& g : Geometries()) {
      SCOPED_TRACE(absl::StrCat(g.name, " ", NameOf(dtype), " ", zero));
      const ConvParams fixed =
          MakeParams(g, {QuantSpec(dtype, {}, 0.125f, zero, kNhwc), F32Spec({}, kNhwc), Bias::kF32,
                         {Act(ActivationKind::kRelu)}});
      const Buffer src = RandomOperand(fixed.src, 13);
      const Buffer expected = Expected(fixed, src);
      ConvParams p = fixed;
      p.src.quant.reset();
      p.runtime_quant = RuntimeQuant{1, 2};
      const float scale = 0.125f;
      for (const auto& entry : WholeImplementations()) {
        WeightStore store;
        auto kernel = entry.create(p, KernelEnv{&store, 2});
        ASSERT_TRUE(kernel.ok()) << entry.name << ": " << kernel.status();
        Buffer dst = InitialDst(p);
        ASSERT_TRUE(RunOnce(**kernel, {src.data(), &scale, &zero}, dst.data()).ok());
        EXPECT_EQ(Difference(p.dst, expected.data(), dst.data(), 1e-5), "")
            << (*kernel)->implementation();
      }
    }
  }
}

TEST(ConvTest, BareAccumulatorsAreExact) {
  ConvParams p = MakeParams(Geometries()[0], {QuantSpec(DType::kU8, {}, 1, 7, kNhwc),
                                              F32Spec({}, kNhwc), Bias::kNone, {}});
  p.weights.quant = QuantParams::PerTensor(1, 0);
  p.dst.dtype = DType::kS32;
  const Buffer src = RandomOperand(p.src, 13);
  const Buffer expected = Expected(p, src);
  const int32_t zero = 7;
  p.src.quant.reset();
  p.runtime_quant = RuntimeQuant{-1, 1};
  for (const auto& entry : WholeImplementations()) {
    auto kernel = entry.create(p, KernelEnv{nullptr, 2});
    ASSERT_TRUE(kernel.ok()) << entry.name << ": " << kernel.status();
    Buffer dst = InitialDst(p);
    ASSERT_TRUE(RunOnce(**kernel, {src.data(), &zero}, dst.data()).ok());
    EXPECT_EQ(Difference(p.dst, expected.data(), dst.data(), 0), "") << (*kernel)->implementation();
  }
  p.bias = {9, RandomConstant(DType::kF32, {p.weights_shape[0]}, 12), {}};
  EXPECT_EQ(CreateConv(p, KernelEnv{}).status().code(), absl::StatusCode::kUnimplemented);
}

// ---- weights of less than 8 bits

struct Form {
  const char* name;
  DType dtype;
  int block;  // 0: per channel
  bool zero_points;
  std::vector<int8_t> levels;
  int vector = 1;
  double bits = 4;
};

std::vector<int8_t> RandomLevels(size_t n, int limit) {
  const CounterRng rng(n);
  std::vector<int8_t> levels;
  for (size_t i = 0; i < n; ++i) levels.push_back(static_cast<int8_t>(static_cast<int>(rng.Bits(i) % static_cast<uint64_t>(2 * limit + 1)) - limit));
  return levels;
}

const std::vector<Form>& Forms() {
  static const auto* const list = new std::vector<Form>{
      {"s4", DType::kS4, 0, false, {}},
      {"s4 groups", DType::kS4, 32, false, {}},
      {"u4 zero points", DType::kU4, 16, true, {}},
      {"16 levels", DType::kU4, 0, false, {-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 72, 92, 127}},
      {"ternary", DType::kU2, 0, false, {-1, 0, 1}, 1, 2},
      {"ternary groups", DType::kU2, 8, false, {-1, 0, 1}, 1, 2},
      {"binary", DType::kU1, 0, false, {-1, 1}, 1, 1},
      {"vectors", DType::kU2, 0, false, RandomLevels(1024, 127), 4, 2},
      {"vectors groups", DType::kU2, 16, false, RandomLevels(512, 31), 4, 2},
  };
  return *list;
}

// The case's convolution with weights of the form; scales of blocks are 1 to 4 times their channel's.
ConvParams MakeNarrow(const Geometry& g, const Case& c, const Form& f) {
  ConvParams p = MakeParams(g, c);
  const CounterRng rng(31);
  const int64_t inputs = p.weights_shape[1], n = NumElements(p.weights_shape);
  QuantParams q{{}, {}, f.block > 0 ? 1 : 0, f.block, f.levels, f.vector};
  const int64_t blocks = f.block > 0 ? (inputs + f.block - 1) / f.block : 1;
  const int64_t per_channel = f.block > 0 ? blocks * n / p.weights_shape[0] / inputs : 1;
  for (int64_t i = 0; i < p.weights_shape[0] * per_channel; ++i) {
    const float multiple = f.block > 0 ? static_cast<float>(1 + rng.Bits(static_cast<uint64_t>(i)) % 4) : 1.0f;
    q.scale.push_back(multiple * p.weights.quant->scale[static_cast<size_t>(i / per_channel)]);
    if (f.zero_points) q.zero_point.push_back(static_cast<int>(rng.Bits(static_cast<uint64_t>(i) + 444) % 16));
  }
  Buffer data = *Buffer::Allocate(ByteSize(f.dtype, p.weights_shape));
  const int64_t entries = f.levels.empty() ? 16 : static_cast<int64_t>(f.levels.size()) / f.vector;
  for (int64_t i = 0; i < (f.vector > 1 ? n / f.vector : n); ++i) {
    const auto code = static_cast<int64_t>(rng.Bits(static_cast<uint64_t>(i) + 99999) % static_cast<uint64_t>(entries));
    if (f.vector > 1) {
      data.data()[i] = static_cast<std::byte>(code);
    } else {
      StoreInteger(f.dtype, data.data(), i, f.dtype == DType::kS4 && code == 8 ? 7 : code);
    }
  }
  p.weights = {1, Tensor::FromBuffer(f.dtype, p.weights_shape, std::move(data)), std::move(q)};
  p.weights_dtype = f.dtype;
  return p;
}

// The weights' reals by the formulas of base/quantization.h.
std::vector<float> Reals(const ConvParams& p) {
  const QuantParams& q = *p.weights.quant;
  const std::byte* data = p.weights.tensor.data();
  const int64_t inputs = p.weights_shape[1], n = NumElements(p.weights_shape), positions = n / p.weights_shape[0] / inputs;
  std::vector<float> reals;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t o = i / inputs / positions, c = i / positions % inputs, k = i % positions;
    const int64_t blocks = q.block > 0 ? (inputs + q.block - 1) / q.block : 1;
    const auto at = static_cast<size_t>(q.block > 0 ? (o * blocks + c / q.block) * positions + k : o);
    double level = 0;
    if (q.vector > 1) {
      level = q.levels[static_cast<size_t>(data[(o * positions + k) * (inputs / 4) + c / 4]) * 4 + static_cast<size_t>(c % 4)];
    } else {
      const int64_t code = LoadInteger(p.weights_dtype, data, i);
      level = q.levels.empty() ? static_cast<double>(code) : q.levels[static_cast<size_t>(code)];
    }
    reals.push_back(static_cast<float>(double{q.scale[at]} * (level - q.zero_point_at(at))));
  }
  return reals;
}

Buffer RunNarrow(const ConvParams& p, const char* entry, std::string* refusal, WeightStore* store) {
  const Buffer src = RandomOperand(p.src, 13);
  Buffer dst = InitialDst(p);
  for (const auto& e : ConvImplementations()) {
    if (std::string(e.name) != entry) continue;
    auto kernel = e.create(p, KernelEnv{store, 2});
    *refusal = std::string(kernel.status().message());
    if (!kernel.ok()) return dst;
    EXPECT_TRUE(RunOnce(**kernel, {src.data()}, dst.data()).ok());
  }
  return dst;
}

TEST(ConvTest, WeightsBelow8BitsEqualS8WeightsBitForBit) {
  if (!HasVnni()) GTEST_SKIP() << "codes need VNNI";
  SetTeamSize(2);
  int accepted = 0;
  std::map<std::string, int> refusals;
  for (const Geometry& g : Geometries()) {
    for (const Form& f : Forms()) {
      for (const auto& [dtype, zero_point] : std::vector<std::pair<DType, int>>{{DType::kU8, 0}, {DType::kU8, 131}, {DType::kS8, 0}}) {
        SCOPED_TRACE(absl::StrCat(g.name, ", ", f.name, ", ", NameOf(dtype), " zero point ", zero_point));
        const Case c{QuantSpec(dtype, {}, 0.013f, zero_point, kNhwc), QuantSpec(DType::kU8, {}, 0.043f, 119, kNhwc), Bias::kF32, {Act(ActivationKind::kRelu)}};
        if (f.vector > 1 && g.channels / g.groups % 4 != 0) continue;
        const ConvParams p = MakeNarrow(g, c, f);
        const absl::StatusOr<ConvParams> s8 = ConvOfS8(p);
        ASSERT_TRUE(s8.ok()) << s8.status();
        std::string refusal;
        WeightStore store;
        const Buffer want = RunNarrow(*s8, "onednn", &refusal, &store);
        ASSERT_EQ(refusal, "");
        for (const char* entry : {"amx_codes", "onednn_codes", "onednn", "reference"}) {
          WeightStore own;
          const Buffer got = RunNarrow(p, entry, &refusal, &own);
          if (std::string(entry) == "amx_codes" && !refusal.empty()) {
            refusals[refusal]++;
            continue;
          }
          if (std::string(entry) == "onednn_codes") {
            accepted += refusal.empty();
            // Groups need four neighbouring bytes of one output channel; padding needs a code for 0.
            const bool whole_lanes = g.channels / g.groups % 4 == 0;
            EXPECT_TRUE(refusal.empty() || !whole_lanes) << refusal;
            if (!refusal.empty()) continue;
          }
          ASSERT_EQ(refusal, "") << entry;
          EXPECT_EQ(Difference(p.dst, want.data(), got.data(), std::string(entry) == "reference" ? 1 : 0), "") << entry;
        }
      }
    }
  }
  EXPECT_GT(accepted, 300);
  for (const auto& [why, count] : refusals) std::printf("%d %s\n", count, why.c_str());
}

// Against floats: sources and weights as reals, sums in double. 1e-4: scales are rounded products.
TEST(ConvTest, WeightsBelow8BitsAreTheRealsOfTheirFormulas) {
  if (!HasVnni()) GTEST_SKIP() << "codes need VNNI";
  for (const size_t i : {0u, 4u, 9u, 15u, 16u, 18u}) {
    const Geometry& g = Geometries()[i];
    for (const Form& f : Forms()) {
      SCOPED_TRACE(absl::StrCat(g.name, ", ", f.name));
      if (f.vector > 1 && g.channels / g.groups % 4 != 0) continue;
      const Case c{QuantSpec(DType::kU8, {}, 0.013f, 77, kNhwc), F32Spec({}, kNhwc), Bias::kF32, {}};
      const ConvParams p = MakeNarrow(g, c, f);
      const Buffer src = RandomOperand(p.src, 13);
      std::vector<float> reals(static_cast<size_t>(NumElements(p.src.shape)));
      for (size_t e = 0; e < reals.size(); ++e) reals[e] = 0.013f * (static_cast<float>(static_cast<uint8_t>(src.data()[e])) - 77);
      ConvParams floats = p;
      floats.src = F32Spec(p.src.shape, kNhwc);
      floats.weights.quant.reset();
      Buffer want = InitialDst(p);
      ConvReference<double, float>(floats, reals.data(), Reals(p).data(), p.bias.tensor.ToF64(), want.data());
      WeightStore store;
      auto kernel = CreateConv(p, KernelEnv{&store, 2});
      ASSERT_TRUE(kernel.ok()) << kernel.status();
      Buffer got = InitialDst(p);
      ASSERT_TRUE(RunOnce(**kernel, {src.data()}, got.data()).ok());
      EXPECT_EQ(Difference(p.dst, want.data(), got.data(), 1e-4), "") << (*kernel)->implementation();
    }
  }
}

TEST(ConvTest, CodesAreResidentAtTheirPackedSize) {
  if (!HasVnni()) GTEST_SKIP() << "codes need VNNI";
  const Geometry large = {"large", 1, 128, 128, 1, {7, 7}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}};
  for (const Form& f : Forms()) {
    SCOPED_TRACE(f.name);
    const Case c{QuantSpec(DType::kU8, {}, 0.013f, 131, kNhwc), QuantSpec(DType::kU8, {}, 0.043f, 119, kNhwc), Bias::kNone, {}};
    const ConvParams p = MakeNarrow(large, c, f);
    WeightStore store;
    auto kernel = CreateConv(p, KernelEnv{&store, 2});
    ASSERT_TRUE(kernel.ok()) << kernel.status();
    EXPECT_TRUE(absl::StrContains((*kernel)->implementation(), "codes")) << (*kernel)->implementation();
    const auto weights = static_cast<double>(NumElements(p.weights_shape));
    // Records: a byte for each scale (and zero point), in VNNI's layouts twice. Vectors beside: scales, compensation.
    const double records = f.block == 0 ? 0 : weights / f.block * (f.zero_points ? 2 : 1) * 4;
    EXPECT_LE(static_cast<double>(store.TotalBytes()), weights * f.bits / 8 + records + 4096);
  }
}

TEST(ConvTest, BucketsShareOneCopyOfCodesAndSurviveTheRelease) {
  if (!HasVnni()) GTEST_SKIP() << "codes need VNNI";
  WeightStore store;
  const Case c{QuantSpec(DType::kU8, {}, 0.013f, 0, kNhwc), QuantSpec(DType::kU8, {}, 0.043f, 0, kNhwc), Bias::kF32, {}};
  Geometry g = Geometries()[0];
  for (const int64_t batch : {1, 8, 2}) {
    g.batch = batch;
    ConvParams p = MakeNarrow(g, c, Forms()[1]);
    std::string refusal;
    WeightStore own;
    const Buffer want = RunNarrow(*ConvOfS8(p), "onednn", &refusal, &own);
    if (batch > 1) p.weights.tensor = p.bias.tensor = Tensor();
    const Buffer got = RunNarrow(p, "onednn_codes", &refusal, &store);
    ASSERT_EQ(refusal, "");
    EXPECT_EQ(Difference(p.dst, want.data(), got.data(), 0), "") << batch;
  }
  int copies = 0;
  for (const auto& [key, bytes] : store.Entries()) copies += absl::StrContains(key, "/conv_codes/");
  EXPECT_EQ(copies, 1);
}

// On AMX batch 32 of this shape refuses the layout that batch 1 packs: the codes' layout would fall to the reference.
TEST(ConvTest, LaterBucketsOfCodesAvoidOneDnnsReferenceAfterTheRelease) {
  if (!HasVnni()) GTEST_SKIP() << "codes need VNNI";
  SetTeamSize(2);
  WeightStore store;
  const Case c{QuantSpec(DType::kU8, {}, 0.013f, 0, kNhwc), QuantSpec(DType::kU8, {}, 0.043f, 0, kNhwc), Bias::kF32, {}};
  Geometry g{"3x3", 1, 96, 256, 1, {13, 13}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}};
  for (const int64_t batch : {1, 32}) {
    g.batch = batch;
    ConvParams p = MakeNarrow(g, c, Forms()[1]);
    std::string refusal;
    WeightStore own;
    const Buffer want = RunNarrow(*ConvOfS8(p), "onednn", &refusal, &own);
    if (batch > 1) p.weights.tensor = p.bias.tensor = Tensor();
    const auto kernel = CreateConv(p, KernelEnv{&store, 2});
    ASSERT_TRUE(kernel.ok()) << kernel.status();
    EXPECT_THAT((*kernel)->implementation(), ::testing::Not(::testing::HasSubstr("ref"))) << batch;
    const Buffer src = RandomOperand(p.src, 13);
    Buffer got = InitialDst(p);
    ASSERT_TRUE(RunOnce(**kernel, {src.data()}, got.data()).ok());
    EXPECT_EQ(Difference(p.dst, want.data(), got.data(), 0), "") << batch;
  }
}

}  // namespace
}  // namespace octet::kernels
