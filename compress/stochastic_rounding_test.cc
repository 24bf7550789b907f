#include "compress/stochastic_rounding.h"

#include <gtest/gtest.h>

#include <cmath>

#include "compress/gram_error.h"
#include "compress/rounding_testing.h"

namespace octet::compress {
namespace {

WeightMatrix Constant(float value, int64_t rows, int64_t columns) {
  return {rows, 1, columns, 1, std::vector<float>(static_cast<size_t>(rows * columns), value)};
}

QuantizedMatrix WithScale(const WeightMatrix& w, const char* grid, float scale) {
  QuantizedMatrix m;
  m.grid = *MakeGrid(grid);
  m.rows = w.rows;
  m.positions = w.positions;
  m.inputs = w.inputs;
  m.scale.assign(static_cast<size_t>(w.rows), scale);
  m.codes.assign(w.values.size(), 0);
  return m;
}

// E[Q(w)] = w and Var = f (1 - f) s^2, over 2^16 draws: within 5 standard errors of mean and variance (of a two-point
// distribution: s sqrt(f(1-f)/n), and s^2 |1-2f| sqrt(f(1-f)/n)).
TEST(RoundStochastically, IsUnbiasedWithTheVarianceOfTwoPoints) {
  const float scale = 0.25f;
  for (const char* grid : {"int8", "int4", "log4", "ternary"}) {
    for (const float w : {0.05f, 0.1f, -0.2f}) {
      const WeightMatrix weights = Constant(w, 256, 256);
      QuantizedMatrix m = WithScale(weights, grid, scale);
      ASSERT_EQ(RoundStochastically(weights, nullptr, {.seed = 3}, &m), absl::OkStatus());
      const Neighbours n = NeighboursOf(m.grid, w / scale);
      const double low = scale * m.grid.levels[static_cast<size_t>(n.lower)], high = scale * m.grid.levels[static_cast<size_t>(n.upper)];
      const double f = (w - low) / (high - low), gap = high - low, count = 65536;
      double sum = 0, squares = 0;
      for (float real : m.Reals()) {
        sum += real;
        squares += (real - w) * (real - w);
      }
      const double spread = std::sqrt(f * (1 - f) / count);
      EXPECT_NEAR(sum / count, w, 5 * gap * spread) << grid << " " << w;
      EXPECT_NEAR(squares / count, gap * gap * f * (1 - f), 5 * gap * gap * std::fabs(1 - 2 * f) * spread + 1e-6) << grid << " " << w;
    }
  }
}

TEST(RoundStochastically, SeedAndStreamDecideAlone) {
  const WeightMatrix weights = RandomMatrix(8, 9, 16, 1, 1);
  const auto codes = [&](uint64_t seed, uint32_t stream) {
    QuantizedMatrix m = WithScale(weights, "int4", 0.2f);
    EXPECT_EQ(RoundStochastically(weights, nullptr, {.seed = seed, .stream = stream}, &m), absl::OkStatus());
    return m.codes;
  };
  EXPECT_EQ(codes(1, 2), codes(1, 2));
  EXPECT_NE(codes(1, 2), codes(2, 2));
  EXPECT_NE(codes(1, 2), codes(1, 3));
}

TEST(RoundStochastically, MoreDrawsAreNeverWorseInAnyRow) {
  const WeightMatrix weights = RandomMatrix(16, 1, 24, 1, 1);
  const Moments moments = CorrelatedMoments(24, 1, 200, 6, 2);
  std::vector<double> before;
  for (const int draws : {1, 4, 32}) {
    QuantizedMatrix m = WithScale(weights, "int3", 0.3f);
    ASSERT_EQ(RoundStochastically(weights, &moments, {.seed = 3, .draws = draws}, &m), absl::OkStatus());
    const std::vector<double> errors = GramErrors(weights, m, moments);
    for (size_t r = 0; r < before.size(); ++r) EXPECT_LE(errors[r], before[r]);
    before = errors;
  }
}

TEST(RoundStochastically, RefusesWhatItCannotDo) {
  const WeightMatrix weights = RandomMatrix(2, 1, 8, 1, 1);
  QuantizedMatrix m = WithScale(weights, "int4", 0.2f);
  EXPECT_EQ(RoundStochastically(weights, nullptr, {.draws = 0}, &m).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(RoundStochastically(weights, nullptr, {.draws = 2}, &m).code(), absl::StatusCode::kInvalidArgument);
  m.grid = *MakeGrid("vq2");
  EXPECT_EQ(RoundStochastically(weights, nullptr, {}, &m).code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace octet::compress
