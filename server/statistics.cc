// Sums.
#include "server/statistics.h"

#include <algorithm>

namespace octet::server {

void StatisticsSnapshot::Add(const StatisticsSnapshot& other) {
  last_inference = std::max(last_inference, other.last_inference);
  inferences += other.inferences;
  executions += other.executions;
  success.Add(other.success);
  fail.Add(other.fail);
  queue.Add(other.queue);
  compute_input.Add(other.compute_input);
  compute_infer.Add(other.compute_infer);
  compute_output.Add(other.compute_output);
  for (const auto& [rows, counts] : other.batches) {
    BatchCounts& mine = batches[rows];
    mine.input.Add(counts.input);
    mine.infer.Add(counts.infer);
    mine.output.Add(counts.output);
  }
}

void VariantStatistics::Add(const BatchRecord& record, absl::Time now) {
  absl::MutexLock lock(&mu_);
  counts_.last_inference = now;
  counts_.inferences += static_cast<uint64_t>(record.rows);
  ++counts_.executions;
  BatchCounts& batch = counts_.batches[record.rows];
  batch.input.Add(record.times.input);
  batch.infer.Add(record.times.infer);
  batch.output.Add(record.times.output);
}

void VariantStatistics::Add(const RequestRecord& record, absl::Time now) {
  absl::MutexLock lock(&mu_);
  if (record.status.ok()) latency_.Add(record.total, now);
  (record.status.ok() ? counts_.success : counts_.fail).Add(record.total);
  if (!record.executed) return;
  counts_.queue.Add(record.queue);
  counts_.compute_input.Add(record.times.input);
  counts_.compute_infer.Add(record.times.infer);
  counts_.compute_output.Add(record.times.output);
}

LatencySummary VariantStatistics::Latency(absl::Time now) const {
  absl::MutexLock lock(&mu_);
  return latency_.Summary(now);
}

StatisticsSnapshot VariantStatistics::Get() const {
  absl::MutexLock lock(&mu_);
  return counts_;
}

}  // namespace octet::server
