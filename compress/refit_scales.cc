// Descent over single scales, in turn with descent over single codes.
#include "compress/refit_scales.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "compress/damped_gram.h"
#include "compress/gram_error.h"
#include "compress/learned_rounding.h"
#include "compress/scale_multiples.h"

namespace octet::compress {
namespace {

constexpr int kSweeps = 20;             // at most
constexpr double kStandsStill = 1e-4;   // of the loss, a sweep
constexpr double kLeastShare = 0.05;    // of a scale that one round leaves

// One row's scales under fixed codes.
class RowScales {
 public:
  RowScales(const WeightMatrix& weights, const float* gram, int64_t row, QuantizedMatrix* m)
      : gram_(gram, weights.columns(), weights.columns()), columns_(weights.columns()), m_(*m) {
    Eigen::VectorXd error(columns_);
    level_.resize(columns_);
    for (int64_t c = 0; c < columns_; ++c) {
      const size_t s = m_.ScaleIndex(row, c);
      const int zero = m_.zero.empty() ? 0 : m_.zero[s];
      level_[c] = m_.grid.levels[m_.codes[static_cast<size_t>(row * columns_ + c)]] - zero;
      error[c] = weights.values[static_cast<size_t>(row * columns_ + c)] - m_.Real(row, c);
      if (groups_.empty() || groups_.back().scale != s) groups_.push_back({s, c, 0, 0});
      ++groups_.back().width;
    }
    gradient_ = gram_.cast<double>() * error;
    loss_ = error.dot(gradient_);
    for (Group& g : groups_) {
      const auto l = level_.segment(g.first, g.width);
      g.curvature = l.dot(gram_.block(g.first, g.first, g.width, g.width).cast<double>() * l);
    }
  }

  double loss() const { return loss_; }

  // `least`: no scale falls below it. `largest_level`: of the grid; 0 where scales need be no multiples.
  void Run(double least, int largest_level) {
    Descend([&](const Group& g, double wanted) {
      return std::max({wanted, least, kLeastShare * m_.scale[g.scale]});
    });
    if (largest_level == 0) return;
    std::vector<float> scales;
    for (const Group& g : groups_) scales.push_back(m_.scale[g.scale]);
    const std::vector<float> ideal = scales;
    const float base = MakeMultiples(
        largest_level, MultipleKind::kAny,
        [&](size_t i, float scale) {
          return std::max(groups_[i].curvature, kNoCurvature) * (scale - ideal[i]) * (double{scale} - ideal[i]);
        },
        absl::MakeSpan(scales));
    if (base == 0) return;
    for (size_t i = 0; i < groups_.size(); ++i) Move(groups_[i], scales[i]);
    const double most = LargestMultiple(largest_level);
    Descend([&](const Group&, double wanted) { return base * std::clamp(std::nearbyint(wanted / base), 1.0, most); });
  }

 private:
  struct Group {
    size_t scale = 0;
    int64_t first = 0, width = 0;  // columns
    double curvature = 0;          // l_g^T H_gg l_g
  };
  static constexpr double kNoCurvature = 1e-30;

  // Sets a scale and brings gradient and loss up to date.
  void Move(const Group& g, float scale) {
    const double moved = double{scale} - m_.scale[g.scale];
    if (moved == 0) return;
    const auto l = level_.segment(g.first, g.width);
    loss_ += moved * (moved * g.curvature - 2 * l.dot(gradient_.segment(g.first, g.width)));
    gradient_ -= moved * (gram_.middleCols(g.first, g.width).cast<double>() * l);
    m_.scale[g.scale] = scale;
  }

  // Moves each scale to what `legal` makes of the best one, as long as that lowers the loss.
  template <typename Legal>
  void Descend(Legal legal) {
    for (int sweep = 0; sweep < kSweeps; ++sweep) {
      const double before = loss_;
      for (const Group& g : groups_) {
        if (!(g.curvature > kNoCurvature)) continue;
        const double slope = level_.segment(g.first, g.width).dot(gradient_.segment(g.first, g.width));
        const auto next = static_cast<float>(legal(g, m_.scale[g.scale] + slope / g.curvature));
        const double moved = double{next} - m_.scale[g.scale];
        if (moved * (moved * g.curvature * (1 - 1e-9) - 2 * slope) < 0) Move(g, next);
      }
      if (before - loss_ <= kStandsStill * before) return;
    }
  }

  const Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> gram_;
  const int64_t columns_;
  QuantizedMatrix& m_;
  Eigen::VectorXd level_, gradient_;  // gradient_: H e
  double loss_ = 0;                   // e^T H e
  std::vector<Group> groups_;
};

// Inputs that are always zero weigh as little as the damping says: scales are not theirs to choose.
std::vector<float> EvenlyDamped(const Moments& moments, double damping) {
  std::vector<float> out = moments.gram;
  const auto n = static_cast<size_t>(moments.columns);
  for (size_t first = 0; first < out.size(); first += n * n) {
    double mean = 0;
    for (size_t c = 0; c < n; ++c) mean += out[first + c * n + c] / static_cast<double>(n);
    for (size_t c = 0; c < n; ++c) out[first + c * n + c] += static_cast<float>(damping * mean);
  }
  return out;
}

// Codes and scales of one row.
void CopyRow(const QuantizedMatrix& from, int64_t row, QuantizedMatrix* to) {
  const auto copy = [row](const auto& source, int64_t count, auto* target) {
    std::copy_n(source.begin() + row * count, count, target->begin() + row * count);
  };
  copy(from.codes, from.columns(), &to->codes);
  copy(from.scale, static_cast<int64_t>(from.scale.size()) / from.rows, &to->scale);
}

}  // namespace

absl::Status RefitScales(const WeightMatrix& weights, const Moments& moments, const RefitScalesOptions& options,
                         QuantizedMatrix* m) {
  OCTET_RETURN_IF_ERROR(CheckRounding(weights, moments, *m));
  if (m->grid.vector != 1) {
    return absl::UnimplementedError(absl::StrCat("grid '", m->grid.name, "': scales are refitted to codes of single weights"));
  }
  using Kind = Granularity::Kind;
  if (m->grid.scales == Grid::Scales::kPowersOfTwo || m->granularity.kind == Kind::kTensor) return absl::OkStatus();
  int largest = 0;
  if (options.form == ScaleForm::kMultiples) {
    for (int8_t level : m->grid.levels) largest = std::max(largest, std::abs(level));
  }
  const bool bounded = m->granularity.kind == Kind::kChannel && !options.minimum_scale.empty();
  QuantizedMatrix trial = *m;
  return ForEachBlock(weights, EvenlyDamped(moments, options.damping), options.threads, [&](const RowBlock& block) {
    for (int64_t r = block.first; r < block.first + block.rows; ++r) {
      double best = RowScales(weights, block.gram, r, &trial).loss();
      for (int round = 0; round < options.rounds; ++round) {
        RowScales(weights, block.gram, r, &trial).Run(bounded ? options.minimum_scale[static_cast<size_t>(r)] : 0, largest);
        RefineRow(weights, block.gram, r, &trial);
        const double loss = RowScales(weights, block.gram, r, &trial).loss();
        if (loss >= best * (1 - kStandsStill)) break;
        best = loss;
        CopyRow(trial, r, m);
      }
    }
    return absl::OkStatus();
  });
}

}  // namespace octet::compress
