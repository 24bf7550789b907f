// Answered requests that wait for their comparison: bounded in number and bytes, never in the way of a request.
#ifndef OCTET_SERVER_COMPARISON_REPLAY_QUEUE_H_
#define OCTET_SERVER_COMPARISON_REPLAY_QUEUE_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/clock.h"
#include "server/comparison/version_control.h"
#include "server/request.h"
#include "server/signature.h"

namespace octet::server {

// One answered request with what was answered; move-only. No byte is copied: request and reply are kept alive.
struct Replay {
  std::shared_ptr<VersionControl> control;
  std::shared_ptr<Pair> pair;
  bool by_reference = false;                          // the reference answered: the variant is what runs again
  std::shared_ptr<const ModelSignature> answered_as;  // of the variant that answered
  BoundRequest bound;                                 // bound to that signature
  std::vector<ByteSpan> outputs;                      // per entry of bound.outputs: raw, row-major
  std::shared_ptr<const void> reply;                  // keeps them alive
  int64_t bytes = 0;                                  // of request and reply
  absl::Time answered_at;
};

struct ReplayLimits {
  size_t max_count = 64;
  int64_t max_bytes = 64 << 20;
  absl::Duration max_age = absl::Seconds(2);  // one that still waits then, because the server is busy, is dropped
};

// Counts what waits at its pair, from Offer to Take. Thread-safe.
class ReplayQueue {
 public:
  explicit ReplayQueue(ReplayLimits limits) : limits_(limits) {}

  // Keeps it (true), or counts it as dropped by its pair: when full, when larger than the bound, when stopped, and when
  // the queue is in use at this moment (whoever uses it may have been preempted).
  bool Offer(Replay replay);

  // The oldest. Waits until there is one, Stop, or `until`.
  std::optional<Replay> Take(Clock* clock, absl::Time until);

  // Drops what waits and refuses what comes.
  void Stop();

  int64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }
  int64_t count() const { return count_.load(std::memory_order_relaxed); }
  const ReplayLimits& limits() const { return limits_; }

 private:
  bool TryLock() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true, mu_);

  const ReplayLimits limits_;
  absl::Mutex mu_;
  absl::CondVar changed_;
  std::deque<Replay> waiting_ ABSL_GUARDED_BY(mu_);
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  std::atomic<int64_t> bytes_{0}, count_{0};
};

}  // namespace octet::server

#endif  // OCTET_SERVER_COMPARISON_REPLAY_QUEUE_H_
