// Blocked error feedback on rows that share a Gram matrix.
#include "compress/error_feedback.h"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/parallel_for.h"
#include "base/status.h"
#include "compress/gram_error.h"

namespace octet::compress {
namespace {

using RowMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr int64_t kRowBlock = 32;     // rows that one thread takes at once; fixed, so that sums are the same for any team
constexpr int64_t kColumnBlock = 64;  // columns whose feedback is applied row by row; to those behind, as one product
constexpr double kMaxDamping = 1e4;

// What the rows of one conv group share.
struct Feedback {
  std::vector<int64_t> order;  // order[k]: the column that is rounded k-th
  RowMatrix factor;            // F above the diagonal
  std::vector<double> weight;  // D
};

// Columns in the order of rounding; those of one code stay together.
std::vector<int64_t> OrderOf(absl::Span<const float> gram, int64_t columns, int64_t vector,
                             ErrorFeedbackOptions::Order order) {
  std::vector<int64_t> units(static_cast<size_t>(columns / vector));
  std::iota(units.begin(), units.end(), 0);
  if (order == ErrorFeedbackOptions::Order::kActivation) {
    std::vector<double> energy(units.size(), 0.0);
    for (int64_t c = 0; c < columns; ++c) {
      energy[static_cast<size_t>(c / vector)] += gram[static_cast<size_t>(c * columns + c)];
    }
    std::stable_sort(units.begin(), units.end(), [&](int64_t a, int64_t b) {
      return energy[static_cast<size_t>(a)] > energy[static_cast<size_t>(b)];
    });
  }
  std::vector<int64_t> out;
  for (int64_t unit : units) {
    for (int64_t d = 0; d < vector; ++d) out.push_back(unit * vector + d);
  }
  return out;
}

// The factorization comes from Cholesky's of the reversed matrix: with R H R = L L^T, M = R L R is upper triangular,
// H = M M^T, F + I = M diag(M)^-1 and D = diag(M)^2.
absl::StatusOr<Feedback> Factorize(absl::Span<const float> gram, int64_t columns, int64_t vector,
                                   const ErrorFeedbackOptions& options) {
  Feedback f;
  f.order = OrderOf(gram, columns, vector, options.order);
  double mean = 0;
  for (int64_t c = 0; c < columns; ++c) mean += gram[static_cast<size_t>(c * columns + c)];
  mean /= static_cast<double>(columns);
  if (!(mean > 0)) mean = 1;  // nothing but dead inputs
  for (double damping = options.damping;; damping = std::max(damping * 10, 1e-8)) {
    if (damping > kMaxDamping) {
      return absl::FailedPreconditionError(
          absl::StrCat("Gram matrix of ", columns, " columns is not positive definite even with damping ", kMaxDamping));
    }
    RowMatrix& h = f.factor;
    h.resize(columns, columns);
    for (int64_t i = 0; i < columns; ++i) {
      const float* row = gram.data() + f.order[static_cast<size_t>(columns - 1 - i)] * columns;
      for (int64_t j = 0; j <= i; ++j) h(i, j) = row[f.order[static_cast<size_t>(columns - 1 - j)]];
      h(i, i) = h(i, i) > 0 ? h(i, i) + damping * mean : mean;
    }
    const Eigen::LLT<Eigen::Ref<RowMatrix>, Eigen::Lower> cholesky(h);
    if (cholesky.info() == Eigen::Success && h.diagonal().allFinite()) break;
  }
  // In place: the lower triangle, reversed in both directions, is the upper one of M.
  for (int64_t i = 0; i < columns; ++i) {
    for (int64_t j = 0; j < i; ++j) f.factor(columns - 1 - i, columns - 1 - j) = f.factor(i, j);
  }
  f.weight.resize(static_cast<size_t>(columns));
  for (int64_t k = 0; k < columns; ++k) {
    const double pivot = f.factor(columns - 1 - k, columns - 1 - k);
    f.weight[static_cast<size_t>(k)] = pivot * pivot;
    for (int64_t j = 0; j < k; ++j) f.factor(j, k) /= pivot;
  }
  return f;
}

// Rounds one code's columns k, k+1, ... of the order to its targets t, which already hold the feedback of the columns
// before, and adds theirs to the targets up to `end`. Sets e[k], ...
class Rounder {
 public:
  Rounder(const Feedback& f, const WeightMatrix& weights, QuantizedMatrix* m) : f_(f), weights_(weights), m_(*m) {}

