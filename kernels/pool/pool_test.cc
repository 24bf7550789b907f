// Every implementation of Pool against the reference loops.
//
// Maxima are equal. Averages: f32 within 1e-5 (float sums), integers within one step (float mean
// against double at ties).
#include "kernels/pool/pool.h"

#include <gtest/gtest.h>

#include "kernels/pool/pool_reference.h"
#include "kernels/product_testing.h"

namespace octet::kernels {
namespace {

using Kind = PoolParams::Kind;
constexpr Kind kKinds[] = {Kind::kMax, Kind::kAverage, Kind::kAverageIncludePad};

struct Geometry {
  const char* name;
  int64_t batch, channels;
  std::vector<int64_t> src, kernel, strides, dilations, pads_begin, pads_end;
  int64_t extra = 0;  // dst elements beyond the floor formula, per dimension (ceil_mode)
};

const std::vector<Geometry>& Geometries() {
  static const auto* const list = new std::vector<Geometry>{
      {"resnet_stem", 1, 64, {23, 23}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}},
      {"halving", 2, 32, {14, 14}, {2, 2}, {2, 2}, {1, 1}, {0, 0}, {0, 0}},
      {"global", 2, 70, {7, 7}, {7, 7}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
      {"inception", 1, 19, {9, 8}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"one", 1, 1, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
      {"asymmetric", 1, 16, {9, 9}, {3, 2}, {2, 3}, {1, 1}, {0, 1}, {1, 0}},
      {"dilated", 1, 16, {11, 12}, {3, 2}, {1, 1}, {2, 3}, {2, 0}, {2, 1}},
      {"ceil", 1, 16, {12, 12}, {3, 3}, {2, 2}, {1, 1}, {0, 0}, {0, 0}, 1},
      {"ceil_padded", 1, 8, {12, 12}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}, 0},
      {"unused_tail", 1, 8, {10, 10}, {3, 3}, {4, 4}, {1, 1}, {0, 0}, {0, 0}},
      {"one_dimension", 2, 24, {30}, {4}, {3}, {1}, {1}, {2}},
      {"global_one_dimension", 1, 33, {50}, {50}, {1}, {1}, {0}, {0}},
      {"three_dimensions", 1, 20, {4, 6, 5}, {2, 3, 2}, {2, 1, 1}, {1, 1, 1}, {0, 1, 0}, {0, 1, 1}},
  };
  return *list;
}

PoolParams MakeParams(const Geometry& g, Kind kind, TensorSpec src, TensorSpec dst) {
  PoolParams p{kind,      std::move(src), std::move(dst), g.kernel,
               g.strides, g.dilations,    g.pads_begin,   g.pads_end};
  p.src.shape = {g.batch, g.channels};
  p.dst.shape = p.src.shape;
  for (size_t i = 0; i < g.src.size(); ++i) {
    p.src.shape.push_back(g.src[i]);
    const int64_t extent = (g.kernel[i] - 1) * g.dilations[i] + 1;
    p.dst.shape.push_back((g.src[i] + g.pads_begin[i] + g.pads_end[i] - extent) / g.strides[i] + 1 +
                          g.extra);
  }
  return p;
}

enum class Refusals : uint8_t { kNone, kAllowed };

// Runs every implementation and returns the name of the one that CreatePool chooses. `rows` may
// always refuse.
std::string ExpectAllMatch(const PoolParams& p, double limit, Refusals refusals = Refusals::kNone) {
  SetTeamSize(2);
  const Buffer src = RandomOperand(p.src, 31);
  Buffer expected = RandomOperand(p.dst, 32);
  PoolReference(p, src.data(), expected.data());
  for (const auto& entry : PoolImplementations()) {
    auto kernel = entry.create(p, KernelEnv{nullptr, 2});
    const bool may_refuse = refusals == Refusals::kAllowed || std::string(entry.name) == "rows";
    if (may_refuse && absl::IsUnimplemented(kernel.status())) continue;
    EXPECT_TRUE(kernel.ok()) << entry.name << ": " << kernel.status();
    if (!kernel.ok()) continue;
    Buffer dst = RandomOperand(p.dst, 33);
    EXPECT_TRUE(RunOnce(**kernel, {src.data()}, dst.data()).ok());
    EXPECT_EQ(Difference(p.dst, expected.data(), dst.data(), limit), "")
        << (*kernel)->implementation();
  }
  auto chosen = CreatePool(p, KernelEnv{nullptr, 2});
  EXPECT_TRUE(chosen.ok()) << chosen.status();
  return chosen.ok() ? (*chosen)->implementation() : "";
}

std::string Trace(const Geometry& g, Kind kind, Layout layout) {
  return absl::StrCat(g.name, " kind ", static_cast<int>(kind), " ", NameOf(layout));
}

TEST(PoolTest, F32MatchesReference) {
  for (const Geometry& g : Geometries()) {
    for (Kind kind : kKinds) {
      for (Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
        SCOPED_TRACE(Trace(g, kind, layout));
        const auto refusals =
            g.extra > 0 && kind == Kind::kAverageIncludePad ? Refusals::kAllowed : Refusals::kNone;
        ExpectAllMatch(MakeParams(g, kind, F32Spec({}, layout), F32Spec({}, layout)),
                       kind == Kind::kMax ? 0 : 1e-5, refusals);
      }
    }
  }
}

TEST(PoolTest, IntegersMatchReference) {
  constexpr Layout kNhwc = Layout::kChannelsLast;
  for (const Geometry& g : Geometries()) {
    for (Kind kind : kKinds) {
      for (const TensorSpec& spec :
           {QuantSpec(DType::kU8, {}, 0.1f, 0, kNhwc), QuantSpec(DType::kS8, {}, 0.1f, 0, kNhwc),
            QuantSpec(DType::kU8, {}, 0.02f, 101, kNhwc)}) {
        SCOPED_TRACE(absl::StrCat(Trace(g, kind, kNhwc), " ", NameOf(spec.dtype), " zero point ",
                                  spec.quant->zero_point[0]));
        const auto refusals =
            kind == Kind::kAverageIncludePad ? Refusals::kAllowed : Refusals::kNone;
        ExpectAllMatch(MakeParams(g, kind, spec, spec), kind == Kind::kMax ? 0 : 1, refusals);
      }
    }
  }
}

TEST(PoolTest, AverageMayChangeQuantizationAndType) {
  constexpr Layout kNhwc = Layout::kChannelsLast;
  const TensorSpec u8 = QuantSpec(DType::kU8, {}, 0.02f, 101, kNhwc), f32 = F32Spec({}, kNhwc);
  const std::vector<std::pair<TensorSpec, TensorSpec>> changes = {
      {u8, QuantSpec(DType::kU8, {}, 0.013f, 90, kNhwc)},
      {u8, QuantSpec(DType::kS8, {}, 0.03f, -20, kNhwc)},
      {QuantSpec(DType::kS8, {}, 0.03f, -20, kNhwc), u8},
      {u8, f32},
      {f32, QuantSpec(DType::kU8, {}, 0.004f, 128, kNhwc)}};
  for (const Geometry& g : Geometries()) {
    for (Kind kind : {Kind::kAverage, Kind::kAverageIncludePad}) {
      for (const auto& [from, to] : changes) {
        SCOPED_TRACE(absl::StrCat(Trace(g, kind, kNhwc), " ", NameOf(from.dtype), " into ",
                                  NameOf(to.dtype)));
        const std::string name =
            ExpectAllMatch(MakeParams(g, kind, from, to), to.quant ? 1 : 1e-5, Refusals::kAllowed);
        EXPECT_NE(name, "reference");
      }
    }
  }
}

TEST(PoolTest, CommonPoolsDoNotFallToAnyReference) {
  constexpr Layout kNhwc = Layout::kChannelsLast;
  const TensorSpec u8 = QuantSpec(DType::kU8, {}, 0.02f, 0, kNhwc);
  for (size_t i : {0u, 1u, 2u, 3u}) {
    for (const TensorSpec& spec : {F32Spec({}, kNhwc), u8}) {
      for (Kind kind : {Kind::kMax, Kind::kAverage}) {
        const std::string name = ExpectAllMatch(MakeParams(Geometries()[i], kind, spec, spec),
                                                kind == Kind::kMax ? 0 : 1);
        EXPECT_EQ(name.find("ref"), std::string::npos) << Geometries()[i].name << ": " << name;
      }
    }
    const std::string requantized =
        ExpectAllMatch(MakeParams(Geometries()[i], Kind::kAverage, u8,
                                  QuantSpec(DType::kU8, {}, 0.013f, 5, kNhwc)),
                       1);
    EXPECT_EQ(requantized.find("ref"), std::string::npos)
        << Geometries()[i].name << ": " << requantized;
  }
}

// Window over the last two of three elements plus one that ceil_mode adds beyond the declared
// padding.
TEST(PoolTest, CeilModeDividesByDeclaredPaddingOnly) {
  PoolParams p{
      Kind::kAverageIncludePad, F32Spec({1, 1, 4}), F32Spec({1, 1, 2}), {3}, {2}, {1}, {0}, {0}};
  const std::vector<float> src = {1, 2, 3, 5};
  float dst[2] = {};
  auto kernel = CreatePool(p, KernelEnv{});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  ASSERT_TRUE(RunOnce(**kernel, {src.data()}, dst).ok());
  EXPECT_EQ(dst[0], 2);
  EXPECT_EQ(dst[1], 4);  // (3 + 5) / 2, not / 3
  p.pads_end = {1};
  kernel = CreatePool(p, KernelEnv{});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  ASSERT_TRUE(RunOnce(**kernel, {src.data()}, dst).ok());
  EXPECT_FLOAT_EQ(dst[1], 8.0f / 3);
}

TEST(PoolTest, ContradictingParametersAreRejected) {
  const auto code = [](const PoolParams& p) { return CreatePool(p, KernelEnv{}).status().code(); };
  const PoolParams p = MakeParams(Geometries()[0], Kind::kMax, F32Spec({}), F32Spec({}));
  EXPECT_EQ(code(p), absl::StatusCode::kOk);
  PoolParams bad = p;
  bad.dst.shape[3] += 5;  // windows without a source element
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
  bad = p;
  bad.kernel.pop_back();
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
  bad = p;
  bad.dst.shape[1] = 3;
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
  bad = p;
  bad.dst = QuantSpec(DType::kU8, p.dst.shape, 1, 0);
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace octet::kernels
