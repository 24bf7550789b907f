// Vector rows against the scalar formulas on every instruction set of this CPU, at every length up
// to a few vectors.
#include "kernels/rows.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/rng.h"
#include "gtest/gtest.h"
#include "hwy/targets.h"
#include "kernels/elements.h"

namespace octet::kernels {
namespace {

constexpr int64_t kLongest = 131;  // more than eight vectors of 16 lanes

class RowsTest : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(GetParam()); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};
INSTANTIATE_TEST_SUITE_P(Targets, RowsTest,
                         ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& target) {
                           return std::string(hwy::TargetName(target.param));
                         });

std::vector<float> Random(int64_t n, uint64_t seed) {
  const CounterRng rng(seed);
  std::vector<float> out(static_cast<size_t>(n));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(rng.Uniform(i) * 20 - 10);
  return out;
}

TEST_P(RowsTest, QuantizeAndDequantizeEqualTheScalarFormula) {
  const std::vector<float> src = Random(kLongest + 1, 1);
  for (int64_t n = 0; n <= kLongest; ++n) {
    std::vector<uint8_t> u8(static_cast<size_t>(n) + 1, 77);
    std::vector<int8_t> s8(static_cast<size_t>(n) + 1, 77);
    QuantizeRow(src.data() + 1, n, 0.07f, 100, u8.data());
    QuantizeRow(src.data() + 1, n, 0.07f, -5, s8.data());
    std::vector<float> back(static_cast<size_t>(n) + 1, -1);
    DequantizeRow(s8.data(), n, 0.07f, -5, back.data());
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      EXPECT_EQ(u8[i], Quantize(src[i + 1], 0.07f, 100, DType::kU8));
      EXPECT_EQ(s8[i], Quantize(src[i + 1], 0.07f, -5, DType::kS8));
      EXPECT_EQ(back[i], Dequantize(s8[i], 0.07f, -5));
    }
    EXPECT_EQ(u8.back(), 77);
    EXPECT_EQ(s8.back(), 77);
    EXPECT_EQ(back.back(), -1);
  }
}

TEST_P(RowsTest, InterleavedQuantizationEqualsTheScalarFormula) {
  constexpr int64_t kStride = kLongest + 5;
  std::vector<float> src = Random(3 * kStride, 4);
  src[kStride + 7] = std::nanf("");
  src[9] = std::numeric_limits<float>::infinity();
  for (int64_t n = 0; n <= kLongest; ++n) {
    std::vector<uint8_t> u8(static_cast<size_t>(3 * n) + 1, 77);
    std::vector<int8_t> s8(static_cast<size_t>(3 * n) + 1, 77);
    QuantizeInterleave3(src.data(), kStride, n, 0.07f, 100, u8.data());
    QuantizeInterleave3(src.data(), kStride, n, 0.07f, -5, s8.data());
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      for (size_t c = 0; c < 3; ++c) {
        ASSERT_EQ(u8[3 * i + c], Quantize(src[c * kStride + i], 0.07f, 100, DType::kU8)) << n << " " << i;
        ASSERT_EQ(s8[3 * i + c], Quantize(src[c * kStride + i], 0.07f, -5, DType::kS8)) << n << " " << i;
      }
    }
    EXPECT_EQ(u8.back(), 77);
    EXPECT_EQ(s8.back(), 77);
  }
}

TEST_P(RowsTest, BinaryAndClampEqualTheScalarFormula) {
  const std::vector<float> a = Random(kLongest, 2), b = Random(kLongest, 3);
  const auto apply = [](RowOp op, float x, float y) {
    switch (op) {
      case RowOp::kAdd:
        return x + y;
      case RowOp::kSub:
        return x - y;
      case RowOp::kMul:
        return x * y;
      case RowOp::kDiv:
        return x / y;
      case RowOp::kMax:
        return std::fmax(x, y);
      case RowOp::kMin:
        return std::fmin(x, y);
      case RowOp::kPrelu:
        return x < 0 ? x * y : x;
    }
    return 0.0f;
  };
  for (RowOp op : {RowOp::kAdd, RowOp::kSub, RowOp::kMul, RowOp::kDiv, RowOp::kMax, RowOp::kMin,
                   RowOp::kPrelu}) {
    std::vector<float> dst = a;
    BinaryRow(op, dst.data(), b.data(), kLongest, dst.data());
    for (size_t i = 0; i < dst.size(); ++i)
      EXPECT_EQ(dst[i], apply(op, a[i], b[i])) << static_cast<int>(op);
  }
  std::vector<float> dst(a.size());
  ClampRow(a.data(), kLongest, -1.5f, 6, dst.data());
  for (size_t i = 0; i < dst.size(); ++i)
    EXPECT_EQ(dst[i], std::fmin(std::fmax(a[i], -1.5f), 6.0f));
}

TEST_P(RowsTest, MaxMinAndClampKeepNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> a(20, nan), b(20, 1.0f), dst(20);
  for (RowOp op : {RowOp::kMax, RowOp::kMin}) {
    BinaryRow(op, a.data(), b.data(), 20, dst.data());
    for (float x : dst) EXPECT_TRUE(std::isnan(x));
    BinaryRow(op, b.data(), a.data(), 20, dst.data());
    for (float x : dst) EXPECT_TRUE(std::isnan(x));
  }
  ClampRow(a.data(), 20, 0, 6, dst.data());
  for (float x : dst) EXPECT_TRUE(std::isnan(x));
}

TEST_P(RowsTest, ReductionsEqualTheScalarSumWithinRounding) {
  const std::vector<float> src = Random(kLongest, 4);
  for (int64_t n = 1; n <= kLongest; ++n) {
    double sum = 0, squares = 0;
    float high = src[0], low = src[0];
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      sum += src[i];
      squares += static_cast<double>(src[i]) * src[i];
      high = std::fmax(high, src[i]);
      low = std::fmin(low, src[i]);
    }
    EXPECT_NEAR(SumRow(src.data(), n), sum, 1e-4);
    EXPECT_NEAR(SumSquaresRow(src.data(), n), squares, 1e-5 * squares);
    EXPECT_EQ(MaxRow(src.data(), n), high);
    EXPECT_EQ(MinRow(src.data(), n), low);
  }
  EXPECT_EQ(SumRow(src.data(), 0), 0);
}

TEST_P(RowsTest, AccumulateAndLookup) {
  const std::vector<float> src = Random(kLongest, 5);
  std::vector<float> dst = Random(kLongest, 6);
  const std::vector<float> before = dst;
  AccumulateRow(src.data(), kLongest, 0.3f, dst.data());
  for (size_t i = 0; i < dst.size(); ++i) EXPECT_EQ(dst[i], before[i] + 0.3f * src[i]);
  uint8_t table[256], in[kLongest], out[kLongest];
  for (int i = 0; i < 256; ++i) table[i] = static_cast<uint8_t>(i * 7 + 3);
  for (int i = 0; i < kLongest; ++i) in[i] = static_cast<uint8_t>(i * 5);
  LookupRow(in, kLongest, table, out);
  for (int i = 0; i < kLongest; ++i) EXPECT_EQ(out[i], table[in[i]]);
}

}  // namespace
}  // namespace octet::kernels
