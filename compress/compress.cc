// The compressor's course, and the comparison that ends it.
#include "compress/compress.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "compress/calibrate.h"
#include "compress/observe.h"
#include "compress/quantize_graph.h"
#include "compress/regions.h"
#include "engine/passes/passes.h"
#include "engine/passes/patterns.h"
#include "graph/control_flow.h"
#include "graph/batching.h"
#include "graph/shape_inference.h"

namespace octet::compress {
namespace {

using graph::Graph;
using graph::ValueId;

struct ErrorSum {
  double signal = 0, noise = 0;
  void Add(absl::Span<const float> reference, absl::Span<const float> found) {
    for (size_t i = 0; i < reference.size() && i < found.size(); ++i) {
      const double d = static_cast<double>(reference[i]) - found[i];
      signal += static_cast<double>(reference[i]) * reference[i];
      noise += d * d;
    }
  }
};

// Where data decides sizes, those of the compressed network may differ: then it is as wrong as zeros.
std::vector<float> Sized(absl::Span<const float> found, size_t size) {
  if (found.size() != size) return std::vector<float>(size, 0.0f);
  return std::vector<float>(found.begin(), found.end());
}

struct OutputSum {
  ErrorSum error;
  double cosine = 0;
  int64_t samples = 0, rows = 0, agreeing = 0;

  void Add(absl::Span<const float> reference, absl::Span<const float> found, int64_t columns) {
    error.Add(reference, found);
    double dot = 0, a = 0, b = 0;
    for (size_t i = 0; i < reference.size(); ++i) {
      dot += static_cast<double>(reference[i]) * found[i];
      a += static_cast<double>(reference[i]) * reference[i];
      b += static_cast<double>(found[i]) * found[i];
    }
    cosine += a > 0 && b > 0 ? dot / std::sqrt(a * b) : (a == b ? 1.0 : 0.0);
    ++samples;
    for (size_t row = 0; columns > 0 && row + static_cast<size_t>(columns) <= reference.size();
         row += static_cast<size_t>(columns)) {
      auto argmax = [&](absl::Span<const float> v) {
        const auto* begin = v.data() + row;
        return std::max_element(begin, begin + columns) - begin;
      };
      agreeing += argmax(reference) == argmax(found) ? 1 : 0;
      ++rows;
    }
  }
};

// Runs both graphs on the held-back samples.
absl::Status CompareGraphs(const Graph& reference, const Graph& compressed, const Regions& regions,
                           data::SampleReader& samples, const std::vector<int64_t>& held,
                           const CompressOptions& options, CompressReport* report) {
  std::vector<ValueId> results;
  for (const QuantizedProduct& p : regions.products) results.push_back(p.result);
  OCTET_ASSIGN_OR_RETURN(auto a, Observer::Create(reference, results, options.threads));
  OCTET_ASSIGN_OR_RETURN(auto b, Observer::Create(compressed, results, options.threads));
  std::vector<ErrorSum> layers(results.size());
  std::vector<OutputSum> outputs(reference.outputs.size());
  int64_t done = 0;
  for (int64_t i : held) {
    OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples.Read(i));
    OCTET_RETURN_IF_ERROR(a->Run(sample));
    OCTET_RETURN_IF_ERROR(b->Run(sample));
    for (size_t r = 0; r < results.size(); ++r) layers[r].Add(a->observed(r), Sized(b->observed(r), a->observed(r).size()));
    for (size_t o = 0; o < outputs.size(); ++o) {
      const auto& shape = reference.value(reference.outputs[o]).shape;
      const bool rows = shape.has_value() && shape->size() >= 2 && shape->back() > 1;
      outputs[o].Add(a->output(o), Sized(b->output(o), a->output(o).size()), rows ? shape->back() : 0);
    }
    if (options.progress) options.progress({"comparing", ++done, static_cast<int64_t>(held.size())});
  }
  for (size_t r = 0; r < results.size(); ++r) {
    const graph::Node& node = reference.nodes[static_cast<size_t>(regions.products[r].node)];
    report->layers.push_back({node.name.empty() ? reference.value(node.outputs[0]).name : node.name, node.op,
                              reference.value(node.inputs[1]).data->num_elements(),
                              SqnrDb(layers[r].signal, layers[r].noise)});
  }
  std::stable_sort(report->layers.begin(), report->layers.end(),
                   [](const LayerReport& x, const LayerReport& y) { return x.sqnr_db < y.sqnr_db; });
  for (size_t o = 0; o < outputs.size(); ++o) {
    const OutputSum& sum = outputs[o];
    report->outputs.push_back(
        {reference.value(reference.outputs[o]).name,
         sum.rows > 0 ? static_cast<double>(sum.agreeing) / static_cast<double>(sum.rows) : NAN,
         SqnrDb(sum.error.signal, sum.error.noise), sum.cosine / static_cast<double>(std::max<int64_t>(sum.samples, 1))});
  }
  return absl::OkStatus();
}

int64_t ConstantBytes(const Graph& g) {
  int64_t bytes = 0;
  for (const graph::Value& v : g.values) {
    if (!v.is_constant()) continue;
    bytes += v.data->size_bytes();
    if (v.quant.has_value()) bytes += static_cast<int64_t>(v.quant->scale.size() * sizeof(float));
  }
  return bytes;
}

// Held-back samples are spread evenly (files sorted by class would otherwise hold back whole classes): sample i is one
// when the running share of them crosses a whole number. At least the last sample is.
bool IsHeldBack(int64_t i, int64_t total, double share) {
  const auto before = static_cast<int64_t>(static_cast<double>(i) * share);
  const auto after = static_cast<int64_t>(static_cast<double>(i + 1) * share);
  return after > before || (i + 1 == total && static_cast<int64_t>(static_cast<double>(total) * share) == 0);
}

absl::Status CheckOptions(const CompressOptions& options) {
  if (options.scheme != "int8") {
    return absl::InvalidArgumentError(absl::StrCat("scheme '", options.scheme, "', expected int8"));
  }
  if (!(options.held_back > 0 && options.held_back < 1)) {
    return absl::InvalidArgumentError(absl::StrCat("held-back share ", options.held_back, ", expected between 0 and 1"));
  }
  if (!(options.percentile > 0.5 && options.percentile <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("percentile ", options.percentile, ", expected in (0.5, 1]"));
  }
  return absl::OkStatus();
}

}  // namespace

