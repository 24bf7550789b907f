// Batch planning.
#include "server/variant_queue.h"

#include <algorithm>
#include <utility>

namespace octet::server {
namespace {
constexpr size_t kMaxHeads = 16;    // oldest requests considered in one plan
constexpr size_t kMaxBuckets = 32;  // of one variant; least recently used goes first
constexpr int kMaxMaking = 8;  // of one variant at once: ever-new shapes must not flood the loader
constexpr absl::Duration kRetryAfter = absl::Seconds(5);

int64_t ContextBytes(const engine::Context& context) {
  return context.specialisation().arena_bytes() + context.specialisation().scratch_bytes();
}

// Requests of these shapes with at least `rows` rows cannot run now.
struct Blocked {
  const std::vector<Shape>* shapes;
  int64_t rows;
};

bool IsBlocked(const std::vector<Blocked>& blocked, const Job& job) {
  return std::any_of(blocked.begin(), blocked.end(), [&](const Blocked& b) {
    return job.bound.rows >= b.rows && job.bound.shapes == *b.shapes;
  });
}
}  // namespace

bool VariantQueue::Remove(const Job* job) {
  auto it = std::find_if(pending_.begin(), pending_.end(),
                         [job](const auto& p) { return p.get() == job; });
  if (it == pending_.end()) return false;
  pending_.erase(it);
  return true;
}

VariantQueue::Batch VariantQueue::Collect(size_t head, int64_t max_rows, absl::Time now) const {
  const Job& first = *pending_[head];
  Batch batch;
  batch.ripe_at = first.arrival + spec_.max_queue_delay;
  for (size_t i = head; i < pending_.size(); ++i) {
    const Job& job = *pending_[i];
    if (job.deadline <= now || job.bound.shapes != first.bound.shapes) continue;
    if (batch.rows + job.bound.rows > max_rows || (i > head && !spec_.signature.batchable)) {
      batch.full = true;
      break;
    }
    batch.indices.push_back(i);
    batch.rows += job.bound.rows;
    // Waiting for company must not eat the time that the request has left.
    batch.ripe_at = std::min(batch.ripe_at, job.arrival + (job.deadline - job.arrival) / 2);
  }
  batch.full = batch.full || batch.rows == max_rows || !spec_.signature.batchable;
  return batch;
}

VariantQueue::BucketPtr VariantQueue::FindOrCreate(const std::vector<Shape>& shapes,
                                                   bool* created) {
  BucketPtr& bucket = buckets_[shapes];
  *created = bucket == nullptr;
  if (*created) {
    bucket = std::make_shared<Bucket>();
    bucket->shapes = shapes;
    bucket->rows = spec_.signature.batchable && !shapes.empty() ? shapes[0][0] : 1;
    bucket->last_used = ++uses_;
  }
  BucketPtr result = bucket;
  if (*created) EvictIdle();
  return result;
}

void VariantQueue::EvictIdle() {
  while (buckets_.size() > kMaxBuckets) {
    auto oldest = buckets_.end();
    for (auto it = buckets_.begin(); it != buckets_.end(); ++it) {
      if (it->second->state == Bucket::State::kMaking || it->second->lent > 0) continue;
      if (oldest == buckets_.end() || it->second->last_used < oldest->second->last_used)
        oldest = it;
    }
    if (oldest == buckets_.end()) return;
    buckets_.erase(oldest);
  }
}

std::vector<std::unique_ptr<engine::Context>> VariantQueue::TakeExcess(const Bucket& keep) {
  std::vector<BucketPtr> by_age;
  int64_t bytes = 0;
  for (const auto& [shapes, bucket] : buckets_) {
    for (const auto& context : bucket->idle) bytes += ContextBytes(*context);
    by_age.push_back(bucket);
  }
  std::sort(by_age.begin(), by_age.end(),
            [](const auto& a, const auto& b) { return a->last_used < b->last_used; });
  std::vector<std::unique_ptr<engine::Context>> excess;
  for (const BucketPtr& bucket : by_age) {
    if (bytes <= spec_.max_context_bytes) break;
    if (bucket.get() == &keep || bucket->idle.empty()) continue;
    for (auto& context : bucket->idle) {
      bytes -= ContextBytes(*context);
      excess.push_back(std::move(context));
    }
    bucket->idle.clear();
    // Without a context the shapes are made anew, on the loader, when they come back.
    if (bucket->lent == 0) buckets_.erase(bucket->shapes);
  }
  return excess;
}

VariantQueue::BucketPtr VariantQueue::Ready(const std::vector<Shape>& shapes, int64_t rows) {
  auto it = buckets_.find(ShapesOfBatch(shapes, spec_.signature.batchable, rows));
  return it != buckets_.end() && it->second->state == Bucket::State::kReady ? it->second : nullptr;
}

void VariantQueue::Want(const std::vector<Shape>& shapes, int64_t rows, absl::Time now,
                        Plan* plan) {
  const std::vector<Shape> key = ShapesOfBatch(shapes, spec_.signature.batchable, rows);
  auto it = buckets_.find(key);
  if (it != buckets_.end()) {
    if (it->second->state != Bucket::State::kFailed || now < it->second->retry_at) return;
    buckets_.erase(it);
  }
  if (making >= kMaxMaking) return;
  bool created = false;
  BucketPtr bucket = FindOrCreate(key, &created);
  bucket->retry_at = now + kRetryAfter;
  ++making;
  plan->wanted.push_back(std::move(bucket));
}

void VariantQueue::Learn(Bucket* bucket, absl::Duration run) {
  const double seconds = absl::ToDoubleSeconds(run);
  bucket->run_seconds =
      bucket->run_seconds == 0 ? seconds : 0.8 * bucket->run_seconds + 0.2 * seconds;
}

VariantQueue::BucketPtr VariantQueue::SplitInstead(const Job& head, int64_t rows,
                                                   const Bucket& padded) {
  if (rows == padded.rows || padded.run_seconds == 0) return nullptr;
  const int64_t max_batch = spec_.signature.max_batch;
  const int64_t first = BucketFor((padded.rows + 1) / 2, max_batch);
  if (first >= rows || head.bound.rows > first) return nullptr;
  BucketPtr one = Ready(head.bound.shapes, first);
  BucketPtr rest = Ready(head.bound.shapes, BucketFor(rows - first, max_batch));
  if (one == nullptr || rest == nullptr || one->run_seconds == 0 || rest->run_seconds == 0)
    return nullptr;
  return one->run_seconds + rest->run_seconds < padded.run_seconds ? one : nullptr;
}

VariantQueue::Choice VariantQueue::Choose(const Job& head, int64_t rows, absl::Time now,
                                          Plan* plan) {
  const int64_t max_batch = spec_.signature.max_batch;
  const std::vector<Shape>& shapes = head.bound.shapes;
  const int64_t want = BucketFor(rows, max_batch);
  if (BucketPtr bucket = Ready(shapes, want)) {
    BucketPtr smaller = SplitInstead(head, rows, *bucket);
    return {smaller != nullptr ? smaller : bucket, absl::OkStatus()};
  }
  Want(shapes, want, now, plan);
  for (int64_t b = want; b < max_batch;) {
    b = BucketFor(b + 1, max_batch);
    if (BucketPtr bucket = Ready(shapes, b)) return {bucket, absl::OkStatus()};
  }
  const int64_t own = BucketFor(head.bound.rows, max_batch);
  for (int64_t b = BucketFor((want + 1) / 2, max_batch); b >= own && b < want; b /= 2) {
    if (BucketPtr bucket = Ready(shapes, b)) return {bucket, absl::OkStatus()};
  }
  if (own != want) Want(shapes, own, now, plan);
  auto it = buckets_.find(ShapesOfBatch(shapes, spec_.signature.batchable, own));
  if (it != buckets_.end() && it->second->state == Bucket::State::kFailed)
    return {nullptr, it->second->error};
  return {};
}

void VariantQueue::Take(const Batch& batch, Plan* plan) {
  plan->rows = batch.rows;
  for (size_t index : batch.indices) plan->jobs.push_back(pending_[index]);
  for (auto it = batch.indices.rbegin(); it != batch.indices.rend(); ++it) {
    pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(*it));
  }
}

