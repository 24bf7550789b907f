// Derived figures, the recommendation, the table and the JSON of a comparison.
#include "cli/comparison.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/console.h"
#include "cli/json.h"

namespace octet::cli {
namespace {

// A gain below this is noise, or not worth a second form of the network.
constexpr double kWorthwhile = 1.1;

double Ms(double seconds) { return seconds * 1e3; }

std::string Percent(double share, int digits = 2) { return Fixed(100 * share, digits) + " %"; }

std::string IntervalText(const ShareInterval& i) { return absl::StrFormat("[%.2f, %.2f]", 100 * i.low, 100 * i.high); }

// Higher is better; NaN where it is not known.
double Score(const VariantFigures& v, Goal goal) {
  switch (goal) {
    case Goal::kThroughput:
      return v.best.InferencesPerSecond();
    case Goal::kLatency:
      return 1 / v.single.P(0.5);
    case Goal::kBytes: {
      const std::optional<int64_t> bytes =
          v.facts.weights_bytes.has_value() ? v.facts.weights_bytes : v.facts.file_bytes;
      return bytes.has_value() ? 1e9 / static_cast<double>(std::max<int64_t>(*bytes, 1)) : NAN;
    }
  }
  return NAN;
}

const char* GoalName(Goal goal) {
  return goal == Goal::kThroughput ? "throughput" : goal == Goal::kLatency ? "latency of batch 1" : "resident weights";
}

// Why a variant does not keep the bounds; empty when it does.
std::string Broken(const VariantFigures& v, const Bounds& bounds) {
  for (const OutputAgreement& o : v.outputs) {
    if (!o.classes) {
      if (!(o.sqnr_db >= bounds.min_sqnr_db)) {
        return absl::StrFormat("SQNR of output '%s' is %.1f dB, below %.1f dB", o.name, o.sqnr_db, bounds.min_sqnr_db);
      }
      continue;
    }
    const ShareInterval interval = WilsonInterval(o.agreeing, o.rows);
    if (interval.low >= bounds.min_agreement) continue;
    const int64_t needed = TrialsFor(bounds.min_agreement);
    if (o.rows < needed) {
      return absl::StrFormat("%d samples cannot show %.2f %% agreement, whatever they say: at least %d are needed",
                             o.rows, 100 * bounds.min_agreement, needed);
    }
    return absl::StrFormat(
        "top-1 agreement of output '%s' is %.2f %%, 95 %% interval %s, whose lower end is below %.2f %%", o.name,
        100.0 * static_cast<double>(o.agreeing) / static_cast<double>(o.rows), IntervalText(interval),
        100 * bounds.min_agreement);
  }
  return "";
}

std::string Gains(const VariantFigures& v, const VariantFigures& reference) {
  std::string text = absl::StrFormat("%.2fx throughput, %.2fx latency at batch 1",
                                     v.best.InferencesPerSecond() / reference.best.InferencesPerSecond(),
                                     v.single.P(0.5) / reference.single.P(0.5));
  if (v.facts.weights_bytes.has_value() && reference.facts.weights_bytes.value_or(0) > 0) {
    absl::StrAppendFormat(
        &text, ", %.3fx resident weights",
        static_cast<double>(*v.facts.weights_bytes) / static_cast<double>(*reference.facts.weights_bytes));
  }
  return text;
}

std::string Kept(const VariantFigures& v, const Bounds& bounds) {
  if (v.outputs.empty()) return "";
  const OutputAgreement& o = v.outputs[0];
  if (!o.classes) return absl::StrFormat("SQNR %.1f dB (bound %.1f dB)", o.sqnr_db, bounds.min_sqnr_db);
  return absl::StrFormat("top-1 agreement %.2f %%, 95 %% interval %s above the bound of %.2f %%",
                         100.0 * static_cast<double>(o.agreeing) / static_cast<double>(o.rows),
                         IntervalText(WilsonInterval(o.agreeing, o.rows)), 100 * bounds.min_agreement);
}

Json HistogramJson(const compress::ValueHistogram& h) {
  if (h.counts.empty()) return Json();
  return Json::Object({{"low", h.low}, {"high", h.high}, {"counts", Json::Array(h.counts)}});
}

Json TimingJson(const BatchTiming& t) {
  // 200 quantiles carry the distribution, whatever the number of runs.
  std::vector<double> sorted = t.seconds, quantiles;
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i <= 200 && !sorted.empty(); ++i) quantiles.push_back(sorted[i * (sorted.size() - 1) / 200]);
  return Json::Object({{"batch", t.batch},
                       {"runs", static_cast<int64_t>(t.seconds.size())},
                       {"p50_seconds", t.P(0.5)},
                       {"p90_seconds", t.P(0.9)},
                       {"p99_seconds", t.P(0.99)},
                       {"inferences_per_second", t.InferencesPerSecond()},
                       {"cpu_seconds_per_inference", t.cpu_seconds},
                       {"joules_per_inference", t.joules},
                       {"activations_bytes", t.activations_bytes},
                       {"quantiles_seconds", Json::Array(quantiles)}});
}

Json OutputJson(const OutputAgreement& o) {
  const ShareInterval interval = WilsonInterval(o.agreeing, o.rows);
  const auto rows = static_cast<double>(o.rows);
  return Json::Object({{"name", o.name},
                       {"top1_agreement", o.classes ? Json(static_cast<double>(o.agreeing) / rows) : Json()},
                       {"top1_agreement_low", o.classes ? Json(interval.low) : Json()},
                       {"top1_agreement_high", o.classes ? Json(interval.high) : Json()},
                       {"rows", o.classes ? Json(o.rows) : Json()},
                       {"sqnr_db", o.sqnr_db},
                       {"cosine", o.cosine}});
}

Json AccuracyJson(const std::optional<Accuracy>& a, bool reference) {
  if (!a.has_value() || a->labelled == 0) return Json();
  const auto n = static_cast<double>(a->labelled);
  return Json::Object({{"labelled", a->labelled},
                       {"top1", static_cast<double>(a->top1) / n},
                       {"top5", static_cast<double>(a->top5) / n},
                       {"right_alone", reference ? Json() : Json(a->only_this)},
                       {"reference_right_alone", reference ? Json() : Json(a->only_reference)},
                       {"mcnemar_p", reference ? Json() : Json(McNemarP(a->only_reference, a->only_this))}});
}

Json VariantJson(const Comparison& c, size_t index) {
  const VariantFigures& v = c.variants[index];
  std::vector<Json> sweep, outputs;
  for (const BatchTiming& t : v.sweep) {
    sweep.push_back(Json::Object({{"batch", t.batch},
                                  {"runs", static_cast<int64_t>(t.seconds.size())},
                                  {"p50_seconds", t.P(0.5)},
                                  {"p99_seconds", t.P(0.99)},
                                  {"inferences_per_second", t.InferencesPerSecond()},
                                  {"activations_bytes", t.activations_bytes}}));
  }
  for (const OutputAgreement& o : v.outputs) outputs.push_back(OutputJson(o));
  const double fps = v.FramesPerSecond();
  return Json::Object({{"name", v.name},
                       {"reference", index == c.reference},
                       {"file_bytes", v.facts.file_bytes},
                       {"weights_bytes", v.facts.weights_bytes},
                       {"model_bytes", v.facts.model_bytes},
                       {"models_in_4_gb", v.FitIn4GB(c.baseline_bytes)},
                       {"load_seconds", v.facts.load_seconds},
                       {"walked_bytes_per_inference", v.walked_bytes},
                       {"batch_1", TimingJson(v.single)},
                       {"best_batch", TimingJson(v.best)},
                       {"batches", Json::Array(sweep)},
                       {"frames_per_second_p99_33ms", fps},
                       {"fps_30", fps >= 30},
                       {"accuracy", AccuracyJson(v.accuracy, index == c.reference)},
                       {"outputs", Json::Array(outputs)}});
}

Json LayersJson(const Comparison& c) {
  std::vector<Json> layers;
  for (const compress::LayerComparison& layer : c.layers) {
    std::vector<Json> variants;
    for (size_t v = 0; v < c.variants.size(); ++v) {
      if (v == c.reference) continue;
      const compress::VariantLayer& one = layer.variants[c.LayerIndex(v)];
      variants.push_back(Json::Object({{"name", c.variants[v].name},
                                       {"sqnr_db", one.sqnr_db},
                                       {"weights_histogram", HistogramJson(one.weights)},
                                       {"activations_histogram", HistogramJson(one.activations)}}));
    }
    layers.push_back(Json::Object({{"node", layer.node},
                                   {"op", layer.op},
                                   {"weights_elements", layer.weights_elements},
                                   {"weights_histogram", HistogramJson(layer.weights)},
                                   {"activations_histogram", HistogramJson(layer.activations)},
                                   {"variants", Json::Array(variants)}}));
  }
  return Json::Array(layers);
}

std::string BytesOr(const std::optional<int64_t>& bytes) { return bytes.has_value() ? Bytes(*bytes) : "-"; }

std::string SpeedTable(const Comparison& c) {
  std::vector<std::vector<std::string>> rows;
  for (const VariantFigures& v : c.variants) {
    const double fps = v.FramesPerSecond();
    rows.push_back({v.name, Fixed(Ms(v.single.P(0.5)), 3), Fixed(Ms(v.single.P(0.99)), 3), absl::StrCat(v.best.batch),
                    Fixed(Ms(v.best.P(0.5)), 3), Fixed(Ms(v.best.P(0.99)), 3), Fixed(v.best.InferencesPerSecond(), 0),
                    Fixed(fps, 0), fps >= 30 ? "yes" : "no",
                    v.single.cpu_seconds.has_value() ? Fixed(Ms(*v.single.cpu_seconds), 3) : "-",
                    v.best.cpu_seconds.has_value() ? Fixed(Ms(*v.best.cpu_seconds), 3) : "-",
                    v.single.joules.has_value() ? Fixed(*v.single.joules * 1e3, 2) : "-"});
  }
  return Table({"variant", "p50 ms (1)", "p99 ms (1)", "best batch", "p50 ms", "p99 ms", "inf/s", "FPS, p99<33ms",
                "30 FPS", "CPU ms (1)", "CPU ms (best)", "mJ (1)"},
               rows);
}

std::string SizeTable(const Comparison& c) {
  std::vector<std::vector<std::string>> rows;
  for (const VariantFigures& v : c.variants) {
    const std::optional<int64_t> fit = v.FitIn4GB(c.baseline_bytes);
    rows.push_back({v.name, BytesOr(v.facts.file_bytes), BytesOr(v.facts.weights_bytes),
                    BytesOr(v.single.activations_bytes), BytesOr(v.best.activations_bytes), BytesOr(v.walked_bytes),
                    fit.has_value() ? absl::StrCat(*fit) : "-",
                    v.facts.load_seconds.has_value() ? Fixed(Ms(*v.facts.load_seconds), 1) : "-"});
  }
  return Table({"variant", "file", "weights", "activ. (1)", "activ. (best)", "walked/inf", "in 4 GB", "load ms"}, rows);
}

std::string QualityTable(const Comparison& c) {
  std::vector<std::vector<std::string>> rows;
  for (size_t i = 0; i < c.variants.size(); ++i) {
    const VariantFigures& v = c.variants[i];
    std::vector<std::string> accuracy = {"-", "-", "-"};
    if (v.accuracy.has_value() && v.accuracy->labelled > 0) {
      const auto n = static_cast<double>(v.accuracy->labelled);
      accuracy = {
          Percent(static_cast<double>(v.accuracy->top1) / n), Percent(static_cast<double>(v.accuracy->top5) / n),
          i == c.reference ? "-"
                           : absl::StrFormat("%.2g", McNemarP(v.accuracy->only_reference, v.accuracy->only_this))};
    }
    if (i == c.reference)
      rows.push_back({v.name, accuracy[0], accuracy[1], accuracy[2], "(reference)", "-", "-", "-", "-"});
    for (const OutputAgreement& o : v.outputs) {
      rows.push_back({v.name, accuracy[0], accuracy[1], accuracy[2], o.name,
                      o.classes ? Percent(static_cast<double>(o.agreeing) / static_cast<double>(o.rows)) : "-",
                      o.classes ? IntervalText(WilsonInterval(o.agreeing, o.rows)) : "-", Fixed(o.sqnr_db, 1),
                      Fixed(o.cosine, 5)});
    }
  }
  return Table({"variant", "top-1", "top-5", "McNemar p", "output", "top-1 agrees", "95 %", "SQNR dB", "cosine"}, rows);
}

// The ten layers that suffer most in any variant.
std::string LayerTable(const Comparison& c) {
  std::vector<const compress::LayerComparison*> sorted;
  for (const compress::LayerComparison& layer : c.layers) sorted.push_back(&layer);
  const auto worst = [](const compress::LayerComparison* layer) {
    double low = HUGE_VAL;
    for (const compress::VariantLayer& v : layer->variants)
      low = std::min(low, std::isnan(v.sqnr_db) ? HUGE_VAL : v.sqnr_db);
    return low;
  };
  std::stable_sort(sorted.begin(), sorted.end(), [&](const auto* a, const auto* b) { return worst(a) < worst(b); });
  std::vector<std::string> head = {"layer (worst first)", "op", "weights"};
  for (size_t v = 0; v < c.variants.size(); ++v) {
    if (v != c.reference) head.push_back(absl::StrCat(c.variants[v].name, " dB"));
  }
  std::vector<std::vector<std::string>> rows;
  for (size_t i = 0; i < std::min<size_t>(sorted.size(), 10); ++i) {
    rows.push_back({sorted[i]->node, sorted[i]->op, absl::StrCat(sorted[i]->weights_elements)});
    for (const compress::VariantLayer& v : sorted[i]->variants) rows.back().push_back(Fixed(v.sqnr_db, 1));
  }
  return Table(head, rows);
}

}  // namespace

