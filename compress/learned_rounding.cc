// Gradient descent on relaxed choices, and descent over single weights.
#include "compress/learned_rounding.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "compress/damped_gram.h"
#include "compress/gram_error.h"
#include "compress/gram_products.h"

namespace octet::compress {
namespace {

constexpr float kStretchLow = -0.1f, kStretchHigh = 1.1f;  // of the sigmoid, so that choices become exactly 0 and 1
constexpr double kWarmUp = 0.2;    // share of the iterations without regulariser

// One row's codes as the refinement moves them.
class RowDescent {
 public:
  RowDescent(const WeightMatrix& weights, const float* gram, int64_t row, QuantizedMatrix* m)
      : weights_(weights), gram_(gram), row_(row), columns_(weights.columns()), m_(*m) {
    gradient_ = Eigen::VectorXd::Zero(columns_);
    for (int64_t c = 0; c < columns_; ++c) {
      const double e = weights.values[static_cast<size_t>(row * columns_ + c)] - m_.Real(row, c);
      gradient_ += e * GramRow(c).cast<double>();
    }
    moves_.resize(static_cast<size_t>(columns_));
    for (int64_t c = 0; c < columns_; ++c) SetMoves(c);
  }

  void Run() {
    // Every move lowers the loss, so that it ends; the bound is for gains that rounding errors feign.
    for (int64_t step = 0; step < 16 * columns_; ++step) {
      const Best best = FindBest();
      if (best.column < 0) return;
      Apply(best);
    }
  }

 private:
  struct Moves {
    double down = 0, up = 0;  // how the real number changes; 0: there is no such level
    double curvature = 0;     // H_cc
  };
  struct Best {
    int64_t column = -1;
    int step = 0;
  };

  Eigen::Map<const Eigen::VectorXf> GramRow(int64_t c) const { return {gram_ + c * columns_, columns_}; }
  uint8_t& Code(int64_t c) { return m_.codes[static_cast<size_t>(row_ * columns_ + c)]; }

  void SetMoves(int64_t c) {
    const std::vector<int8_t>& levels = m_.grid.levels;
    const size_t code = Code(c);
    const double scale = m_.scale[m_.ScaleIndex(row_, c)];
    Moves& moves = moves_[static_cast<size_t>(c)];
    moves.down = code > 0 ? scale * (levels[code - 1] - levels[code]) : 0;
    moves.up = code + 1 < levels.size() ? scale * (levels[code + 1] - levels[code]) : 0;
    moves.curvature = gram_[c * columns_ + c];
  }

  // A real that grows by d changes the loss by d^2 H_cc - 2 d (H e)_c.
  Best FindBest() const {
    Best best;
    double lowest = 0;
    for (int64_t c = 0; c < columns_; ++c) {
      const Moves& moves = moves_[static_cast<size_t>(c)];
      const double slope = 2 * gradient_[c];
      const double d = slope > 0 ? moves.up : moves.down;
      // A gain must exceed what the f64 sums may be wrong by.
      const double change = d * (d * moves.curvature * (1 - 1e-9) - slope);
      if (change < lowest) {
        lowest = change;
        best = {c, slope > 0 ? 1 : -1};
      }
    }
    return best;
  }

  void Apply(const Best& best) {
    const Moves& moves = moves_[static_cast<size_t>(best.column)];
    const double d = best.step > 0 ? moves.up : moves.down;
    gradient_ -= d * GramRow(best.column).cast<double>();
    Code(best.column) = static_cast<uint8_t>(Code(best.column) + best.step);
    SetMoves(best.column);
  }

  const WeightMatrix& weights_;
  const float* gram_;
  const int64_t row_, columns_;
  QuantizedMatrix& m_;
  Eigen::VectorXd gradient_;  // H e
  std::vector<Moves> moves_;
};

void RefineRows(const WeightMatrix& weights, const RowBlock& block, QuantizedMatrix* m) {
  for (int64_t r = 0; r < block.rows; ++r) RowDescent(weights, block.gram, block.first + r, m).Run();
}

QuantizedMatrix Nearest(const WeightMatrix& weights, QuantizedMatrix m) {
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t c = 0; c < m.columns(); ++c) {
      const size_t i = static_cast<size_t>(r * m.columns() + c), s = m.ScaleIndex(r, c);
      const double x = static_cast<double>(weights.values[i]) / m.scale[s] + (m.zero.empty() ? 0 : m.zero[s]);
      m.codes[i] = static_cast<uint8_t>(NearestLevel(m.grid, x));
    }
  }
  return m;
}

float Sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// AdaRound on one block of rows.
class Relaxation {
 public:
  Relaxation(const WeightMatrix& weights, const RowBlock& block, const LearnedRoundingOptions& options,
             QuantizedMatrix* m)
      : weights_(weights), block_(block), options_(options), m_(*m), columns_(weights.columns()) {
    const auto size = static_cast<size_t>(block.rows * columns_);
    weights_left_.resize(size);
    step_.resize(size);
    v_.resize(size);
    first_moment_.resize(size);
    second_moment_.resize(size);
    error_.resize(size);
    gradient_.resize(size);
    unit_.resize(static_cast<size_t>(block.rows));
    neighbours_.resize(size);
    for (int64_t r = 0; r < block.rows; ++r) StartRow(r);
  }

  absl::Status Run() {
    const ProductShape shape = {block_.rows, columns_, columns_,
                                columns_, columns_, columns_, ProductShape::Right::kPlain, 0.0f};
    for (int t = 0; t < options_.iterations; ++t) {
      for (size_t i = 0; i < v_.size(); ++i) error_[i] = weights_left_[i] - Choice(v_[i]) * step_[i];
      OCTET_RETURN_IF_ERROR(Multiply(shape, error_.data(), block_.gram, gradient_.data()));
      Descend(t);
    }
    const size_t first = static_cast<size_t>(block_.first * columns_);
    for (size_t i = 0; i < v_.size(); ++i) {
      m_.codes[first + i] = static_cast<uint8_t>(Choice(v_[i]) >= 0.5f ? neighbours_[i].upper : neighbours_[i].lower);
    }
    return absl::OkStatus();
  }

 private:
  static float Choice(float v) {
    return std::clamp(Sigmoid(v) * (kStretchHigh - kStretchLow) + kStretchLow, 0.0f, 1.0f);
  }

  void StartRow(int64_t r) {
    const int64_t row = block_.first + r;
    double unit = 0;
    for (int64_t c = 0; c < columns_; ++c) {
      const auto i = static_cast<size_t>(r * columns_ + c);
      const size_t s = m_.ScaleIndex(row, c);
      const double scale = m_.scale[s], zero = m_.zero.empty() ? 0 : m_.zero[s];
      const double w = weights_.values[static_cast<size_t>(row * columns_ + c)];
      const Neighbours n = NeighboursOf(m_.grid, w / scale + zero);
      const double low = scale * (m_.grid.levels[static_cast<size_t>(n.lower)] - zero);
      const double high = scale * (m_.grid.levels[static_cast<size_t>(n.upper)] - zero);
      neighbours_[i] = n;
      weights_left_[i] = static_cast<float>(w - low);
      step_[i] = static_cast<float>(high - low);
      const double fraction = high > low ? std::clamp((w - low) / (high - low), 0.0, 1.0) : 0.0;
      const double p = (fraction - kStretchLow) / (kStretchHigh - kStretchLow);
      v_[i] = static_cast<float>(std::log(p / (1 - p)));
      unit += block_.gram[c * columns_ + c] * (high - low) * (high - low) / static_cast<double>(columns_);
    }
    unit_[static_cast<size_t>(r)] = unit > 0 ? static_cast<float>(unit) : 1.0f;
  }

  // One step of Adam (arXiv:1412.6980) on all choices; gradient_ holds H e.
  void Descend(int t) {
    constexpr float kDecay1 = 0.9f, kDecay2 = 0.999f;
    const double progress = static_cast<double>(t) / options_.iterations;
    const bool regular = progress >= kWarmUp;
    const double annealed = (progress - kWarmUp) / (1 - kWarmUp);
    const auto beta = static_cast<float>(options_.beta_first + (options_.beta_last - options_.beta_first) * annealed);
    const float pull = regular ? static_cast<float>(options_.regulariser) * 2 * beta : 0.0f;
    const float correct1 = 1 / (1 - std::pow(kDecay1, static_cast<float>(t + 1)));
    const float correct2 = 1 / (1 - std::pow(kDecay2, static_cast<float>(t + 1)));
    const auto rate = static_cast<float>(options_.learning_rate);
    for (size_t i = 0; i < v_.size(); ++i) {
      if (step_[i] == 0) continue;
      const float s = Sigmoid(v_[i]);
      const float stretched = s * (kStretchHigh - kStretchLow) + kStretchLow;
      if (stretched <= 0 || stretched >= 1) continue;  // decided: the clamp has no slope
      float slope = -2 * step_[i] * gradient_[i] / unit_[i / static_cast<size_t>(columns_)];
      if (pull > 0) {
        const float side = 2 * stretched - 1;
        slope -= pull * std::copysign(std::pow(std::fabs(side), beta - 1), side);
      }
      slope *= s * (1 - s) * (kStretchHigh - kStretchLow);
      first_moment_[i] = kDecay1 * first_moment_[i] + (1 - kDecay1) * slope;
      second_moment_[i] = kDecay2 * second_moment_[i] + (1 - kDecay2) * slope * slope;
      v_[i] -= rate * first_moment_[i] * correct1 / (std::sqrt(second_moment_[i] * correct2) + 1e-8f);
    }
  }

