// Spread of channels under one scale.
#include "compress/traps.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "compress/product_weights.h"

namespace octet::compress {

std::string PerTensorRisk::Warning() const {
  return absl::StrFormat(
      "%s%s: its channels' largest weights differ by a factor of %.3g; with one scale %.0f %% of them keep fewer than %.0f "
      "of 8 bits: use a scale per channel, or equalize first",
      node, depthwise ? " (depthwise)" : "", spread, 100 * starved_share, 8 - kStarvedBits);
}

std::vector<PerTensorRisk> PerTensorRisks(const graph::Graph& graph, double tolerated) {
  std::vector<PerTensorRisk> risks;
  for (const graph::Node& node : graph.nodes) {
    if (!IsRewritableProduct(graph, node)) continue;
    const ProductWeights weights = ReadProduct(graph, node);
    std::vector<double> maxima = weights.RowMaxima();
    std::erase(maxima, 0.0);
    if (maxima.empty()) continue;
    const auto [smallest, largest] = std::minmax_element(maxima.begin(), maxima.end());
    const double limit = *largest / std::exp2(kStarvedBits);
    const auto starved = std::count_if(maxima.begin(), maxima.end(), [&](double m) { return m < limit; });
    PerTensorRisk risk{graph::Describe(graph, node), weights.groups > 1 && weights.inputs_per_group() == 1,
                       *largest / *smallest, static_cast<double>(starved) / static_cast<double>(maxima.size())};
    if (risk.starved_share > tolerated) risks.push_back(std::move(risk));
  }
  std::stable_sort(risks.begin(), risks.end(), [](const PerTensorRisk& a, const PerTensorRisk& b) {
    return a.starved_share > b.starved_share;
  });
  return risks;
}

}  // namespace octet::compress
