// One graph a source, in which nothing else is rounded.
#include "compress/source_noise.h"

#include <algorithm>
#include <numeric>

#include "base/status.h"
#include "compress/observe.h"
#include "compress/quantize_graph.h"
#include "compress/regions.h"

namespace octet::compress {
namespace {

// What the float network says.
struct FloatRun {
  std::vector<std::vector<std::vector<float>>> outputs;  // [sample][output]
  std::vector<double> power;                             // per output, see Powers
  std::vector<double> multiply_adds;                     // as `products`, of the last sample
};

// Of each output, over all samples: the power of what differs between samples, which is what the network has to say. A
// detector's many boxes without an object would drown it. With one sample only: its own power.
std::vector<double> Powers(const std::vector<std::vector<std::vector<float>>>& outputs) {
  const auto samples = static_cast<double>(outputs.size());
  std::vector<double> powers;
  for (size_t o = 0; o < outputs[0].size(); ++o) {
    const size_t size = outputs[0][o].size();
    const bool same = std::all_of(outputs.begin(), outputs.end(), [&](const auto& of) { return of[o].size() == size; });
    double power = 0;
    for (size_t k = 0; k < size && same; ++k) {
      double sum = 0, squares = 0;
      for (const auto& of : outputs) {
        const double x = of[o][k];
        sum += x;
        squares += x * x;
      }
      power += outputs.size() > 1 ? (squares - sum * sum / samples) * samples / (samples - 1) : squares;
    }
    for (size_t s = 0; s < outputs.size() && !same; ++s) {
      for (const float x : outputs[s][o]) power += static_cast<double>(x) * x;
    }
    powers.push_back(power);
  }
  return powers;
}

absl::StatusOr<FloatRun> RunFloat(const graph::Graph& graph, const std::vector<Product>& products,
                                  data::SampleReader& samples, absl::Span<const int64_t> indices, int threads) {
  std::vector<graph::ValueId> results;
  for (const Product& p : products) results.push_back(p.output);
  OCTET_ASSIGN_OR_RETURN(const auto observer, Observer::Create(graph, results, threads));
  FloatRun run;
  run.multiply_adds.assign(products.size(), 0);
  for (int64_t i : indices) {
    OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples.Read(i));
    OCTET_RETURN_IF_ERROR(observer->Run(sample));
    run.outputs.emplace_back();
    for (size_t o = 0; o < observer->num_outputs(); ++o) {
      run.outputs.back().emplace_back(observer->output(o).begin(), observer->output(o).end());
    }
    // Every weight takes part in as many as there are results of its output channel.
    for (size_t p = 0; p < products.size(); ++p) {
      const auto positions = static_cast<double>(observer->observed(p).size()) / static_cast<double>(products[p].rows);
      run.multiply_adds[p] = positions * static_cast<double>(products[p].weights_elements);
    }
  }
  run.power = Powers(run.outputs);
  return run;
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
  OCTET_ASSIGN_OR_RETURN(const FloatRun reference, RunFloat(graph, products, samples, indices, options.threads));
  std::vector<SourceNoise> sources;
  for (size_t p = 0; p < products.size(); ++p) {
    auto it = std::find_if(sources.begin(), sources.end(), [&](const SourceNoise& s) { return s.src == products[p].src; });
    if (it == sources.end()) it = sources.insert(it, {products[p].src, 0, 0});
    it->multiply_adds += reference.multiply_adds[p];
  }
  int64_t done = 0;
  for (SourceNoise& source : sources) {
    OCTET_RETURN_IF_ERROR(Tick(options, "measuring activations", done++, static_cast<int64_t>(sources.size())));
    OCTET_ASSIGN_OR_RETURN(graph::Graph rounded, RoundOnly(graph, products, source.src, params(source.src)));
    OCTET_ASSIGN_OR_RETURN(const auto observer, Observer::Create(std::move(rounded), {}, options.threads));
    std::vector<double> noise(observer->num_outputs(), 0);
    for (size_t s = 0; s < indices.size(); ++s) {
      OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples.Read(indices[s]));
      OCTET_RETURN_IF_ERROR(observer->Run(sample));
      for (size_t o = 0; o < noise.size(); ++o) {
        const std::vector<float>& expected = reference.outputs[s][o];
        const absl::Span<const float> found = observer->output(o);
        // Where data decides sizes, those may differ: then the output is as wrong as zeros.
        const bool same = found.size() == expected.size();
        for (size_t k = 0; k < expected.size(); ++k) {
          const double d = static_cast<double>(expected[k]) - (same ? found[k] : 0.0f);
          noise[o] += d * d;
        }
      }
    }
    for (size_t o = 0; o < noise.size(); ++o) {
      if (reference.power[o] > 0) source.noise += noise[o] / reference.power[o] / static_cast<double>(noise.size());
    }
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