double BatchTiming::Total() const { return std::accumulate(seconds.begin(), seconds.end(), 0.0); }

double VariantFigures::FramesPerSecond() const {
  double most = 0;
  const auto consider = [&](const BatchTiming& t) {
    if (!t.seconds.empty() && t.P(0.99) <= kFrameSeconds) most = std::max(most, t.InferencesPerSecond());
  };
  consider(single);
  consider(best);
  for (const BatchTiming& t : sweep) consider(t);
  return most;
}

std::optional<int64_t> VariantFigures::FitIn4GB(int64_t baseline) const {
  if (!facts.model_bytes.has_value() || *facts.model_bytes <= 0) return std::nullopt;
  return std::max<int64_t>(0, (int64_t{4000000000} - baseline) / *facts.model_bytes);
}

Recommendation Recommend(const Comparison& c, const Bounds& bounds) {
  const VariantFigures& reference = c.variants[c.reference];
  Recommendation r;
  r.variant = c.reference;
  double best = Score(reference, bounds.goal) * kWorthwhile;
  std::vector<std::string> broken(c.variants.size());
  for (size_t i = 0; i < c.variants.size(); ++i) {
    if (i == c.reference) continue;
    broken[i] = Broken(c.variants[i], bounds);
    const double score = Score(c.variants[i], bounds.goal);
    if (!broken[i].empty() || !(score >= best)) continue;
    best = score;
    r.variant = i;
  }
  const VariantFigures& chosen = c.variants[r.variant];
  if (r.variant == c.reference) {
    r.reason = absl::StrFormat("%s, the reference: no variant that keeps the bounds gains 10 %% in %s", chosen.name,
                               GoalName(bounds.goal));
  } else {
    r.reason = absl::StrFormat("%s: the best in %s of those that keep the bounds; against %s %s; %s", chosen.name,
                               GoalName(bounds.goal), reference.name, Gains(chosen, reference), Kept(chosen, bounds));
  }
  for (size_t i = 0; i < c.variants.size(); ++i) {
    if (i == c.reference || i == r.variant) continue;
    const std::string why = !broken[i].empty() ? broken[i]
                                               : absl::StrFormat("keeps the bounds, but against %s: %s", reference.name,
                                                                 Gains(c.variants[i], reference));
    r.rejected.push_back(absl::StrCat(c.variants[i].name, ": ", why));
  }
  return r;
}

