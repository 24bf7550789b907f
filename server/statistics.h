// Counts of one variant since it was loaded, as ModelStatistics reports them.
#ifndef OCTET_SERVER_STATISTICS_H_
#define OCTET_SERVER_STATISTICS_H_

#include <cstdint>
#include <map>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/latency_window.h"
#include "server/observer.h"

namespace octet::server {

struct DurationCount {
  uint64_t count = 0;
  absl::Duration total;

  void Add(absl::Duration duration, uint64_t times = 1) {
    count += times;
    total += duration;
  }
  void Add(const DurationCount& other) { Add(other.total, other.count); }
};

struct BatchCounts {
  DurationCount input, infer, output;
};

struct StatisticsSnapshot {
  absl::Time last_inference = absl::UnixEpoch();
  uint64_t inferences = 0;                                                           // rows
  uint64_t executions = 0;                                                           // batches
  DurationCount success, fail, queue, compute_input, compute_infer, compute_output;  // per request
  std::map<int64_t, BatchCounts> batches;  // by rows of the batch

  void Add(const StatisticsSnapshot& other);
};

// Thread-safe.
class VariantStatistics {
 public:
  void Add(const BatchRecord& record, absl::Time now);
  void Add(const RequestRecord& record, absl::Time now);
  StatisticsSnapshot Get() const;
  LatencySummary Latency(absl::Time now) const;  // of answered requests

 private:
  mutable absl::Mutex mu_;
  StatisticsSnapshot counts_ ABSL_GUARDED_BY(mu_);
  LatencyWindow latency_ ABSL_GUARDED_BY(mu_);
};

}  // namespace octet::server

#endif  // OCTET_SERVER_STATISTICS_H_
