// Spread of channels under one scale.
#include "compress/traps.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_format.h"

namespace octet::compress {

absl::string_view NameOf(TrapKind kind) {
  return kind == TrapKind::kPerTensor ? "per-tensor" : "clipped-range";
}

std::string PerTensorRisk::Warning() const {
  return absl::StrFormat(
      "%sits channels' largest weights differ by a factor of %.3g; with one scale for all %.0f %% of them keep fewer "
      "than %d of %d bits: use a scale per channel, or equalize first",
      depthwise ? "depthwise; " : "", spread, 100 * starved_share, bits - bits / 2, bits);
}

std::optional<PerTensorRisk> FindPerTensorRisk(const Product& product, const WeightMatrix& weights, int bits,
                                               double tolerated) {
  std::vector<double> maxima;
  const auto columns = static_cast<size_t>(weights.columns());
  for (size_t row = 0; row < static_cast<size_t>(weights.rows); ++row) {
    double maximum = 0;
    for (size_t c = 0; c < columns; ++c) {
      maximum = std::max(maximum, std::abs(static_cast<double>(weights.values[row * columns + c])));
    }
    if (maximum > 0) maxima.push_back(maximum);
  }
  if (maxima.empty()) return std::nullopt;
  const auto [smallest, largest] = std::minmax_element(maxima.begin(), maxima.end());
  const double limit = *largest / std::exp2(bits / 2);
  const auto starved = std::count_if(maxima.begin(), maxima.end(), [&](double m) { return m < limit; });
  const PerTensorRisk risk{product.depthwise, *largest / *smallest,
                           static_cast<double>(starved) / static_cast<double>(maxima.size()), bits};
  return risk.starved_share > tolerated ? std::optional(risk) : std::nullopt;
}

}  // namespace octet::compress
