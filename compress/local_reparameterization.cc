// Adam on blocks of output channels, each with a noise of its own.
#include "compress/local_reparameterization.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/parallel_for.h"
#include "base/philox.h"
#include "base/status.h"
#include "compress/data_free.h"
#include "compress/gram_products.h"
#include "compress/local_reparameterization_reference.h"

namespace octet::compress {
namespace {

using RowArray = Eigen::Array<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr int64_t kChannelBlock = 32;  // that one thread fits at once; fixed, so that results are the same for any team
constexpr double kMostCertain = 0.98;  // of a start's probabilities: the sigmoid of a certain one has no gradient
constexpr double kBiasRate = 0.1;      // of the learning rate, times the output's root mean square

Eigen::Map<const RowArray> View(const std::vector<float>& x, int64_t rows, int64_t columns) {
  return {x.data(), rows, columns};
}

double Logit(double p) { return std::log(p / (1 - p)); }

int LargestStep(int bits) { return bits == 4 ? 7 : 127; }

// The mean of the stored distribution of weight i, in scales.
double StoredMean(const QuantizedMatrix& m, size_t i) {
  const int code = m.codes[i], step = m.steps.empty() ? 0 : m.steps[i];
  const double level = m.grid.levels[static_cast<size_t>(code)];
  if (step == 0) return level;
  const double other = m.grid.levels[static_cast<size_t>(code + (step > 0 ? 1 : -1))];
  return level + (other - level) * std::abs(step) / (2.0 * LargestStep(m.step_bits));
}

// Mean and variance of the stored distribution, in scales.
LocalMoments StoredMoments(const QuantizedMatrix& m, size_t i) {
  const double level = m.grid.levels[m.codes[i]], mean = StoredMean(m, i), moved = std::fabs(mean - level);
  const double gap = m.grid.levels.size() == 2 ? 2 : 1;
  return {mean, moved * (gap - moved)};
}

// Stores the distribution of two neighbouring levels whose mean is nearest to `mean`, in scales.
void Store(double mean, size_t i, QuantizedMatrix* m) {
  const int code = NearestLevel(m->grid, mean), last = static_cast<int>(m->grid.levels.size()) - 1;
  const double level = m->grid.levels[static_cast<size_t>(code)], gap = last == 1 ? 2 : 1;
  const int direction = mean > level ? 1 : -1, most = LargestStep(m->step_bits);
  const bool exists = code + direction >= 0 && code + direction <= last;
  const double p = exists ? std::fabs(mean - level) / gap : 0;
  m->codes[i] = static_cast<uint8_t>(code);
  m->steps[i] = static_cast<int8_t>(direction * std::min(most, static_cast<int>(std::lround(2 * most * p))));
}

// J and the most probable codes' error of one channel on the rows held aside, relative to E[y^2].
struct HeldError {
  double samples = 0, mode = 0, power = 0;
};

HeldError HeldErrorOf(const LayerRows& rows, int64_t channel, const Clamp& behind, double samples, const QuantizedMatrix& m,
                      double bias) {
  const int64_t columns = rows.columns, g = channel / (m.rows / m.conv_groups), first = rows.count - rows.held_aside;
  Eigen::VectorXf mean(columns), variance(columns), code(columns);
  for (int64_t c = 0; c < columns; ++c) {
    const auto i = static_cast<size_t>(channel * columns + c);
    const double s = m.scale[m.ScaleIndex(channel, c)];
    const LocalMoments w = StoredMoments(m, i);
    mean[c] = static_cast<float>(s * w.mean);
    variance[c] = static_cast<float>(s * s * w.variance);
    code[c] = static_cast<float>(m.Real(channel, c));
  }
  const Eigen::Map<const RowMatrix> h(rows.Src(g, first), rows.held_aside, columns);
  const Eigen::VectorXf means = h * mean, codes = h * code, variances = h.array().square().matrix() * variance;
  HeldError error;
  for (int64_t i = 0; i < rows.held_aside; ++i) {
    const double y = std::clamp<double>(rows.Target(first + i, channel), behind.low, behind.high);
    error.samples += ExpectedLocalError(means[i] + bias, std::max(variances[i], 0.0f), y, behind, samples);
    error.mode += std::pow(std::clamp(codes[i] + bias, behind.low, behind.high) - y, 2);
    error.power += y * y;
  }
  return error;
}

// First and second moments of a gradient.
class Adam {
 public:
  explicit Adam(size_t n) : first_(n), second_(n) {}

