// prometheus-cpp families and the sampled gauges beside them.
#include "server/metrics.h"

#include <sstream>
#include <utility>

#include "base/status.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"

namespace octet::server {
namespace {

using prometheus::Labels;

const prometheus::Histogram::BucketBoundaries kSeconds = {
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
    0.05,   0.1,     0.25,   0.5,   1,      2.5,   5,    10};
const prometheus::Histogram::BucketBoundaries kRows = {1, 2, 4, 8, 16, 32, 64, 128};

Labels LabelsOf(const VariantLabels& labels) {
  return {{"model", labels.model}, {"version", labels.version}, {"variant", labels.variant}};
}

prometheus::ClientMetric GaugeOf(const Labels& labels, double value) {
  prometheus::ClientMetric metric;
  for (const auto& [name, label] : labels) metric.label.push_back({name, label});
  metric.gauge.value = value;
  return metric;
}

// Collects gauges by family and keeps the order of the first mention.
class GaugeList {
 public:
  void Add(const std::string& name, const std::string& help, const Labels& labels, double value) {
    for (prometheus::MetricFamily& family : families_) {
      if (family.name == name) {
        family.metric.push_back(GaugeOf(labels, value));
        return;
      }
    }
    families_.push_back({name, help, prometheus::MetricType::Gauge, {GaugeOf(labels, value)}});
  }
  std::vector<prometheus::MetricFamily> Take() { return std::move(families_); }

 private:
  std::vector<prometheus::MetricFamily> families_;
};

void AddVariant(const MetricsSample::Variant& variant, GaugeList* list) {
  const Labels labels = LabelsOf(variant.labels);
  const std::pair<const char*, int64_t> kinds[] = {
      {"weights", variant.memory.weights},       {"activations", variant.memory.activations},
      {"scratchpad", variant.memory.scratchpad}, {"code", variant.memory.code},
      {"metadata", variant.memory.metadata},     {"file", variant.file_bytes}};
  for (const auto& [kind, bytes] : kinds) {
    Labels with_kind = labels;
    with_kind.emplace("kind", kind);
    list->Add("octet_memory_bytes",
              "Bytes of a variant by kind; `file` lies on disk, the others are resident.",
              with_kind, static_cast<double>(bytes));
  }
  list->Add("octet_weights_bytes", "Packed weights of a variant.", labels,
            static_cast<double>(variant.memory.weights));
  list->Add("octet_specialisations", "Input shapes that the variant is compiled for and kept.", labels,
            static_cast<double>(variant.cache.specialisations));
  list->Add("octet_specialisations_limit", "Most input shapes that are kept; the least recently used goes first.",
            labels, static_cast<double>(variant.cache.max_specialisations));
  list->Add("octet_specialisations_made", "Input shapes compiled since the load: grows with every new shape.",
            labels, static_cast<double>(variant.cache.made));
  list->Add("octet_activations_limit_bytes",
            "Most bytes of activations over all kept shapes; a shape that needs more alone is refused.", labels,
            static_cast<double>(variant.cache.max_bytes));
  list->Add("octet_load_seconds", "Time that loading the variant took.", labels,
            absl::ToDoubleSeconds(variant.load_time));
  list->Add("octet_queue_depth", "Requests that wait for a batch.", labels, variant.queue_depth);
}

template <typename Builder>
auto& Make(Builder builder, const char* name, const char* help, prometheus::Registry& registry) {
  return builder.Name(name).Help(help).Register(registry);
}

}  // namespace

struct Metrics::Families {
  prometheus::Registry registry;
  prometheus::Family<prometheus::Counter>& requests =
      Make(prometheus::BuildCounter(), "octet_requests_total",
           "ModelInfer requests by outcome: ok or the reason of the error.", registry);
  prometheus::Family<prometheus::Counter>& inferences = Make(
      prometheus::BuildCounter(), "octet_inferences_total", "Rows that were inferred.", registry);
  prometheus::Family<prometheus::Histogram>& request_seconds =
      Make(prometheus::BuildHistogram(), "octet_request_seconds",
           "From a request's arrival to its answer.", registry);
  prometheus::Family<prometheus::Histogram>& queue_seconds =
      Make(prometheus::BuildHistogram(), "octet_queue_seconds",
           "From arrival to the start of its batch.", registry);
  prometheus::Family<prometheus::Histogram>& compute_seconds =
      Make(prometheus::BuildHistogram(), "octet_compute_seconds", "Running one batch.", registry);
  prometheus::Family<prometheus::Histogram>& batch_size =
      Make(prometheus::BuildHistogram(), "octet_batch_size", "Rows of one batch, without padding.",
           registry);
};

class Metrics::Series final : public VariantMetrics {
 public:
  Series(std::shared_ptr<Families> families, const VariantLabels& labels)
      : families_(std::move(families)),
        labels_(LabelsOf(labels)),
        inferences_(families_->inferences.Add(labels_)),
        request_seconds_(families_->request_seconds.Add(labels_, kSeconds)),
        queue_seconds_(families_->queue_seconds.Add(labels_, kSeconds)),
        compute_seconds_(families_->compute_seconds.Add(labels_, kSeconds)),
        batch_size_(families_->batch_size.Add(labels_, kRows)) {
    Outcome("ok");
  }
  ~Series() override {
    absl::MutexLock lock(&mu_);
    for (auto& [outcome, counter] : outcomes_) families_->requests.Remove(counter);
    families_->inferences.Remove(&inferences_);
    families_->request_seconds.Remove(&request_seconds_);
    families_->queue_seconds.Remove(&queue_seconds_);
    families_->compute_seconds.Remove(&compute_seconds_);
    families_->batch_size.Remove(&batch_size_);
  }

