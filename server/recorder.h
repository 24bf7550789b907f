// One listener per loaded variant: feeds statistics and metrics.
#ifndef OCTET_SERVER_RECORDER_H_
#define OCTET_SERVER_RECORDER_H_

#include <memory>
#include <utility>

#include "server/clock.h"
#include "server/metrics.h"
#include "server/observer.h"
#include "server/statistics.h"
#include "server/uncertainty_window.h"

namespace octet::server {

// Thread-safe.
class VariantRecorder final : public ExecutionObserver {
 public:
  // `uncertainty` is null but for ensembles.
  VariantRecorder(std::shared_ptr<VariantMetrics> metrics, Clock* clock, std::shared_ptr<UncertaintyWindow> uncertainty = nullptr)
      : metrics_(std::move(metrics)), clock_(clock), uncertainty_(std::move(uncertainty)) {}

  void OnBatch(const BatchRecord& record) override {
    statistics_.Add(record, clock_->Now());
    metrics_->Add(record);
  }
  void OnRequest(const RequestRecord& record) override {
    statistics_.Add(record, clock_->Now());
    metrics_->Add(record);
  }
  void OnUncertainty(absl::Span<const float> entropy, absl::Span<const float> information) override {
    if (uncertainty_ == nullptr) return;
    const absl::Time now = clock_->Now();
    for (size_t i = 0; i < entropy.size(); ++i) uncertainty_->Add(entropy[i], information[i], now);
  }
  StatisticsSnapshot Statistics() const { return statistics_.Get(); }
  LatencySummary Latency() const { return statistics_.Latency(clock_->Now()); }

 private:
  VariantStatistics statistics_;
  std::shared_ptr<VariantMetrics> metrics_;
  Clock* clock_;
  std::shared_ptr<UncertaintyWindow> uncertainty_;
};

}  // namespace octet::server

#endif  // OCTET_SERVER_RECORDER_H_