  // `rate`: of element i.
  template <typename Rate>
  void Move(int step, const std::vector<float>& gradient, const Rate& rate, std::vector<float>* x) {
    constexpr float kFirst = 0.9f, kSecond = 0.99f, kLeast = 1e-12f;
    const float first = 1 - std::pow(kFirst, static_cast<float>(step + 1));
    const float second = 1 - std::pow(kSecond, static_cast<float>(step + 1));
    for (size_t i = 0; i < x->size(); ++i) {
      first_[i] += (1 - kFirst) * (gradient[i] - first_[i]);
      second_[i] += (1 - kSecond) * (gradient[i] * gradient[i] - second_[i]);
      (*x)[i] -= rate(i) * (first_[i] / first) / (std::sqrt(second_[i] / second) + kLeast);
    }
  }

 private:
  std::vector<float> first_, second_;
};

// Some output channels of one conv group.
class BlockFit {
 public:
  BlockFit(const LayerRows& rows, const Clamp& behind, const LocalFitOptions& options, int64_t first, int64_t channels,
           int64_t conv_group)
      : rows_(rows), options_(options), first_(first), group_(conv_group) {
    p_.channels = channels;
    p_.columns = rows.columns;
    batch_.rows = options.batch;
    batch_.behind = behind;
    batch_.src.resize(static_cast<size_t>(options.batch * rows.columns));
    for (auto* x : {&batch_.target, &batch_.noise[0], &batch_.noise[1]}) {
      x->resize(static_cast<size_t>(options.batch * channels));
    }
  }

  void Start(const WeightMatrix& weights, const QuantizedMatrix& m, const std::vector<float>& bias) {
    const bool ternary = m.grid.levels.size() == 3;
    for (int64_t r = first_; r < first_ + p_.channels; ++r) {
      double power = 0;
      const int64_t fitted = rows_.count - rows_.held_aside;
      for (int64_t i = 0; i < fitted; ++i) power += std::pow(Target(i, r), 2) / static_cast<double>(fitted);
      batch_.weight.push_back(power > 0 ? static_cast<float>(1 / power) : 1.0f);
      p_.bias.push_back(bias[static_cast<size_t>(r)]);
      for (int64_t c = 0; c < p_.columns; ++c) {
        const auto i = static_cast<size_t>(r * p_.columns + c);
        const double s = m.scale[m.ScaleIndex(r, c)], mean = StoredMean(m, i);
        p_.scale.push_back(static_cast<float>(s));
        const auto inside = [](double x) { return std::clamp(x, 1 - kMostCertain, kMostCertain); };
        if (!ternary) {
          p_.a.push_back(static_cast<float>(Logit(inside((1 + mean) / 2))));
          continue;
        }
        const double zero = inside(1 - std::fabs(mean));
        // Of a weight at 0 the float weight says to which side it may leave.
        const double side = mean != 0 ? mean / (1 - zero) : weights.values[i] / s;
        p_.a.push_back(static_cast<float>(Logit(zero)));
        p_.b.push_back(static_cast<float>(Logit(inside((1 + side) / 2))));
      }
    }
  }

  void Run() {
    Adam a(p_.a.size()), b(p_.b.size()), bias(p_.bias.size());
    LocalParameters gradient;
    for (int step = 0; step < options_.steps; ++step) {
      Fill(step);
      LocalLoss(p_, batch_, options_, &gradient);
      const auto rate = static_cast<float>(options_.learning_rate * (1 - static_cast<double>(step) / options_.steps));
      a.Move(step, gradient.a, [&](size_t) { return rate; }, &p_.a);
      b.Move(step, gradient.b, [&](size_t) { return rate; }, &p_.b);
      const auto of_bias = [&](size_t i) { return rate * static_cast<float>(kBiasRate) / std::sqrt(batch_.weight[i]); };
      bias.Move(step, gradient.bias, of_bias, &p_.bias);
    }
  }

