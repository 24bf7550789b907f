// Streaming histograms and range choices. Source: reference methods 1.5 of Krishnamoorthi, arXiv:1806.08342 (min-max,
// percentile) and Choukroun et al., arXiv:1902.06822 (mean squared error).
#include "compress/ranges.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace octet::compress {

int64_t StreamingHistogram::Add(absl::Span<const float> values) {
  if (values.empty()) return -1;
  float low = values[0], high = values[0];
  bool finite = true;
  for (float v : values) {
    finite = finite && std::fabs(v) <= std::numeric_limits<float>::max();
    low = std::min(low, v);
    high = std::max(high, v);
  }
  if (!finite) {
    return std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); }) - values.begin();
  }
  const bool first_call = count_ == 0;
  const auto move = [&](double old, double now) { return first_call ? now : old + kMovingShare * (now - old); };
  moving_minimum_ = move(moving_minimum_, low);
  moving_maximum_ = move(moving_maximum_, high);
  minimum_ = first_call ? low : std::min<double>(minimum_, low);
  maximum_ = first_call ? high : std::max<double>(maximum_, high);
  count_ += static_cast<int64_t>(values.size());
  Cover(low, high);
  const double inverse = 1 / width_, first = static_cast<double>(first_);
  for (float v : values) {
    const auto bin = static_cast<int64_t>(v * inverse - first);
    ++bins_[static_cast<size_t>(std::clamp<int64_t>(bin, 0, kBins - 1))];
    zeros_ += v == 0 ? 1 : 0;
  }
  return -1;
}

void StreamingHistogram::Cover(double low, double high) {
  if (bins_.empty()) {
    bins_.assign(kBins, 0);
    const double extent = std::max({high - low, std::fabs(high) * 1e-6, std::fabs(low) * 1e-6, 1e-30});
    // A little air on both sides: the second batch rarely stays within the first one's range.
    width_ = extent * 1.25 / kBins;
    first_ = static_cast<int64_t>(std::floor((low - extent * 0.125) / width_));
  }
  const auto below = [&] { return low / width_ < static_cast<double>(first_); };
  const auto above = [&] { return high / width_ >= static_cast<double>(first_ + kBins); };
  while (below() || above()) {
    // Bins 2 i and 2 i + 1, counted from 0's own, become one; half of the new range lies where values came from.
    const int64_t first = (first_ >> 1) - (below() ? kBins / 2 - 1 : 0);
    std::vector<uint64_t> merged(kBins, 0);
    for (int64_t i = 0; i < kBins; ++i) {
      const int64_t to = ((first_ + i) >> 1) - first;
      merged[static_cast<size_t>(to)] += bins_[static_cast<size_t>(i)];
    }
    width_ *= 2;
    first_ = first;
    bins_ = std::move(merged);
  }
}

absl::StatusOr<RangeMethod> ParseRangeMethod(absl::string_view text) {
  for (RangeMethod m : {RangeMethod::kMinMax, RangeMethod::kMovingAverage, RangeMethod::kPercentile,
                        RangeMethod::kEntropy, RangeMethod::kMse, RangeMethod::kClosedForm}) {
    if (text == NameOf(m)) return m;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "range method '", text, "', expected minmax, moving, percentile, entropy, mse or closed"));
}

absl::string_view NameOf(RangeMethod method) {
  switch (method) {
    case RangeMethod::kMinMax:
      return "minmax";
    case RangeMethod::kMovingAverage:
      return "moving";
    case RangeMethod::kPercentile:
      return "percentile";
    case RangeMethod::kEntropy:
      return "entropy";
    case RangeMethod::kMse:
      return "mse";
    case RangeMethod::kClosedForm:
      return "closed";
  }
  return "";
}

