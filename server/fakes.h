// Test doubles: a clock that tests move, a program whose contexts double their input and can be
// held.
#ifndef OCTET_SERVER_FAKES_H_
#define OCTET_SERVER_FAKES_H_

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/program.h"
#include "server/clock.h"
#include "server/scheduler.h"

namespace octet::server {

class FakeClock final : public Clock {
 public:
  absl::Time Now() override {
    absl::MutexLock lock(&mu_);
    return now_;
  }

  void WaitUntil(absl::CondVar* cv, absl::Mutex* mu, absl::Time deadline) override {
    {
      absl::MutexLock lock(&mu_);
      if (now_ >= deadline) return;
      waiters_.emplace_back(cv, mu);
    }
    cv->Wait(mu);
    absl::MutexLock lock(&mu_);
    for (size_t i = 0; i < waiters_.size(); ++i) {
      if (waiters_[i] != std::make_pair(cv, mu)) continue;
      waiters_.erase(waiters_.begin() + static_cast<std::ptrdiff_t>(i));
      break;
    }
  }

  // A waiter registers under the mutex it then waits with, so taking that mutex here means it is
  // waiting already.
  void Advance(absl::Duration by) {
    std::vector<std::pair<absl::CondVar*, absl::Mutex*>> waiters;
    {
      absl::MutexLock lock(&mu_);
      now_ += by;
      waiters = waiters_;
    }
    for (auto& [cv, mu] : waiters) {
      absl::MutexLock lock(mu);
      cv->SignalAll();
    }
  }

 private:
  absl::Mutex mu_;
  absl::Time now_ ABSL_GUARDED_BY(mu_) = absl::UnixEpoch() + absl::Hours(1);
  std::vector<std::pair<absl::CondVar*, absl::Mutex*>> waiters_ ABSL_GUARDED_BY(mu_);
};

// absl::Notification's interface over a mutex that TSan sees (cmake/tsan_absl.cc).
class Notification {
 public:
  void Notify() {
    absl::MutexLock lock(&mu_);
    notified_ = true;
    cv_.SignalAll();
  }
  bool HasBeenNotified() {
    absl::MutexLock lock(&mu_);
    return notified_;
  }
  void WaitForNotification() {
    absl::MutexLock lock(&mu_);
    while (!notified_) cv_.Wait(&mu_);
  }

 private:
  absl::Mutex mu_;
  absl::CondVar cv_;
  bool notified_ ABSL_GUARDED_BY(mu_) = false;
};

// f32 [rows, 2] -> f32 [rows, 2], doubled. Records what ran; runs and specialisations can be held
// back or fail.
class FakeProgram final : public engine::Program {
 public:
  FakeProgram() {
    inputs_.push_back({"x", DType::kF32, {kUnknownDim, 2}});
    outputs_.push_back({"y", DType::kF32, {kUnknownDim, 2}});
    proof_.batchable = true;
  }
  const std::vector<engine::Signature>& inputs() const override { return inputs_; }
  const std::vector<engine::Signature>& outputs() const override { return outputs_; }
  const graph::BatchProof& batch_proof() const override { return proof_; }
  absl::StatusOr<std::shared_ptr<const engine::Specialisation>> Specialise(absl::Span<const Shape>,
                                                                           int) override {
    return absl::UnimplementedError("fakes are made by FakeFactory");
  }
  void ReleaseInitializers() override {}
  engine::MemoryReport Memory() const override { return {}; }
  engine::CacheReport Cache() const override { return {}; }
  std::vector<std::string> PackedCopies() const override { return {}; }

  // Runs wait while held; the count of waiting runs is awaited with AwaitHeld.
  void HoldRuns(bool hold) {
    absl::MutexLock lock(&mu_);
    hold_runs_ = hold;
  }
  void AwaitHeld(int runs) {
    absl::MutexLock lock(&mu_);
    const auto held = [this, runs]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return held_ >= runs; };
    while (!held()) changed_.Wait(&mu_);
  }
  void ReleaseRuns() {
    absl::MutexLock lock(&mu_);
    hold_runs_ = false;
    changed_.SignalAll();
  }
  void HoldMaking(bool hold) {
    absl::MutexLock lock(&mu_);
    hold_making_ = hold;
    changed_.SignalAll();
  }
  void FailMaking(int64_t rows, absl::Status status) {
    absl::MutexLock lock(&mu_);
    fail_rows_ = rows;
    fail_ = std::move(status);
  }
  std::vector<int64_t> Ran() const {
    absl::MutexLock lock(&mu_);
    return ran_;
  }
  std::vector<int64_t> Made() const {
    absl::MutexLock lock(&mu_);
    return made_;
  }

