// The counters and histograms that prometheus-cpp keeps.
#include "server/metrics.h"

#include <sstream>
#include <utility>

#include "base/status.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"
#include "server/metrics_sampled.h"

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
  std::vector<prometheus::MetricFamily> families = families_->registry.Collect();
  for (prometheus::MetricFamily& family : FamiliesOf(sample, build_)) families.push_back(std::move(family));
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return out.str();
}

}  // namespace octet::server
