// DynamicQuantize: worked values, and both implementations against each other.
#include "kernels/dynamic_quantize/dynamic_quantize.h"

#include <gtest/gtest.h>

#include "kernels/testing.h"

namespace octet::kernels {
namespace {

struct Quantized {
  std::vector<uint8_t> codes;
  float scale = -1;
  uint8_t zero_point = 77;
};

Quantized RunEntry(const Implementation<DynamicQuantizeParams>& entry, const std::vector<float>& x) {
  const Shape shape = {static_cast<int64_t>(x.size())};
  const DynamicQuantizeParams params{Spec(DType::kF32, shape), Spec(DType::kU8, shape)};
  Quantized out;
  out.codes.assign(x.size() + 1, 171);
  const auto kernel = entry.create(params, KernelEnv{nullptr, 2});
  EXPECT_TRUE(kernel.ok()) << kernel.status();
  EXPECT_TRUE(
      RunKernel(**kernel, {x.data()}, {out.codes.data(), &out.scale, &out.zero_point}).ok());
  EXPECT_EQ(out.codes.back(), 171) << "written past the end";
  out.codes.pop_back();
  return out;
}

// ONNX's own example of DynamicQuantizeLinear.
TEST(DynamicQuantizeTest, MatchesTheOperatorsExample) {
  for (const auto& entry : DynamicQuantizeImplementations()) {
    const Quantized q = RunEntry(entry, {0, 2, -3, -2.5f, 1.34f, 0.5f});
    EXPECT_FLOAT_EQ(q.scale, 5.0f / 255);
    EXPECT_EQ(q.zero_point, 153);
    EXPECT_EQ(q.codes, (std::vector<uint8_t>{153, 255, 0, 26, 221, 179}));
  }
}

TEST(DynamicQuantizeTest, RangesIncludeZero) {
  for (const auto& entry : DynamicQuantizeImplementations()) {
    const Quantized positive = RunEntry(entry, {1, 2, 4});
    EXPECT_EQ(positive.zero_point, 0);
    EXPECT_FLOAT_EQ(positive.scale, 4.0f / 255);
    const Quantized negative = RunEntry(entry, {-1, -4});
    EXPECT_EQ(negative.zero_point, 255);
    EXPECT_EQ(negative.codes[1], 0);
    const Quantized zero = RunEntry(entry, {0, 0, 0});
    EXPECT_EQ(zero.scale, 1);
    EXPECT_EQ(zero.codes, (std::vector<uint8_t>{0, 0, 0}));
    const Quantized none = RunEntry(entry, {});
    EXPECT_EQ(none.scale, 1);
    EXPECT_EQ(none.zero_point, 0);
  }
}

TEST(DynamicQuantizeTest, RowsEqualReference) {
  for (int64_t n : {1, 15, 16, 17, 1000, 16384, 16385, 100003}) {
    const CounterRng rng(static_cast<uint64_t>(n));
    std::vector<float> x(static_cast<size_t>(n));
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(rng.Uniform(i) * 9 - 2);
    x.back() = 11;  // an extreme in the tail
    const auto list = DynamicQuantizeImplementations();
    const Quantized rows = RunEntry(list.front(), x), reference = RunEntry(list.back(), x);
    EXPECT_EQ(rows.scale, reference.scale);
    EXPECT_EQ(rows.zero_point, reference.zero_point);
    EXPECT_EQ(rows.codes, reference.codes) << n;
  }
}

}  // namespace
}  // namespace octet::kernels
