// Streaming histograms and range choices. Source: reference methods 1.5 of Krishnamoorthi, arXiv:1806.08342 (min-max,
// percentile) and Choukroun et al., arXiv:1902.06822 (mean squared error).
#include "compress/ranges.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace octet::compress {

int64_t StreamingHistogram::Add(absl::Span<const float> values) {
  if (values.empty()) return -1;
  double low = values[0], high = values[0];
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) return static_cast<int64_t>(i);
    low = std::min<double>(low, values[i]);
    high = std::max<double>(high, values[i]);
  }
  minimum_ = count_ == 0 ? low : std::min(minimum_, low);
  maximum_ = count_ == 0 ? high : std::max(maximum_, high);
  count_ += static_cast<int64_t>(values.size());
  Cover(low, high);
  const double inverse = 1 / width_;
  for (float v : values) {
    const auto bin = static_cast<int64_t>((v - origin_) * inverse);
    ++bins_[static_cast<size_t>(std::clamp<int64_t>(bin, 0, kBins - 1))];
  }
  return -1;
}

void StreamingHistogram::Cover(double low, double high) {
  if (bins_.empty()) {
    bins_.assign(kBins, 0);
    const double extent = std::max({high - low, std::fabs(high) * 1e-6, std::fabs(low) * 1e-6, 1e-30});
    // A little air on both sides: the second batch rarely stays within the first one's range.
    width_ = extent * 1.25 / kBins;
    origin_ = low - extent * 0.125;
  }
  auto merge = [&](bool downwards) {
    // The merged bins take the lower or the upper half; the other half is new and empty.
    std::vector<uint64_t> merged(kBins, 0);
    const size_t shift = downwards ? kBins / 2 : 0;
    for (size_t i = 0; i < kBins; ++i) merged[shift + i / 2] += bins_[i];
    if (downwards) origin_ -= width_ * kBins;
    width_ *= 2;
    bins_ = std::move(merged);
  };
  while (low < origin_) merge(true);
  while (high >= origin_ + width_ * kBins) merge(false);
}

absl::StatusOr<RangeMethod> ParseRangeMethod(absl::string_view text) {
  for (RangeMethod m : {RangeMethod::kMinMax, RangeMethod::kPercentile, RangeMethod::kMse}) {
    if (text == NameOf(m)) return m;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("range method '", text, "', expected minmax, percentile or mse"));
}

absl::string_view NameOf(RangeMethod method) {
  switch (method) {
    case RangeMethod::kMinMax:
      return "minmax";
    case RangeMethod::kPercentile:
      return "percentile";
    case RangeMethod::kMse:
      return "mse";
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

double QuantizationError(const StreamingHistogram& histogram, const QuantParams& params) {
  const double scale = params.scale[0];
  const double zero = params.zero_point_at(0);
  double error = 0;
  for (size_t i = 0; i < histogram.bins().size(); ++i) {
    if (histogram.bins()[i] == 0) continue;
    const double x = histogram.origin() + (static_cast<double>(i) + 0.5) * histogram.width();
    const double q = std::clamp(std::nearbyint(x / scale) + zero, 0.0, 255.0);
    const double d = x - (q - zero) * scale;
    // Within a cell the error is uniform: a bin narrower than a step adds its own spread.
    error += static_cast<double>(histogram.bins()[i]) * d * d;
  }
  return error / static_cast<double>(histogram.count());
}

namespace {

Range MinMax(const StreamingHistogram& h) {
  return {std::min(h.minimum(), 0.0), std::max(h.maximum(), 0.0)};
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
  return {std::min(std::max(range.low, all.low), 0.0), std::max(std::min(range.high, all.high), 0.0)};
}

// Coordinate descent over shrinking either end: 64 steps each, twice.
Range LeastSquares(const StreamingHistogram& h) {
  const Range all = MinMax(h);
  Range best = all;
  double best_error = QuantizationError(h, U8Params(best));
  constexpr int kSteps = 64;
  for (int round = 0; round < 2; ++round) {
    for (bool upper : {true, false}) {
      const Range base = best;
      for (int i = 1; i < kSteps; ++i) {
        Range r = base;
        double& end = upper ? r.high : r.low;
        end = (upper ? all.high : all.low) * i / kSteps;
        const double error = QuantizationError(h, U8Params(r));
        if (error < best_error) {
          best_error = error;
          best = r;
        }
      }
    }
  }
  return best;
}

}  // namespace

Range ChooseRange(const StreamingHistogram& histogram, RangeMethod method, double percentile) {
  switch (method) {
    case RangeMethod::kMinMax:
      return MinMax(histogram);
    case RangeMethod::kPercentile:
      return Percentile(histogram, percentile);
    case RangeMethod::kMse:
      return LeastSquares(histogram);
  }
  return MinMax(histogram);
}

}  // namespace octet::compress