QuantParams U8Params(const Range& range) {
  const double low = std::min(range.low, 0.0), high = std::max(range.high, 0.0);
  const double scale = (high - low) / 255;
  // Below the smallest normal float the scale itself would lose its digits.
  if (!(scale > 1.2e-38)) return QuantParams::PerTensor(1.0f, 0);
  const auto rounded = static_cast<float>(scale);
  const double zero = std::clamp(std::nearbyint(-low / static_cast<double>(rounded)), 0.0, 255.0);
  return QuantParams::PerTensor(rounded, static_cast<int32_t>(zero));
}

QuantParams S8Params(const Range& range) {
  const double scale = std::max(-range.low, range.high) / 127;
  return QuantParams::PerTensor(scale > 1.2e-38 ? static_cast<float>(scale) : 1.0f, 0);
}

namespace {

// Bin that starts at 0, when there is one.
size_t ZeroBin(const StreamingHistogram& h) {
  const double bin = std::nearbyint(-h.origin() / h.width());
  return bin >= 0 && bin < StreamingHistogram::kBins ? static_cast<size_t>(bin) : h.bins().size();
}

// Counts of values other than exact zeros.
std::vector<double> NonZeroCounts(const StreamingHistogram& h) {
  std::vector<double> counts(h.bins().begin(), h.bins().end());
  if (h.zeros() > 0 && ZeroBin(h) < counts.size()) counts[ZeroBin(h)] -= static_cast<double>(h.zeros());
  return counts;
}

// Moments of a histogram's values between any two points, when values lie evenly within their bins: what errors of whole
// cells are computed from, so that a candidate costs 256 steps instead of one per bin.
class CumulativeMoments {
 public:
  explicit CumulativeMoments(const StreamingHistogram& h)
      : origin_(h.origin()), width_(h.width()), counts_(NonZeroCounts(h)), below_(counts_.size() + 1) {
    for (size_t i = 0; i < counts_.size(); ++i) {
      const Moments bin = Part(i, width_);
      for (size_t m = 0; m < 3; ++m) below_[i + 1][m] = below_[i][m] + bin[m];
    }
  }

  using Moments = std::array<double, 3>;  // sum of 1, x, x^2

  Moments Below(double x) const {
    const double position = (x - origin_) / width_;
    if (!(position > 0)) return below_.front();
    if (position >= static_cast<double>(counts_.size())) return below_.back();
    const auto i = static_cast<size_t>(position);
    Moments sum = below_[i];
    const Moments part = Part(i, x - (origin_ + static_cast<double>(i) * width_));
    for (size_t m = 0; m < 3; ++m) sum[m] += part[m];
    return sum;
  }

  const Moments& All() const { return below_.back(); }

  // Sum over the values between two points of (x - level)^2.
  static double SquaredDistance(const Moments& from, const Moments& to, double level) {
    return std::max(0.0, to[2] - from[2] - 2 * level * (to[1] - from[1]) + level * level * (to[0] - from[0]));
  }

  // Sum over all values of (x - u8 rounding of x)^2.
  double RoundingError(const QuantParams& params) const {
    const double scale = params.scale[0], zero = params.zero_point_at(0);
    double error = 0;
    Moments from = below_.front();
    for (int code = 0; code < 256; ++code) {
      const double level = (code - zero) * scale;
      const Moments to = code == 255 ? All() : Below(level + scale / 2);
      error += SquaredDistance(from, to, level);
      from = to;
    }
    return error;
  }

 private:
  // Of the first `length` of bin i.
  Moments Part(size_t i, double length) const {
    const double start = origin_ + static_cast<double>(i) * width_, count = counts_[i] * length / width_;
    const double middle = start + length / 2;
    return {count, count * middle, count * (middle * middle + length * length / 12)};
  }