double SqnrDb(double signal, double noise) {
  if (!(noise > 0)) return 200;
  if (!(signal > 0)) return -200;
  return std::clamp(10 * std::log10(signal / noise), -200.0, 200.0);
}

std::string RecipeString(const CompressOptions& o, int64_t calibration_samples) {
  return absl::StrCat("scheme=", o.scheme, " ranges=", NameOf(o.ranges),
                      o.ranges == RangeMethod::kPercentile ? absl::StrCat(":", o.percentile) : "",
                      " weights=", o.weight_range == WeightRange::kMse ? "mse" : "max", " bias_correction=",
                      o.bias_correction == CompressOptions::BiasCorrection::kOn ? "on" : "off",
                      " calibration_samples=", calibration_samples,
                      o.keep_float.empty() ? "" : absl::StrCat(" keep_float=", o.keep_float.size()));
}

absl::StatusOr<Graph> Prepare(Graph graph) {
  for (const graph::Value& v : graph.values) {
    if (v.quant.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("value '", v.name, "' is quantized already; compression starts from a float model"));
    }
  }
  OCTET_RETURN_IF_ERROR(graph::NormalizeSubgraphs(&graph));
  OCTET_RETURN_IF_ERROR(engine::FoldConstants(&graph));
  graph::FreeBatch(&graph);
  // One node for both engines, whose reals and integers can be told apart.
  engine::ApplyPatterns({engine::LayerNormalizationPatterns()}, &graph, nullptr);
  OCTET_RETURN_IF_ERROR(engine::FoldAffine(&graph));
  OCTET_RETURN_IF_ERROR(engine::FoldConstants(&graph));
  return graph;
}

absl::StatusOr<CompressResult> Compress(const Graph& graph, data::SampleReader& samples,
                                        const CompressOptions& options) {
  OCTET_RETURN_IF_ERROR(CheckOptions(options));
  const int64_t total = options.max_samples > 0 ? std::min(options.max_samples, samples.size()) : samples.size();
  if (total < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("the calibration set has ", total, " samples, expected at least 2 (one is held back)"));
  }
  std::vector<int64_t> used, held;
  for (int64_t i = 0; i < total; ++i) (IsHeldBack(i, total, options.held_back) ? held : used).push_back(i);
  OCTET_ASSIGN_OR_RETURN(const Graph prepared, Prepare(graph));
  const Regions regions = FindRegions(prepared, options.keep_float);
  if (regions.products.empty()) {
    std::string inside;  // what subgraphs hold stays float
    for (const graph::Node& node : prepared.nodes) {
      if (graph::IsControlFlow(node) && inside.empty()) {
        inside = absl::StrCat(" outside ", graph::Describe(prepared, node), ", whose subgraphs stay float");
      }
    }
    return absl::InvalidArgumentError(
        absl::StrCat("no Conv, Gemm or MatMul with constant f32 weights to quantize", inside));
  }
  OCTET_ASSIGN_OR_RETURN(const auto statistics, Calibrate(prepared, regions.values, samples, used, options));
  CompressResult result;
  OCTET_ASSIGN_OR_RETURN(result.graph, QuantizeGraph(prepared, regions, statistics, options));
  result.report.calibration_samples = static_cast<int64_t>(used.size());
  result.report.held_back_samples = static_cast<int64_t>(held.size());
  result.report.float_weights_bytes = ConstantBytes(prepared);
  result.report.weights_bytes = ConstantBytes(result.graph);
  OCTET_RETURN_IF_ERROR(
      CompareGraphs(prepared, result.graph, regions, samples, held, options, &result.report));
  return result;
}

}  // namespace octet::compress
