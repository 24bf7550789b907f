// Sums over distributions; table, JSON and HTML.
#include "cli/distribution_report.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cli/console.h"
#include "cli/html.h"
#include "cli/json.h"
#include "cli/plot.h"
#include "graph/constant_quantization.h"
#include "graph/draws.h"

namespace octet::cli {
namespace {

constexpr size_t kShownChannels = 10;  // of a layer in the HTML report; all are in the JSON

double EntropyBits(double p) { return p <= 0 || p >= 1 ? 0 : -(p * std::log2(p) + (1 - p) * std::log2(1 - p)); }

double Db(double ratio) { return ratio > 0 ? 10 * std::log10(ratio) : -200; }

// The reals of a constant whose codes are `codes`.
absl::StatusOr<std::vector<float>> Reals(const Tensor& codes, const QuantParams& quant) {
  OCTET_ASSIGN_OR_RETURN(const Tensor reals, graph::DequantizeTensor(codes, quant));
  return reals.ToF32();
}

// The reals of the codes beside the stored ones; of decided weights those of the stored ones.
absl::StatusOr<std::vector<float>> AlternativeReals(const graph::Value& value, const std::vector<int64_t>& steps) {
  const std::vector<int64_t> codes = value.data->ToS64();
  // Integers or levels in a wider type, which no step leaves, under the same scales and zero points.
  QuantParams quant = *value.quant;
  std::vector<int32_t> numbers(codes.size());
  for (size_t i = 0; i < codes.size(); ++i) {
    const int64_t code = codes[i] + (steps[i] > 0 ? 1 : steps[i] < 0 ? -1 : 0);
    numbers[i] = quant.levels.empty() ? static_cast<int32_t>(code) : quant.levels[static_cast<size_t>(code)];
  }
  quant.levels.clear();
  return Reals(Tensor::FromValues<int32_t>(DType::kS32, value.data->shape(), numbers), quant);
}

// Index of the output channel of element i of a product's weights.
class Channels {
 public:
  Channels(const graph::Node& node, const Shape& shape) {
    const bool rows_first = node.op == "Conv" || (node.op == "Gemm" && node.GetInt("transB", 0) != 0);
    count_ = rows_first ? shape[0] : shape.back();
    stride_ = rows_first ? NumElements(shape) / shape[0] : 1;
  }
  int64_t count() const { return count_; }
  int64_t Of(size_t i) const { return static_cast<int64_t>(i) / stride_ % count_; }