  // Channel r of the block, into row first + r of m.
  float StoreChannel(int64_t r, QuantizedMatrix* m) const {
    for (int64_t c = 0; c < p_.columns; ++c) {
      const auto i = static_cast<size_t>(r * p_.columns + c);
      const double mean = WeightMomentsReference(p_, i).mean / p_.scale[i];
      Store(mean, static_cast<size_t>((first_ + r) * p_.columns + c), m);
    }
    return p_.bias[static_cast<size_t>(r)];
  }

 private:
  double Target(int64_t i, int64_t channel) const {
    return std::clamp<double>(rows_.Target(i, channel), batch_.behind.low, batch_.behind.high);
  }

  // Rows and noise of a step: pure functions of seed, stream, step, row and channel.
  void Fill(int step) {
    const int64_t n = batch_.rows, fitted = rows_.count - rows_.held_aside;
    ElementRandom pick(options_.seed, options_.stream, static_cast<uint32_t>(step));
    std::vector<int64_t> picked(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
      picked[static_cast<size_t>(i)] = static_cast<int64_t>(pick.Uniform(static_cast<uint64_t>(i)) * static_cast<double>(fitted));
      std::copy_n(rows_.Src(group_, picked[static_cast<size_t>(i)]), rows_.columns, batch_.src.data() + i * rows_.columns);
    }
    for (int64_t r = 0; r < p_.channels; ++r) {
      // Channel 0's noise is behind the picks.
      const PhiloxBlock base = {0, static_cast<uint32_t>(first_ + r + 1), options_.stream, static_cast<uint32_t>(step)};
      const std::array<uint32_t, 2> key = {static_cast<uint32_t>(options_.seed), static_cast<uint32_t>(options_.seed >> 32)};
      for (int64_t i = 0; i < n; ++i) {
        const auto at = static_cast<size_t>(r * n + i);
        batch_.target[at] = static_cast<float>(Target(picked[static_cast<size_t>(i)], first_ + r));
        PhiloxBlock counter = base;
        counter[0] = static_cast<uint32_t>(i);
        const PhiloxBlock bits = Philox(counter, key);
        // Box and Muller: two independent normal numbers of two uniform ones.
        const float radius = std::sqrt(-2 * std::log((static_cast<float>(bits[0] >> 8) + 0.5f) * 0x1.0p-24f));
        const float angle = 2 * std::numbers::pi_v<float> * static_cast<float>(bits[1] >> 8) * 0x1.0p-24f;
        batch_.noise[0][at] = radius * std::cos(angle);
        batch_.noise[1][at] = radius * std::sin(angle);
      }
    }
  }

