// Batching, deadlines, cancellation and draining with a fake clock and a fake program; no sleeps.
#include "server/scheduler.h"

#include <atomic>
#include <thread>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/grpc_service.pb.h"
#include "server/fakes.h"

namespace octet::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RecordingObserver final : public ExecutionObserver {
 public:
  void OnBatch(const BatchRecord& record) override {
    absl::MutexLock lock(&mu_);
    rows_.push_back(record.rows);
  }
  void OnRequest(const RequestRecord& record) override {
    absl::MutexLock lock(&mu_);
    outcomes_.push_back(std::string(ReasonOf(record.status)));
    queue_.push_back(record.queue);
  }
  std::vector<int64_t> rows() {
    absl::MutexLock lock(&mu_);
    return rows_;
  }
  std::vector<std::string> outcomes() {
    absl::MutexLock lock(&mu_);
    return outcomes_;
  }
  std::vector<absl::Duration> queue() {
    absl::MutexLock lock(&mu_);
    return queue_;
  }

 private:
  absl::Mutex mu_;
  std::vector<int64_t> rows_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> outcomes_ ABSL_GUARDED_BY(mu_);
  std::vector<absl::Duration> queue_ ABSL_GUARDED_BY(mu_);
};

// A submitted request: its answer, when it has come.
struct Answer {
  Notification done;
  absl::StatusOr<Reply> reply = absl::UnknownError("no answer yet");
  std::shared_ptr<Job> job;

  std::vector<float> Values() {
    inference::ModelInferResponse proto;
    EXPECT_TRUE(proto.ParseFromArray(reply->wire().data(), static_cast<int>(reply->wire().size())));
    EXPECT_EQ(proto.parameters().at("variant").string_param(), "f32");
    std::vector<float> values(proto.raw_output_contents(0).size() / 4);
    std::memcpy(values.data(), proto.raw_output_contents(0).data(), values.size() * 4);
    return values;
  }
};

class SchedulerTest : public ::testing::Test {
 protected:
  void Start(int slots = 1, int64_t max_batch = 8, absl::Duration delay = absl::ZeroDuration(),
             int max_queued = 100) {
    scheduler_ =
        std::make_unique<Scheduler>(SchedulerOptions{slots, 1, FakeFactory(), slot_freed_}, &clock_, &loader_);
    QueueSpec spec;
    spec.model_version = "1";
    spec.variant = "f32";
    spec.signature = {program_->inputs(), program_->outputs(), true, max_batch};
    spec.program = program_;
    spec.max_queue_delay = delay;
    spec.max_queued = max_queued;
    spec.max_context_bytes = max_context_bytes_;
    spec.observer = observer_;
    queue_ = scheduler_->Open(std::move(spec));
  }
  void Prepare(std::initializer_list<int64_t> rows) {
    for (int64_t r : rows) ASSERT_TRUE(scheduler_->Prepare(queue_.get(), r).ok());
  }

  std::function<void()> slot_freed_ = [] {};

  std::shared_ptr<Answer> Submit(std::vector<float> values,
                                 absl::Duration timeout = absl::InfiniteDuration()) {
    auto answer = std::make_shared<Answer>();
    auto data = std::make_shared<std::vector<float>>(std::move(values));
    InferRequest request;
    request.model_name = "m";
    InputTensor x;
    x.name = "x";
    x.dtype = DType::kF32;
    x.shape = {static_cast<int64_t>(data->size() / 2), 2};
    x.size_bytes = static_cast<int64_t>(data->size() * 4);
    const auto* bytes = reinterpret_cast<const std::byte*>(data->data());
    x.pieces = {ByteSpan(bytes, 3), ByteSpan(bytes + 3, data->size() * 4 - 3)};  // an odd border
    request.inputs.push_back(std::move(x));
    request.wire = data;
    auto job = std::make_shared<Job>();
    absl::StatusOr<BoundRequest> bound = Bind(std::move(request), queue_->spec().signature);
    EXPECT_TRUE(bound.ok()) << bound.status();
    job->bound = *std::move(bound);
    job->arrival = clock_.Now();
    job->deadline = job->arrival + timeout;
    job->done = [answer](absl::StatusOr<Reply> reply) {
      answer->reply = std::move(reply);
      answer->done.Notify();
    };
    answer->job = job;
    scheduler_->Submit(queue_, std::move(job));
    return answer;
  }