  double origin_, width_;
  std::vector<double> counts_;
  std::vector<Moments> below_;
};

Range MinMax(const StreamingHistogram& h) {
  return {std::min(h.minimum(), 0.0), std::max(h.maximum(), 0.0)};
}

Range Within(const Range& range, const Range& all) {
  return {std::min(std::max(range.low, all.low), 0.0), std::max(std::min(range.high, all.high), 0.0)};
}

Range Percentile(const StreamingHistogram& h, double percentile) {
  const Range all = MinMax(h);
  const double cut = (1 - percentile) / 2 * static_cast<double>(h.count());
  Range range = all;
  double seen = 0;
  for (size_t i = 0; i < h.bins().size(); ++i) {
    seen += static_cast<double>(h.bins()[i]);
    if (seen > cut) {
      range.low = h.origin() + static_cast<double>(i) * h.width();
      break;
    }
  }
  seen = 0;
  for (size_t i = h.bins().size(); i-- > 0;) {
    seen += static_cast<double>(h.bins()[i]);
    if (seen > cut) {
      range.high = h.origin() + static_cast<double>(i + 1) * h.width();
      break;
    }
  }
  return Within(range, all);
}

// All pairs of ends shrunk by powers of 0.9 down to 1/64, then finer steps around the best, end by end.
Range LeastSquares(const StreamingHistogram& h) {
  const CumulativeMoments moments(h);
  const Range all = MinMax(h);
  Range best = all;
  double best_error = moments.RoundingError(U8Params(best));
  const auto consider = [&](const Range& r) {
    const double error = moments.RoundingError(U8Params(r));
    if (error >= best_error) return;
    best_error = error;
    best = r;
  };
  constexpr double kCoarse = 0.9;
  constexpr int kSteps = 40, kFineSteps = 12;
  for (int i = 0; i < (all.low < 0 ? kSteps : 1); ++i) {
    for (int k = 0; k < (all.high > 0 ? kSteps : 1); ++k) {
      consider({all.low * std::pow(kCoarse, i), all.high * std::pow(kCoarse, k)});
    }
  }
  for (double reach : {1.0, 0.25}) {  // of a coarse step
    for (bool upper : {true, false, true, false}) {
      const Range base = best;
      for (int i = -kFineSteps; i <= kFineSteps; ++i) {
        Range r = base;
        (upper ? r.high : r.low) *= std::pow(kCoarse, reach * i / kFineSteps);
        consider(Within(r, all));
      }
    }
  }
  return best;
}

constexpr int kCells = 256;  // of a u8 grid

// Sums over the bins before each one, from which a candidate's divergence follows in one step per cell.
class DivergenceSums {
 public:
  explicit DivergenceSums(const StreamingHistogram& h) : counts_(NonZeroCounts(h)) {
    mass_ = filled_ = information_ = std::vector<double>(counts_.size() + 1, 0.0);
    for (size_t i = 0; i < counts_.size(); ++i) {
      mass_[i + 1] = mass_[i] + counts_[i];
      filled_[i + 1] = filled_[i] + (counts_[i] > 0 ? 1 : 0);
      information_[i + 1] = information_[i] + Information(counts_[i]);
    }
  }

  double total() const { return mass_.back(); }

  // KL(P || Q) = sum p/N log(p/N) - sum p/N log(q/M), N all values, M those inside.
  double Of(int first, int last) const {
    const auto a = static_cast<size_t>(first), b = static_cast<size_t>(last);
    const double inside = mass_[b] - mass_[a];
    if (!(inside > 0)) return std::numeric_limits<double>::infinity();
    const double tail_low = mass_[a], tail_high = mass_.back() - mass_[b];
    double sum = information_[b] - information_[a];
    sum += Information(counts_[a] + tail_low) - Information(counts_[a]);
    sum += Information(counts_[b - 1] + tail_high) - Information(counts_[b - 1]);
    const auto extent = static_cast<size_t>(last - first);
    for (size_t cell = 0; cell < kCells; ++cell) {
      const size_t from = a + cell * extent / kCells, to = a + (cell + 1) * extent / kCells;
      double filled = filled_[to] - filled_[from], p = mass_[to] - mass_[from];
      const double q = p;
      if (cell == 0 && tail_low > 0) {
        filled += counts_[a] > 0 ? 0 : 1;
        p += tail_low;
      }
      if (cell == kCells - 1 && tail_high > 0) {
        filled += counts_[b - 1] > 0 ? 0 : 1;
        p += tail_high;
      }
      if (!(p > 0)) continue;
      if (!(q > 0)) return std::numeric_limits<double>::infinity();
      sum -= p * std::log(q / filled);
    }
    return sum / total() + std::log(inside / total());
  }