std::string ComparisonTable(const Comparison& c) {
  std::string text = absl::StrCat(SizeTable(c), "\n", SpeedTable(c), "\n", QualityTable(c));
  if (!c.layers.empty()) absl::StrAppend(&text, "\n", LayerTable(c));
  for (const std::string& line : c.absent) absl::StrAppend(&text, "not shown: ", line, "\n");
  return text;
}

std::string ComparisonJson(const Comparison& c, const Recommendation& r, const Bounds& bounds) {
  std::vector<Json> variants;
  for (size_t i = 0; i < c.variants.size(); ++i) variants.push_back(VariantJson(c, i));
  return Json::Object({{"model", c.model},
                       {"data", c.data},
                       {"server", c.server.empty() ? Json() : Json(c.server)},
                       {"machine", c.machine},
                       {"threads", c.server.empty() ? Json(c.threads) : Json()},
                       {"samples", c.samples},
                       {"layer_samples", c.layer_samples},
                       {"baseline_bytes", c.baseline_bytes},
                       {"reference", c.variants[c.reference].name},
                       {"variants", Json::Array(variants)},
                       {"layers", LayersJson(c)},
                       {"absent", Json::Array(c.absent)},
                       {"recommendation", Json::Object({{"variant", c.variants[r.variant].name},
                                                        {"reason", r.reason},
                                                        {"rejected", Json::Array(r.rejected)},
                                                        {"min_agreement", bounds.min_agreement},
                                                        {"min_sqnr_db", bounds.min_sqnr_db},
                                                        {"goal", GoalName(bounds.goal)}})}})
             .text() +
         "\n";
}

}  // namespace octet::cli
