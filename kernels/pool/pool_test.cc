// Every implementation of Pool against the oracle, and the oracle against values worked out by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"
#include "kernels/elements.h"
#include "kernels/pool/pool.h"
#include "kernels/pool/pool_reference.h"

namespace octet::kernels {
namespace {

using Kind = PoolParams::Kind;

struct Case {
  Shape src;
  std::vector<int64_t> kernel, strides, dilations, begin, end;
};

// Window arithmetic of ONNX, floor form.
PoolParams Make(const Case& c, Kind kind, Layout layout, DType dtype) {
  PoolParams p;
  p.kind = kind;
  p.src.shape = c.src;
  p.src.layout = layout;
  p.src.dtype = dtype;
  p.dst = p.src;
  for (size_t d = 0; d < c.kernel.size(); ++d) {
    const int64_t extent = (c.kernel[d] - 1) * c.dilations[d] + 1;
    p.dst.shape[d + 2] = (c.src[d + 2] + c.begin[d] + c.end[d] - extent) / c.strides[d] + 1;
  }
  p.kernel = c.kernel;
  p.strides = c.strides;
  p.dilations = c.dilations;
  p.pads_begin = c.begin;
  p.pads_end = c.end;
  return p;
}

const Case kCases[] = {
    {{1, 3, 7, 8}, {2, 2}, {2, 2}, {1, 1}, {0, 0}, {0, 0}},   {{2, 16, 9, 9}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}},
    {{1, 5, 6, 7}, {3, 2}, {1, 1}, {1, 1}, {1, 0}, {0, 1}},   {{2, 33, 5, 5}, {5, 5}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
    {{1, 4, 11, 10}, {2, 3}, {1, 2}, {2, 2}, {0, 1}, {1, 0}}, {{1, 6, 20}, {4}, {3}, {1}, {1}, {2}},
    {{1, 2, 4, 5, 6}, {2, 2, 2}, {2, 1, 2}, {1, 1, 1}, {0, 0, 0}, {0, 1, 0}},
};

void Compare(const PoolParams& p, uint64_t seed, const char* what) {
  const CounterRng rng(seed);
  std::vector<std::byte> src(static_cast<size_t>(p.src.size_bytes()));
  for (int64_t i = 0; i < NumElements(p.src.shape); ++i) {
    StoreNumber(p.src.dtype, src.data(), i, p.src.dtype == DType::kF32 ? rng.Uniform(i) * 4 - 2
                                                                      : std::floor(rng.Uniform(i) * 256) -
                                                                            (p.src.dtype == DType::kS8 ? 128 : 0));
  }
  std::vector<std::byte> expected(static_cast<size_t>(p.dst.size_bytes()));
  PoolReference(p, src.data(), expected.data());
  int accepted = 0;
  for (const Implementation<PoolParams>& entry : PoolImplementations()) {
    auto kernel = entry.create(p, KernelEnv{});
    if (absl::IsUnimplemented(kernel.status())) continue;
    ASSERT_TRUE(kernel.ok()) << what << " " << entry.name << ": " << kernel.status();
    ++accepted;
    std::vector<std::byte> found(expected.size()), scratch(static_cast<size_t>((*kernel)->scratch_bytes()) + 64);
    const void* sources[] = {src.data()};
    void* results[] = {found.data()};
    SerialFor serial;
    auto run = (*kernel)->Bind({sources, results, scratch.data(), &serial});
    ASSERT_TRUE(run.ok() && (*run)().ok());
    for (int64_t i = 0; i < NumElements(p.dst.shape); ++i) {
      // f32: sums in another order. 8 bits: a tie may round the other way when the mean is formed in f32: one step.
      const double tolerance = p.dst.dtype == DType::kF32 ? 1e-5 : (p.kind == Kind::kMax ? 0 : 1);
      ASSERT_NEAR(LoadNumber(p.dst.dtype, found.data(), i), LoadNumber(p.dst.dtype, expected.data(), i), tolerance)
          << what << " " << entry.name << " element " << i << " of " << ShapeString(p.src.shape);
    }
  }
  EXPECT_GE(accepted, 1);
}

TEST(PoolTest, EveryImplementationMatchesTheReferenceInF32) {
  uint64_t seed = 1;
  for (const Case& c : kCases) {
    for (Kind kind : {Kind::kMax, Kind::kAverage, Kind::kAverageIncludePad}) {
      for (Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
        Compare(Make(c, kind, layout, DType::kF32), ++seed, "f32");
      }
    }
  }
}

TEST(PoolTest, EveryImplementationMatchesTheReferenceIn8Bits) {
  uint64_t seed = 100;
  for (const Case& c : kCases) {
    for (Kind kind : {Kind::kMax, Kind::kAverage, Kind::kAverageIncludePad}) {
      for (DType dtype : {DType::kU8, DType::kS8}) {
        PoolParams p = Make(c, kind, Layout::kChannelsLast, dtype);
        p.src.quant = p.dst.quant = QuantParams::PerTensor(0.5f, dtype == DType::kU8 ? 7 : -3);
        Compare(p, ++seed, "same quant");
        if (kind == Kind::kMax) continue;
        p.dst.quant = QuantParams::PerTensor(0.31f, dtype == DType::kU8 ? 90 : 10);
        Compare(p, ++seed, "other quant");
        p.dst.quant.reset();
        p.dst.dtype = DType::kF32;
        Compare(p, ++seed, "into f32");
      }
    }
  }
}

TEST(PoolTest, ReferenceMatchesValuesWorkedOutByHand) {
  // [1 2; 3 4] with one column and row of padding in front, 2x2 windows, stride 2.
  PoolParams p = Make({{1, 1, 2, 2}, {2, 2}, {2, 2}, {1, 1}, {1, 1}, {1, 1}}, Kind::kMax, Layout::kPlain, DType::kF32);
  const float src[] = {1, 2, 3, 4};
  float dst[4];
  PoolReference(p, src, dst);
  EXPECT_EQ(std::vector<float>(dst, dst + 4), (std::vector<float>{1, 2, 3, 4}));
  p.kind = Kind::kAverage;
  PoolReference(p, src, dst);
  EXPECT_EQ(std::vector<float>(dst, dst + 4), (std::vector<float>{1, 2, 3, 4}));
  p.kind = Kind::kAverageIncludePad;
  PoolReference(p, src, dst);
  EXPECT_EQ(std::vector<float>(dst, dst + 4), (std::vector<float>{0.25f, 0.5f, 0.75f, 1}));
}

TEST(PoolTest, ContradictingParametersAreRejected) {
  PoolParams p = Make(kCases[0], Kind::kMax, Layout::kPlain, DType::kF32);
  p.strides[0] = 0;
  EXPECT_EQ(CreatePool(p, {}).status().code(), absl::StatusCode::kInvalidArgument);
  p = Make(kCases[0], Kind::kMax, Layout::kPlain, DType::kF32);
  p.dst.shape[1] = 4;
  EXPECT_EQ(CreatePool(p, {}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(PoolTest, HotShapesDoNotFallToAReference) {
  PoolParams p = Make({{1, 64, 56, 56}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}}, Kind::kMax, Layout::kChannelsLast, DType::kU8);
  p.src.quant = p.dst.quant = QuantParams::PerTensor(0.1f, 0);
  auto kernel = CreatePool(p, {});
  ASSERT_TRUE(kernel.ok());
  EXPECT_EQ((*kernel)->implementation().find("ref"), std::string::npos) << (*kernel)->implementation();
}

}  // namespace
}  // namespace octet::kernels
