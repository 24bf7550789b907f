// Overflow of pairs, counted per distinct pair of weights.
#include "compress/saturation.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "compress/weight_matrix.h"
#include "kernels/narrow_weights.h"

namespace octet::compress {
namespace {

constexpr int kMaximum = 32767, kMinimum = -32768;
constexpr size_t kLevels = 256;

int FloorDiv(int a, int b) { return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0); }

struct Codes {
  CodeShares shares;
  std::array<double, kLevels + 1> below;  // share of codes less than i
  int lowest = 0, highest = 0;            // that occur

  // Share of codes v with v * w > limit; w != 0.
  double ShareAbove(int w, int limit) const {
    if (w > 0) return below[kLevels] - below[Index(FloorDiv(limit, w) + 1)];
    return below[Index(-FloorDiv(limit, -w))];
  }

  static size_t Index(int code) { return static_cast<size_t>(std::clamp(code, 0, static_cast<int>(kLevels))); }
};

struct PairRisk {
  int worst = 0;
  bool at_risk = false;
  double share = 0;
};

PairRisk RiskOf(int a, int b, const Codes& codes) {
  PairRisk risk;
  const auto [a_low, a_high] = std::minmax({codes.lowest * a, codes.highest * a});
  const auto [b_low, b_high] = std::minmax({codes.lowest * b, codes.highest * b});
  const int low = a_low + b_low, high = a_high + b_high;
  risk.worst = std::abs(low) > std::abs(high) ? low : high;
  risk.at_risk = high > kMaximum || low < kMinimum;
  if (!risk.at_risk) return risk;
  for (size_t u = 0; u < kLevels; ++u) {
    if (codes.shares[u] == 0) continue;
    const int first = static_cast<int>(u) * a;
    // One product alone stays below 255 * 128 < 32768: both weights differ from 0, and only one end can be passed.
    const double share = high > kMaximum ? codes.ShareAbove(b, kMaximum - first) : codes.ShareAbove(-b, first - kMinimum);
    risk.share += codes.shares[u] * share;
  }
  return risk;
}

Codes Prepare(const CodeShares& shares) {
  Codes codes{shares, {}, static_cast<int>(kLevels), 0};
  for (size_t i = 0; i < kLevels; ++i) {
    codes.below[i + 1] = codes.below[i] + shares[i];
    if (!(shares[i] > 0)) continue;
    codes.lowest = std::min(codes.lowest, static_cast<int>(i));
    codes.highest = static_cast<int>(i);
  }
  codes.lowest = std::min(codes.lowest, codes.highest);
  return codes;
}

}  // namespace

CodeShares CodeSharesOf(const StreamingHistogram& histogram, const QuantParams& params) {
  CodeShares shares{};
  const double scale = params.scale[0], zero = params.zero_point_at(0), count = static_cast<double>(histogram.count());
  for (size_t i = 0; i < histogram.bins().size(); ++i) {
    if (histogram.bins()[i] == 0) continue;
    const double x = histogram.origin() + (static_cast<double>(i) + 0.5) * histogram.width();
    const auto code = static_cast<size_t>(std::clamp(std::nearbyint(x / scale) + zero, 0.0, 255.0));
    shares[code] += static_cast<double>(histogram.bins()[i]) / count;
  }
  return shares;
}

SaturationReport CheckSaturation(absl::Span<const int8_t> weights, int64_t columns, int64_t inputs,
                                 const CodeShares& shares) {
  const Codes codes = Prepare(shares);
  std::vector<int64_t> counts(kLevels * kLevels, 0);  // of pairs of weights
  SaturationReport report;
  for (size_t row = 0; row + static_cast<size_t>(columns) <= weights.size(); row += static_cast<size_t>(columns)) {
    for (int64_t c = 0; c < columns; c += inputs) {
      for (int64_t i = 0; i < inputs; i += 2) {
        const size_t at = row + static_cast<size_t>(c + i);
        const int a = weights[at], b = i + 1 < inputs ? weights[at + 1] : 0;
        ++counts[static_cast<size_t>(a + 128) * kLevels + static_cast<size_t>(b + 128)];
        ++report.pairs;
      }
    }
  }
  double overflowing = 0;
  for (size_t pair = 0; pair < counts.size(); ++pair) {
    if (counts[pair] == 0) continue;
    const PairRisk risk =
        RiskOf(static_cast<int>(pair / kLevels) - 128, static_cast<int>(pair % kLevels) - 128, codes);
    if (std::abs(risk.worst) > std::abs(report.worst_sum)) report.worst_sum = risk.worst;
    if (risk.at_risk) report.pairs_at_risk += counts[pair];
    overflowing += risk.share * static_cast<double>(counts[pair]);
  }
  report.expected_share = report.pairs > 0 ? overflowing / static_cast<double>(report.pairs) : 0;
  return report;
}

std::optional<SaturationReport> SaturationOf(const graph::Graph& graph, const graph::Node& product,
                                             const StreamingHistogram& src) {
  const graph::Value& source = graph.value(product.inputs[0]);
  const graph::Value& weights = graph.value(product.inputs[1]);
  if (source.dtype != DType::kU8 || !source.quant.has_value() || !source.quant->per_tensor() || src.count() == 0 ||
      !weights.is_constant() || !weights.quant.has_value()) {
    return std::nullopt;
  }
  std::vector<int8_t> values;  // in the operand's order
  if (weights.dtype == DType::kS8 && weights.quant->block == 0) {
    const auto* data = reinterpret_cast<const int8_t*>(weights.data->data());
    values.assign(data, data + weights.data->size_bytes());
  } else if (kernels::IsNarrow(weights.dtype) && product.op == "Conv") {
    const kernels::TensorSpec spec{weights.dtype, weights.data->shape(), kernels::Layout::kPlain, weights.quant};
    const absl::StatusOr<kernels::ChannelScales> scales = kernels::FactorScales(spec);
    if (!scales.ok()) return std::nullopt;  // runs in f32
    absl::StatusOr<kernels::NarrowElements> elements = kernels::ExpandNarrow(spec, *scales, weights.data->data());
    if (!elements.ok()) return std::nullopt;
    values = std::move(elements->values);
  } else {
    return std::nullopt;
  }
  const IntegerMatrix matrix = InMatrixOrder(values, weights.data->shape(), product);
  if (product.op == "Conv" && matrix.inputs == 1 && product.GetInt("group", 1) > 1) return SaturationReport{};
  const CodeShares codes = CodeSharesOf(src, *source.quant);
  const SaturationReport by_position = CheckSaturation(matrix.values, matrix.columns, matrix.inputs, codes);
  const SaturationReport across = CheckSaturation(matrix.values, matrix.columns, matrix.columns, codes);
  return across.expected_share > by_position.expected_share ? across : by_position;
}

}  // namespace octet::compress
