// Error feedback against OBQ written out, and what it gains on correlated inputs.
#include "compress/error_feedback.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "compress/gram_error.h"
#include "compress/rounding_testing.h"

namespace octet::compress {
namespace {

using Order = ErrorFeedbackOptions::Order;

// Inverse of a positive definite matrix [n, n] by Gauss-Jordan elimination.
std::vector<double> Inverse(std::vector<double> a, size_t n) {
  std::vector<double> inverse(n * n, 0.0);
  for (size_t i = 0; i < n; ++i) inverse[i * n + i] = 1;
  for (size_t p = 0; p < n; ++p) {
    const double pivot = a[p * n + p];
    for (size_t j = 0; j < n; ++j) {
      a[p * n + j] /= pivot;
      inverse[p * n + j] /= pivot;
    }
    for (size_t i = 0; i < n; ++i) {
      const double factor = a[i * n + p];
      if (i == p) continue;
      for (size_t j = 0; j < n; ++j) {
        a[i * n + j] -= factor * a[p * n + j];
        inverse[i * n + j] -= factor * inverse[p * n + j];
      }
    }
  }
  return inverse;
}

// Optimal brain quantization of one row in a given order (arXiv:2210.17323, equations 2 and 3): after each rounded weight
// the inverse of the remaining Gram matrix is made anew, and the remaining weights become what is best with it.
std::vector<uint8_t> PlainObq(const WeightMatrix& w, const Moments& moments, int64_t row, const std::vector<int64_t>& order,
                              double damping, const QuantizedMatrix& m) {
  const int64_t n = w.columns();
  const absl::Span<const float> gram = moments.Gram(row / (w.rows / w.conv_groups));
  double mean = 0;
  for (int64_t c = 0; c < n; ++c) mean += gram[static_cast<size_t>(c * n + c)] / static_cast<double>(n);
  std::vector<double> current;
  for (int64_t c = 0; c < n; ++c) current.push_back(w.values[static_cast<size_t>(row * n + c)]);
  std::vector<uint8_t> codes(static_cast<size_t>(n));
  for (size_t k = 0; k < order.size(); ++k) {
    const std::vector<int64_t> left(order.begin() + static_cast<std::ptrdiff_t>(k), order.end());
    std::vector<double> h;
    for (int64_t i : left) {
      for (int64_t j : left) h.push_back(gram[static_cast<size_t>(i * n + j)] + (i == j ? damping * mean : 0));
    }
    const std::vector<double> inverse = Inverse(h, left.size());
    const int64_t q = left[0];
    const size_t s = m.ScaleIndex(row, q);
    const double zero = m.zero.empty() ? 0 : m.zero[s];
    const int code = NearestLevel(m.grid, current[static_cast<size_t>(q)] / m.scale[s] + zero);
    codes[static_cast<size_t>(q)] = static_cast<uint8_t>(code);
    const double real = double{m.scale[s]} * (m.grid.levels[static_cast<size_t>(code)] - zero);
    const double error = (current[static_cast<size_t>(q)] - real) / inverse[0];
    for (size_t i = 1; i < left.size(); ++i) current[static_cast<size_t>(left[i])] -= error * inverse[i];
  }
  return codes;
}

std::vector<int64_t> ByActivation(const Moments& m, int64_t group) {
  std::vector<int64_t> order(static_cast<size_t>(m.columns));
  std::iota(order.begin(), order.end(), 0);
  const absl::Span<const float> gram = m.Gram(group);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return gram[static_cast<size_t>(a * m.columns + a)] > gram[static_cast<size_t>(b * m.columns + b)];
  });
  return order;
}

struct Case {
  const char* name;
  int64_t rows, positions, inputs, conv_groups;
  const char* grid;
  int64_t group;  // 0: a scale per channel
};

class ErrorFeedbackTest : public ::testing::TestWithParam<std::tuple<Case, Order>> {};

