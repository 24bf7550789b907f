// One graph a source, in which nothing else is rounded.
#include "compress/source_noise.h"

#include <algorithm>
#include <numeric>

#include "base/status.h"
#include "compress/observe.h"
#include "compress/output_noise.h"
#include "compress/quantize_graph.h"
#include "compress/regions.h"

namespace octet::compress {
namespace {

// Multiply-adds of each product for one sample: every weight takes part in as many as there are results of its output channel.
absl::StatusOr<std::vector<double>> MultiplyAdds(const graph::Graph& graph, const std::vector<Product>& products,
                                                 const data::Sample& sample, int threads) {
  std::vector<graph::ValueId> results;
  for (const Product& p : products) results.push_back(p.output);
  OCTET_ASSIGN_OR_RETURN(const auto observer, Observer::Create(graph, results, threads));
  OCTET_RETURN_IF_ERROR(observer->Run(sample));
  std::vector<double> counts;
  for (size_t p = 0; p < products.size(); ++p) {
    const auto positions = static_cast<double>(observer->observed(p).size()) / static_cast<double>(products[p].rows);
    counts.push_back(positions * static_cast<double>(products[p].weights_elements));
  }
  return counts;
}

// Where the products that read `src`, and nothing else, read it rounded.
absl::StatusOr<graph::Graph> RoundOnly(const graph::Graph& graph, const std::vector<Product>& products,
                                       graph::ValueId src, const QuantParams& params) {
  Regions regions;
  regions.values = {src};
  regions.same_as.assign(graph.values.size(), graph::kNoValue);
  regions.symmetric.assign(graph.values.size(), false);
  regions.copies.push_back({src, {}});
  for (const Product& p : products) {
    if (p.src != src) continue;
    regions.products.push_back(p);
    regions.copies[0].readers.push_back(p.node);
  }
  return QuantizeActivations(graph, regions, {{src, params}});
}

}  // namespace

absl::StatusOr<std::vector<SourceNoise>> MeasureSources(const graph::Graph& graph, const std::vector<Product>& products,
                                                        const std::function<QuantParams(graph::ValueId)>& params,
                                                        data::SampleReader& samples, absl::Span<const int64_t> indices,
                                                        const CompressOptions& options) {
  if (indices.empty()) return absl::InvalidArgumentError("noise of activations on no sample");
  OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples.Read(indices[0]));
  OCTET_ASSIGN_OR_RETURN(const std::vector<double> multiply_adds, MultiplyAdds(graph, products, sample, options.threads));
  OCTET_ASSIGN_OR_RETURN(const OutputNoise outputs, OutputNoise::Create(graph, samples, indices, options.threads));
  std::vector<SourceNoise> sources;
  for (size_t p = 0; p < products.size(); ++p) {
    auto it = std::find_if(sources.begin(), sources.end(), [&](const SourceNoise& s) { return s.src == products[p].src; });
    if (it == sources.end()) it = sources.insert(it, {products[p].src, 0, 0});
    it->multiply_adds += multiply_adds[p];
  }
  int64_t done = 0;
  for (SourceNoise& source : sources) {
    OCTET_RETURN_IF_ERROR(Tick(options, "measuring activations", done++, static_cast<int64_t>(sources.size())));
    OCTET_ASSIGN_OR_RETURN(graph::Graph rounded, RoundOnly(graph, products, source.src, params(source.src)));
    OCTET_ASSIGN_OR_RETURN(const OutputNoise::Difference found, outputs.Of(std::move(rounded)));
    source.noise = found.noise;
  }
  return sources;
}

std::vector<size_t> ChooseReal(absl::Span<const SourceNoise> sources, const RealLimits& limits) {
  double left = 0, affordable = limits.multiply_adds;
  for (const SourceNoise& s : sources) left += s.noise;
  const double worth = limits.share * left;
  std::vector<size_t> order(sources.size()), chosen;
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return sources[a].noise * sources[b].multiply_adds > sources[b].noise * sources[a].multiply_adds;
  });
  for (size_t i : order) {
    if (left <= limits.noise) break;
    if (sources[i].noise < worth || sources[i].multiply_adds > affordable) continue;
    chosen.push_back(i);
    left -= sources[i].noise;
    affordable -= sources[i].multiply_adds;
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace octet::compress