  void Add(const BatchRecord& record) override {
    compute_seconds_.Observe(absl::ToDoubleSeconds(record.times.infer));
    batch_size_.Observe(static_cast<double>(record.rows));
    inferences_.Increment(static_cast<double>(record.rows));
  }
  void Add(const RequestRecord& record) override {
    Outcome(std::string(ReasonOf(record.status))).Increment();
    request_seconds_.Observe(absl::ToDoubleSeconds(record.total));
    queue_seconds_.Observe(absl::ToDoubleSeconds(record.queue));
  }

 private:
  prometheus::Counter& Outcome(const std::string& outcome) {
    absl::MutexLock lock(&mu_);
    prometheus::Counter*& counter = outcomes_[outcome];
    if (counter == nullptr) {
      Labels labels = labels_;
      labels.emplace("outcome", outcome);
      counter = &families_->requests.Add(labels);
    }
    return *counter;
  }

  const std::shared_ptr<Families> families_;
  const Labels labels_;
  prometheus::Counter& inferences_;
  prometheus::Histogram& request_seconds_;
  prometheus::Histogram& queue_seconds_;
  prometheus::Histogram& compute_seconds_;
  prometheus::Histogram& batch_size_;
  absl::Mutex mu_;
  std::map<std::string, prometheus::Counter*> outcomes_ ABSL_GUARDED_BY(mu_);
};

Metrics::Metrics(BuildLabels build)
    : build_(std::move(build)), families_(std::make_shared<Families>()) {}
Metrics::~Metrics() = default;

std::shared_ptr<VariantMetrics> Metrics::ForVariant(const VariantLabels& labels) {
  absl::MutexLock lock(&mu_);
  std::weak_ptr<VariantMetrics>& entry = series_[labels];
  std::shared_ptr<VariantMetrics> series = entry.lock();
  if (series == nullptr) {
    series = std::make_shared<Series>(families_, labels);
    entry = series;
  }
  return series;
}

void Metrics::CountRefused(const absl::Status& status) {
  families_->requests
      .Add({{"model", ""},
            {"version", ""},
            {"variant", ""},
            {"outcome", std::string(ReasonOf(status))}})
      .Increment();
}

void Metrics::SetSampler(std::function<MetricsSample()> sampler) {
  absl::MutexLock lock(&mu_);
  sampler_ = std::move(sampler);
}

std::string Metrics::Text() const {
  MetricsSample sample;
  {
    // Held while sampling, so that SetSampler(nullptr) waits for a scrape under way.
    absl::MutexLock lock(&mu_);
    if (sampler_) sample = sampler_();
  }
  GaugeList gauges;
  for (const MetricsSample::Variant& variant : sample.variants) AddVariant(variant, &gauges);
  gauges.Add("octet_process_resident_bytes", "Resident size of the process.", {},
             static_cast<double>(sample.resident_bytes));
  gauges.Add("octet_baseline_bytes",
             "Resident size before the first model was loaded, and the program's own pages as they "
             "are now.",
             {}, static_cast<double>(sample.baseline_bytes));
  gauges.Add("octet_requests_in_flight_bytes", "Bytes of requests and replies in flight.", {},
             static_cast<double>(sample.requests_bytes));
  gauges.Add("octet_cpu_threads", "Threads that compute: slots times the threads of each.", {},
             build_.cpu_threads);
  gauges.Add("octet_slots", "Inferences that run at the same time.", {}, build_.slots);
  gauges.Add("octet_build_info", "Always 1; the labels say what runs.",
             {{"version", build_.version}, {"isa", build_.isa}, {"onednn", build_.onednn}}, 1);
  std::vector<prometheus::MetricFamily> families = families_->registry.Collect();
  for (prometheus::MetricFamily& family : gauges.Take()) families.push_back(std::move(family));
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return out.str();
}

}  // namespace octet::server