// With rows of a depthwise or grouped convolution a permutation or Gram matrix of the wrong group would show here: every
// group has moments, and so an order, of its own.
TEST_P(ErrorFeedbackTest, EqualsObqInTheSameOrder) {
  const auto& [c, order] = GetParam();
  const WeightMatrix w = RandomMatrix(c.rows, c.positions, c.inputs, c.conv_groups, 3);
  const Moments moments = CorrelatedMoments(w.columns(), c.conv_groups, 200, 3, 9);
  const Granularity granularity{c.group > 0 ? Granularity::Kind::kGroup : Granularity::Kind::kChannel, c.group};
  const QuantizedMatrix nearest = RoundNearest(w, *MakeGrid(c.grid), granularity);
  QuantizedMatrix m = nearest;
  ASSERT_TRUE(RoundWithErrorFeedback(w, moments, {0.01, order, 1}, &m).ok());
  std::vector<int64_t> natural(static_cast<size_t>(w.columns()));
  std::iota(natural.begin(), natural.end(), 0);
  for (int64_t r = 0; r < w.rows; ++r) {
    const int64_t g = r / (c.rows / c.conv_groups);
    const std::vector<int64_t> columns = order == Order::kNatural ? natural : ByActivation(moments, g);
    const std::vector<uint8_t> expected = PlainObq(w, moments, r, columns, 0.01, m);
    const auto from = m.codes.begin() + r * w.columns();
    EXPECT_EQ(std::vector<uint8_t>(from, from + w.columns()), expected) << "row " << r;
  }
  EXPECT_EQ(m.scale, nearest.scale);
  EXPECT_EQ(m.zero, nearest.zero);
  EXPECT_LT(GramError(w, m, moments), 0.8 * GramError(w, nearest, moments));
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, ErrorFeedbackTest,
    ::testing::Combine(::testing::Values(Case{"matrix", 5, 1, 24, 1, "int4", 0}, Case{"kernel", 40, 9, 4, 1, "int3", 0},
                                         Case{"grouped", 6, 4, 5, 3, "int4", 0}, Case{"depthwise", 16, 9, 1, 16, "int4", 0},
                                         Case{"multiplier", 12, 9, 1, 4, "int3", 0},
                                         Case{"grouped_scales", 4, 3, 20, 1, "int4", 8},
                                         Case{"affine", 3, 1, 40, 1, "uint3", 16}, Case{"ternary", 4, 1, 30, 1, "ternary", 0},
                                         Case{"logarithmic", 4, 1, 30, 1, "log4", 0},
                                         Case{"several_blocks", 3, 1, 150, 1, "nf4", 0}),
                       ::testing::Values(Order::kNatural, Order::kActivation)),
    [](const auto& param) {
      return std::string(std::get<0>(param.param).name) +
             (std::get<1>(param.param) == Order::kNatural ? "_natural" : "_by_activation");
    });

// 256 random vectors of 4, as k-means would leave them.
Grid VectorGrid() {
  Grid grid = *MakeGrid("vq2");
  const CounterRng rng(8);
  for (uint64_t i = 0; i < 1024; ++i) {
    grid.levels.push_back(static_cast<int8_t>(std::lround((rng.Uniform(2 * i) + rng.Uniform(2 * i + 1) - 1) * 127)));
  }
  return grid;
}

TEST(ErrorFeedbackVectorTest, BeatsNearestVectors) {
  for (const int64_t groups : {1, 2}) {
    const WeightMatrix w = RandomMatrix(8, 3, 8, groups, 4);
    const Moments moments = CorrelatedMoments(24, groups, 300, 4, 2);
    for (const Order order : {Order::kNatural, Order::kActivation}) {
      const QuantizedMatrix nearest = RoundNearest(w, VectorGrid());
      QuantizedMatrix m = nearest;
      ASSERT_TRUE(RoundWithErrorFeedback(w, moments, {0.01, order, 1}, &m).ok());
      EXPECT_LT(GramError(w, m, moments), 0.7 * GramError(w, nearest, moments));
    }
  }
}

// The last code of a row sees no columns behind it: it must be the best of all 256, given the others.
TEST(ErrorFeedbackVectorTest, ChoosesTheVectorThatMinimisesTheLoss) {
  const WeightMatrix w = RandomMatrix(6, 1, 12, 1, 4);
  const Moments moments = CorrelatedMoments(12, 1, 300, 4, 2);
  QuantizedMatrix m = RoundNearest(w, VectorGrid());
  ASSERT_TRUE(RoundWithErrorFeedback(w, moments, {0, Order::kNatural, 1}, &m).ok());
  const std::vector<double> found = GramErrors(w, m, moments);
  for (size_t r = 0; r < 6; ++r) {
    for (int code = 0; code < 256; ++code) {
      QuantizedMatrix other = m;
      other.codes[r * 3 + 2] = static_cast<uint8_t>(code);
      EXPECT_GE(GramErrors(w, other, moments)[r], found[r] * (1 - 1e-4)) << "row " << r << ", code " << code;
    }
  }
}

