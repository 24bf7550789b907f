// Quadratic forms of Gram matrices.
#include "compress/gram_error.h"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet::compress {
namespace {

using RowMatrixF = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowMatrixD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstMapF = Eigen::Map<const RowMatrixF>;
using ConstVectorF = Eigen::Map<const Eigen::VectorXf>;

constexpr int64_t kBlock = 256;  // columns of a Gram matrix that are widened to f64 at once

std::vector<float> Differences(const WeightMatrix& weights, const QuantizedMatrix& quantized) {
  std::vector<float> out = quantized.Reals();
  for (size_t i = 0; i < out.size(); ++i) out[i] = weights.values[i] - out[i];
  return out;
}

// Of uncorrelated inputs.
double DiagonalEnergy(const float* d, absl::Span<const float> squares, absl::Span<const float> mean) {
  double sum = 0, shift = 0;
  for (size_t c = 0; c < squares.size(); ++c) {
    const double m = mean[c];
    sum += static_cast<double>(d[c]) * d[c] * std::max(squares[c] - m * m, 0.0);
    shift += d[c] * m;
  }
  return sum + shift * shift;
}

}  // namespace

std::vector<double> GramEnergies(const WeightMatrix& matrix, absl::Span<const float> values, const Moments& moments) {
  const int64_t columns = matrix.columns(), group_rows = matrix.rows / matrix.conv_groups;
  std::vector<double> out(static_cast<size_t>(matrix.rows), 0.0);
  for (int64_t g = 0; g < matrix.conv_groups; ++g) {
    const float* first = values.data() + g * group_rows * columns;
    if (moments.gram.empty()) {
      const auto squares = absl::MakeConstSpan(moments.diagonal)
                               .subspan(static_cast<size_t>(g * columns), static_cast<size_t>(columns));
      for (int64_t r = 0; r < group_rows; ++r) {
        out[static_cast<size_t>(g * group_rows + r)] = DiagonalEnergy(first + r * columns, squares, moments.Mean(g));
      }
      continue;
    }
    const RowMatrixD d = ConstMapF(first, group_rows, columns).cast<double>();
    const ConstMapF gram(moments.Gram(g).data(), columns, columns);
    Eigen::Map<Eigen::VectorXd> energy(out.data() + g * group_rows, group_rows);
    for (int64_t c = 0; c < columns; c += kBlock) {
      const int64_t width = std::min(kBlock, columns - c);
      const RowMatrixD product = d * gram.middleCols(c, width).cast<double>();
      energy += product.cwiseProduct(d.middleCols(c, width)).rowwise().sum();
    }
  }
  return out;
}

std::vector<double> GramErrors(const WeightMatrix& weights, const QuantizedMatrix& quantized, const Moments& moments) {
  return GramEnergies(weights, Differences(weights, quantized), moments);
}

double GramError(const WeightMatrix& weights, const QuantizedMatrix& quantized, const Moments& moments) {
  double sum = 0;
  for (double e : GramErrors(weights, quantized, moments)) sum += e;
  return sum;
}

double GramSignal(const WeightMatrix& weights, const Moments& moments) {
  double sum = 0;
  for (double e : GramEnergies(weights, weights.values, moments)) sum += e;
  return sum;
}

absl::StatusOr<WeightMatrix> CorrectedTarget(const WeightMatrix& weights, const PairedMoments& moments, double damping,
                                             Means means) {
  OCTET_RETURN_IF_ERROR(CheckMoments(weights, moments.changed));
  if (moments.cross.empty() || moments.cross.size() != moments.changed.gram.size()) {
    return absl::FailedPreconditionError(absl::StrCat("correction of weights with ", moments.changed.gram.size(),
                                                      " products of inputs and ", moments.cross.size(), " cross products"));
  }
  WeightMatrix out = weights;
  const int64_t columns = weights.columns(), group_rows = weights.rows / weights.conv_groups;
  for (int64_t g = 0; g < weights.conv_groups; ++g) {
    Eigen::MatrixXd gram = ConstMapF(moments.changed.Gram(g).data(), columns, columns).cast<double>();
    Eigen::MatrixXd cross = ConstMapF(moments.cross.data() + g * columns * columns, columns, columns).cast<double>();
    if (means == Means::kCentred) {
      const Eigen::VectorXd changed = ConstVectorF(moments.changed.Mean(g).data(), columns).cast<double>();
      const Eigen::VectorXd reference = ConstVectorF(moments.reference_mean.data() + g * columns, columns).cast<double>();
      gram -= changed * changed.transpose();
      cross -= reference * changed.transpose();
    }
    Eigen::Map<RowMatrixF> rows(out.values.data() + g * group_rows * columns, group_rows, columns);
    const Eigen::MatrixXd w = rows.cast<double>().transpose();
    const Eigen::MatrixXd missing = cross.transpose() * w - gram * w;
    const double mean = gram.diagonal().mean();
    if (!(mean > 0)) continue;  // nothing but dead inputs
    gram.diagonal().array() += damping * mean;
    // Blocked, unlike LDLT: with thousands of columns it decides how long compression takes.
    const Eigen::LLT<Eigen::Ref<Eigen::MatrixXd>> solver(gram);
    if (solver.info() == Eigen::Success) rows += solver.solve(missing).transpose().cast<float>();
    if (solver.info() != Eigen::Success || !rows.allFinite()) {
      return absl::FailedPreconditionError(
          absl::StrCat("Gram matrix of ", columns, " columns is singular with damping ", damping));
    }
  }
  return out;
}