  const LayerRows& rows_;
  const LocalFitOptions& options_;
  const int64_t first_, group_;
  LocalParameters p_;
  LocalBatch batch_;
};

absl::Status Check(const LayerRows& rows, const WeightMatrix& weights, const LocalFitOptions& options, const QuantizedMatrix& m,
                   const std::vector<float>& bias) {
  const bool single = m.grid.kind == GridKind::kFixed && (m.grid.levels == std::vector<int8_t>{-1, 0, 1} ||
                                                          m.grid.levels == std::vector<int8_t>{-1, 1});
  if (!single) {
    return absl::UnimplementedError(
        absl::StrCat("grid '", m.grid.name, "': local reparameterisation is of ternary and binary weights"));
  }
  if (rows.outputs != m.rows || rows.columns != m.columns() || rows.conv_groups != m.conv_groups || weights.rows != m.rows ||
      weights.columns() != m.columns() || static_cast<int64_t>(bias.size()) != m.rows) {
    return absl::InvalidArgumentError(absl::StrCat("rows of ", rows.columns, " inputs and ", rows.outputs,
                                                   " outputs for weights [", m.rows, ", ", m.columns(), "]"));
  }
  if (rows.held_aside < 1 || rows.held_aside >= rows.count) {
    return absl::InvalidArgumentError(absl::StrCat(rows.held_aside, " of ", rows.count, " rows are held aside, expected some"));
  }
  if (!(options.samples >= 1) || options.steps < 1 || options.batch < 1 || !(options.learning_rate > 0) ||
      !(options.entropy >= 0)) {
    return absl::InvalidArgumentError(absl::StrCat("local fit for ", options.samples, " samples in ", options.steps,
                                                   " steps of ", options.batch, " rows at rate ", options.learning_rate,
                                                   ", entropy ", options.entropy));
  }
  return absl::OkStatus();
}

// Sums over channels.
void Add(const HeldError& before, const HeldError& after, LocalFitReport* report) {
  report->samples_before += before.samples;
  report->samples_after += after.samples;
  report->mode_before += before.mode;
  report->mode_after += after.mode;
}

}  // namespace

double ExpectedLocalError(double mean, double variance, double y, const Clamp& behind, double samples) {
  const NormalMoments f = ClippedNormal({mean, std::sqrt(variance)}, behind.low, behind.high);
  return (f.mean - y) * (f.mean - y) + f.deviation * f.deviation / samples;
}

std::vector<double> LocalLoss(const LocalParameters& p, const LocalBatch& batch, const LocalFitOptions& options,
                              LocalParameters* gradient) {
  const int64_t n = batch.rows;
  const auto scale = View(p.scale, p.channels, p.columns);
  const RowArray s_a = 1 / (1 + (-View(p.a, p.channels, p.columns)).exp());
  // t = P(+1) + P(-1) and u = P(+1 | not 0) - P(-1 | not 0): mu = s t u, v = s^2 (t - t^2 u^2).
  const bool ternary = !p.b.empty();
  RowArray t, u;
  if (ternary) {
    t = 1 - s_a;
    u = 2 / (1 + (-View(p.b, p.channels, p.columns)).exp()) - 1;
  } else {
    t = RowArray::Ones(p.channels, p.columns);
    u = 2 * s_a - 1;
  }
  const RowArray spread = t - (t * u).square();
  const RowMatrix mu = scale * t * u, v = scale.square() * spread;
  const Eigen::Map<const RowMatrix> h(batch.src.data(), n, p.columns);
  const RowMatrix squares = h.array().square();
  RowArray m = mu * h.transpose(), variance = v * squares.transpose();
  m.colwise() += Eigen::Map<const Eigen::ArrayXf>(p.bias.data(), p.channels);
  const RowArray deviation = (variance + static_cast<float>(kLocalVarianceFloor)).sqrt();

  const auto y = View(batch.target, p.channels, n);
  const auto n1 = View(batch.noise[0], p.channels, n), n2 = View(batch.noise[1], p.channels, n);
  const auto low = static_cast<float>(batch.behind.low), high = static_cast<float>(batch.behind.high);
  const RowArray z1 = m + deviation * n1, z2 = m + deviation * n2;
  const RowArray a1 = z1.max(low).min(high), a2 = z2.max(low).min(high), apart = a1 - a2;
  const auto share = static_cast<float>(1 / options.samples);
  const RowArray g1 = (z1 > low && z1 < high).cast<float>() * (a2 - y + share * apart);
  const RowArray g2 = (z2 > low && z2 < high).cast<float>() * (a1 - y - share * apart);
  const Eigen::ArrayXf weight = Eigen::Map<const Eigen::ArrayXf>(batch.weight.data(), p.channels) / static_cast<float>(n);
  const RowMatrix dm = (g1 + g2).colwise() * weight;
  const RowMatrix dv = ((g1 * n1 + g2 * n2) / (2 * deviation)).colwise() * weight;

  // Chain rule: to mu and v, then through t and u to a and b.
  const RowArray d_mu = scale * (dm * h).array();
  const auto entropy = static_cast<float>(options.entropy / static_cast<double>(p.columns));
  const RowArray d_spread = scale.square() * (dv * squares).array() + entropy;
  const RowArray d_u = t * d_mu - 2 * t.square() * u * d_spread;
  const RowArray u_slope = (1 - u.square()) / 2;  // of 2 S - 1
  gradient->channels = p.channels;
  gradient->columns = p.columns;
  gradient->a.resize(p.a.size());
  gradient->b.resize(p.b.size());
  Eigen::Map<RowArray> to_a(gradient->a.data(), p.channels, p.columns);
  if (ternary) {
    const RowArray d_t = u * d_mu + (1 - 2 * t * u.square()) * d_spread;
    to_a = -d_t * s_a * t;
    Eigen::Map<RowArray>(gradient->b.data(), p.channels, p.columns) = d_u * u_slope;
  } else {
    to_a = d_u * u_slope;
  }
  const Eigen::ArrayXf d_bias = dm.rowwise().sum().array();
  gradient->bias.assign(d_bias.data(), d_bias.data() + p.channels);

  const Eigen::ArrayXf loss = ((a1 - y) * (a2 - y) + share / 2 * apart.square()).rowwise().sum() * weight;
  std::vector<double> out;
  for (int64_t r = 0; r < p.channels; ++r) out.push_back(loss[r] + entropy * spread.row(r).sum());
  return out;
}

absl::StatusOr<LocalFitReport> FitLocally(const LayerRows& rows, const Clamp& behind, const WeightMatrix& weights,
                                          const LocalFitOptions& options, QuantizedMatrix* m, std::vector<float>* bias) {
  OCTET_RETURN_IF_ERROR(Check(rows, weights, options, *m, *bias));
  if (m->steps.empty()) m->steps.assign(m->codes.size(), 0);
  const int64_t group_rows = m->rows / m->conv_groups;
  std::vector<std::pair<int64_t, int64_t>> blocks;  // first channel and number
  for (int64_t r = 0; r < m->rows; r += blocks.back().second) {
    blocks.emplace_back(r, std::min(kChannelBlock, (r / group_rows + 1) * group_rows - r));
  }
  const QuantizedMatrix start = *m;
  const std::vector<float> start_bias = *bias;
  std::vector<HeldError> before(static_cast<size_t>(m->rows)), after = before;
  std::vector<uint8_t> improved(static_cast<size_t>(m->rows));
  const OneThreadScope one_thread;
  OpenMpFor loop(options.threads);
  loop.Run(static_cast<int64_t>(blocks.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const auto [first, channels] = blocks[static_cast<size_t>(k)];
      BlockFit fit(rows, behind, options, first, channels, first / group_rows);
      fit.Start(weights, start, start_bias);
      fit.Run();
      for (int64_t r = first; r < first + channels; ++r) {
        const auto at = static_cast<size_t>(r);
        (*bias)[at] = fit.StoreChannel(r - first, m);
        before[at] = HeldErrorOf(rows, r, behind, options.samples, start, start_bias[at]);
        after[at] = HeldErrorOf(rows, r, behind, options.samples, *m, (*bias)[at]);
        improved[at] = after[at].samples < before[at].samples && after[at].mode <= before[at].mode ? 1 : 0;
        if (improved[at] != 0) continue;
        after[at] = before[at];
        (*bias)[at] = start_bias[at];
        std::copy_n(start.codes.begin() + r * rows.columns, rows.columns, m->codes.begin() + r * rows.columns);
        std::copy_n(start.steps.begin() + r * rows.columns, rows.columns, m->steps.begin() + r * rows.columns);
      }
    }
  });
  LocalFitReport report;
  double power = 0;
  for (size_t r = 0; r < before.size(); ++r) {
    Add(before[r], after[r], &report);
    power += before[r].power;
    report.improved += improved[r];
  }
  report.channels = m->rows;
  if (power > 0) {
    for (double* x : {&report.samples_before, &report.samples_after, &report.mode_before, &report.mode_after}) *x /= power;
  }
  return report;
}

}  // namespace octet::compress
