// A deque behind a lock that requests only try.
#include "server/comparison/replay_queue.h"

#include <utility>

namespace octet::server {

bool ReplayQueue::Offer(Replay replay) {
  const std::shared_ptr<Pair> pair = replay.pair;
  if (count() < static_cast<int64_t>(limits_.max_count) && bytes() + replay.bytes <= limits_.max_bytes && TryLock()) {
    const bool keep = !stopped_;
    if (keep) {
      bytes_.fetch_add(replay.bytes, std::memory_order_relaxed);
      count_.fetch_add(1, std::memory_order_relaxed);
      pair->AddWaiting(1);
      waiting_.push_back(std::move(replay));
      changed_.Signal();
    }
    mu_.Unlock();
    if (keep) return true;
  }
  pair->CountDropped();
  return false;
}

// Whoever holds the lock holds it for a few hundred nanoseconds, unless it was preempted.
bool ReplayQueue::TryLock() {
  for (int i = 0; i < 64; ++i) {
    if (mu_.TryLock()) return true;
  }
  return false;
}

std::optional<Replay> ReplayQueue::Take(Clock* clock, absl::Time until) {
  absl::MutexLock lock(&mu_);
  while (waiting_.empty() && !stopped_ && clock->Now() < until) clock->WaitUntil(&changed_, &mu_, until);
  if (waiting_.empty()) return std::nullopt;
  Replay replay = std::move(waiting_.front());
  waiting_.pop_front();
  bytes_.fetch_sub(replay.bytes, std::memory_order_relaxed);
  count_.fetch_sub(1, std::memory_order_relaxed);
  replay.pair->AddWaiting(-1);
  return replay;
}

void ReplayQueue::Stop() {
  std::deque<Replay> dropped;
  absl::MutexLock lock(&mu_);
  stopped_ = true;
  dropped.swap(waiting_);
  for (const Replay& replay : dropped) {
    replay.pair->AddWaiting(-1);
    replay.pair->CountDropped();
  }
  bytes_ = 0;
  count_ = 0;
  changed_.SignalAll();
}

}  // namespace octet::server