Moments Centred(Moments moments) {
  const auto columns = static_cast<size_t>(moments.columns);
  for (size_t i = 0; i < moments.mean.size(); ++i) {
    const size_t group = i / columns * columns;
    const double mean = moments.mean[i];
    if (moments.gram.empty()) {
      moments.diagonal[i] = std::max(static_cast<float>(moments.diagonal[i] - mean * mean), 0.0f);
      continue;
    }
    float* row = moments.gram.data() + i * columns;
    for (size_t c = 0; c < columns; ++c) row[c] = static_cast<float>(row[c] - mean * moments.mean[group + c]);
    row[i - group] = std::max(row[i - group], 0.0f);  // below zero by rounding only
  }
  std::fill(moments.mean.begin(), moments.mean.end(), 0.0f);
  return moments;
}

std::vector<float> Importance(const Moments& moments) {
  if (moments.gram.empty()) return moments.diagonal;
  std::vector<float> out;
  for (int64_t g = 0; g < moments.conv_groups; ++g) {
    for (int64_t c = 0; c < moments.columns; ++c) {
      out.push_back(moments.Gram(g)[static_cast<size_t>(c * moments.columns + c)]);
    }
  }
  return out;
}

absl::Status CheckMoments(const WeightMatrix& weights, const Moments& moments) {
  const auto size = static_cast<size_t>(moments.conv_groups * moments.columns);
  const bool gram = moments.gram.size() == size * static_cast<size_t>(moments.columns);
  const bool diagonal = moments.gram.empty() && moments.diagonal.size() == size;
  if (moments.columns != weights.columns() || moments.conv_groups != weights.conv_groups || moments.mean.size() != size ||
      (!gram && !diagonal)) {
    return absl::InvalidArgumentError(
        absl::StrCat("second moments of ", moments.conv_groups, " groups of ", moments.columns, " columns (", size,
                     " means expected, found ", moments.mean.size(), "; ", moments.gram.size(), " products) for weights of ",
                     weights.conv_groups, " groups of ", weights.columns(), " columns"));
  }
  for (const std::vector<float>* part : {&moments.gram, &moments.mean, &moments.diagonal}) {
    for (float x : *part) {
      if (!std::isfinite(x)) return absl::InvalidArgumentError(absl::StrCat("second moments contain ", x));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRounding(const WeightMatrix& weights, const Moments& moments, const QuantizedMatrix& quantized) {
  absl::Status status = CheckMoments(weights, moments);
  if (!status.ok()) return status;
  const QuantizedMatrix& q = quantized;
  if (q.rows != weights.rows || q.positions != weights.positions || q.inputs != weights.inputs || q.grid.vector < 1 ||
      q.inputs % q.grid.vector != 0 ||
      q.codes.size() * static_cast<size_t>(q.grid.vector) != weights.values.size()) {
    return absl::InvalidArgumentError(absl::StrCat("quantized matrix [", q.rows, ", ", q.positions, ", ", q.inputs, "] of ",
                                                   q.codes.size(), " codes for weights [", weights.rows, ", ",
                                                   weights.positions, ", ", weights.inputs, "]"));
  }
  if (q.grid.levels.empty()) return absl::InvalidArgumentError(absl::StrCat("grid '", q.grid.name, "' has not been fitted"));
  if (moments.gram.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("rounding by second moments needs a Gram matrix, ", moments.columns, " columns are too many for one"));
  }
  return absl::OkStatus();
}

}  // namespace octet::compress
