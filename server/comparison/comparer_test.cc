// The comparison's thread with fake programs and a clock that tests move: what it compares, drops, loads and lets go.
#include "server/comparison/comparer.h"

#include <atomic>
#include <cstring>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/fakes.h"

namespace octet::server {
namespace {

class ComparerTest : public ::testing::Test {
 protected:
  ComparerTest() {
    signature_ = std::make_shared<ModelSignature>();
    signature_->inputs = f32_->inputs();
    signature_->outputs = f32_->outputs();
    signature_->batchable = true;
    signature_->max_batch = 8;
  }

  void Open(ControlOptions options = {}) {
    options.model = "m";
    options.version = "1";
    options.variants = {"f32", "int8"};
    options.primary = "int8";
    options.reference = "f32";
    options.fraction = 1;
    options.max_comparison_cpus = 1;
    control_ = std::make_shared<VersionControl>(options, clock_.Now());
    control_->SetTarget("int8", ReplayTarget{signature_, int8_});
    if (!options.reference_sampled) LoadReference();
    pair_ = control_->pair("int8");
    ComparerOptions comparer;
    comparer.make_context = FakeFactory();
    comparer.busy = [this] { return busy_.load(); };
    comparer.lowest_priority = false;
    comparer.load_reference = [this](const VersionControl&) { ++loads_; };
    comparer.evict_reference = [this](const VersionControl&) {
      control_->SetTarget("f32", std::nullopt);
      ++evictions_;
    };
    comparer.sampled_count = 3;
    comparer.limits = limits_;
    comparer_ = std::make_unique<Comparer>(std::move(comparer), &clock_, &loader_);
  }
  void LoadReference() { control_->SetTarget("f32", ReplayTarget{signature_, f32_}); }

  // A request of these values answered with `answer`; fakes double their input.
  Replay Answered(std::vector<float> values, std::vector<float> answer, bool by_reference = false) {
    struct Bytes {
      std::vector<float> in, out;
    };
    auto bytes = std::make_shared<Bytes>(Bytes{std::move(values), std::move(answer)});
    const auto span = [](const std::vector<float>& v) {
      return ByteSpan(reinterpret_cast<const std::byte*>(v.data()), v.size() * 4);
    };
    InferRequest request;
    request.wire = bytes;
    InputTensor x{"x", DType::kF32, {static_cast<int64_t>(bytes->in.size() / 2), 2}, {span(bytes->in)}, 0};
    x.size_bytes = static_cast<int64_t>(bytes->in.size() * 4);
    request.inputs.push_back(x);
    Replay replay;
    replay.control = control_;
    replay.pair = pair_;
    replay.by_reference = by_reference;
    replay.answered_as = signature_;
    replay.bound = *Bind(std::move(request), *signature_);
    replay.outputs = {span(bytes->out)};
    replay.reply = bytes;
    replay.bytes = 100;
    replay.answered_at = clock_.Now();
    return replay;
  }

  // The queue may be in use at this moment: offered until it is kept.
  void Send(const std::vector<float>& values, const std::vector<float>& answer, bool by_reference = false) {
    while (!comparer_->Offer(Answered(values, answer, by_reference))) ++refused_;
  }

  void SlotsAreTakenDuringAReplay() {
    f32_->HoldRuns(true);
    Send({1, 2}, {2, 4});
    f32_->AwaitHeld(1);
    busy_ = true;
    f32_->ReleaseRuns();
  }

  template <typename Condition>
  void Await(Condition condition) {
    while (!condition()) absl::SleepFor(absl::Microseconds(100));  // polls, and leaves the core to the comparer
  }
  PairSummary Now() { return pair_->Summary(clock_.Now()); }