  int64_t max_context_bytes_ = int64_t{1} << 30;
  FakeClock clock_;
  std::shared_ptr<FakeProgram> program_ = std::make_shared<FakeProgram>();
  std::shared_ptr<RecordingObserver> observer_ = std::make_shared<RecordingObserver>();
  Loader loader_{1, 16};
  std::unique_ptr<Scheduler> scheduler_;
  std::shared_ptr<VariantQueue> queue_;
};

void ExpectValues(Answer& answer, const std::vector<float>& doubled) {
  answer.done.WaitForNotification();
  ASSERT_TRUE(answer.reply.ok()) << answer.reply.status();
  EXPECT_EQ(answer.Values(), doubled);
}

void ExpectError(Answer& answer, absl::StatusCode code, const std::string& reason) {
  answer.done.WaitForNotification();
  ASSERT_FALSE(answer.reply.ok());
  EXPECT_EQ(answer.reply.status().code(), code) << answer.reply.status();
  EXPECT_EQ(std::string(ReasonOf(answer.reply.status())), reason);
}

TEST_F(SchedulerTest, AnswersOneRequest) {
  Start();
  auto answer = Submit({1, 2});
  ExpectValues(*answer, {2, 4});
  EXPECT_THAT(program_->Made(), ElementsAre(1));
  EXPECT_THAT(observer_->rows(), ElementsAre(1));
}

TEST_F(SchedulerTest, MergesWhatWaitsAndGivesEachItsRows) {
  Start();
  Prepare({1, 4, 8});
  program_->HoldRuns(true);
  auto first = Submit({1, 2});
  program_->AwaitHeld(1);
  auto second = Submit({3, 4, 5, 6});
  auto third = Submit({7, 8});
  program_->ReleaseRuns();
  ExpectValues(*first, {2, 4});
  ExpectValues(*second, {6, 8, 10, 12});
  ExpectValues(*third, {14, 16});
  EXPECT_THAT(program_->Ran(), ElementsAre(1, 4));  // three rows padded to four
  EXPECT_THAT(observer_->rows(), ElementsAre(1, 3));
}

TEST_F(SchedulerTest, NeverExceedsTheMaximumBatch) {
  Start(1, 3);
  Prepare({1, 2, 3});
  program_->HoldRuns(true);
  auto first = Submit({0, 0});
  program_->AwaitHeld(1);
  std::vector<std::shared_ptr<Answer>> answers;
  for (int i = 0; i < 4; ++i) answers.push_back(Submit({1, 1, 2, 2}));
  program_->ReleaseRuns();
  for (auto& answer : answers) ExpectValues(*answer, {2, 2, 4, 4});
  EXPECT_THAT(program_->Ran(), ElementsAre(1, 2, 2, 2, 2));
}

TEST_F(SchedulerTest, WaitsForCompanyUntilTheDelayIsOver) {
  Start(1, 8, absl::Milliseconds(10));
  Prepare({1, 2});
  auto first = Submit({1, 1});
  auto second = Submit({2, 2});
  EXPECT_FALSE(first->done.HasBeenNotified());
  clock_.Advance(absl::Milliseconds(11));
  ExpectValues(*first, {2, 2});
  ExpectValues(*second, {4, 4});
  EXPECT_THAT(program_->Ran(), ElementsAre(2));
}

TEST_F(SchedulerTest, AFullBatchDoesNotWait) {
  Start(1, 2, absl::Hours(1));
  Prepare({2});
  auto first = Submit({1, 1});
  auto second = Submit({2, 2});
  ExpectValues(*first, {2, 2});
  ExpectValues(*second, {4, 4});
}

