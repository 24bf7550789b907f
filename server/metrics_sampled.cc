// Names, texts and labels of what is sampled at a scrape (docs/metrics.md).
#include "server/metrics_sampled.h"

#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace octet::server {
namespace {

using Labels = std::vector<prometheus::ClientMetric::Label>;

// Collects series by family and keeps the order of the first mention.
class SampledFamilies {
 public:
  void Gauge(absl::string_view name, absl::string_view help, const Labels& labels, double value) {
    Add(name, help, prometheus::MetricType::Gauge, labels).gauge.value = value;
  }
  void Counter(absl::string_view name, absl::string_view help, const Labels& labels, double value) {
    Add(name, help, prometheus::MetricType::Counter, labels).counter.value = value;
  }
  std::vector<prometheus::MetricFamily> Take() { return std::move(families_); }

 private:
  prometheus::ClientMetric& Add(absl::string_view name, absl::string_view help, prometheus::MetricType type,
                                const Labels& labels) {
    const auto [it, added] = index_.try_emplace(name, families_.size());
    if (added) families_.push_back({std::string(name), std::string(help), type, {}});
    prometheus::ClientMetric& metric = families_[it->second].metric.emplace_back();
    metric.label = labels;
    return metric;
  }

  std::vector<prometheus::MetricFamily> families_;
  absl::flat_hash_map<absl::string_view, size_t> index_;  // names are literals
};

Labels With(const Labels& labels, const char* name, const std::string& value) {
  Labels more = labels;
  more.push_back({name, value});
  return more;
}

void AddVariant(const MetricsSample::Variant& variant, SampledFamilies* list) {
  const Labels labels = {
      {"model", variant.labels.model}, {"variant", variant.labels.variant}, {"version", variant.labels.version}};
  const std::pair<const char*, int64_t> kinds[] = {
      {"weights", variant.memory.weights},       {"activations", variant.memory.activations},
      {"scratchpad", variant.memory.scratchpad}, {"code", variant.memory.code},
      {"metadata", variant.memory.metadata},     {"file", variant.file_bytes}};
  for (const auto& [kind, bytes] : kinds) {
    Labels by_kind = {{"kind", kind}};  // first by name, as the registry's labels are sorted
    by_kind.insert(by_kind.end(), labels.begin(), labels.end());
    list->Gauge("octet_memory_bytes", "Bytes of a variant by kind; `file` lies on disk, the others are resident.",
                by_kind, static_cast<double>(bytes));
  }
  list->Gauge("octet_weights_bytes", "Packed weights of a variant.", labels,
              static_cast<double>(variant.memory.weights));
  list->Gauge("octet_specialisations", "Input shapes that the variant is compiled for and kept.", labels,
              static_cast<double>(variant.cache.specialisations));
  list->Gauge("octet_specialisations_limit", "Most input shapes that are kept; the least recently used goes first.",
              labels, static_cast<double>(variant.cache.max_specialisations));
  list->Gauge("octet_specialisations_made", "Input shapes compiled since the load: grows with every new shape.", labels,
              static_cast<double>(variant.cache.made));
  list->Gauge("octet_activations_limit_bytes",
              "Most bytes of activations over all kept shapes; a shape that needs more alone is refused.", labels,
              static_cast<double>(variant.cache.max_bytes));
  list->Gauge("octet_load_seconds", "Time that loading the variant took.", labels,
              absl::ToDoubleSeconds(variant.load_time));
  list->Gauge("octet_queue_depth", "Requests that wait for a batch.", labels, variant.queue_depth);
  list->Gauge("octet_primary", "1 for the variant that requests naming none are meant for.", labels,
              variant.primary ? 1 : 0);
  list->Gauge("octet_traffic_weight_ratio", "Share of the requests naming no variant that is meant for this one.",
              labels, variant.traffic_weight);
  if (!variant.uncertainty.has_value()) return;
  list->Gauge("octet_predictive_entropy_nats", "Mean predictive entropy of the answers in the window.", labels,
              variant.uncertainty->entropy_nats);
  list->Gauge("octet_epistemic_share", "Mean mutual information divided by mean predictive entropy.", labels,
              variant.uncertainty->epistemic_share);
  list->Gauge("octet_uncertain_answers_ratio", "Share of the answers whose entropy exceeds the configured one.", labels,
              variant.uncertainty->uncertain_ratio);
}

void AddAgreement(const Labels& labels, const std::string& name, const WindowSummary& output, SampledFamilies* list) {
  const Labels live = With(With(labels, "output", name), "source", "live");
  list->Gauge("octet_comparison_window_rows", "Rows that the live figures rest on.", live,
              static_cast<double>(output.rows));
  if (output.classes) {
    list->Gauge("octet_top1_agreement_ratio", "Share of rows whose largest class is the reference's.", live,
                output.top1.value);
    list->Gauge("octet_top1_agreement_lower_ratio", "Lower bound of the 95 % interval.", live, output.top1.lower);
    list->Gauge("octet_top1_agreement_upper_ratio", "Upper bound of the 95 % interval.", live, output.top1.upper);
  }
  list->Gauge("octet_sqnr_db", "10 log10(signal / noise) of the variant's output against the reference's.", live,
              output.sqnr_db.value);
  list->Gauge("octet_sqnr_lower_db", "Lower bound of the 95 % interval.", live, output.sqnr_db.lower);
  list->Gauge("octet_sqnr_upper_db", "Upper bound of the 95 % interval.", live, output.sqnr_db.upper);
  list->Gauge("octet_cosine_similarity", "Mean cosine over rows of the two outputs.", live, output.cosine);
}

void AddGuard(const Labels& labels, const GuardStatus& guard, SampledFamilies* list) {
  if (!guard.settings.enabled() && guard.trips == 0) return;
  list->Gauge("octet_guard_tripped", "1 while the reference answers for the variant.", labels, guard.tripped ? 1 : 0);
  list->Counter("octet_guard_trips_total", "Times that the guard fell back to the reference.", labels,
                static_cast<double>(guard.trips));
  list->Counter("octet_guard_recoveries_total", "Times that the variant came back.", labels,
                static_cast<double>(guard.recoveries));
  const std::pair<const char*, std::optional<double>> bounds[] = {{"top1_agreement", guard.settings.min_top1_agreement},
                                                                  {"sqnr_db", guard.settings.min_sqnr_db}};
  for (const auto& [kind, bound] : bounds) {
    if (bound.has_value()) {
      list->Gauge("octet_guard_threshold", "Least agreement before the reference answers.", With(labels, "kind", kind),
                  *bound);
    }
  }
}

void AddPair(const MetricsSample::ComparedPair& pair, SampledFamilies* list) {
  const PairSummary& summary = pair.summary;
  const Labels labels = {{"model", summary.labels.model},
                         {"reference", summary.labels.reference},
                         {"variant", summary.labels.variant},
                         {"version", summary.labels.version}};
  const std::pair<const char*, int64_t> results[] = {
      {"compared", summary.compared}, {"dropped", summary.dropped}, {"failed", summary.failed}};
  for (const auto& [result, count] : results) {
    list->Counter("octet_comparisons_total", "Sampled requests by what became of their comparison.",
                  With(labels, "result", result), static_cast<double>(count));
  }
  list->Counter("octet_comparison_cpu_seconds_total", "CPU time that comparisons took.", labels,
                absl::ToDoubleSeconds(summary.cpu));
  list->Gauge("octet_comparison_queue_depth", "Sampled requests that wait for their replay.", labels,
              static_cast<double>(summary.waiting));
  list->Gauge("octet_reference_resident", "Whether the reference is in memory.", labels,
              pair.reference_resident ? 1 : 0);
  for (const auto& [name, output] : summary.outputs) AddAgreement(labels, name, output, list);
  for (const MetricsSample::ComparedPair::Recorded& output : pair.recorded) {
    const Labels recorded = With(With(labels, "output", output.output), "source", "recorded");
    if (output.top1_agreement.has_value()) {
      list->Gauge("octet_top1_agreement_ratio", "Share of rows whose largest class is the reference's.", recorded,
                  *output.top1_agreement);
    }
    list->Gauge("octet_sqnr_db", "10 log10(signal / noise) of the variant's output against the reference's.", recorded,
                output.sqnr_db);
    list->Gauge("octet_cosine_similarity", "Mean cosine over rows of the two outputs.", recorded, output.cosine);
  }
  const Labels live = With(labels, "source", "live");
  if (summary.latency_ratio.has_value()) {
    list->Gauge("octet_latency_ratio", "CPU time of the variant divided by the reference's, on one thread.", live,
                *summary.latency_ratio);
  }
  if (pair.memory_ratio.has_value()) {
    list->Gauge("octet_memory_ratio", "Resident weights of the variant divided by the reference's.", live,
                *pair.memory_ratio);
  }
  AddGuard(labels, summary.guard, list);
}

}  // namespace

