// Weights of less than 8 bits: all entries of Conv that take them, against s8 weights bit for bit and against reals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "absl/strings/match.h"
#include "base/parallel_for.h"
#include "kernels/amx.h"
#include "kernels/conv/conv_rows.h"
#include "kernels/conv/conv_testing.h"
#include "kernels/narrow_weights.h"
#include "kernels/onednn_product.h"

namespace octet::kernels {
namespace {

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

TEST(ConvCodesTest, WeightsBelow8BitsEqualS8WeightsBitForBit) {
  if (!HasVnni()) GTEST_SKIP() << "codes need VNNI";
  SetTeamSize(2);
  int accepted = 0;
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
          if (std::string(entry) == "amx_codes" && !refusal.empty()) continue;
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
}

// Against floats: sources and weights as reals, sums in double. 1e-4: scales are rounded products.
TEST(ConvCodesTest, WeightsBelow8BitsAreTheRealsOfTheirFormulas) {
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

TEST(ConvCodesTest, CodesAreResidentAtTheirPackedSize) {
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

TEST(ConvCodesTest, BucketsShareOneCopyOfCodesAndSurviveTheRelease) {
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
TEST(ConvCodesTest, LaterBucketsOfCodesAvoidOneDnnsReferenceAfterTheRelease) {
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

// Shapes that entry "amx_codes" takes: up to 64 rows; channels that end within tiles, and outputs that do.
const std::vector<Geometry>& FewRows() {
  static const auto* const list = new std::vector<Geometry>{
      {"3x3", 1, 256, 64, 1, {7, 7}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"odd outputs", 1, 64, 100, 1, {6, 5}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"one output", 1, 128, 1, 1, {3, 3}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"48 channels", 1, 48, 160, 1, {5, 7}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"1x1", 1, 512, 96, 1, {7, 7}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
      {"1x1 in rounds", 1, 1024, 80, 1, {7, 7}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
      {"1x1 in rounds, two tiles", 1, 2048, 112, 1, {5, 5}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
      {"two tiles", 1, 64, 176, 1, {5, 5}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"1x1 of 100 channels", 1, 100, 96, 1, {7, 7}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
      {"1x1 strided", 1, 128, 64, 1, {13, 13}, {1, 1}, {2, 2}, {1, 1}, {0, 0}, {0, 0}},
      {"one pixel", 1, 320, 256, 1, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
      {"17 pixels", 1, 64, 32, 1, {1, 17}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
      {"strided", 1, 64, 64, 1, {13, 13}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}},
      {"stride 3 and 2", 1, 64, 64, 1, {11, 9}, {3, 5}, {3, 2}, {1, 1}, {0, 2}, {1, 3}},
      {"dilated", 1, 128, 64, 1, {6, 6}, {3, 3}, {1, 1}, {2, 1}, {2, 1}, {2, 1}},
      {"dilated and strided", 1, 64, 64, 1, {12, 12}, {3, 3}, {2, 2}, {3, 2}, {3, 2}, {3, 2}},
      {"asymmetric", 1, 128, 64, 1, {6, 6}, {3, 2}, {1, 1}, {1, 1}, {0, 1}, {2, 0}},
      {"batch 3", 3, 64, 64, 1, {3, 3}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"one dimension", 2, 64, 48, 1, {20}, {5}, {1}, {1}, {2}, {2}},
      {"three dimensions", 1, 64, 32, 1, {2, 3, 3}, {2, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {1, 1, 1}},
  };
  return *list;
}

// Sums of every kind of tail are those of oneDNN bit for bit.
TEST(ConvCodesTest, AmxEqualsOneDnnBitForBitOnFewRows) {
  if (!AmxInt8Available()) GTEST_SKIP() << "no AMX here";
  SetTeamSize(2);
  const TensorSpec u8 = QuantSpec(DType::kU8, {}, 0.043f, 0, kNhwc), middle = QuantSpec(DType::kU8, {}, 0.043f, 119, kNhwc),
                   s8 = QuantSpec(DType::kS8, {}, 0.05f, -7, kNhwc), f32 = F32Spec({}, kNhwc);
  const std::vector<Case> tails = {
      {{}, u8, Bias::kF32, {Act(ActivationKind::kRelu)}},
      {{}, middle, Bias::kNone, {Act(ActivationKind::kRelu)}},
      {{}, s8, Bias::kS32, {}},
      {{}, f32, Bias::kF32, {Act(ActivationKind::kLeakyRelu, 0.1f)}},
      {{}, u8, Bias::kF32, {Act(ActivationKind::kClip, 0, 2), Add(QuantSpec(DType::kU8, {}, 0.09f, 77))}},
      {{}, s8, Bias::kNone, {Add(QuantSpec(DType::kS8, {}, 0.08f, -3)), Act(ActivationKind::kRelu)}},
      {{}, f32, Bias::kNone, {Add(F32Spec({})), Act(ActivationKind::kRelu)}},
  };
  std::map<std::string, int> accepted;
  for (const Geometry& g : FewRows()) {
    for (const Form& f : Forms()) {
      if (f.vector > 1 && g.channels % 4 != 0) continue;
      for (size_t t = 0; t < tails.size(); ++t) {
        const int zero_point = t % 2 == 0 ? 131 : 0;
        SCOPED_TRACE(absl::StrCat(g.name, ", ", f.name, ", tail ", t));
        Case c = tails[t];
        c.src = QuantSpec(DType::kU8, {}, 0.013f, zero_point, kNhwc);
        const ConvParams p = MakeNarrow(g, c, f);
        std::string refusal;
        WeightStore store;
        const Buffer got = RunNarrow(p, "amx_codes", &refusal, &store);
        if (!refusal.empty()) continue;
        ++accepted[g.name];
        // The other entry runs on the same codes.
        const Buffer want = RunNarrow(p, "onednn_codes", &refusal, &store);
        ASSERT_EQ(refusal, "");
        ASSERT_EQ(Difference(p.dst, want.data(), got.data(), 0), "");
        int copies = 0;
        for (const auto& [key, bytes] : store.Entries()) copies += absl::StrContains(key, "/conv_codes/");
        EXPECT_EQ(copies, 1);
      }
    }
  }
  for (const Geometry& g : FewRows()) EXPECT_GE(accepted[g.name], 56) << g.name;
}

TEST(ConvCodesTest, AmxRefusesWithTheReason) {
  if (!AmxInt8Available()) GTEST_SKIP() << "no AMX here";
  const Case c{QuantSpec(DType::kU8, {}, 0.013f, 0, kNhwc), QuantSpec(DType::kU8, {}, 0.043f, 0, kNhwc), Bias::kNone, {}};
  const auto refusal = [&](const ConvParams& p) {
    std::string why;
    WeightStore store;
    RunNarrow(p, "amx_codes", &why, &store);
    return why;
  };
  const Geometry& g = FewRows()[0];
  EXPECT_EQ(refusal(MakeNarrow(g, c, Forms()[0])), "");
  Geometry other = g;
  other.batch = 8;
  EXPECT_THAT(refusal(MakeNarrow(other, c, Forms()[0])), ::testing::HasSubstr("rows"));
  other = g;
  other.groups = 4;
  EXPECT_THAT(refusal(MakeNarrow(other, c, Forms()[0])), ::testing::HasSubstr("4 groups"));
  ConvParams p = MakeNarrow(g, c, Forms()[0]);
  p.post_ops = {Act(ActivationKind::kTanh)};
  EXPECT_THAT(refusal(p), ::testing::HasSubstr("tanh"));
  p = MakeNarrow(g, c, Forms()[0]);
  p.src.quant->scale = {0.013f};
  p.src.dtype = DType::kS8;
  EXPECT_THAT(refusal(p), ::testing::HasSubstr("u8"));
}

// Every tap of every position finds the source's pixel, or padding.
TEST(ConvRowsTest, TapsReadTheirPixels) {
  const Case c{QuantSpec(DType::kU8, {}, 0.013f, 0, kNhwc), QuantSpec(DType::kU8, {}, 0.043f, 0, kNhwc), Bias::kNone, {}};
  constexpr uint8_t kPadding = 201;
  for (const auto* list : {&FewRows(), &Geometries()}) {
    for (const Geometry& geometry : *list) {
      if (geometry.groups != 1) continue;
      SCOPED_TRACE(geometry.name);
      const ConvParams p = MakeParams(geometry, c);
      const ConvRows rows(p, 16);
      const ConvGeometry g(p);
      const Buffer src = RandomOperand(p.src, 13);
      const auto* pixels = reinterpret_cast<const uint8_t*>(src.data());
      std::vector<uint8_t> copy(static_cast<size_t>(rows.copy_bytes()));
      if (rows.needs_copy()) rows.Copy(pixels, kPadding, copy.data());
      const uint8_t* from = rows.needs_copy() ? copy.data() : pixels;
      std::vector<bool> seen(static_cast<size_t>(NumElements(p.dst.shape) / p.dst.shape[1]));
      for (int64_t position = 0; position < rows.positions(); ++position) {
        int64_t pixel = rows.PixelAt(position);
        if (pixel < 0) continue;
        seen[static_cast<size_t>(pixel)] = true;
        ConvGeometry::Dims3 at;
        for (size_t d = 3; d-- > 0; pixel /= g.dst[d]) at[d] = pixel % g.dst[d];
        for (int64_t tap = 0; tap < g.kernel[0] * g.kernel[1] * g.kernel[2]; ++tap) {
          const uint8_t* got = from + (position + rows.TapOffset(tap)) * rows.pixel_bytes();
          int64_t offset = pixel, k = tap;
          bool inside = true;
          ConvGeometry::Dims3 x;
          for (size_t d = 3; d-- > 0; k /= g.kernel[d]) x[d] = at[d] * g.stride[d] - g.pad[d] + k % g.kernel[d] * g.dilation[d];
          for (size_t d = 0; d < 3; ++d) {
            inside = inside && x[d] >= 0 && x[d] < g.src[d];
            offset = offset * g.src[d] + x[d];
          }
          for (int64_t channel = 0; channel < p.src.shape[1]; ++channel) {
            const uint8_t want = inside ? pixels[offset * p.src.shape[1] + channel] : kPadding;
            ASSERT_EQ(got[channel], want) << "position " << position << " tap " << tap << " channel " << channel;
          }
        }
      }
      EXPECT_EQ(std::count(seen.begin(), seen.end(), true), static_cast<int64_t>(seen.size()));
    }
  }
}

}  // namespace
}  // namespace octet::kernels
