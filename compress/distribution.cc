// Descent over the means of codes.
#include "compress/distribution.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "compress/damped_gram.h"
#include "compress/gram_error.h"

namespace octet::compress {
namespace {

int LargestStep(int bits) { return bits == 4 ? 7 : 127; }

// Distances from a code to the levels beside it; 0 where there is none.
struct Gaps {
  double down = 0, up = 0;
};

Gaps GapsOf(const QuantizedMatrix& m, int64_t row, int64_t column) {
  const std::vector<int8_t>& levels = m.grid.levels;
  const size_t code = m.codes[static_cast<size_t>(row * m.columns() + column)];
  const double scale = m.scale[m.ScaleIndex(row, column)];
  Gaps gaps;
  if (code > 0) gaps.down = scale * (levels[code] - levels[code - 1]);
  if (code + 1 < levels.size()) gaps.up = scale * (levels[code + 1] - levels[code]);
  return gaps;
}

double Gap(const Gaps& gaps, double d) { return d > 0 ? gaps.up : gaps.down; }

// d of a stored step.
double MeanShiftOf(const QuantizedMatrix& m, int64_t row, int64_t column) {
  const int step = m.steps[static_cast<size_t>(row * m.columns() + column)];
  return Gap(GapsOf(m, row, column), step) * step / (2.0 * LargestStep(m.step_bits));
}

// One row's means.
class RowMeans {
 public:
  RowMeans(const WeightMatrix& weights, const float* gram, absl::Span<const float> mean, int64_t row,
           const DistributionOptions& options, QuantizedMatrix* m)
      : gram_(gram), row_(row), columns_(weights.columns()), options_(options), m_(*m) {
    gradient_ = Eigen::VectorXd::Zero(columns_);
    shift_.assign(static_cast<size_t>(columns_), 0.0);
    double offset = 0;
    for (int64_t c = 0; c < columns_; ++c) {
      const double e = weights.values[static_cast<size_t>(row * columns_ + c)] - m_.Real(row, c);
      if (e != 0) gradient_ += e * GramRow(c).cast<double>();
      offset += e * mean[static_cast<size_t>(c)];
      gaps_.push_back(GapsOf(m_, row, c));
    }
    gradient_ -= offset * Eigen::Map<const Eigen::VectorXf>(mean.data(), columns_).cast<double>();
  }

  void Run() {
    double first = 0;
    for (int sweep = 0; sweep < options_.sweeps; ++sweep) {
      double lowered = 0;
      for (int64_t c = 0; c < columns_; ++c) lowered += Improve(c);
      if (sweep == 0) first = lowered;
      if (lowered <= 1e-3 * first) break;
    }
    const int most = LargestStep(m_.step_bits);
    for (int64_t c = 0; c < columns_; ++c) {
      const double d = shift_[static_cast<size_t>(c)];
      const double p = d == 0 ? 0 : std::fabs(d) / Gap(gaps_[static_cast<size_t>(c)], d);
      const int step = std::min(most, static_cast<int>(std::lround(2 * most * p)));
      m_.steps[static_cast<size_t>(row_ * columns_ + c)] = static_cast<int8_t>(d < 0 ? -step : step);
    }
  }

 private:
  Eigen::Map<const Eigen::VectorXf> GramRow(int64_t c) const { return {gram_ + c * columns_, columns_}; }

  // Moves one mean to where J is least and returns by how much that lowers J.
  double Improve(int64_t c) {
    const double curvature = gram_[c * columns_ + c], share = 1 / options_.samples;
    double& d = shift_[static_cast<size_t>(c)];
    const double target = d + gradient_[c] / curvature;
    const double gap = Gap(gaps_[static_cast<size_t>(c)], target);
    const double size = std::clamp((std::fabs(target) - gap * share / 2) / (1 - share), 0.0, gap / 2);
    const double next = target < 0 ? -size : size;
    const double moved = next - d;
    if (moved == 0) return 0;
    const auto variance = [&](double x) { return std::fabs(x) * (Gap(gaps_[static_cast<size_t>(c)], x) - std::fabs(x)); };
    const double lowered =
        2 * moved * gradient_[c] - moved * moved * curvature - share * curvature * (variance(next) - variance(d));
    gradient_ -= moved * GramRow(c).cast<double>();
    d = next;
    return lowered;
  }

