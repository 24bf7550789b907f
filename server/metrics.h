// Everything that /metrics says, in Prometheus conventions: base units, `_seconds`, `_bytes`,
// `_total`.
//
// Counters and histograms are kept per variant and vanish with it; gauges are sampled when asked.
#ifndef OCTET_SERVER_METRICS_H_
#define OCTET_SERVER_METRICS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/program.h"
#include "server/comparison/pair.h"
#include "server/observer.h"
#include "server/uncertainty_window.h"

namespace octet::server {

struct VariantLabels {
  std::string model;
  std::string version;
  std::string variant;
  bool operator<(const VariantLabels& o) const {
    return std::tie(model, version, variant) < std::tie(o.model, o.version, o.variant);
  }
};

// The series of one variant; they disappear with the last owner. Thread-safe.
class VariantMetrics {
 public:
  virtual ~VariantMetrics() = default;
  virtual void Add(const BatchRecord& record) = 0;
  virtual void Add(const RequestRecord& record) = 0;
};

// Gauges at the moment of a scrape.
struct MetricsSample {
  struct Variant {
    VariantLabels labels;
    engine::MemoryReport memory;
    engine::CacheReport cache;
    int64_t file_bytes = 0;
    absl::Duration load_time;
    int queue_depth = 0;
    bool primary = false;
    double traffic_weight = 0;
    std::optional<UncertaintySummary> uncertainty;  // absent when nothing was answered
  };
  struct ComparedPair {
    PairSummary summary;
    bool reference_resident = false;
    std::optional<double> memory_ratio;
    struct Recorded {
      std::string output;
      std::optional<double> top1_agreement;
      double sqnr_db = 0, cosine = 0;
    };
    std::vector<Recorded> recorded;
  };
  std::vector<Variant> variants;
  std::vector<ComparedPair> pairs;
  int64_t comparison_queued_bytes = 0;
  int64_t reference_evictions = 0;
  int64_t resident_bytes = 0;
  int64_t baseline_bytes = 0;
  int64_t memory_limit_bytes = 0;  // of the cgroup, or of the machine
  int64_t requests_bytes = 0;  // wire bytes, decoded contents and replies in flight
};

struct BuildLabels {
  std::string version;
  std::string isa;
  std::string onednn;
  int cpu_threads = 0;
  int slots = 0;
};

// Thread-safe.
class Metrics {
 public:
  explicit Metrics(BuildLabels build);
  ~Metrics();

  // Asking again while the series live gives the same ones: a reload goes on counting.
  std::shared_ptr<VariantMetrics> ForVariant(const VariantLabels& labels);

  // A request refused before it reached a variant: all labels but the outcome are empty, so clients
  // cannot make series.
  void CountRefused(const absl::Status& status);

  // Called at every scrape; null again before what it refers to goes away.
  void SetSampler(std::function<MetricsSample()> sampler);

  // The exposition, text format 0.0.4.
  std::string Text() const;

 private:
  struct Families;
  class Series;

  const BuildLabels build_;
  std::shared_ptr<Families> families_;
  mutable absl::Mutex mu_;
  std::map<VariantLabels, std::weak_ptr<VariantMetrics>> series_ ABSL_GUARDED_BY(mu_);
  std::function<MetricsSample()> sampler_ ABSL_GUARDED_BY(mu_);
};

}  // namespace octet::server

#endif  // OCTET_SERVER_METRICS_H_
