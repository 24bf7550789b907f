// Threads around the queues: slots, the timer, and the hand-over to the loader.
#include "server/scheduler.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/parallel_for.h"
#include "base/status.h"
#include "server/batch.h"

namespace octet::server {
namespace {

absl::Status Draining() {
  return WithReason(
      absl::UnavailableError(
          "the model is being unloaded or the server is shutting down; retry elsewhere"),
      "draining");
}

// Frees what `done` captured as well: it may own the job.
void Answer(Job* job, absl::StatusOr<Reply> reply) {
  auto done = std::move(job->done);
  std::move(done)(std::move(reply));
}

absl::Status Expired(const Job& job) {
  return WithReason(absl::DeadlineExceededError(absl::StrCat(
                        "the request waited in the queue until its deadline, ",
                        absl::FormatDuration(job.deadline - job.arrival), " after it arrived")),
                    "deadline");
}

}  // namespace

Scheduler::Scheduler(SchedulerOptions options, Clock* clock, Loader* loader)
    : options_(std::move(options)), clock_(clock), loader_(loader) {
  for (int i = 0; i < options_.slots; ++i) threads_.emplace_back([this] { RunSlot(); });
  threads_.emplace_back([this] { RunTimer(); });
}

Scheduler::~Scheduler() { Stop(absl::InfinitePast()); }

std::shared_ptr<VariantQueue> Scheduler::Open(QueueSpec spec) {
  auto queue = std::make_shared<VariantQueue>(std::move(spec));
  absl::MutexLock lock(&mu_);
  queue->closed = draining_;
  queues_.push_back(queue);
  return queue;
}

absl::Status Scheduler::Prepare(VariantQueue* queue, int64_t rows) {
  std::vector<Shape> shapes;
  for (const engine::Signature& input : queue->spec().signature.inputs)
    shapes.push_back(input.shape);
  shapes = ShapesOfBatch(shapes, queue->spec().signature.batchable, rows);
  auto context = options_.make_context(*queue->spec().program, shapes, options_.threads_per_slot);
  if (!context.ok()) return context.status();
  queue->NoteContext();
  absl::MutexLock lock(&mu_);
  bool created = false;
  VariantQueue::BucketPtr bucket = queue->FindOrCreate(shapes, &created);
  bucket->state = VariantQueue::Bucket::State::kReady;
  bucket->idle.push_back(*std::move(context));
  work_.SignalAll();
  return absl::OkStatus();
}

void Scheduler::Submit(const std::shared_ptr<VariantQueue>& queue, std::shared_ptr<Job> job) {
  absl::Status refused;
  {
    absl::MutexLock lock(&mu_);
    const int max_queued = queue->spec().max_queued;
    if (queue->closed || draining_) {
      refused = Draining();
    } else if (job->deadline <= clock_->Now()) {
      refused = Expired(*job);
    } else if (static_cast<int>(queue->pending().size()) >= max_queued) {
      refused = WithReason(
          absl::ResourceExhaustedError(absl::StrCat(max_queued, " requests wait for variant '",
                                                    queue->spec().variant, "'; retry later")),
          "queue_full");
    } else {
      if (job->deadline < absl::InfiniteFuture()) {
        const bool first = deadlines_.empty() || job->deadline < deadlines_.begin()->first;
        deadlines_.emplace(job->deadline, job.get());
        if (first) timer_.Signal();
      }
      queue->Push(std::move(job));
      waiting_.fetch_add(1);
      work_.SignalAll();
      return;
    }
  }
  Finish({{queue, std::move(job), std::move(refused)}});
}

void Scheduler::Cancel(const std::shared_ptr<VariantQueue>& queue, const Job* job) {
  std::shared_ptr<Job> found;
  {
    absl::MutexLock lock(&mu_);
    for (const auto& pending : queue->pending()) {
      if (pending.get() == job) found = pending;
    }
    if (found == nullptr) return;
    queue->Remove(job);
    Forget(job);
    idle_.SignalAll();
  }
  // A transport also cancels what is past its deadline, sometimes before the timer here.
  absl::Status status =
      found->deadline <= clock_->Now()
          ? Expired(*found)
          : absl::CancelledError("the client cancelled the request while it waited");
  Finish({{queue, std::move(found), std::move(status)}});
}

void Scheduler::Close(const std::shared_ptr<VariantQueue>& queue) {
  std::map<std::vector<Shape>, VariantQueue::BucketPtr> buckets;  // freed after the lock
  absl::MutexLock lock(&mu_);
  queue->closed = true;
  while (!Idle(*queue) && !stopped_) idle_.Wait(&mu_);
  queues_.erase(std::remove(queues_.begin(), queues_.end(), queue), queues_.end());
  buckets = queue->ReleaseBuckets();
}

void Scheduler::Stop(absl::Time deadline) {
  std::vector<Finished> unanswered;
  {
    absl::MutexLock lock(&mu_);
    if (stopped_) return;
    draining_ = true;
    for (const auto& queue : queues_) queue->closed = true;
    const auto all_idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return std::all_of(queues_.begin(), queues_.end(),
                         [this](const auto& q)
                             ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return Idle(*q); });
    };
    while (!all_idle() && clock_->Now() < deadline) clock_->WaitUntil(&idle_, &mu_, deadline);
    for (const auto& queue : queues_) {
      while (!queue->pending().empty()) {
        std::shared_ptr<Job> job = queue->pending().front();
        queue->Remove(job.get());
        Forget(job.get());
        unanswered.push_back({queue, std::move(job), Draining()});
      }
    }
    // What runs or is being made refers to this object: it is waited for, whatever the deadline.
    while (!all_idle()) idle_.Wait(&mu_);
    stopping_ = true;
    work_.SignalAll();
    timer_.SignalAll();
  }
  Finish(std::move(unanswered));
  for (std::thread& thread : threads_) thread.join();
  absl::MutexLock lock(&mu_);
  stopped_ = true;
  idle_.SignalAll();
}