TEST(ErrorFeedbackRobustnessTest, FewerSamplesThanColumns) {
  const WeightMatrix w = RandomMatrix(10, 1, 64, 1, 6);
  const Moments moments = CorrelatedMoments(64, 1, 9, 0, 3);
  const QuantizedMatrix nearest = RoundNearest(w, *MakeGrid("int4"));
  for (const double damping : {0.0, 1e-12, 0.01}) {
    QuantizedMatrix m = nearest;
    const absl::Status status = RoundWithErrorFeedback(w, moments, {damping, Order::kActivation, 1}, &m);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_LT(GramError(w, m, moments), 0.3 * GramError(w, nearest, moments)) << damping;
  }
}

TEST(ErrorFeedbackRobustnessTest, DeadInputsRoundToTheNearest) {
  const WeightMatrix w = RandomMatrix(4, 1, 16, 1, 6);
  Moments moments = CorrelatedMoments(16, 1, 100, 3, 3);
  for (size_t dead : {0u, 7u, 15u}) {
    moments.mean[dead] = 0;
    for (size_t i = 0; i < 16; ++i) moments.gram[dead * 16 + i] = moments.gram[i * 16 + dead] = 0;
  }
  Moments silent = moments;
  std::fill(silent.gram.begin(), silent.gram.end(), 0.0f);
  const QuantizedMatrix nearest = RoundNearest(w, *MakeGrid("int3"));
  for (const double damping : {0.0, 0.01}) {
    QuantizedMatrix m = nearest;
    ASSERT_TRUE(RoundWithErrorFeedback(w, moments, {damping, Order::kNatural, 1}, &m).ok());
    for (size_t r = 0; r < 4; ++r) {
      for (size_t dead : {0u, 7u, 15u}) EXPECT_EQ(m.codes[r * 16 + dead], nearest.codes[r * 16 + dead]);
    }
    EXPECT_NE(m.codes, nearest.codes);
    ASSERT_TRUE(RoundWithErrorFeedback(w, silent, {damping, Order::kActivation, 1}, &m).ok());
    EXPECT_EQ(m.codes, nearest.codes);
  }
}

TEST(ErrorFeedbackRobustnessTest, DoesNotDependOnThreads) {
  const WeightMatrix w = RandomMatrix(150, 1, 200, 1, 6);
  const Moments moments = CorrelatedMoments(200, 1, 300, 10, 3);
  QuantizedMatrix one = RoundNearest(w, *MakeGrid("int4")), three = one;
  ASSERT_TRUE(RoundWithErrorFeedback(w, moments, {0.01, Order::kActivation, 1}, &one).ok());
  ASSERT_TRUE(RoundWithErrorFeedback(w, moments, {0.01, Order::kActivation, 3}, &three).ok());
  EXPECT_EQ(one.codes, three.codes);
}

TEST(ErrorFeedbackRobustnessTest, RefusesWhatDoesNotFit) {
  const WeightMatrix w = RandomMatrix(4, 1, 16, 1, 6);
  const Moments moments = CorrelatedMoments(16, 1, 100, 3, 3);
  const QuantizedMatrix nearest = RoundNearest(w, *MakeGrid("int3"));
  QuantizedMatrix m = nearest;
  EXPECT_TRUE(absl::IsInvalidArgument(RoundWithErrorFeedback(w, CorrelatedMoments(8, 2, 9, 3, 3), {}, &m)));
  EXPECT_TRUE(absl::IsInvalidArgument(RoundWithErrorFeedback(w, moments, {-1, Order::kNatural, 1}, &m)));
  Moments bad = moments;
  bad.gram[3] = NAN;
  EXPECT_TRUE(absl::IsInvalidArgument(RoundWithErrorFeedback(w, bad, {}, &m)));
  bad = moments;
  bad.diagonal = Importance(moments);
  bad.gram.clear();
  EXPECT_TRUE(absl::IsFailedPrecondition(RoundWithErrorFeedback(w, bad, {}, &m)));
  m.codes.pop_back();
  EXPECT_TRUE(absl::IsInvalidArgument(RoundWithErrorFeedback(w, moments, {}, &m)));
  m = nearest;
  m.grid.levels.clear();
  EXPECT_TRUE(absl::IsInvalidArgument(RoundWithErrorFeedback(w, moments, {}, &m)));
  // Not positive semidefinite: no small damping helps, a large one does.
  bad = moments;
  bad.gram[1] = bad.gram[16] = 3 * (bad.gram[0] + bad.gram[17]);
  m = nearest;
  EXPECT_TRUE(RoundWithErrorFeedback(w, bad, {}, &m).ok());
}

}  // namespace
}  // namespace octet::compress