 private:
  int64_t count_, stride_;
};

struct Sums {
  double entropy = 0, variance = 0, moved = 0, energy = 0;
  int64_t count = 0;
};

absl::StatusOr<DistributionLayer> LayerOf(const graph::Node& node, const graph::Value& value) {
  const Tensor& tensor = value.alternatives->steps;
  const std::vector<int64_t> steps = tensor.ToS64();
  OCTET_ASSIGN_OR_RETURN(const std::vector<float> codes, Reals(*value.data, *value.quant));
  OCTET_ASSIGN_OR_RETURN(const std::vector<float> others, AlternativeReals(value, steps));
  DistributionLayer layer;
  layer.node = node.name;
  layer.weights = value.name;
  layer.count = static_cast<int64_t>(steps.size());
  const Channels channels(node, value.data->shape());
  std::vector<Sums> sums(static_cast<size_t>(channels.count()));
  float largest = 1e-30f;
  for (float w : codes) largest = std::max(largest, std::fabs(w));
  const auto bin = [&](double w) {
    return static_cast<size_t>(std::clamp((w / largest + 1) / 2 * kWeightBins, 0.0, kWeightBins - 1.0));
  };
  int64_t decided = 0;
  Sums all;
  for (size_t i = 0; i < steps.size(); ++i) {
    const double p = graph::AlternativeProbability(static_cast<int>(steps[i]), tensor.dtype());
    const double gap = others[i] - codes[i], mean = codes[i] + p * gap, entropy = EntropyBits(p);
    Sums& own = sums[static_cast<size_t>(channels.Of(i))];
    for (Sums* s : {&own, &all}) {
      s->entropy += entropy;
      s->variance += p * (1 - p) * gap * gap;
      s->moved += p * p * gap * gap;
      s->energy += mean * mean;
      ++s->count;
    }
    decided += entropy < kDecidedBits ? 1 : 0;
    layer.undecided += steps[i] != 0 ? 1 : 0;
    if (steps[i] != 0) ++layer.probabilities[std::min<size_t>(kProbabilityBins - 1, static_cast<size_t>(p * 2 * kProbabilityBins))];
    ++layer.most_probable[bin(codes[i])];
    ++layer.mean[bin(mean)];
  }
  const double count = static_cast<double>(layer.count);
  layer.decided_share = static_cast<double>(decided) / count;
  layer.entropy_bits = all.entropy / count;
  layer.noise = all.energy > 0 ? all.variance / all.energy : 0;
  layer.sharpened = all.energy > 0 ? all.moved / all.energy : 0;
  for (size_t c = 0; c < sums.size(); ++c) {
    const Sums& s = sums[c];
    const double energy = s.energy > 0 ? s.energy : 1;
    layer.channels.push_back({static_cast<int64_t>(c), s.entropy / static_cast<double>(std::max<int64_t>(s.count, 1)),
                              s.variance / energy, s.moved / energy});
  }
  std::stable_sort(layer.channels.begin(), layer.channels.end(),
                   [](const auto& a, const auto& b) { return a.entropy_bits > b.entropy_bits; });
  return layer;
}

std::string Share(double x) { return Fixed(100 * x, 2); }

std::vector<std::vector<std::string>> Rows(const DistributionReport& report) {
  std::vector<std::vector<std::string>> rows;
  for (const DistributionLayer& l : report.layers) {
    rows.push_back({l.node, absl::StrCat(l.count), Share(l.decided_share), Fixed(l.entropy_bits, 3), Fixed(Db(l.noise), 1),
                    Fixed(Db(l.sharpened), 1), l.channels.empty() ? "" : absl::StrCat(l.channels[0].channel)});
  }
  return rows;
}

const std::vector<std::string>& Head() {
  static const auto& head = *new std::vector<std::string>{
      "layer", "weights", "decided %", "entropy, bits", "noise of a sample, dB", "if sharpened, dB", "least certain channel"};
  return head;
}

PlotSeries Histogram(const std::string& name, int colour, const int64_t* counts, int bins, double low, double high) {
  PlotSeries series;
  series.name = name;
  series.mark = PlotSeries::Mark::kSteps;
  series.colour = colour;
  for (int i = 0; i < bins; ++i) {
    series.points.push_back({low + (high - low) * i / bins, static_cast<double>(counts[i])});
  }
  series.points.push_back({high, 0});
  return series;
}

std::string LayerSections(const DistributionLayer& l) {
  Plot weights, probabilities;
  weights.title = absl::StrCat(l.node, ": weights");
  weights.x_label = "weight, in units of the layer's largest";
  probabilities.title = absl::StrCat(l.node, ": how likely the other code is");
  probabilities.x_label = "probability of the alternative";
  weights.y_label = probabilities.y_label = "weights";
  weights.y_from_zero = probabilities.y_from_zero = true;
  weights.series = {Histogram("most probable codes", 0, l.most_probable.data(), kWeightBins, -1, 1),
                    Histogram("learned means", 1, l.mean.data(), kWeightBins, -1, 1)};
  probabilities.series = {Histogram("", 0, l.probabilities.data(), kProbabilityBins, 0, 0.5)};
  std::vector<std::vector<std::string>> rows;
  for (size_t c = 0; c < std::min(kShownChannels, l.channels.size()); ++c) {
    const DistributionChannel& channel = l.channels[c];
    rows.push_back({absl::StrCat(channel.channel), Fixed(channel.entropy_bits, 3), Fixed(Db(channel.noise), 1),
                    Fixed(Db(channel.sharpened), 1), "0.0"});
  }
  return absl::StrCat("<h2>", EscapeMarkup(l.node), "</h2>\n<div class=\"pair\">", Svg(weights), Svg(probabilities), "</div>\n",
                      HtmlTable("Least certain output channels: error against the channel's learned mean",
                                {"channel", "entropy, bits", "one sample, dB", "sharpened, dB", "pruned, dB"}, rows));
}

}  // namespace

absl::StatusOr<DistributionReport> ReportDistribution(const graph::Graph& graph) {
  DistributionReport report;
  for (const graph::Node& node : graph.nodes) {
    if (node.inputs.size() < 2 || !node.has_input(1)) continue;
    const graph::Value& value = graph.value(node.inputs[1]);
    if (!value.is_constant() || !value.alternatives.has_value()) continue;
    absl::StatusOr<DistributionLayer> layer = LayerOf(node, value);
    if (!layer.ok()) return Annotate(layer.status(), value.name);
    report.layers.push_back(*std::move(layer));
    report.steps_bytes += value.alternatives->steps.size_bytes();
    report.codes_bytes += value.data->size_bytes();
  }
  if (report.layers.empty()) {
    return absl::FailedPreconditionError("the file holds no distribution; octet compress --distribution_samples makes one");
  }
  return report;
}

std::string DistributionTable(const DistributionReport& report) {
  return absl::StrCat(Table(Head(), Rows(report)), "\ndistributions: ", Bytes(report.steps_bytes), " beside ",
                      Bytes(report.codes_bytes), " of codes\n");
}

std::string DistributionJson(const DistributionReport& report) {
  std::vector<Json> layers;
  for (const DistributionLayer& l : report.layers) {
    std::vector<Json> channels;
    for (const DistributionChannel& c : l.channels) {
      channels.push_back(Json::Object({{"channel", c.channel}, {"entropy_bits", c.entropy_bits}, {"noise", c.noise},
                                       {"sharpened", c.sharpened}, {"pruned", 1.0}}));
    }
    const auto list = [](const auto& counts) { return Json::Array(std::vector<int64_t>(counts.begin(), counts.end())); };
    layers.push_back(Json::Object({{"node", l.node}, {"weights", l.weights}, {"count", l.count}, {"undecided", l.undecided},
                                   {"decided_share", l.decided_share}, {"entropy_bits", l.entropy_bits}, {"noise", l.noise},
                                   {"sharpened", l.sharpened}, {"alternative_probabilities", list(l.probabilities)},
                                   {"most_probable_histogram", list(l.most_probable)}, {"mean_histogram", list(l.mean)},
                                   {"channels", Json::Array(channels)}}));
  }
  return Json::Object({{"steps_bytes", report.steps_bytes}, {"codes_bytes", report.codes_bytes}, {"layers", Json::Array(layers)}})
             .text() +
         "\n";
}

std::string DistributionHtml(const DistributionReport& report, const std::string& model) {
  Plot entropy;
  entropy.title = "Entropy and decided weights by layer";
  entropy.x_label = "layer, in the network's order";
  entropy.y_label = "bits a weight; share decided";
  entropy.y_from_zero = true;
  PlotSeries bits, decided;
  bits.name = "entropy, bits";
  decided.name = "share decided";
  bits.mark = decided.mark = PlotSeries::Mark::kLineAndPoints;
  decided.colour = 1;
  for (size_t i = 0; i < report.layers.size(); ++i) {
    bits.points.push_back({static_cast<double>(i + 1), report.layers[i].entropy_bits});
    decided.points.push_back({static_cast<double>(i + 1), report.layers[i].decided_share});
  }
  entropy.series = {bits, decided};
  std::string html = absl::StrCat(
      HtmlHead(model + ": distributions of its weights"), "<h1>", EscapeMarkup(model), ": distributions of its weights</h1>\n<p>",
      "Each weight has a most probable code and, unless it is decided, one alternative. Errors are relative to the learned means, for "
      "inputs that are uncorrelated and equally strong. Distributions take ",
      Bytes(report.steps_bytes), ", codes ", Bytes(report.codes_bytes), ".</p>\n", Svg(entropy),
      HtmlTable("Layers", Head(), Rows(report)));
  for (const DistributionLayer& l : report.layers) html += LayerSections(l);
  return html + kHtmlEnd;
}

}  // namespace octet::cli