int Scheduler::QueueDepth(const VariantQueue& queue) const {
  absl::MutexLock lock(&mu_);
  return static_cast<int>(queue.pending().size());
}

bool Scheduler::Idle(const VariantQueue& queue) const {
  return queue.pending().empty() && queue.running == 0 && queue.making == 0;
}

void Scheduler::Forget(const Job* job) {
  waiting_.fetch_sub(1);
  if (job->deadline < absl::InfiniteFuture()) deadlines_.erase({job->deadline, job});
}

void Scheduler::Finish(std::vector<Finished> finished) {
  const absl::Time now = clock_->Now();
  for (Finished& f : finished) {
    RequestRecord record;
    record.status = f.status;
    record.rows = f.job->bound.rows;
    record.total = record.queue = now - f.job->arrival;
    f.queue->spec().observer->OnRequest(record);
    Answer(f.job.get(), std::move(f.status));
  }
}

void Scheduler::RunTimer() {
  absl::MutexLock lock(&mu_);
  while (!stopping_) {
    const absl::Time now = clock_->Now();
    std::vector<Finished> expired;
    while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
      const Job* job = deadlines_.begin()->second;
      deadlines_.erase(deadlines_.begin());
      for (const auto& queue : queues_) {
        auto it = std::find_if(queue->pending().begin(), queue->pending().end(),
                               [job](const auto& p) { return p.get() == job; });
        if (it == queue->pending().end()) continue;
        std::shared_ptr<Job> owned = *it;
        queue->Remove(job);
        waiting_.fetch_sub(1);
        absl::Status status = Expired(*owned);
        expired.push_back({queue, std::move(owned), std::move(status)});
        break;
      }
    }
    if (!expired.empty()) {
      idle_.SignalAll();
      mu_.Unlock();
      Finish(std::move(expired));
      mu_.Lock();
      continue;
    }
    clock_->WaitUntil(&timer_, &mu_,
                      deadlines_.empty() ? absl::InfiniteFuture() : deadlines_.begin()->first);
  }
}

bool Scheduler::NextWork(Work* work, std::vector<Finished>* failed, absl::Time* wake) {
  std::vector<std::shared_ptr<VariantQueue>> waiting;
  for (const auto& queue : queues_) {
    if (!queue->pending().empty()) waiting.push_back(queue);
  }
  std::sort(waiting.begin(), waiting.end(), [](const auto& a, const auto& b) {
    return a->pending().front()->arrival < b->pending().front()->arrival;
  });
  *wake = absl::InfiniteFuture();
  for (const auto& queue : waiting) {
    VariantQueue::Plan plan = queue->PlanBatch(clock_->Now());
    for (const VariantQueue::BucketPtr& bucket : plan.wanted) MakeLater(queue, bucket);
    for (auto& [job, status] : plan.failed) {
      Forget(job.get());
      failed->push_back({queue, std::move(job), std::move(status)});
    }
    *wake = std::min(*wake, plan.wake);
    if (plan.bucket == nullptr) continue;
    running_.fetch_add(1);  // before the requests stop waiting: busy() sees one or the other
    for (const auto& job : plan.jobs) Forget(job.get());
    ++queue->running;
    ++plan.bucket->lent;
    *work = {queue, std::move(plan)};
    return true;
  }
  return false;
}