 private:
  static double Information(double count) { return count > 0 ? count * std::log(count) : 0; }

  std::vector<double> counts_;
  std::vector<double> mass_, filled_, information_;
};

// Every bin as an end (the divergence is rugged: steps of several bins miss its minimum); the two ends in turn, twice.
Range LeastDivergence(const StreamingHistogram& h) {
  const Range all = MinMax(h);
  const DivergenceSums sums(h);
  if (!(sums.total() > 0)) return all;
  // Beyond the histogram's ends there is nothing: a range that must reach 0 from there has nothing to cut on that side.
  const auto bin_of = [&](double x) {
    const double bin = std::floor(x / h.width()) - std::nearbyint(h.origin() / h.width());
    return static_cast<int>(std::clamp<double>(bin, 0, StreamingHistogram::kBins));
  };
  const int lowest = bin_of(all.low);
  const int highest = std::min(bin_of(all.high) + 1, StreamingHistogram::kBins);
  const int zero = std::clamp(bin_of(0), lowest, highest);
  if (highest - lowest <= kCells) return all;
  int first = lowest, last = highest;
  double best = sums.Of(first, last);
  const auto scan = [&](bool upper, int from, int to) {
    const int other = upper ? first : last;
    for (int end = from; end <= to; ++end) {
      const int a = upper ? other : end, b = upper ? end : other;
      if (b - a < kCells) continue;
      const double divergence = sums.Of(a, b);
      if (divergence >= best) continue;
      best = divergence;
      (upper ? last : first) = end;
    }
  };
  for (int round = 0; round < 2; ++round) {
    scan(true, zero, highest);
    scan(false, lowest, zero);
  }
  return Within({h.origin() + first * h.width(), h.origin() + last * h.width()}, all);
}

// Location and spread that make the values likeliest, and that likelihood, of values other than exact zeros.
struct Fit {
  double location = 0, spread = 0;
  double log_likelihood = 0;  // mean
};

double Centre(const StreamingHistogram& h, size_t bin) { return h.origin() + (static_cast<double>(bin) + 0.5) * h.width(); }

Fit FitNormal(const CumulativeMoments& moments, bool folded) {
  const auto& all = moments.All();
  const double mean = folded ? 0 : all[1] / all[0];
  const double variance = std::max(all[2] / all[0] - mean * mean, 1e-300);
  return {mean, std::sqrt(variance), -0.5 * std::log(2 * M_PI * variance) - 0.5};
}

Fit FitLaplace(const StreamingHistogram& h, const std::vector<double>& counts, double total, bool folded) {
  double median = 0, seen = 0, deviation = 0;
  for (size_t i = 0; i < counts.size() && !folded; ++i) {
    seen += counts[i];
    if (seen < total / 2) continue;
    median = Centre(h, i);
    break;
  }
  for (size_t i = 0; i < counts.size(); ++i) deviation += counts[i] * std::fabs(Centre(h, i) - median);
  deviation = std::max(deviation / total, 1e-150);
  return {median, deviation, -std::log(2 * deviation) - 1};
}

Range ClosedForm(const StreamingHistogram& h) {
  const Range all = MinMax(h);
  const CumulativeMoments moments(h);
  const double total = moments.All()[0];
  if (!(total > 0)) return all;
  const bool folded = all.low == 0 || all.high == 0;
  const Fit normal = FitNormal(moments, folded);
  const Fit laplace = FitLaplace(h, NonZeroCounts(h), total, folded);
  const bool is_normal = normal.log_likelihood >= laplace.log_likelihood;
  const Fit& fit = is_normal ? normal : laplace;
  const int bits = folded ? 9 : 8;
  const double reach =
      OptimalClipping(is_normal ? Distribution::kNormal : Distribution::kLaplace, bits) * fit.spread;
  return Within({fit.location - reach, fit.location + reach}, all);
}

}  // namespace