TEST_F(SchedulerTest, UsesASmallerBucketWhileTheRightOneIsBeingMade) {
  Start();
  Prepare({1});
  program_->HoldRuns(true);
  auto first = Submit({1, 1});
  program_->AwaitHeld(1);
  program_->HoldMaking(true);
  auto second = Submit({2, 2});
  auto third = Submit({3, 3});
  program_->ReleaseRuns();
  ExpectValues(*second, {4, 4});
  ExpectValues(*third, {6, 6});
  EXPECT_THAT(program_->Ran(), ElementsAre(1, 1, 1));
  program_->HoldMaking(false);
  ExpectValues(*Submit({4, 4, 5, 5}), {8, 8, 10, 10});
  EXPECT_EQ(program_->Ran().back(), 2);
}

TEST_F(SchedulerTest, ARequestWaitsForItsBucketWhileOthersPassIt) {
  Start();
  Prepare({1});
  program_->HoldMaking(true);
  auto large = Submit({1, 1, 2, 2, 3, 3});
  auto small = Submit({4, 4});
  ExpectValues(*small, {8, 8});
  EXPECT_FALSE(large->done.HasBeenNotified());
  program_->HoldMaking(false);
  ExpectValues(*large, {2, 2, 4, 4, 6, 6});
}

TEST_F(SchedulerTest, IdleShapesGiveTheirMemoryUpLeastRecentlyUsedFirst) {
  max_context_bytes_ = 1000;  // the fakes need 100 bytes a row
  Start(1, 8);
  ExpectValues(*Submit({1, 1}), {2, 2});
  ExpectValues(*Submit({1, 1, 2, 2, 3, 3, 4, 4}), {2, 2, 4, 4, 6, 6, 8, 8});
  ExpectValues(*Submit({5, 5}), {10, 10});
  EXPECT_THAT(program_->Made(), ElementsAre(1, 4));
  std::vector<float> eight(16, 1), doubled(16, 2);
  ExpectValues(*Submit(eight), doubled);  // 1 + 4 + 8 rows are too much: the four give way
  ExpectValues(*Submit({6, 6}), {12, 12});
  EXPECT_THAT(program_->Made(), ElementsAre(1, 4, 8));
  ExpectValues(*Submit({1, 1, 2, 2, 3, 3, 4, 4}), {2, 2, 4, 4, 6, 6, 8, 8});
  EXPECT_EQ(program_->Ran().back(), 8) << "padded to the ready bucket while four is made again";
}

TEST_F(SchedulerTest, ReportsABucketThatCannotBeMade) {
  Start();
  program_->FailMaking(4, absl::UnimplementedError("no kernel"));
  auto answer = Submit({1, 1, 2, 2, 3, 3});
  ExpectError(*answer, absl::StatusCode::kUnimplemented, "unimplemented");
  EXPECT_THAT(std::string(answer->reply.status().message()), HasSubstr("no kernel"));
  ExpectValues(*Submit({1, 1}), {2, 2});
}

TEST_F(SchedulerTest, RefusesWhenTheQueueIsFull) {
  Start(1, 8, absl::ZeroDuration(), 2);
  Prepare({1});
  program_->HoldRuns(true);
  auto running = Submit({1, 1});
  program_->AwaitHeld(1);
  auto a = Submit({1, 1});
  auto b = Submit({1, 1});
  auto c = Submit({1, 1});
  ExpectError(*c, absl::StatusCode::kResourceExhausted, "queue_full");
  program_->ReleaseRuns();
  ExpectValues(*b, {2, 2});
  EXPECT_THAT(observer_->outcomes(), ::testing::Contains("queue_full"));
}

TEST_F(SchedulerTest, ExpiresWaitingRequestsByTimerWhileTheSlotIsBusy) {
  Start();
  Prepare({1});
  program_->HoldRuns(true);
  auto running = Submit({1, 1});
  program_->AwaitHeld(1);
  auto late = Submit({1, 1}, absl::Milliseconds(5));
  auto patient = Submit({2, 2}, absl::Hours(1));
  clock_.Advance(absl::Milliseconds(6));
  ExpectError(*late, absl::StatusCode::kDeadlineExceeded, "deadline");
  EXPECT_FALSE(running->done.HasBeenNotified());
  program_->ReleaseRuns();
  ExpectValues(*running, {2, 2});
  ExpectValues(*patient, {4, 4});
  EXPECT_EQ(observer_->queue().front(), absl::Milliseconds(6));
  auto dead = Submit({1, 1}, absl::ZeroDuration());
  ExpectError(*dead, absl::StatusCode::kDeadlineExceeded, "deadline");
}

