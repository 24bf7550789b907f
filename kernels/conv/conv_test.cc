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
#include "kernels/conv/conv_testing.h"
#include "kernels/onednn_product.h"

namespace octet::kernels {
namespace {

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

}  // namespace
}  // namespace octet::kernels
