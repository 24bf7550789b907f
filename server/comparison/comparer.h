// The comparison's thread: takes answered requests, runs them on the other variant of their pair, and records how the
// outputs agree.
//
// It costs requests nothing but spare time: SCHED_IDLE, a team of one thread, its own contexts. Before each step of a
// network it waits until a slot is free, so that it takes a free slot's place and never adds to what the slots compute; it
// drops what waits too long, and stays within its share of the CPUs. Contexts are made on the loader's threads, so that
// this one never holds the engine's locks while it waits for a CPU.
#ifndef OCTET_SERVER_COMPARISON_COMPARER_H_
#define OCTET_SERVER_COMPARISON_COMPARER_H_

#include <atomic>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "server/clock.h"
#include "server/comparison/replay_queue.h"
#include "server/loader.h"
#include "server/scheduler.h"

namespace octet::server {

struct ComparerOptions {
  ReplayLimits limits;
  ContextFactory make_context;  // required
  std::function<bool()> busy;   // no slot is free, or requests wait for one; takes no lock
  // SCHED_IDLE. Off where the thread must come forward on a machine that others keep full, as in tests.
  bool lowest_priority = true;
  // Brings the version's reference into memory, or lets it go, later and on another thread: VersionControl::target
  // tells.
  std::function<void(const VersionControl&)> load_reference, evict_reference;
  // Of a sampled reference: replays that are collected for one load, and how long they are collected at most.
  size_t sampled_count = 32;
  absl::Duration sampled_age = absl::Seconds(30);
};

// Thread-safe.
class Comparer {
 public:
  // `clock` and `loader` outlive it.
  Comparer(ComparerOptions options, Clock* clock, Loader* loader);
  ~Comparer();  // drops what waits

  // Keeps the replay (true) or counts it as dropped; never waits.
  bool Offer(Replay replay) { return queue_.Offer(std::move(replay)); }
  int64_t queued_bytes() const { return queue_.bytes() + parked_bytes_.load(std::memory_order_relaxed); }

  // Called by a slot when `busy` may have ended; takes no lock.
  void SlotFreed() {
    if (waits_for_slot_.exchange(false)) slot_freed_.release();
  }

  // Ends the thread; idempotent. Afterwards offers are dropped.
  void Stop();

 private:
  struct CachedContext {
    std::weak_ptr<VersionControl> control;
    std::string variant;
    const engine::Program* program;
    std::vector<Shape> shapes;
    std::unique_ptr<engine::Context> context;
    int64_t runs = 0;
  };
  struct Parked {
    std::shared_ptr<VersionControl> control;
    std::deque<Replay> replays;
    bool asked = false;  // for the reference
  };

  void Work();
  void Handle(Replay replay);
  void Park(Replay replay);
  void Unpark();
  bool AwaitFreeSlot(absl::Time until);
  absl::Status Run(Replay* replay, const std::string& variant, const ReplayTarget& target);
  absl::Status RunTimed(const Replay& replay, const std::string& variant, const ReplayTarget& target,
                        const BoundRequest& bound, CachedContext** used, absl::Duration* cpu);
  absl::StatusOr<CachedContext*> ContextFor(const Replay& replay, const std::string& variant,
                                            const ReplayTarget& target, const std::vector<Shape>& shapes);
  void DropStaleContexts();
  void KeepOrEvictSampledReferences();

  const ComparerOptions options_;
  Clock* const clock_;
  Loader* const loader_;
  ReplayQueue queue_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> waits_for_slot_{false};
  std::counting_semaphore<> slot_freed_{0};  // a futex: slots never wait for this thread
  std::atomic<int64_t> parked_bytes_{0};
  // Of the thread alone.
  std::list<CachedContext> contexts_;  // most recently used first
  std::map<const VersionControl*, Parked> parked_;
  std::map<const VersionControl*, std::weak_ptr<VersionControl>> sampled_;  // whose reference may be resident
  std::thread thread_;
};

}  // namespace octet::server

#endif  // OCTET_SERVER_COMPARISON_COMPARER_H_
