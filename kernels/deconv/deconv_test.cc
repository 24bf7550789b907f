// Every implementation of the transposed convolution against an oracle that scatters (the reference gathers).
//
// Tolerance 1e-5 sqrt(K) relative to 1 + |result|: float summation in another order.
#include "kernels/deconv/deconv.h"

#include <gtest/gtest.h>

#include "kernels/product_testing.h"

namespace octet::kernels {
namespace {

using Ints = std::vector<int64_t>;

struct Geometry {
  const char* name;
  int64_t batch, channels, outputs, groups;
  Ints src, kernel, strides, dilations, pads, output_padding;  // pads: begins, ends
};

const std::vector<Geometry>& Geometries() {
  static const auto* const list = new std::vector<Geometry>{
      {"one", 1, 1, 1, 1, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, {0, 0}},
      {"double", 1, 16, 24, 1, {5, 7}, {2, 2}, {2, 2}, {1, 1}, {0, 0, 0, 0}, {0, 0}},
      {"basic3x3", 2, 16, 8, 1, {6, 5}, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, {0, 0}},
      {"strided", 2, 7, 5, 1, {4, 6}, {4, 3}, {2, 3}, {1, 1}, {1, 0, 1, 1}, {1, 2}},
      {"asymmetric", 1, 3, 4, 1, {5, 5}, {3, 3}, {2, 2}, {1, 1}, {0, 1, 2, 0}, {0, 1}},
      {"dilated", 1, 8, 8, 1, {6, 6}, {3, 3}, {1, 2}, {2, 2}, {2, 1, 2, 1}, {0, 0}},
      {"grouped", 1, 8, 12, 4, {5, 6}, {3, 3}, {2, 1}, {1, 1}, {1, 1, 1, 1}, {1, 0}},
      {"depthwise", 1, 16, 16, 16, {3, 33}, {3, 3}, {1, 1}, {2, 1}, {2, 1, 2, 1}, {0, 0}},
      {"depthwise_strided", 1, 16, 16, 16, {4, 9}, {2, 5}, {1, 2}, {1, 1}, {0, 2, 0, 2}, {0, 0}},
      {"one_dimension", 2, 6, 4, 2, {9}, {5}, {3}, {1}, {1, 2}, {1}},
      {"three_dimensions", 1, 4, 6, 1, {3, 4, 5}, {2, 3, 2}, {2, 1, 2}, {1, 1, 1}, {0, 1, 0, 0, 1, 1}, {0, 0, 1}},
      {"beyond_the_last_window", 1, 2, 3, 1, {4, 4}, {2, 2}, {2, 2}, {1, 1}, {0, 0, -3, -3}, {0, 0}},
  };
  return *list;
}

DeconvParams MakeParams(const Geometry& g, Layout layout) {
  DeconvParams p;
  p.src = F32Spec({g.batch, g.channels}, layout);
  p.dst = F32Spec({g.batch, g.outputs}, layout);
  p.weights_shape = {g.channels, g.outputs / g.groups};
  const size_t n = g.src.size();
  for (size_t i = 0; i < n; ++i) {
    p.src.shape.push_back(g.src[i]);
    p.weights_shape.push_back(g.kernel[i]);
    p.dst.shape.push_back(g.strides[i] * (g.src[i] - 1) + g.output_padding[i] + (g.kernel[i] - 1) * g.dilations[i] + 1 -
                          g.pads[i] - g.pads[n + i]);
  }
  p.groups = g.groups;
  p.strides = g.strides;
  p.dilations = g.dilations;
  p.pads_begin.assign(g.pads.begin(), g.pads.begin() + static_cast<std::ptrdiff_t>(n));
  p.weights = {1, RandomConstant(DType::kF32, p.weights_shape, 11), {}};
  p.bias = {2, RandomConstant(DType::kF32, {g.outputs}, 12), {}};
  p.has_bias = true;
  return p;
}

// Every source element adds its products to the outputs it reaches.
Buffer Scattered(const DeconvParams& p, const Buffer& src_data) {
  const Shape src_strides = StridesIn(p.src), dst_strides = StridesIn(p.dst);
  std::vector<double> sums(static_cast<size_t>(NumElements(p.dst.shape)));
  const std::vector<float> weights = p.weights.tensor.ToF32(), bias = p.bias.tensor.ToF32();
  const int64_t per_group = p.weights_shape[1], channels = p.weights_shape[0] / p.groups;
  ForEachIndex(p.dst.shape, [&](const Index& at) {
    sums[static_cast<size_t>(Offset(dst_strides, at))] = p.has_bias ? bias[static_cast<size_t>(at[1])] : 0.0;
  });
  ForEachIndex(p.src.shape, [&](const Index& from) {
    const double x = LoadNumber(DType::kF32, src_data.data(), Offset(src_strides, from));
    Shape taps = p.weights_shape;
    taps[0] = 1;
    int64_t w = from[1] * (NumElements(p.weights_shape) / p.weights_shape[0]);
    ForEachIndex(taps, [&](const Index& k) {
      Index to = from;
      to[1] = from[1] / channels * per_group + k[1];
      bool inside = true;
      for (size_t d = 2; d < to.size(); ++d) {
        to[d] = from[d] * p.strides[d - 2] - p.pads_begin[d - 2] + k[d] * p.dilations[d - 2];
        inside = inside && to[d] >= 0 && to[d] < p.dst.shape[d];
      }
      if (inside) sums[static_cast<size_t>(Offset(dst_strides, to))] += x * weights[static_cast<size_t>(w)];
      ++w;
    });
  });
  Buffer out = RandomOperand(p.dst, 14);
  for (size_t i = 0; i < sums.size(); ++i) StoreNumber(DType::kF32, out.data(), static_cast<int64_t>(i), sums[i]);
  return out;
}

double Limit(const DeconvParams& p) { return 1e-5 * std::sqrt(static_cast<double>(NumElements(p.weights_shape))); }

TEST(DeconvTest, EveryImplementationEqualsTheScatteredSums) {
  SetTeamSize(2);
  int by_onednn = 0;
  for (const Geometry& g : Geometries()) {
    for (Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
      SCOPED_TRACE(absl::StrCat(g.name, " ", NameOf(layout)));
      const DeconvParams p = MakeParams(g, layout);
      const Buffer src = RandomOperand(p.src, 13);
      const Buffer want = Scattered(p, src);
      WeightStore store;
      for (const auto& entry : DeconvImplementations()) {
        auto kernel = entry.create(p, KernelEnv{&store, 2});
        if (absl::IsUnimplemented(kernel.status()) && std::string(entry.name) != "reference") continue;
        ASSERT_TRUE(kernel.ok()) << entry.name << ": " << kernel.status();
        by_onednn += std::string(entry.name) == "onednn";
        Buffer dst = RandomOperand(p.dst, 14);
        ASSERT_TRUE(RunOnce(**kernel, {src.data()}, dst.data()).ok());
        EXPECT_EQ(Difference(p.dst, want.data(), dst.data(), Limit(p)), "") << (*kernel)->implementation();
      }
    }
  }
  EXPECT_GE(by_onednn, 8);  // what is plain and dense must not be left to the reference
}

TEST(DeconvTest, ActivationAndResidualFollowTheSum) {
  SetTeamSize(2);
  DeconvParams p = MakeParams(Geometries()[1], Layout::kChannelsLast);
  const Buffer src = RandomOperand(p.src, 13);
  const Buffer sums = Scattered(p, src);
  p.post_ops = {{PostOp::Kind::kAdd, {}, p.dst}, {PostOp::Kind::kActivation, {ActivationKind::kRelu, 0, 0}, {}}};
  const Buffer residual = RandomOperand(p.dst, 14);
  Buffer want = RandomOperand(p.dst, 14);
  for (int64_t i = 0; i < NumElements(p.dst.shape); ++i) {
    const double sum = LoadNumber(DType::kF32, sums.data(), i) + LoadNumber(DType::kF32, residual.data(), i);
    StoreNumber(DType::kF32, want.data(), i, std::max(sum, 0.0));
  }
  for (const auto& entry : DeconvImplementations()) {
    WeightStore store;
    auto kernel = entry.create(p, KernelEnv{&store, 2});
    if (absl::IsUnimplemented(kernel.status()) && std::string(entry.name) != "reference") continue;
    ASSERT_TRUE(kernel.ok()) << kernel.status();
    Buffer dst = RandomOperand(p.dst, 14);
    ASSERT_TRUE(RunOnce(**kernel, {src.data()}, dst.data()).ok());
    EXPECT_EQ(Difference(p.dst, want.data(), dst.data(), Limit(p)), "") << (*kernel)->implementation();
  }
}

TEST(DeconvTest, ComputedWeightsAreOperands) {
  DeconvParams p = MakeParams(Geometries()[3], Layout::kPlain);
  const Buffer src = RandomOperand(p.src, 13);
  const Buffer want = Scattered(p, src);
  const Tensor weights = p.weights.tensor, bias = p.bias.tensor;
  p.weights = p.bias = ConstantSpec{};
  auto kernel = CreateDeconv(p, KernelEnv{});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  Buffer dst = RandomOperand(p.dst, 14);
  ASSERT_TRUE(RunOnce(**kernel, {src.data(), weights.data(), bias.data()}, dst.data()).ok());
  EXPECT_EQ(Difference(p.dst, want.data(), dst.data(), Limit(p)), "");
}

TEST(DeconvTest, RefusesWhatDoesNotFit) {
  const DeconvParams good = MakeParams(Geometries()[6], Layout::kPlain);
  const auto fails = [](const DeconvParams& p) { return absl::IsInvalidArgument(CreateDeconv(p, KernelEnv{}).status()); };
  DeconvParams p = good;
  p.groups = 3;
  EXPECT_TRUE(fails(p));
  p = good;
  p.strides[0] = 0;
  EXPECT_TRUE(fails(p));
  p = good;
  p.dst.shape[1] = 11;
  EXPECT_TRUE(fails(p));
  p = good;
  p.pads_begin.pop_back();
  EXPECT_TRUE(fails(p));
}

}  // namespace
}  // namespace octet::kernels