  void OnRun(int64_t bucket) {
    absl::MutexLock lock(&mu_);
    ran_.push_back(bucket);
    ++held_;
    changed_.SignalAll();
    while (hold_runs_) changed_.Wait(&mu_);
    --held_;
  }
  absl::Status OnMake(int64_t bucket) {
    absl::MutexLock lock(&mu_);
    while (hold_making_) changed_.Wait(&mu_);
    if (bucket == fail_rows_) return fail_;
    made_.push_back(bucket);
    return absl::OkStatus();
  }

 private:
  std::vector<engine::Signature> inputs_, outputs_;
  graph::BatchProof proof_;
  mutable absl::Mutex mu_;
  absl::CondVar changed_;
  bool hold_runs_ ABSL_GUARDED_BY(mu_) = false;
  bool hold_making_ ABSL_GUARDED_BY(mu_) = false;
  int held_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t fail_rows_ ABSL_GUARDED_BY(mu_) = -1;
  absl::Status fail_ ABSL_GUARDED_BY(mu_);
  std::vector<int64_t> ran_ ABSL_GUARDED_BY(mu_), made_ ABSL_GUARDED_BY(mu_);
};

class FakeSpecialisation final : public engine::Specialisation {
 public:
  FakeSpecialisation(std::vector<Shape> shapes, int threads)
      : shapes_(std::move(shapes)), threads_(threads) {}
  const std::vector<Shape>& input_shapes() const override { return shapes_; }
  const std::vector<Shape>& output_shapes() const override { return shapes_; }
  int threads() const override { return threads_; }
  std::vector<engine::StepInfo> Steps() const override { return {}; }
  int64_t arena_bytes() const override { return 100 * shapes_[0][0]; }  // 100 a row
  int64_t arena_lower_bound_bytes() const override { return 0; }
  int64_t scratch_bytes() const override { return 0; }

 private:
  std::vector<Shape> shapes_;
  int threads_;
};

class FakeContext final : public engine::Context {
 public:
  FakeContext(FakeProgram* program, std::vector<Shape> shapes, int threads)
      : program_(program),
        specialisation_(std::move(shapes), threads),
        in_(static_cast<size_t>(NumElements(specialisation_.input_shapes()[0])), -1.0f),
        out_(in_) {}
  absl::Span<std::byte> input(int) override {
    return absl::MakeSpan(reinterpret_cast<std::byte*>(in_.data()), in_.size() * 4);
  }
  absl::Span<const std::byte> output(int) const override {
    return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(out_.data()), out_.size() * 4);
  }
  const Shape& output_shape(int i) const override {
    return specialisation_.output_shapes()[static_cast<size_t>(i)];
  }
  absl::Status Run() override {
    program_->OnRun(specialisation_.input_shapes()[0][0]);
    for (size_t i = 0; i < in_.size(); ++i) out_[i] = 2 * in_[i];
    return absl::OkStatus();
  }
  // Two steps: the run and nothing.
  absl::Status RunGivingWay(absl::FunctionRef<absl::Status()> go_on) override {
    for (const bool runs : {true, false}) {
      if (const absl::Status status = go_on(); !status.ok()) return status;
      if (runs && !Run().ok()) return absl::InternalError("fakes do not fail");
    }
    return absl::OkStatus();
  }
  const engine::Specialisation& specialisation() const override { return specialisation_; }

 private:
  FakeProgram* program_;
  FakeSpecialisation specialisation_;
  std::vector<float> in_, out_;
};

inline ContextFactory FakeFactory() {
  return [](engine::Program& program, absl::Span<const Shape> shapes,
            int threads) -> absl::StatusOr<std::unique_ptr<engine::Context>> {
    auto& fake = static_cast<FakeProgram&>(program);
    if (absl::Status status = fake.OnMake(shapes[0][0]); !status.ok()) return status;
    return std::make_unique<FakeContext>(&fake, std::vector<Shape>(shapes.begin(), shapes.end()),
                                         threads);
  };
}

}  // namespace octet::server

#endif  // OCTET_SERVER_FAKES_H_