double QuantizationError(const StreamingHistogram& histogram, const QuantParams& params) {
  return CumulativeMoments(histogram).RoundingError(params) / static_cast<double>(histogram.count());
}

double ClippedShare(const StreamingHistogram& histogram, const Range& range) {
  const CumulativeMoments moments(histogram);
  const CumulativeMoments::Moments none = {0, 0, 0};
  const double clipped = CumulativeMoments::SquaredDistance(none, moments.Below(range.low), range.low) +
                         CumulativeMoments::SquaredDistance(moments.Below(range.high), moments.All(), range.high);
  return moments.All()[2] > 0 ? clipped / moments.All()[2] : 0;
}

double Divergence(const StreamingHistogram& histogram, int first, int last) {
  return DivergenceSums(histogram).Of(first, last);
}

double OptimalClipping(Distribution distribution, int bits) {
  const double step = 1 / (3 * std::pow(4.0, bits));
  const auto cost = [&](double k) {
    const double clip = distribution == Distribution::kLaplace
                            ? 2 * std::exp(-k)
                            : (1 + k * k) * std::erfc(k / M_SQRT2) - 2 * k * std::exp(-k * k / 2) / std::sqrt(2 * M_PI);
    return clip + step * k * k;
  };
  // Both terms are convex: ternary search.
  double low = 0, high = 64;
  for (int i = 0; i < 200; ++i) {
    const double third = (high - low) / 3;
    if (cost(low + third) < cost(high - third)) {
      high -= third;
    } else {
      low += third;
    }
  }
  return (low + high) / 2;
}

Range ChooseRange(const StreamingHistogram& histogram, RangeMethod method, double percentile) {
  switch (method) {
    case RangeMethod::kMinMax:
      return MinMax(histogram);
    case RangeMethod::kMovingAverage:
      return {std::min(histogram.moving_minimum(), 0.0), std::max(histogram.moving_maximum(), 0.0)};
    case RangeMethod::kPercentile:
      return Percentile(histogram, percentile);
    case RangeMethod::kEntropy:
      return LeastDivergence(histogram);
    case RangeMethod::kMse:
      return LeastSquares(histogram);
    case RangeMethod::kClosedForm:
      return ClosedForm(histogram);
  }
  return MinMax(histogram);
}

ChosenRange ChooseGuardedRange(const StreamingHistogram& histogram, RangeMethod method, double percentile) {
  ChosenRange chosen{ChooseRange(histogram, method, percentile), method, ""};
  const double share = ClippedShare(histogram, chosen.range);
  if (method == RangeMethod::kMse || share <= kMaxClippedShare) return chosen;
  const Range best = ChooseRange(histogram, RangeMethod::kMse, percentile);
  const double error = QuantizationError(histogram, U8Params(chosen.range));
  const double best_error = QuantizationError(histogram, U8Params(best));
  if (error <= 2 * best_error) return chosen;
  chosen.reason = absl::StrFormat(
      "%s cuts [%.4g, %.4g] to [%.4g, %.4g] and with it %.2g of the energy (limit %.2g); mse's [%.4g, %.4g] errs %.2g times "
      "less",
      NameOf(method), histogram.minimum(), histogram.maximum(), chosen.range.low, chosen.range.high, share,
      kMaxClippedShare, best.low, best.high, error / best_error);
  chosen.range = best;
  chosen.method = RangeMethod::kMse;
  return chosen;
}

}  // namespace octet::compress
