// One listener per loaded variant: feeds statistics and metrics.
#ifndef OCTET_SERVER_RECORDER_H_
#define OCTET_SERVER_RECORDER_H_

#include <memory>
#include <utility>

#include "server/clock.h"
#include "server/metrics.h"
#include "server/observer.h"
#include "server/statistics.h"

namespace octet::server {

// Thread-safe.
class VariantRecorder final : public ExecutionObserver {
 public:
  VariantRecorder(std::shared_ptr<VariantMetrics> metrics, Clock* clock)
      : metrics_(std::move(metrics)), clock_(clock) {}

  void OnBatch(const BatchRecord& record) override {
    statistics_.Add(record, clock_->Now());
    metrics_->Add(record);
  }
  void OnRequest(const RequestRecord& record) override {
    statistics_.Add(record, clock_->Now());
    metrics_->Add(record);
  }
  StatisticsSnapshot Statistics() const { return statistics_.Get(); }
  LatencySummary Latency() const { return statistics_.Latency(clock_->Now()); }

 private:
  VariantStatistics statistics_;
  std::shared_ptr<VariantMetrics> metrics_;
  Clock* clock_;
};

}  // namespace octet::server

#endif  // OCTET_SERVER_RECORDER_H_