  void Round(int64_t row, int64_t k, int64_t end, double* targets, double* errors) const {
    const int64_t first = row * weights_.columns();
    const int64_t vector = m_.grid.vector;
    const int64_t column = f_.order[static_cast<size_t>(k)];
    const size_t s = m_.ScaleIndex(row, column);
    const double scale = m_.scale[s];
    int code;
    if (vector == 1) {
      code = NearestLevel(m_.grid, targets[k] / scale + (m_.zero.empty() ? 0 : m_.zero[s]));
    } else {
      code = NearestVector(first, k, scale, targets);
    }
    m_.codes[static_cast<size_t>((first + column) / vector)] = static_cast<uint8_t>(code);
    for (int64_t d = 0; d < vector; ++d) {
      errors[k + d] = weights_.values[static_cast<size_t>(first + column + d)] - m_.Real(row, column + d);
      for (int64_t j = k + d + 1; j < end; ++j) targets[j] += errors[k + d] * f_.factor(k + d, j);
    }
  }

 private:
  int NearestVector(int64_t first, int64_t k, double scale, const double* targets) const {
    const int64_t vector = m_.grid.vector;
    const float* w = weights_.values.data() + first + f_.order[static_cast<size_t>(k)];
    const auto count = static_cast<int64_t>(m_.grid.levels.size()) / vector;
    int best = 0;
    double best_cost = INFINITY;
    std::vector<double> errors(static_cast<size_t>(vector));
    for (int64_t code = 0; code < count; ++code) {
      double cost = 0;
      for (int64_t d = 0; d < vector; ++d) {
        const double real = scale * m_.grid.levels[static_cast<size_t>(code * vector + d)];
        double miss = targets[k + d] - real;
        for (int64_t j = 0; j < d; ++j) miss += errors[static_cast<size_t>(j)] * f_.factor(k + j, k + d);
        errors[static_cast<size_t>(d)] = w[d] - real;
        cost += f_.weight[static_cast<size_t>(k + d)] * miss * miss;
      }
      if (cost < best_cost) {
        best_cost = cost;
        best = static_cast<int>(code);
      }
    }
    return best;
  }

  const Feedback& f_;
  const WeightMatrix& weights_;
  QuantizedMatrix& m_;
};

void RoundRows(const Feedback& f, const WeightMatrix& weights, int64_t first, int64_t rows, QuantizedMatrix* m) {
  const int64_t columns = weights.columns(), vector = m->grid.vector;
  RowMatrix targets(rows, columns), errors = RowMatrix::Zero(rows, columns);
  for (int64_t r = 0; r < rows; ++r) {
    const float* w = weights.values.data() + (first + r) * columns;
    for (int64_t k = 0; k < columns; ++k) targets(r, k) = w[f.order[static_cast<size_t>(k)]];
  }
  const Rounder rounder(f, weights, m);
  for (int64_t begin = 0; begin < columns; begin += kColumnBlock) {
    const int64_t width = std::min(kColumnBlock, columns - begin);
    targets.middleCols(begin, width).noalias() += errors.leftCols(begin) * f.factor.block(0, begin, begin, width);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t k = begin; k < begin + width; k += vector) {
        rounder.Round(first + r, k, begin + width, targets.row(r).data(), errors.row(r).data());
      }
    }
  }
}

}  // namespace

absl::Status RoundWithErrorFeedback(const WeightMatrix& weights, const Moments& moments,
                                    const ErrorFeedbackOptions& options, QuantizedMatrix* m) {
  OCTET_RETURN_IF_ERROR(CheckRounding(weights, moments, *m));
  if (!(options.damping >= 0)) {
    return absl::InvalidArgumentError(absl::StrCat("damping ", options.damping, ", expected at least 0"));
  }
  const int64_t group_rows = weights.rows / weights.conv_groups;
  const int64_t blocks = (group_rows + kRowBlock - 1) / kRowBlock;
  OpenMpFor loop(options.threads);
  for (int64_t g = 0; g < weights.conv_groups; ++g) {
    OCTET_ASSIGN_OR_RETURN(const Feedback f, Factorize(moments.Gram(g), moments.columns, m->grid.vector, options));
    loop.Run(blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const int64_t row = b * kRowBlock;
        RoundRows(f, weights, g * group_rows + row, std::min(kRowBlock, group_rows - row), m);
      }
    });
  }
  return absl::OkStatus();
}

}  // namespace octet::compress
