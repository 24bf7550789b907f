// The waiting requests of one variant and its specialised batch sizes: which batch runs next, as a
// pure decision.
//
// A batch takes the oldest request and those behind it with equal shapes (but for axis 0) while
// their rows fit. It runs in the bucket BucketFor(rows), or in a smaller one and the rest after it
// where the measured times say that padding costs more; while that one is being made, in a larger
// ready one, else in the largest smaller one that holds the oldest request.
#ifndef OCTET_SERVER_VARIANT_QUEUE_H_
#define OCTET_SERVER_VARIANT_QUEUE_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/program.h"
#include "server/observer.h"
#include "server/reply.h"
#include "server/signature.h"

namespace octet::server {

// A bound request and what to do with its answer. `done` is called exactly once, with no lock held.
struct Job {
  BoundRequest bound;
  absl::Time arrival;
  absl::Time deadline = absl::InfiniteFuture();
  absl::AnyInvocable<void(absl::StatusOr<Reply>) &&> done;
};

struct QueueSpec {
  std::string model_version;  // echoed in replies
  std::string variant;
  ModelSignature signature;
  std::shared_ptr<engine::Program> program;
  absl::Duration max_queue_delay =
      absl::ZeroDuration();  // how long a batch that is not full waits for company
  int max_queued = 1024;     // requests; more are refused
  // Arenas of the contexts that wait for work; past it the least recently used shapes give theirs up.
  int64_t max_context_bytes = int64_t{2} << 30;
  std::shared_ptr<ExecutionObserver> observer;  // never null
  absl::AnyInvocable<void()> on_first_context;  // called once, without locks; may be empty
};

// Thread-compatible: the scheduler guards it with its mutex, but for spec() and NoteContext().
class VariantQueue {
 public:
  // A specialised batch size. Its contexts are lent to slots, one each.
  struct Bucket {
    enum class State : uint8_t { kMaking, kReady, kFailed };
    std::vector<Shape> shapes;
    int64_t rows = 0;  // of axis 0; 1 when not batchable
    State state = State::kMaking;
    absl::Status error;   // kFailed
    absl::Time retry_at;  // kFailed: asked for after this, it is tried again
    std::vector<std::unique_ptr<engine::Context>> idle;
    int lent = 0;
    uint64_t last_used = 0;
    double run_seconds = 0;  // moving average of its runs; 0: none yet
  };
  using BucketPtr = std::shared_ptr<Bucket>;

  struct Plan {
    BucketPtr bucket;                        // null: nothing can run now
    std::vector<std::shared_ptr<Job>> jobs;  // taken out of the queue
    int64_t rows = 0;
    absl::Time wake = absl::InfiniteFuture();  // when a batch becomes ripe without further events
    std::vector<BucketPtr> wanted;             // entered as kMaking: the caller has them made
    std::vector<std::pair<std::shared_ptr<Job>, absl::Status>>
        failed;  // taken out: their bucket cannot be made
  };

  explicit VariantQueue(QueueSpec spec) : spec_(std::move(spec)) {}

  const QueueSpec& spec() const { return spec_; }

  // Calls on_first_context the first time; on the thread that made the context.
  void NoteContext() {
    if (!noted_.exchange(true) && spec_.on_first_context) spec_.on_first_context();
  }
  const std::deque<std::shared_ptr<Job>>& pending() const { return pending_; }
  void Push(std::shared_ptr<Job> job) { pending_.push_back(std::move(job)); }
  bool Remove(const Job* job);
  Plan PlanBatch(absl::Time now);

  // Takes out idle contexts, least recently used buckets first, until what is left fits max_context_bytes; contexts of
  // `keep` stay. The caller frees them without locks.
  std::vector<std::unique_ptr<engine::Context>> TakeExcess(const Bucket& keep);

  // Learns what a batch of this bucket costs.
  static void Learn(Bucket* bucket, absl::Duration run);

  // All buckets, taken out.
  std::map<std::vector<Shape>, BucketPtr> ReleaseBuckets() { return std::move(buckets_); }

  // The bucket of these shapes, entered as kMaking when there is none (then *created).
  BucketPtr FindOrCreate(const std::vector<Shape>& shapes, bool* created);

  bool closed = false;  // refuses new requests
  int running = 0;      // batches on slots
  int making = 0;       // buckets being made

 private:
  struct Batch {
    std::vector<size_t> indices;  // into pending_, ascending
    int64_t rows = 0;
    bool full = false;
    absl::Time ripe_at;
  };
  struct Choice {
    BucketPtr bucket;    // ready, or null
    absl::Status error;  // not OK: the oldest request's bucket cannot be made
  };

  Batch Collect(size_t head, int64_t max_rows, absl::Time now) const;
  Choice Choose(const Job& head, int64_t rows, absl::Time now, Plan* plan);
  BucketPtr Ready(const std::vector<Shape>& shapes, int64_t rows);
  BucketPtr SplitInstead(const Job& head, int64_t rows, const Bucket& padded);
  void Want(const std::vector<Shape>& shapes, int64_t rows, absl::Time now, Plan* plan);
  void Take(const Batch& batch, Plan* plan);
  void EvictIdle();

  QueueSpec spec_;
  std::atomic<bool> noted_{false};
  std::deque<std::shared_ptr<Job>> pending_;  // in order of arrival
  std::map<std::vector<Shape>, BucketPtr> buckets_;
  uint64_t uses_ = 0;
};

}  // namespace octet::server

#endif  // OCTET_SERVER_VARIANT_QUEUE_H_