TEST_F(SchedulerTest, CancelsOnlyWhatStillWaits) {
  Start();
  Prepare({1});
  program_->HoldRuns(true);
  auto running = Submit({1, 1});
  program_->AwaitHeld(1);
  auto waiting = Submit({2, 2});
  scheduler_->Cancel(queue_, waiting->job.get());
  ExpectError(*waiting, absl::StatusCode::kCancelled, "cancelled");
  scheduler_->Cancel(queue_, running->job.get());
  program_->ReleaseRuns();
  ExpectValues(*running, {2, 2});
}

TEST_F(SchedulerTest, StopAnswersWhatWaitsAndRefusesTheRest) {
  Start();
  Prepare({1, 2});
  program_->HoldRuns(true);
  auto running = Submit({1, 1});
  program_->AwaitHeld(1);
  auto waiting = Submit({2, 2});
  std::thread stopper([this] { scheduler_->Stop(absl::InfiniteFuture()); });
  // Refusal is how the test sees that draining has begun.
  while (true) {
    auto probe = Submit({3, 3});
    if (!probe->done.HasBeenNotified()) {
      scheduler_->Cancel(queue_, probe->job.get());
      probe->done.WaitForNotification();
      if (absl::IsCancelled(probe->reply.status())) continue;
    }
    ExpectError(*probe, absl::StatusCode::kUnavailable, "draining");
    break;
  }
  program_->ReleaseRuns();
  stopper.join();
  ExpectValues(*running, {2, 2});
  ExpectValues(*waiting, {4, 4});
}

TEST_F(SchedulerTest, StopPastItsDeadlineFailsWhatWaits) {
  Start(1, 8, absl::Hours(1));
  auto waiting = Submit({2, 2});
  scheduler_->Stop(clock_.Now());
  ExpectError(*waiting, absl::StatusCode::kUnavailable, "draining");
}

TEST_F(SchedulerTest, CloseDrainsOneVariant) {
  Start();
  auto answer = Submit({1, 1});
  scheduler_->Close(queue_);
  EXPECT_TRUE(answer->done.HasBeenNotified());
  auto refused = Submit({1, 1});
  ExpectError(*refused, absl::StatusCode::kUnavailable, "draining");
}

TEST_F(SchedulerTest, ManyClientsOnSeveralSlotsEachGetTheirOwnAnswer) {
  Start(3, 8, absl::ZeroDuration(), 1000);
  std::atomic<int> wrong{0};
  std::vector<std::thread> clients;
  for (int c = 0; c < 4; ++c) {
    clients.emplace_back([this, c, &wrong] {
      for (int i = 0; i < 200; ++i) {
        std::vector<float> values, doubled;
        for (int k = 0; k < 2 * (1 + (i + c) % 5); ++k) {
          values.push_back(static_cast<float>(1000 * c + i + k));
          doubled.push_back(2 * values.back());
        }
        auto answer = Submit(values);
        answer->done.WaitForNotification();
        if (!answer->reply.ok() || answer->Values() != doubled) ++wrong;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(observer_->outcomes().size(), 800u);
}

TEST_F(SchedulerTest, TellsWhenNoSlotIsFreeAndWhenOneIsAgain) {
  Notification freed;
  std::atomic<int> times{0};
  slot_freed_ = [&] {
    if (++times == 2) freed.Notify();
  };
  Start(2);
  Prepare({1});
  EXPECT_FALSE(scheduler_->busy());
  program_->HoldRuns(true);
  auto a = Submit({1, 2});
  program_->AwaitHeld(1);
  EXPECT_FALSE(scheduler_->busy());  // one of two runs
  auto b = Submit({3, 4});
  program_->AwaitHeld(2);
  EXPECT_TRUE(scheduler_->busy());
  EXPECT_EQ(times, 0);
  program_->ReleaseRuns();
  freed.WaitForNotification();
  EXPECT_FALSE(scheduler_->busy());
  a->done.WaitForNotification();
  b->done.WaitForNotification();
}

}  // namespace
}  // namespace octet::server