void Scheduler::MakeLater(const std::shared_ptr<VariantQueue>& queue,
                          const VariantQueue::BucketPtr& bucket) {
  const bool scheduled = loader_->Schedule([this, queue, bucket] {
    auto context =
        options_.make_context(*queue->spec().program, bucket->shapes, options_.threads_per_slot);
    if (context.ok()) queue->NoteContext();
    std::vector<std::unique_ptr<engine::Context>> excess;  // freed after the lock
    absl::MutexLock lock(&mu_);
    Made(queue, bucket, std::move(context));
    excess = queue->TakeExcess(*bucket);
  });
  if (!scheduled)
    Made(queue, bucket,
         absl::ResourceExhaustedError("too many new input shapes at once; retry later"));
}

void Scheduler::Made(const std::shared_ptr<VariantQueue>& queue,
                     const VariantQueue::BucketPtr& bucket,
                     absl::StatusOr<std::unique_ptr<engine::Context>> context) {
  --queue->making;
  if (context.ok()) {
    bucket->state = VariantQueue::Bucket::State::kReady;
    bucket->idle.push_back(*std::move(context));
  } else {
    bucket->state = VariantQueue::Bucket::State::kFailed;
    bucket->error = Annotate(context.status(), "preparing the model for this input shape");
  }
  work_.SignalAll();
  idle_.SignalAll();
}

void Scheduler::RunSlot() {
  SetTeamSize(options_.threads_per_slot);
  mu_.Lock();
  while (!stopping_) {
    Work work;
    std::vector<Finished> failed;
    absl::Time wake;
    const bool found = NextWork(&work, &failed, &wake);
    if (!found && failed.empty()) {
      clock_->WaitUntil(&work_, &mu_, wake);
      continue;
    }
    idle_.SignalAll();
    mu_.Unlock();
    Finish(std::move(failed));
    if (found) {
      Execute(std::move(work));
      running_.fetch_sub(1);
      if (waiting_.load() == 0) options_.slot_freed();
    }
    mu_.Lock();
  }
  mu_.Unlock();
}

absl::Status Scheduler::RunBatch(const Work& work, engine::Context* context,
                                 std::vector<absl::StatusOr<Reply>>* replies, ComputeTimes* times) {
  const QueueSpec& spec = work.queue->spec();
  std::vector<const BoundRequest*> requests;
  for (const auto& job : work.plan.jobs) requests.push_back(&job->bound);
  const absl::Time begin = clock_->Now();
  OCTET_RETURN_IF_ERROR(AssembleBatch(spec.signature, requests, context));
  const absl::Time assembled = clock_->Now();
  OCTET_RETURN_IF_ERROR(context->Run());
  const absl::Time ran = clock_->Now();
  int64_t row = 0;
  for (const BoundRequest* request : requests) {
    replies->push_back(
        ScatterReply(spec.signature, *request, row, spec.model_version, spec.variant, *context));
    row += request->rows;
  }
  if (spec.signature.extra_outputs > 0) ReportUncertainty(spec.signature, row, *context, spec.observer.get());
  *times = {assembled - begin, ran - assembled, clock_->Now() - ran};
  return absl::OkStatus();
}

void Scheduler::Execute(Work work) {
  VariantQueue& queue = *work.queue;
  VariantQueue::Bucket& bucket = *work.plan.bucket;
  const absl::Time start = clock_->Now();
  absl::StatusOr<std::unique_ptr<engine::Context>> context = nullptr;
  {
    absl::MutexLock lock(&mu_);
    if (!bucket.idle.empty()) {
      context = std::move(bucket.idle.back());
      bucket.idle.pop_back();
    }
  }
  // Another slot has the only context: this one binds its own to the cached specialisation.
  if (*context == nullptr) {
    context =
        options_.make_context(*queue.spec().program, bucket.shapes, options_.threads_per_slot);
  }
  std::vector<absl::StatusOr<Reply>> replies;
  ComputeTimes times;
  const absl::Status status =
      context.ok() ? RunBatch(work, context->get(), &replies, &times) : context.status();
  {
    // The context is free once scattered; done callbacks come after.
    absl::MutexLock lock(&mu_);
    --bucket.lent;
    if (status.ok()) VariantQueue::Learn(&bucket, times.infer);
    if (context.ok()) bucket.idle.push_back(*std::move(context));
  }
  if (status.ok()) queue.spec().observer->OnBatch({work.plan.rows, bucket.rows, times});
  const absl::Time end = clock_->Now();
  for (size_t i = 0; i < work.plan.jobs.size(); ++i) {
    Job& job = *work.plan.jobs[i];
    absl::StatusOr<Reply> reply =
        status.ok() ? std::move(replies[i]) : absl::StatusOr<Reply>(status);
    queue.spec().observer->OnRequest({reply.status(), job.bound.rows, end - job.arrival,
                                      start - job.arrival, status.ok(), times});
    Answer(&job, std::move(reply));
  }
  work.plan.jobs.clear();
  absl::MutexLock lock(&mu_);
  --queue.running;
  idle_.SignalAll();
}

}  // namespace octet::server