  const WeightMatrix& weights_;
  const RowBlock& block_;
  const LearnedRoundingOptions& options_;
  QuantizedMatrix& m_;
  const int64_t columns_;
  std::vector<Neighbours> neighbours_;
  std::vector<float> weights_left_;  // w - lower
  std::vector<float> step_;          // upper - lower; 0 outside the grid
  std::vector<float> v_, first_moment_, second_moment_, error_, gradient_;
  std::vector<float> unit_;          // per row
};

absl::Status CheckScalarGrid(const QuantizedMatrix& m) {
  if (m.grid.vector == 1) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("grid '", m.grid.name, "': learned rounding chooses single weights"));
}

// Takes over the rows of `other` that are better, in d^T G d.
void KeepBetterRows(const WeightMatrix& weights, const Moments& moments, const QuantizedMatrix& other,
                    std::vector<double>* best, QuantizedMatrix* m) {
  const std::vector<double> found = GramErrors(weights, other, moments);
  const auto columns = static_cast<size_t>(weights.columns());
  for (size_t r = 0; r < found.size(); ++r) {
    if (found[r] >= (*best)[r]) continue;
    (*best)[r] = found[r];
    std::copy_n(other.codes.begin() + static_cast<std::ptrdiff_t>(r * columns), columns,
                m->codes.begin() + static_cast<std::ptrdiff_t>(r * columns));
  }
}

}  // namespace

void RefineRow(const WeightMatrix& weights, const float* gram, int64_t row, QuantizedMatrix* m) {
  RowDescent(weights, gram, row, m).Run();
}

absl::Status RefineRounding(const WeightMatrix& weights, const Moments& moments, double damping, int threads,
                            QuantizedMatrix* m) {
  OCTET_RETURN_IF_ERROR(CheckRounding(weights, moments, *m));
  OCTET_RETURN_IF_ERROR(CheckScalarGrid(*m));
  return ForEachBlock(weights, Damped(moments, damping), threads, [&](const RowBlock& block) {
    RefineRows(weights, block, m);
    return absl::OkStatus();
  });
}

absl::Status RoundLearned(const WeightMatrix& weights, const Moments& moments, const LearnedRoundingOptions& options,
                          QuantizedMatrix* m) {
  OCTET_RETURN_IF_ERROR(CheckRounding(weights, moments, *m));
  OCTET_RETURN_IF_ERROR(CheckScalarGrid(*m));
  if (options.iterations < 0 || !(options.damping >= 0) || !(options.learning_rate > 0) || !(options.beta_last > 1) ||
      !(options.beta_first >= options.beta_last)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "learned rounding with ", options.iterations, " iterations, damping ", options.damping, ", learning rate ",
        options.learning_rate, ", beta from ", options.beta_first, " to ", options.beta_last,
        "; expected none of them negative, a rate above 0 and 1 < beta_last <= beta_first"));
  }
  QuantizedMatrix nearest = Nearest(weights, *m), started = *m, learned = *m;
  const QuantizedMatrix plain = nearest;
  const std::vector<float> gram = Damped(moments, options.damping);
  const absl::Status rounded = ForEachBlock(weights, gram, options.threads, [&](const RowBlock& block) {
    const absl::Status status = Relaxation(weights, block, options, &learned).Run();
    for (QuantizedMatrix* each : {&nearest, &started, &learned}) RefineRows(weights, block, each);
    return status;
  });
  OCTET_RETURN_IF_ERROR(rounded);
  std::vector<double> best = GramErrors(weights, *m, moments);
  for (const QuantizedMatrix& other : {plain, nearest, started, learned}) {
    KeepBetterRows(weights, moments, other, &best, m);
  }
  return absl::OkStatus();
}

}  // namespace octet::compress
