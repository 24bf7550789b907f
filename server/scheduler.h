// Execution slots and the queues they serve: admission, batching, deadlines, cancellation,
// draining.
//
// A slot is a thread with its OpenMP team; it takes the variant whose oldest request has waited
// longest. Batch sizes are specialised on the loader's threads, never on a slot; requests wait for
// them within their deadline.
#ifndef OCTET_SERVER_SCHEDULER_H_
#define OCTET_SERVER_SCHEDULER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "engine/program.h"
#include "server/clock.h"
#include "server/loader.h"
#include "server/variant_queue.h"

namespace octet::server {

// Makes a context for concrete input shapes; called without locks. (A function, so that tests need
// no engine.)
using ContextFactory = std::function<absl::StatusOr<std::unique_ptr<engine::Context>>(
    engine::Program& program, absl::Span<const Shape> input_shapes, int threads)>;

struct SchedulerOptions {
  int slots = 1;
  int threads_per_slot = 1;
  ContextFactory make_context;  // required
  std::function<void()> slot_freed = [] {};  // a slot has ended a batch and nothing waits; called without locks
};

// Thread-safe.
class Scheduler {
 public:
  // `clock` and `loader` outlive the scheduler.
  Scheduler(SchedulerOptions options, Clock* clock, Loader* loader);
  ~Scheduler();  // Stop() at once

  std::shared_ptr<VariantQueue> Open(QueueSpec spec);

  // Makes the batch size of `rows` rows on the calling thread, so that the first request need not
  // wait for it. Every dimension but axis 0 of a batchable model must be known. Errors: those of
  // the factory.
  absl::Status Prepare(VariantQueue* queue, int64_t rows);

  // Calls job->done later, or at once with kResourceExhausted (queue_full), kUnavailable (draining)
  // or kDeadlineExceeded.
  void Submit(const std::shared_ptr<VariantQueue>& queue, std::shared_ptr<Job> job);

  // Answers kCancelled when the job still waits; one that runs is finished and answered as usual.
  void Cancel(const std::shared_ptr<VariantQueue>& queue, const Job* job);

  // Refuses new requests, answers those that wait, frees the queue's contexts.
  void Close(const std::shared_ptr<VariantQueue>& queue);

  // Refuses new requests everywhere, answers those that wait until `deadline`, fails the rest, ends
  // all threads.
  void Stop(absl::Time deadline);

  int QueueDepth(const VariantQueue& queue) const;
  // Every slot runs a batch, or requests wait; takes no lock.
  bool busy() const { return waiting_.load() > 0 || running_.load() >= options_.slots; }
  int slots() const { return options_.slots; }
  int threads_per_slot() const { return options_.threads_per_slot; }

 private:
  struct Finished {
    std::shared_ptr<VariantQueue> queue;
    std::shared_ptr<Job> job;
    absl::Status status;
  };
  struct Work {
    std::shared_ptr<VariantQueue> queue;
    VariantQueue::Plan plan;
  };

  void RunSlot();
  void RunTimer();
  bool NextWork(Work* work, std::vector<Finished>* failed, absl::Time* wake)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void MakeLater(const std::shared_ptr<VariantQueue>& queue, const VariantQueue::BucketPtr& bucket)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Made(const std::shared_ptr<VariantQueue>& queue, const VariantQueue::BucketPtr& bucket,
            absl::StatusOr<std::unique_ptr<engine::Context>> context)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Execute(Work work);
  absl::Status RunBatch(const Work& work, engine::Context* context,
                        std::vector<absl::StatusOr<Reply>>* replies, ComputeTimes* times);
  void Forget(const Job* job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Finish(std::vector<Finished> finished);
  bool Idle(const VariantQueue& queue) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const SchedulerOptions options_;
  Clock* const clock_;
  Loader* const loader_;

  mutable absl::Mutex mu_;
  absl::CondVar work_;   // slots: something to plan
  absl::CondVar timer_;  // timer: an earlier deadline
  absl::CondVar idle_;   // Close and Stop: something finished
  std::vector<std::shared_ptr<VariantQueue>> queues_ ABSL_GUARDED_BY(mu_);
  // Deadlines of waiting jobs; infinite ones are not entered.
  std::set<std::pair<absl::Time, const Job*>> deadlines_ ABSL_GUARDED_BY(mu_);
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  std::atomic<int> waiting_{0};  // requests, over all queues
  std::atomic<int> running_{0};  // slots that run a batch
  std::vector<std::thread> threads_;
};

}  // namespace octet::server

#endif  // OCTET_SERVER_SCHEDULER_H_
