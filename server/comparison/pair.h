// The comparison of one variant with its reference: windows per output, counts, time ratio, and the guard's state.
#ifndef OCTET_SERVER_COMPARISON_PAIR_H_
#define OCTET_SERVER_COMPARISON_PAIR_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/comparison/guard.h"
#include "server/comparison/output_agreement.h"
#include "server/comparison/window.h"

namespace octet::server {

struct PairLabels {
  std::string model, version, variant, reference;
};

struct GuardStatus {
  GuardSettings settings;
  bool tripped = false;
  std::string reason;  // of the latest trip or recovery; empty: neither happened
  absl::Time since = absl::InfinitePast();
  int64_t trips = 0, recoveries = 0;
};

struct PairSummary {
  PairLabels labels;
  OutputSummaries outputs;
  int64_t compared = 0, dropped = 0, failed = 0;  // sampled requests since the load
  int64_t waiting = 0;                            // sampled requests that wait for their replay
  absl::Duration cpu;                             // that comparisons took
  std::optional<double> latency_ratio;            // CPU time of the variant / of the reference, latest timed pairs
  GuardStatus guard;
};

// Thread-safe. What requests ask (tripped) takes no lock: the thread that records runs at the lowest priority.
class Pair {
 public:
  Pair(PairLabels labels, WindowLimits window, GuardSettings guard) : labels_(std::move(labels)), window_(window) {
    guard_.settings = guard;
  }

  const PairLabels& labels() const { return labels_; }
  bool tripped() const { return tripped_.load(std::memory_order_acquire); }
  void CountDropped() { dropped_.fetch_add(1, std::memory_order_relaxed); }
  void AddWaiting(int64_t replays) { waiting_.fetch_add(replays, std::memory_order_relaxed); }
  void CountFailed() { failed_.fetch_add(1, std::memory_order_relaxed); }

  // One comparison, by output. Asks the guard; a trip or recovery resets the windows, so that the next decision rests
  // on what comes after, and is logged.
  void Record(const std::map<std::string, OutputAgreement>& outputs, absl::Duration cpu, absl::Time now);

  // Times of both variants on the same inputs and thread; asked for every kTimedEvery-th comparison.
  static constexpr int64_t kTimedEvery = 16;
  bool TimesDue() const;
  void RecordTimes(absl::Duration variant, absl::Duration reference);

  // Judges by other settings from now on; a pair that is tripped stays so.
  void SetGuard(const GuardSettings& settings);
  // Ends a fall-back by hand; windows start anew. False when it was not tripped.
  bool Recover(absl::Time now);
  void ResetWindows();

  PairSummary Summary(absl::Time now) const;

 private:
  OutputSummaries Outputs(absl::Time now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Apply(const GuardDecision& decision, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const PairLabels labels_;
  const WindowLimits window_;
  std::atomic<bool> tripped_{false};
  std::atomic<int64_t> dropped_{0}, failed_{0}, waiting_{0};
  mutable absl::Mutex mu_;
  std::map<std::string, AgreementWindow> outputs_ ABSL_GUARDED_BY(mu_);
  std::deque<std::pair<absl::Duration, absl::Duration>> times_ ABSL_GUARDED_BY(mu_);  // variant, reference
  int64_t compared_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Duration cpu_ ABSL_GUARDED_BY(mu_);
  GuardStatus guard_ ABSL_GUARDED_BY(mu_);
};

}  // namespace octet::server

#endif  // OCTET_SERVER_COMPARISON_PAIR_H_