  const float* gram_;
  const int64_t row_, columns_;
  const DistributionOptions& options_;
  QuantizedMatrix& m_;
  Eigen::VectorXd gradient_;  // H (e - d) - m e^T m
  std::vector<double> shift_;  // d
  std::vector<Gaps> gaps_;
};

}  // namespace

absl::Status FitDistribution(const WeightMatrix& weights, const Moments& moments, const DistributionOptions& options,
                             QuantizedMatrix* m) {
  if (m->grid.vector != 1) {
    return absl::UnimplementedError(absl::StrCat("grid '", m->grid.name, "': distributions are of single weights"));
  }
  OCTET_RETURN_IF_ERROR(CheckRounding(weights, moments, *m));
  if (!(options.samples >= 2) || (options.bits != 4 && options.bits != 8) || options.sweeps < 1 || !(options.damping >= 0)) {
    return absl::InvalidArgumentError(absl::StrCat("a distribution for ", options.samples, " samples in ", options.bits,
                                                   " bits with ", options.sweeps, " sweeps and damping ", options.damping,
                                                   "; expected 2 or more samples, 4 or 8 bits, sweeps, no negative damping"));
  }
  m->step_bits = options.bits;
  m->steps.assign(m->codes.size(), 0);
  return ForEachBlock(weights, Damped(moments, options.damping), options.threads, [&](const RowBlock& block) {
    for (int64_t r = block.first; r < block.first + block.rows; ++r) {
      const absl::Span<const float> mean = moments.Mean(r / (weights.rows / weights.conv_groups));
      RowMeans(weights, block.gram, mean, r, options, m).Run();
    }
    return absl::OkStatus();
  });
}

std::vector<ExpectedError> ExpectedErrors(const WeightMatrix& weights, const Moments& moments, const QuantizedMatrix& m) {
  const int64_t columns = m.columns(), group_rows = m.rows / m.conv_groups;
  std::vector<float> error(m.codes.size()), mean(m.codes.size());
  std::vector<ExpectedError> out(static_cast<size_t>(m.rows));
  // e^T m, which the bias gives back, and (e - d)^T m.
  std::vector<double> offset(out.size()), left(out.size());
  for (int64_t r = 0; r < m.rows; ++r) {
    const int64_t g = r / group_rows;
    for (int64_t c = 0; c < columns; ++c) {
      const auto i = static_cast<size_t>(r * columns + c);
      const double d = MeanShiftOf(m, r, c), e = weights.values[i] - m.Real(r, c);
      error[i] = static_cast<float>(e);
      mean[i] = static_cast<float>(e - d);
      const double x = moments.Mean(g)[static_cast<size_t>(c)];
      offset[static_cast<size_t>(r)] += e * x;
      left[static_cast<size_t>(r)] += (e - d) * x;
      const double energy = moments.gram.empty() ? moments.diagonal[static_cast<size_t>(g * columns + c)]
                                                 : moments.Gram(g)[static_cast<size_t>(c * columns + c)];
      out[static_cast<size_t>(r)].variance += energy * std::fabs(d) * (Gap(GapsOf(m, r, c), d) - std::fabs(d));
    }
  }
  const std::vector<double> signals = GramEnergies(weights, weights.values, moments);
  const std::vector<double> modes = GramEnergies(weights, error, moments), means = GramEnergies(weights, mean, moments);
  for (size_t r = 0; r < out.size(); ++r) {
    out[r].signal = signals[r];
    out[r].mode = std::max(modes[r] - offset[r] * offset[r], 0.0);
    out[r].mean = std::max(means[r] - 2 * left[r] * offset[r] + offset[r] * offset[r], 0.0);
  }
  return out;
}

}  // namespace octet::compress