std::vector<prometheus::MetricFamily> FamiliesOf(const MetricsSample& sample, const BuildLabels& build) {
  SampledFamilies list;
  for (const MetricsSample::Variant& variant : sample.variants) AddVariant(variant, &list);
  for (const MetricsSample::ComparedPair& pair : sample.pairs) AddPair(pair, &list);
  list.Gauge("octet_process_resident_bytes", "Resident size of the process.", {},
             static_cast<double>(sample.resident_bytes));
  list.Gauge("octet_baseline_bytes",
             "Resident size before the first model was loaded, and the program's own pages as they are now.", {},
             static_cast<double>(sample.baseline_bytes));
  list.Gauge("octet_memory_limit_bytes", "What the process may hold: the cgroup's limit, or the machine's memory.", {},
             static_cast<double>(sample.memory_limit_bytes));
  list.Gauge("octet_requests_in_flight_bytes", "Bytes of requests and replies in flight.", {},
             static_cast<double>(sample.requests_bytes));
  list.Gauge("octet_comparison_queued_bytes", "Bytes of requests and replies that wait for their replay.", {},
             static_cast<double>(sample.comparison_queued_bytes));
  list.Counter("octet_reference_evictions_total", "References that gave their memory up under pressure.", {},
               static_cast<double>(sample.reference_evictions));
  list.Gauge("octet_cpu_threads", "Threads that compute: slots times the threads of each.", {}, build.cpu_threads);
  list.Gauge("octet_slots", "Inferences that run at the same time.", {}, build.slots);
  list.Gauge("octet_build_info", "Always 1; the labels say what runs.",
             {{"isa", build.isa}, {"onednn", build.onednn}, {"version", build.version}}, 1);
  return list.Take();
}

}  // namespace octet::server