  FakeClock clock_;
  Loader loader_{1, 100};
  std::shared_ptr<FakeProgram> f32_ = std::make_shared<FakeProgram>(), int8_ = std::make_shared<FakeProgram>();
  std::shared_ptr<ModelSignature> signature_;
  ReplayLimits limits_;
  std::atomic<bool> busy_{false};
  int64_t refused_ = 0;
  std::atomic<int> loads_{0}, evictions_{0};
  std::shared_ptr<VersionControl> control_;
  std::shared_ptr<Pair> pair_;
  std::unique_ptr<Comparer> comparer_;
};

TEST_F(ComparerTest, ComparesWithTheReference) {
  Open();
  Send({1, 2, 3, 4, 5, 6}, {2, 4, 6, 8, 11, 10});  // the last of three rows prefers another class
  Await([&] { return Now().compared == 1; });
  const WindowSummary y = Now().outputs.at("y");
  EXPECT_EQ(y.rows, 3);
  EXPECT_NEAR(y.top1.value, 2.0 / 3, 1e-12);
  EXPECT_NEAR(y.sqnr_db.value, 10 * std::log10((4 + 16 + 36 + 64 + 100 + 144) / 5.0), 1e-9);
  EXPECT_THAT(f32_->Ran(), ::testing::ElementsAre(4));  // the bucket of three rows
  EXPECT_TRUE(int8_->Ran().empty());
  EXPECT_EQ(comparer_->queued_bytes(), 0);
}

TEST_F(ComparerTest, RolesSwapWhenTheReferenceAnswered) {
  Open();
  Send({1, 2}, {2, 5}, true);  // signal is the answer, noise the variant's {2, 4}
  Await([&] { return Now().compared == 1; });
  EXPECT_NEAR(Now().outputs.at("y").sqnr_db.value, 10 * std::log10(29), 1e-9);
  EXPECT_THAT(int8_->Ran(), ::testing::ElementsAre(1));
}

TEST_F(ComparerTest, BothAreTimedNowAndThen) {
  Open();
  for (int i = 1; i <= Pair::kTimedEvery; ++i) {
    Send({1, 2}, {2, 4});
    Await([&] { return Now().compared == i; });
  }
  EXPECT_TRUE(Now().latency_ratio.has_value());
  EXPECT_EQ(int8_->Ran().size(), 2u);  // one to warm up
}

TEST_F(ComparerTest, WaitsForQuietAndDropsWhatIsTooOld) {
  busy_ = true;
  Open();
  Send({1, 2}, {2, 4});
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(Now().compared + Now().dropped, refused_);
  Await([&] {
    clock_.Advance(absl::Milliseconds(20));
    return Now().dropped == refused_ + 1;
  });
  EXPECT_TRUE(f32_->Ran().empty());
  Send({1, 2}, {2, 4});
  busy_ = false;
  comparer_->SlotFreed();
  Await([&] { return Now().compared == 1; });
}

TEST_F(ComparerTest, ARunGivesWayBetweenSteps) {
  Open();
  SlotsAreTakenDuringAReplay();
  Send({1, 2}, {2, 4});  // waits behind it
  EXPECT_EQ(Now().compared, 0);
  busy_ = false;
  comparer_->SlotFreed();
  Await([&] { return Now().compared == 2; });
}

TEST_F(ComparerTest, ARunThatWaitsTooLongIsDropped) {
  Open();
  SlotsAreTakenDuringAReplay();
  Await([&] {
    clock_.Advance(absl::Milliseconds(20));
    return Now().dropped == refused_ + 1;
  });
  EXPECT_EQ(Now().compared + Now().failed, 0);
}

TEST_F(ComparerTest, StopEndsARunThatWaits) {
  Open();
  SlotsAreTakenDuringAReplay();
  comparer_->Stop();
  EXPECT_EQ(Now().dropped, refused_ + 1);
}

TEST_F(ComparerTest, QueueIsBounded) {
  busy_ = true;
  limits_.max_count = 4;
  limits_.max_bytes = 350;
  limits_.max_age = absl::Hours(1);
  Open();
  Send({1, 2}, {2, 4});
  Await([&] { return comparer_->queued_bytes() == 0; });  // the thread holds it and waits
  for (int i = 0; i < 3; ++i) Send({1, 2}, {2, 4});
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(comparer_->Offer(Answered({1, 2}, {2, 4})));
  EXPECT_EQ(comparer_->queued_bytes(), 300);
  EXPECT_EQ(Now().dropped, refused_ + 10);
  EXPECT_EQ(Now().waiting, 3);
  comparer_->Stop();
  EXPECT_EQ(Now().dropped, refused_ + 14);
  EXPECT_EQ(Now().waiting, 0);
}

TEST_F(ComparerTest, WithoutAReferenceRepliesAreDropped) {
  Open();
  control_->SetTarget("f32", std::nullopt);
  Send({1, 2}, {2, 4});
  Await([&] { return Now().dropped == refused_ + 1; });
}

TEST_F(ComparerTest, AFailedReplayIsCounted) {
  Open();
  f32_->FailMaking(1, absl::InternalError("no memory"));
  Send({1, 2}, {2, 4});
  Await([&] { return Now().failed == 1; });
  Send({1, 2, 3, 4}, {2, 4, 6, 8});  // another bucket works
  Await([&] { return Now().compared == 1; });
}

TEST_F(ComparerTest, ASampledReferenceIsLoadedForWhatWasCollected) {
  ControlOptions options;
  options.reference_sampled = true;
  Open(options);
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(loads_, 0);
    Send({1, 2}, {2, 4});
    Await([&] { return Now().waiting == i && comparer_->queued_bytes() == 100 * i; });
  }
  Await([&] { return loads_ == 1; });
  EXPECT_EQ(Now().compared, 0);
  LoadReference();
  Await([&] {
    clock_.Advance(absl::Seconds(1));
    return evictions_ == 1;
  });
  EXPECT_EQ(Now().compared, 3);
  EXPECT_EQ(Now().waiting, 0);
  EXPECT_EQ(loads_, 1);
}

TEST_F(ComparerTest, ASampledReferenceStaysWhileItAnswers) {
  ControlOptions options;
  options.window.max_age = absl::InfiniteDuration();  // the test's clock may run far ahead of the comparer
  options.reference_sampled = true;
  options.guard.min_top1_agreement = 0.9;
  options.guard.min_comparisons = 3;
  Open(options);
  for (int i = 1; i <= 3; ++i) Send({1, 2}, {4, 2});  // the other class
  Await([&] { return loads_ == 1; });                 // all three are collected
  LoadReference();
  Await([&] {
    clock_.Advance(absl::Seconds(1));
    return pair_->tripped();
  });
  for (int i = 0; i < 20; ++i) clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(evictions_, 0);
  EXPECT_TRUE(pair_->Recover(clock_.Now()));
  Await([&] {
    clock_.Advance(absl::Seconds(1));
    return evictions_ == 1;
  });
}

}  // namespace
}  // namespace octet::server
