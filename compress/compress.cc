// The compressor's course.
#include "compress/compress.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "compress/bias.h"
#include "compress/collect_moments.h"
#include "compress/ensemble_temperature.h"
#include "compress/equalize.h"
#include "compress/layer_fit.h"
#include "compress/measured_bias.h"
#include "compress/migrate_scales.h"
#include "compress/observe.h"
#include "compress/output_noise.h"
#include "compress/quantize_graph.h"
#include "compress/quantize_product.h"
#include "compress/ranges.h"
#include "compress/regions.h"
#include "compress/saturation.h"
#include "compress/source_noise.h"
#include "compress/traps.h"
#include "engine/passes/passes.h"
#include "engine/passes/patterns.h"
#include "graph/batching.h"
#include "graph/control_flow.h"
#include "graph/draws.h"
#include "graph/ensemble.h"
#include "graph/shape_inference.h"

namespace octet::compress {
namespace {

using compression::v1::Corrections;
using graph::Graph;
using graph::ValueId;

constexpr double kHeldBack = 0.2;
constexpr int64_t kMeasuredBiasSamples = 128;
constexpr size_t kWideSamples = 4;           // on which sources are measured
constexpr size_t kContenderSamples = 32;     // on which whole networks are
constexpr double kWideMultiplyAdds = 0.05;   // of the network's, done on reals for fidelity
constexpr char kFullRange[] = "int8", kReducedRange[] = "int7";

bool IsOn(Corrections::Switch s, bool by_default) { return s == Corrections::DEFAULT ? by_default : s == Corrections::ON; }

int64_t ConstantBytes(const Graph& g) {
  int64_t bytes = 0;
  for (const graph::Value& v : g.values) {
    if (!v.is_constant()) continue;
    bytes += v.data->size_bytes();
    if (v.quant.has_value()) bytes += static_cast<int64_t>(v.quant->scale.size() * sizeof(float) + v.quant->levels.size());
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

std::string KeyOf(const Product& product, const LayerScheme& scheme) {
  return absl::StrCat(product.output, "|", scheme.SerializeAsString());
}

// With 7 bits of weights two products of u8 x s8 fit 16 bits, which CPUs without VNNI sum in.
LayerScheme EffectiveScheme(const Recipe& recipe, const Product& product) {
  LayerScheme scheme = SchemeOf(recipe, product);
  if (IsOn(recipe.corrections().reduced_range(), false) && scheme.grid() == kFullRange) scheme.set_grid(kReducedRange);
  return scheme;
}

bool IsCompressed(const LayerScheme& scheme) { return scheme.activations() != LayerScheme::KEEP_FLOAT; }

// Reads nothing: stands where there are no samples.
class NoSamples final : public data::SampleReader {
 public:
  int64_t size() const override { return 0; }
  absl::StatusOr<data::Sample> Read(int64_t) override { return absl::InternalError("there are no samples"); }
};

absl::Status NothingToCompress(const Graph& graph) {
  std::string inside;  // what subgraphs hold stays float
  for (const graph::Node& node : graph.nodes) {
    if (graph::IsControlFlow(node) && inside.empty()) {
      inside = absl::StrCat(" outside ", graph::Describe(graph, node), ", whose subgraphs stay float");
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("no Conv, Gemm or MatMul with constant f32 weights to quantize", inside));
}

}  // namespace

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

absl::StatusOr<std::unique_ptr<Compressor>> Compressor::Create(const Graph& graph, data::SampleReader& samples,
                                                               const Recipe& recipe, const CompressOptions& options) {
  OCTET_RETURN_IF_ERROR(ValidateRecipe(recipe));
  auto compressor = std::unique_ptr<Compressor>(new Compressor(samples, options));
  OCTET_RETURN_IF_ERROR(compressor->Start(graph, recipe));
  return compressor;
}

absl::Status Compressor::Start(const Graph& graph, const Recipe& recipe) {
  recipe_ = recipe;
  const int64_t most = recipe.calibration().samples();
  const int64_t total = most > 0 ? std::min(most, samples_.size()) : samples_.size();
  if (total < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("the calibration set has ", total, " samples, expected at least 2 (one is held back)"));
  }
  const double share = recipe.calibration().held_back() > 0 ? recipe.calibration().held_back() : kHeldBack;
  for (int64_t i = 0; i < total; ++i) (IsHeldBack(i, total, share) ? held_ : used_).push_back(i);
  OCTET_ASSIGN_OR_RETURN(graph_, Prepare(graph));
  products_ = FindProducts(graph_);
  if (products_.empty()) return NothingToCompress(graph_);
  OCTET_RETURN_IF_ERROR(CorrectFloat(recipe));
  const Regions regions = FindRegions(graph_, products_, {});
  OCTET_ASSIGN_OR_RETURN(statistics_, Calibrate(graph_, regions.values, samples_, used_, options_));
  OCTET_ASSIGN_OR_RETURN(digest_, samples_.Digest(used_));
  const std::string& expected = recipe.calibration().sha256();
  if (!expected.empty() && expected != digest_) {
    return absl::InvalidArgumentError(
        absl::StrCat("the calibration samples have SHA-256 ", digest_, ", the recipe expects ", expected));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Compressor>> Compressor::CreateDataFree(const Graph& graph, const Recipe& recipe,
                                                                       const DataFreeOptions& data_free,
                                                                       const CompressOptions& options) {
  OCTET_RETURN_IF_ERROR(ValidateRecipe(recipe));
  static NoSamples none;  // has no state
  auto compressor = std::unique_ptr<Compressor>(new Compressor(none, options));
  OCTET_RETURN_IF_ERROR(compressor->StartDataFree(graph, recipe, data_free));
  return compressor;
}

absl::Status Compressor::StartDataFree(const Graph& graph, const Recipe& recipe, const DataFreeOptions& options) {
  recipe_ = recipe;
  has_samples_ = false;
  const Corrections& c = recipe.corrections();
  if (IsOn(c.migrate(), false) || IsOn(c.sequential(), false) || IsOn(c.bias_measured(), false) ||
      c.reduced_range() == Corrections::WHERE_NEEDED || c.wide_activations() == Corrections::WHERE_NEEDED ||
      c.sequential() == Corrections::WHERE_NEEDED) {
    return absl::InvalidArgumentError(
        absl::StrCat("scheme '", recipe.name(),
                     "' corrects by samples (migrate, sequential, bias_measured, WHERE_NEEDED): give some"));
  }
  OCTET_ASSIGN_OR_RETURN(graph_, Prepare(graph));
  products_ = FindProducts(graph_);
  if (products_.empty()) return NothingToCompress(graph_);
  for (const Product& p : products_) {
    if (NeedsMoments(EffectiveScheme(recipe, p))) {
      return absl::InvalidArgumentError(absl::StrCat("the scheme of ", p.name, ", ",
                                                     Describe(EffectiveScheme(recipe, p)),
                                                     ", is fitted to samples: give some"));
    }
  }
  OCTET_ASSIGN_OR_RETURN(data_free_, ComputeDataFreeStatistics(graph, graph_, options));
  if (!IsOn(c.equalize(), false)) return absl::OkStatus();
  OCTET_ASSIGN_OR_RETURN(const EqualizeReport report, Equalize(&graph_, {}, MomentsOf(data_free_)));
  Rescale(report, &data_free_);
  notes_.push_back(absl::StrCat("equalized ", report.pairs.size(), " pairs of layers"));
  return absl::OkStatus();
}

absl::Status Compressor::CorrectFloat(const Recipe& recipe) {
  if (IsOn(recipe.corrections().equalize(), false)) {
    OCTET_ASSIGN_OR_RETURN(const EqualizeReport report, Equalize(&graph_, {}));
    notes_.push_back(absl::StrCat("equalized ", report.pairs.size(), " pairs of layers"));
    notes_.insert(notes_.end(), report.skipped.begin(), report.skipped.end());
  }
  if (!IsOn(recipe.corrections().migrate(), false)) return absl::OkStatus();
  OCTET_ASSIGN_OR_RETURN(const auto statistics,
                         Calibrate(graph_, MigrationCandidates(graph_, {}), samples_, used_, options_));
  OCTET_ASSIGN_OR_RETURN(const MigrateReport report, MigrateScales(&graph_, statistics, {}));
  for (const MigratedSite& site : report.sites) {
    notes_.push_back(absl::StrCat("moved outliers of '", site.value, "' into weights, alpha ", site.alpha));
  }
  return absl::OkStatus();
}

QuantParams Compressor::ParamsOf(const compression::v1::Ranges& ranges, ValueId id, bool symmetric) {
  Range range;
  if (has_samples_) {
    const RangeMethod method = *ParseRangeMethod(ranges.method().empty() ? "mse" : ranges.method());
    const double percentile = ranges.percentile() > 0 ? ranges.percentile() : 0.99999;
    const ChosenRange chosen = ChooseGuardedRange(statistics_.at(id).histogram, method, percentile);
    if (!chosen.reason.empty()) run_traps_.push_back({TrapKind::kClippedRange, graph_.value(id).name, chosen.reason});
    range = chosen.range;
  } else {
    range = data_free_.at(id).range();
  }
  return symmetric ? S8Params(range) : U8Params(range);
}

std::vector<double> Compressor::ChannelMeansOf(ValueId id) const {
  if (!has_samples_) {
    const auto it = data_free_.find(id);
    return it == data_free_.end() ? std::vector<double>() : it->second.mean;
  }
  const auto it = statistics_.find(id);
  return it == statistics_.end() ? std::vector<double>() : it->second.ChannelMeans();
}

absl::StatusOr<Regions> Compressor::StaticRegions(const Recipe& recipe) {
  std::vector<Product> fixed;
  std::vector<std::string> exclude;
  for (const Product& p : products_) {
    const LayerScheme scheme = EffectiveScheme(recipe, p);
    if (scheme.activations() == LayerScheme::STATIC) fixed.push_back(p);
    if (!IsCompressed(scheme)) exclude.push_back(p.name);
  }
  // Nodes other than products are kept by name, too.
  for (const auto& rule : recipe.rules()) {
    if (rule.scheme().activations() == LayerScheme::KEEP_FLOAT) exclude.push_back(rule.node());
  }
  for (;;) {
    Regions regions = FindRegions(graph_, fixed, exclude);
    const auto known = [&](ValueId id) {
      if (!has_samples_) return data_free_.contains(id);
      const auto it = statistics_.find(id);
      return it != statistics_.end() && it->second.histogram.count() > 0;
    };
    // Values without a range stay real, and so does what reads or makes them.
    absl::flat_hash_set<ValueId> unknown;
    for (ValueId id : regions.values) {
      if (regions.same_as[static_cast<size_t>(id)] == graph::kNoValue && !known(id)) unknown.insert(id);
    }
    if (unknown.empty()) return regions;
    if (has_samples_) {
      return absl::InternalError(absl::StrCat("no statistics of '", graph_.value(*unknown.begin()).name, "'"));
    }
    const auto touches = [&](const std::vector<ValueId>& ids) {
      return std::any_of(ids.begin(), ids.end(), [&](ValueId id) { return unknown.contains(id); });
    };
    for (const graph::Node& node : graph_.nodes) {
      if (touches(node.inputs) || touches(node.outputs)) exclude.push_back(node.name);
    }
    const size_t before = fixed.size();
    std::erase_if(fixed, [&](const Product& p) {
      if (!unknown.contains(p.src)) return false;
      run_notes_.push_back(absl::StrCat(p.name, " keeps float activations: nothing is known of '",
                                        graph_.value(p.src).name, "' without samples"));
      return true;
    });
    // What is left between products that are known ends here at the latest: then no activation is stored as integers.
    if (fixed.size() == before) fixed.clear();
  }
}

absl::StatusOr<Graph> Compressor::WithActivations(const Recipe& recipe) {
  OCTET_ASSIGN_OR_RETURN(const Regions regions, StaticRegions(recipe));
  ActivationParams params;
  for (ValueId id : regions.values) {
    if (regions.same_as[static_cast<size_t>(id)] != graph::kNoValue) continue;
    params[id] = ParamsOf(recipe.ranges(), id, regions.symmetric[static_cast<size_t>(id)]);
  }
  return QuantizeActivations(graph_, regions, params);
}

absl::Status Compressor::QuantizeAll(const Recipe& recipe) {
  std::vector<const Product*> wanted, with_moments;
  for (const Product& p : products_) {
    const LayerScheme scheme = EffectiveScheme(recipe, p);
    if (!IsCompressed(scheme) || quantized_.contains(KeyOf(p, scheme))) continue;
    (NeedsMoments(scheme) ? with_moments : wanted).push_back(&p);
  }
  const auto total = static_cast<int64_t>(wanted.size() + with_moments.size());
  int64_t done = 0;
  const auto quantize = [&](const Product& p, const Moments* moments) -> absl::Status {
    const LayerScheme scheme = EffectiveScheme(recipe, p);
    ProductInputs inputs;
    inputs.moments = moments;
    if (!IsOn(recipe.corrections().bias(), true)) inputs.bias = ProductInputs::Bias::kKept;
    inputs.seed = recipe.seed();
    inputs.threads = options_.threads;
    OCTET_ASSIGN_OR_RETURN(QuantizedMatrix m, QuantizeWeights(graph_, p, scheme, inputs));
    quantized_[KeyOf(p, scheme)] = std::move(m);
    return Tick(options_, "rounding weights", ++done, total);
  };
  for (const Product* p : wanted) OCTET_RETURN_IF_ERROR(quantize(*p, nullptr));
  if (with_moments.empty()) return absl::OkStatus();
  std::vector<int> nodes;
  for (const Product* p : with_moments) nodes.push_back(p->node);
  return CollectMoments(graph_, nodes, samples_, used_, MomentOptionsOf(recipe, options_),
                        [&](size_t i, const Moments& moments) { return quantize(*with_moments[i], &moments); });
}

absl::StatusOr<std::vector<float>> Compressor::CorrectedBias(const Recipe& recipe, const Product& product,
                                                             const QuantizedMatrix& weights) const {
  const graph::Node& node = graph_.nodes[static_cast<size_t>(product.node)];
  std::vector<float> bias = BiasOf(graph_, node, product.rows);
  if (!IsOn(recipe.corrections().bias(), true)) return bias;
  const WeightMatrix matrix = MatrixOf(graph_, node);
  const std::vector<float> means = ColumnMeans(matrix, ChannelMeansOf(product.src));
  if (means.empty()) return bias;
  const std::vector<float> shift = MeanShift(matrix, weights, means);
  for (size_t i = 0; i < bias.size(); ++i) bias[i] += shift[i];
  return bias;
}

absl::Status Compressor::CompressInOrder(const Recipe& recipe, Graph* working) {
  int64_t done = 0;
  std::vector<int64_t> samples = used_;
  for (const Product& p : products_) {
    OCTET_RETURN_IF_ERROR(Tick(options_, "compressing layer by layer", done++, static_cast<int64_t>(products_.size())));
    const LayerScheme scheme = EffectiveScheme(recipe, p);
    if (!IsCompressed(scheme)) continue;
    std::string note;
    OCTET_RETURN_IF_ERROR(CompressLayer(graph_, p, scheme, samples_, samples, MomentOptionsOf(recipe, options_),
                                        recipe.seed(), working, &note));
    if (!note.empty()) run_notes_.push_back(std::move(note));
  }
  return Tick(options_, "compressing layer by layer", done, done);
}

absl::Status Compressor::CorrectMeasured(const Recipe& recipe, Graph* working) {
  std::vector<Product> compressed;
  for (const Product& p : products_) {
    if (IsCompressed(EffectiveScheme(recipe, p))) compressed.push_back(p);
  }
  std::vector<int64_t> samples = used_;
  if (samples.size() > kMeasuredBiasSamples) samples.resize(kMeasuredBiasSamples);
  return CorrectBiasesMeasured(graph_, compressed, samples_, samples, options_, working);
}

std::optional<double> Compressor::OverflowShareOf(const Graph& applied, const Product& product) const {
  const auto it = statistics_.find(product.src);
  if (it == statistics_.end()) return std::nullopt;
  const std::optional<SaturationReport> report =
      SaturationOf(applied, ProducerOf(applied, product.output), it->second.histogram);
  return report.has_value() ? std::optional(report->expected_share) : std::nullopt;
}

Recipe Compressor::WithReducedRange(const Recipe& recipe, const Graph& applied) const {
  Recipe reduced;
  for (const Product& p : products_) {
    LayerScheme scheme = SchemeOf(recipe, p);
    if (!IsCompressed(scheme) || scheme.grid() != kFullRange || OverflowShareOf(applied, p).value_or(0) == 0) continue;
    scheme.set_grid(kReducedRange);
    auto* rule = reduced.add_rules();
    rule->set_node(p.name);
    *rule->mutable_scheme() = scheme;
  }
  // In front of other rules: the first that matches decides.
  Recipe result = recipe;
  reduced.mutable_rules()->MergeFrom(recipe.rules());
  result.mutable_rules()->Swap(reduced.mutable_rules());
  result.mutable_corrections()->set_reduced_range(Corrections::OFF);
  return result;
}

absl::StatusOr<Recipe> Compressor::WithWideActivations(const Recipe& recipe, std::string* note) {
  Recipe result = recipe;
  result.mutable_corrections()->set_wide_activations(Corrections::OFF);
  std::vector<Product> fixed;
  for (const Product& p : products_) {
    if (EffectiveScheme(recipe, p).activations() == LayerScheme::STATIC) fixed.push_back(p);
  }
  const std::vector<int64_t> samples(held_.begin(),
                                     held_.begin() + static_cast<std::ptrdiff_t>(std::min(held_.size(), kWideSamples)));
  OCTET_ASSIGN_OR_RETURN(
      const std::vector<SourceNoise> sources,
      MeasureSources(graph_, fixed, [&](ValueId id) { return ParamsOf(recipe.ranges(), id, false); }, samples_, samples,
                     options_));
  RealLimits limits;
  for (const SourceNoise& s : sources) limits.multiply_adds += kWideMultiplyAdds * s.multiply_adds;
  // A source that is rounded for others' sake (an addend, a part of a join) would be rounded all the same: it stays.
  absl::flat_hash_set<ValueId> wide;
  for (size_t i : ChooseReal(sources, limits)) wide.insert(sources[i].src);
  std::vector<Product> rest = fixed;
  std::erase_if(rest, [&](const Product& p) { return wide.contains(p.src); });
  for (ValueId id : FindRegions(graph_, rest, {}).values) wide.erase(id);
  Recipe rules;
  for (const Product& p : fixed) {
    if (!wide.contains(p.src)) continue;
    auto* rule = rules.add_rules();
    rule->set_node(p.name);
    *rule->mutable_scheme() = EffectiveScheme(recipe, p);
    rule->mutable_scheme()->set_activations(LayerScheme::DYNAMIC);
  }
  double all = 0, avoided = 0;
  for (const SourceNoise& s : sources) {
    all += s.noise;
    if (wide.contains(s.src)) avoided += s.noise;
  }
  if (rules.rules_size() > 0) {
    *note = absl::StrFormat("%d products read reals, whose 8-bit activations made %.0f %% of all activations' noise",
                            rules.rules_size(), 100 * avoided / all);
  }
  // In front of other rules: the first that matches decides.
  rules.mutable_rules()->MergeFrom(recipe.rules());
  result.mutable_rules()->Swap(rules.mutable_rules());
  return result;
}

std::vector<Trap> Compressor::TrapsOf(const Recipe& recipe) const {
  std::vector<Trap> traps = run_traps_;
  for (const Product& p : products_) {
    const LayerScheme scheme = EffectiveScheme(recipe, p);
    if (!IsCompressed(scheme) || scheme.group() >= 0) continue;
    const absl::StatusOr<Grid> grid = MakeGrid(scheme.grid());
    const std::optional<PerTensorRisk> risk = FindPerTensorRisk(
        p, MatrixOf(graph_, graph_.nodes[static_cast<size_t>(p.node)]), grid.ok() ? grid->bits : 8);
    if (risk.has_value()) traps.push_back({TrapKind::kPerTensor, p.name, risk->Warning()});
  }
  return traps;
}

void Compressor::ReportLayers(const Recipe& recipe, const Graph& applied, CompressReport* report) const {
  for (const Product& p : products_) {
    const LayerScheme scheme = EffectiveScheme(recipe, p);
    if (!IsCompressed(scheme)) {
      report->kept_float.push_back(p.name);
      continue;
    }
    const graph::Value& weights = applied.value(ProducerOf(applied, p.output).inputs[1]);
    report->layers.push_back(
        {p.name, p.op, Describe(scheme), p.weights_elements,
         weights.data->size_bytes() + static_cast<int64_t>(weights.quant->scale.size() * sizeof(float)),
         OverflowShareOf(applied, p), NAN});
  }
}

absl::Status Compressor::Compare(const Recipe& recipe, CompressResult* result) {
  if (!has_samples_) return absl::OkStatus();
  std::vector<ValueId> results;
  for (const Product& p : products_) {
    if (IsCompressed(EffectiveScheme(recipe, p))) results.push_back(p.result);
  }
  int64_t done = 0;
  const auto total = static_cast<int64_t>(held_.size());
  OCTET_ASSIGN_OR_RETURN(const Comparison comparison,
                         CompareGraphs(graph_, result->graph, results, samples_, held_, options_.threads,
                                       [&] { return Tick(options_, "comparing", ++done, total); }));
  std::vector<LayerReport>& layers = result->report.layers;
  for (size_t i = 0; i < layers.size(); ++i) layers[i].sqnr_db = comparison.sqnr_db[i];
  std::stable_sort(layers.begin(), layers.end(),
                   [](const LayerReport& a, const LayerReport& b) { return a.sqnr_db < b.sqnr_db; });
  result->report.outputs = comparison.outputs;
  return absl::OkStatus();
}

absl::Status Compressor::AddTemperatures(Graph* working) {
  const bool undecided = std::any_of(working->values.begin(), working->values.end(), [](const graph::Value& v) {
    return v.alternatives.has_value() && graph::IsUndecided(v);
  });
  if (!undecided || !has_samples_ || !has_classes()) return absl::OkStatus();
  OCTET_ASSIGN_OR_RETURN(const std::string text, FitTemperatures(graph_, *working, samples_, held_, options_.threads));
  working->metadata[std::string(graph::kTemperatures)] = text;
  run_notes_.push_back(absl::StrCat("temperatures of ensembles by the number of samples: ", text));
  return absl::OkStatus();
}

absl::StatusOr<Graph> Compressor::Apply(const Recipe& recipe) {
  run_notes_.clear();
  run_traps_.clear();
  OCTET_ASSIGN_OR_RETURN(Graph working, WithActivations(recipe));
  if (IsOn(recipe.corrections().sequential(), false)) {
    OCTET_RETURN_IF_ERROR(CompressInOrder(recipe, &working));
  } else {
    OCTET_RETURN_IF_ERROR(QuantizeAll(recipe));
    for (const Product& p : products_) {
      const LayerScheme scheme = EffectiveScheme(recipe, p);
      if (!IsCompressed(scheme)) continue;
      const QuantizedMatrix& weights = quantized_.at(KeyOf(p, scheme));
      OCTET_ASSIGN_OR_RETURN(const std::vector<float> bias, CorrectedBias(recipe, p, weights));
      ReplaceWeights(p, weights, bias, &working);
    }
  }
  if (IsOn(recipe.corrections().bias_measured(), false)) OCTET_RETURN_IF_ERROR(CorrectMeasured(recipe, &working));
  return working;
}

absl::StatusOr<Graph> Compressor::ApplyBest(Recipe* recipe, std::string* note) {
  if (recipe->corrections().sequential() != Corrections::WHERE_NEEDED) return Apply(*recipe);
  struct Contender {
    Recipe recipe;
    Graph graph;
    std::vector<std::string> notes;
    std::vector<Trap> traps;
  };
  OCTET_ASSIGN_OR_RETURN(const OutputNoise outputs,
                         OutputNoise::Create(graph_, samples_, Spread(held_, kContenderSamples), options_.threads));
  std::optional<Contender> best;
  double least = 0;
  std::vector<std::string> found;
  for (const auto& [name, tried] : OrdersOf(*recipe)) {
    OCTET_ASSIGN_OR_RETURN(Graph graph, Apply(tried));
    OCTET_ASSIGN_OR_RETURN(const OutputNoise::Difference now, outputs.Of(graph));
    const double difference = outputs.has_classes() ? now.divergence : now.noise;
    found.push_back(outputs.has_classes() ? absl::StrFormat("%s %.3g nats", name, now.divergence)
                                          : absl::StrFormat("%s %.2f dB", name, SqnrDb(1, now.noise)));
    if (best.has_value() && !(difference < least)) continue;
    least = difference;
    best = Contender{tried, std::move(graph), run_notes_, run_traps_};
  }
  *recipe = std::move(best->recipe);
  run_notes_ = std::move(best->notes);
  run_traps_ = std::move(best->traps);
  *note = absl::StrCat(outputs.has_classes() ? "classes of held-back samples differ: "
                                             : "outputs on held-back samples, about their mean: ",
                       absl::StrJoin(found, ", "));
  return std::move(best->graph);
}

absl::StatusOr<CompressResult> Compressor::Run(const Recipe& recipe) {
  OCTET_RETURN_IF_ERROR(ValidateRecipe(recipe));
  CompressResult result;
  result.recipe = recipe;
  std::string wide_note, order_note;
  if (recipe.corrections().wide_activations() == Corrections::WHERE_NEEDED) {
    OCTET_ASSIGN_OR_RETURN(result.recipe, WithWideActivations(recipe, &wide_note));
  }
  OCTET_ASSIGN_OR_RETURN(Graph working, ApplyBest(&result.recipe, &order_note));
  if (recipe.corrections().reduced_range() == Corrections::WHERE_NEEDED) {
    const int before = result.recipe.rules_size();
    result.recipe = WithReducedRange(result.recipe, working);
    if (result.recipe.rules_size() > before) {
      OCTET_ASSIGN_OR_RETURN(working, Apply(result.recipe));
    }
  }
  CompressReport& report = result.report;
  ReportLayers(result.recipe, working, &report);
  report.traps = TrapsOf(result.recipe);
  report.calibration_samples = static_cast<int64_t>(used_.size());
  report.held_back_samples = held_back_samples();
  SplitMatMulBias(&working);
  working.RemoveDead();
  OCTET_RETURN_IF_ERROR(working.Validate());
  if (IsOn(recipe.corrections().ensemble_temperature(), false)) OCTET_RETURN_IF_ERROR(AddTemperatures(&working));
  report.notes = notes_;
  for (const std::string& note : {wide_note, order_note}) {
    if (!note.empty()) report.notes.push_back(note);
  }
  report.notes.insert(report.notes.end(), run_notes_.begin(), run_notes_.end());
  report.float_weights_bytes = ConstantBytes(graph_);
  report.weights_bytes = ConstantBytes(working);
  result.graph = std::move(working);
  OCTET_RETURN_IF_ERROR(Compare(result.recipe, &result));
  if (has_samples_) {
    result.recipe.mutable_calibration()->set_sha256(digest_);
    result.recipe.mutable_calibration()->set_samples(static_cast<int64_t>(used_.size() + held_.size()));
  }
  return result;
}

absl::StatusOr<double> Compressor::OutputSqnrOf(const Product& product, const LayerScheme& scheme, int64_t samples) {
  Recipe alone = recipe_;
  alone.clear_rules();
  alone.mutable_layers()->set_activations(LayerScheme::KEEP_FLOAT);
  auto* rule = alone.add_rules();
  rule->set_node(product.name);
  *rule->mutable_scheme() = scheme;
  OCTET_RETURN_IF_ERROR(QuantizeAll(alone));
  OCTET_ASSIGN_OR_RETURN(Graph working, WithActivations(alone));
  const QuantizedMatrix& weights = quantized_.at(KeyOf(product, EffectiveScheme(alone, product)));
  OCTET_ASSIGN_OR_RETURN(const std::vector<float> bias, CorrectedBias(alone, product, weights));
  ReplaceWeights(product, weights, bias, &working);
  OCTET_ASSIGN_OR_RETURN(const auto observer, Observer::Create(working, {}, options_.threads));
  double signal = 0, noise = 0;
  for (int64_t i = 0; i < std::min(samples, held_back_samples()); ++i) {
    OCTET_ASSIGN_OR_RETURN(const std::vector<float>* expected, FloatOutput(i));
    OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples_.Read(held_[static_cast<size_t>(i)]));
    OCTET_RETURN_IF_ERROR(observer->Run(sample));
    const absl::Span<const float> found = observer->output(0);
    for (size_t k = 0; k < expected->size(); ++k) {
      const double f = (*expected)[k], d = f - (k < found.size() ? found[k] : 0.0f);
      signal += f * f;
      noise += d * d;
    }
  }
  return SqnrDb(signal, noise);
}

absl::StatusOr<const std::vector<float>*> Compressor::FloatOutput(int64_t i) {
  if (float_observer_ == nullptr) {
    OCTET_ASSIGN_OR_RETURN(float_observer_, Observer::Create(graph_, {}, options_.threads));
  }
  while (static_cast<int64_t>(float_outputs_.size()) <= i) {
    OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples_.Read(held_[float_outputs_.size()]));
    OCTET_RETURN_IF_ERROR(float_observer_->Run(sample));
    const absl::Span<const float> output = float_observer_->output(0);
    float_outputs_.emplace_back(output.begin(), output.end());
  }
  return &float_outputs_[static_cast<size_t>(i)];
}

int64_t Compressor::WeightsBytes(const Product& product, const LayerScheme& scheme) const {
  Recipe recipe = recipe_;
  recipe.clear_rules();
  *recipe.mutable_layers() = scheme;
  const LayerScheme effective = EffectiveScheme(recipe, product);
  const QuantizedMatrix& m = quantized_.at(KeyOf(product, effective));
  const double bits = m.grid.bits_per_weight() > 4 ? 8 : m.grid.kind == GridKind::kInteger ? 4 : m.grid.bits_per_weight();
  const double scale_bytes = effective.multiples() ? 2 : 4;
  return static_cast<int64_t>(static_cast<double>(product.weights_elements) * bits / 8 +
                              static_cast<double>(m.scale.size()) * scale_bytes);
}

bool Compressor::has_classes() const { return ClassesOf(graph_.value(graph_.outputs[0])) > 0; }

absl::StatusOr<CompressResult> Compress(const Graph& graph, data::SampleReader& samples, const Recipe& recipe,
                                        const CompressOptions& options) {
  OCTET_ASSIGN_OR_RETURN(const auto compressor, Compressor::Create(graph, samples, recipe, options));
  return compressor->Run(recipe);
}

}  // namespace octet::compress
