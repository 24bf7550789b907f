// Window functions and mel filters.
#include "kernels/plain/signal_tables.h"

#include <cmath>
#include <numbers>
#include <utility>

#include "kernels/elements.h"

namespace octet::kernels {

std::vector<double> WindowTable(WindowKind kind, WindowPeriod period, int64_t size) {
  const auto n = static_cast<double>(period == WindowPeriod::kPeriodic ? size : size - 1);
  std::vector<double> out;
  for (int64_t i = 0; i < size; ++i) {
    const double turn = n > 0 ? 2 * std::numbers::pi * static_cast<double>(i) / n : 0;
    switch (kind) {
      case WindowKind::kHann:
        out.push_back(std::pow(std::sin(turn / 2), 2));
        break;
      case WindowKind::kHamming:
        out.push_back(25.0 / 46 - 21.0 / 46 * std::cos(turn));
        break;
      case WindowKind::kBlackman:
        out.push_back(0.42 - 0.5 * std::cos(turn) + 0.08 * std::cos(2 * turn));
    }
  }
  return out;
}

// The corners' numbering follows the reference of ONNX: mel_bins + 2 points, the step is the range
// over their number.
absl::StatusOr<std::vector<double>> MelTable(const MelParams& p) {
  if (p.mel_bins < 1 || p.dft_length < 1 || p.sample_rate < 1) {
    return absl::InvalidArgumentError(absl::StrCat("mel weights: ", p.mel_bins, " bins, length ",
                                                   p.dft_length, ", rate ", p.sample_rate,
                                                   ", expected at least 1"));
  }
  const int64_t bins = p.dft_length / 2 + 1, points = p.mel_bins + 2;
  const auto mel = [](double hertz) { return 2595 * std::log10(1 + hertz / 700); };
  const double low = mel(p.lower_hertz),
               step = (mel(p.upper_hertz) - low) / static_cast<double>(points);
  std::vector<int64_t> corner;
  for (int64_t i = 0; i < points; ++i) {
    const double hertz = 700 * (std::pow(10.0, (static_cast<double>(i) * step + low) / 2595) - 1);
    const double at = std::floor(static_cast<double>(p.dft_length + 1) * hertz /
                                 static_cast<double>(p.sample_rate));
    if (!(at >= 0 && at < static_cast<double>(bins))) {
      return absl::InvalidArgumentError(absl::StrCat("mel weights: ", hertz,
                                                     " Hz is outside of a spectrum of ", bins,
                                                     " bins at ", p.sample_rate, " Hz"));
    }
    corner.push_back(static_cast<int64_t>(at));
  }
  std::vector<double> out(static_cast<size_t>(bins * p.mel_bins));
  for (int64_t i = 0; i < p.mel_bins; ++i) {
    const auto at = [&](int64_t row) -> double& {
      return out[static_cast<size_t>(row * p.mel_bins + i)];
    };
    const int64_t left = corner[static_cast<size_t>(i)],
                  center = corner[static_cast<size_t>(i + 1)],
                  right = corner[static_cast<size_t>(i + 2)];
    if (left == center) at(center) = 1;
    for (int64_t j = left; left < center && j <= center; ++j) {
      at(j) = static_cast<double>(j - left) / static_cast<double>(center - left);
    }
    for (int64_t j = center; center < right && j < right; ++j) {
      at(j) = static_cast<double>(right - j) / static_cast<double>(right - center);
    }
  }
  return out;
}

absl::StatusOr<std::unique_ptr<Kernel>> CreateTable(const TensorSpec& dst,
                                                    std::vector<double> values) {
  if (NumElements(dst.shape) != static_cast<int64_t>(values.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("table: ", values.size(), " values for shape ", ShapeString(dst.shape)));
  }
  return MakeFunctionKernel("table", 0,
                            [dtype = dst.dtype, values = std::move(values)](const BindArgs& args) {
                              for (size_t i = 0; i < values.size(); ++i)
                                StoreNumber(dtype, args.dst[0], static_cast<int64_t>(i), values[i]);
                            });
}

}  // namespace octet::kernels