VariantQueue::Plan VariantQueue::PlanBatch(absl::Time now) {
  Plan plan;
  std::vector<Blocked> blocked;
  for (size_t i = 0; i < pending_.size() && blocked.size() < kMaxHeads;) {
    const std::shared_ptr<Job> head = pending_[i];
    if (head->deadline <= now || IsBlocked(blocked, *head)) {
      ++i;
      continue;
    }
    Batch batch = Collect(i, spec_.signature.max_batch, now);
    if (!batch.full && batch.ripe_at > now) {
      plan.wake = std::min(plan.wake, batch.ripe_at);
      blocked.push_back({&head->bound.shapes, 0});
      continue;
    }
    Choice choice = Choose(*head, batch.rows, now, &plan);
    if (!choice.error.ok()) {
      pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(i));
      plan.failed.emplace_back(head, choice.error);
      continue;
    }
    if (choice.bucket == nullptr) {
      blocked.push_back({&head->bound.shapes, head->bound.rows});
      continue;
    }
    if (spec_.signature.batchable && choice.bucket->rows < batch.rows)
      batch = Collect(i, choice.bucket->rows, now);
    choice.bucket->last_used = ++uses_;
    plan.bucket = choice.bucket;
    Take(batch, &plan);
    return plan;
  }
  return plan;
}

}  // namespace octet::server
