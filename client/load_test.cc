#include "client/load.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "client/latency_histogram.h"

namespace octet::client {
namespace {

// A clock that moves only when somebody sleeps, and happenings at its times: simulations take no time and never vary.
class SimulatedClock final : public LoadClock {
 public:
  absl::Duration Now() override { return now_; }
  void SleepUntil(absl::Duration time) override {
    while (!events_.empty() && events_.begin()->first <= time) {
      auto event = std::move(*events_.begin());
      events_.erase(events_.begin());
      now_ = std::max(now_, event.first);
      event.second();
    }
    now_ = std::max(now_, time);
  }
  void At(absl::Duration time, absl::AnyInvocable<void()> what) { events_.emplace(time, std::move(what)); }

 private:
  absl::Duration now_;
  std::multimap<absl::Duration, absl::AnyInvocable<void()>> events_;
};

// One server that takes `service` per request, in order of arrival, and does nothing during a stall.
class QueueTarget final : public LoadTarget {
 public:
  QueueTarget(SimulatedClock& clock, absl::Duration service) : clock_(clock), service_(service) {}
  void Send(int64_t i, Done done) override {
    in_flight = std::max(in_flight, ++now_in_flight_);
    free_ = std::max(free_, clock_.Now());
    if (free_ >= stall_from && free_ < stall_to) free_ = stall_to;
    free_ += service_;
    const absl::Status status =
        fail_every > 0 && i % fail_every == 0 ? absl::UnavailableError("as told") : absl::OkStatus();
    clock_.At(free_, [this, status, done = std::move(done)]() mutable {
      --now_in_flight_;
      done(status);
    });
  }
  int64_t in_flight = 0, fail_every = 0;
  absl::Duration stall_from, stall_to;

 private:
  SimulatedClock& clock_;
  const absl::Duration service_;
  absl::Duration free_;
  int64_t now_in_flight_ = 0;
};

TEST(OpenLoop, MeetsTheQueueingFormulaOfPoissonArrivals) {
  SimulatedClock clock;
  QueueTarget target(clock, absl::Milliseconds(1));
  const LoadResult result =
      RunLoad(target, {.rate = 700, .warm_up = absl::Seconds(10), .duration = absl::Seconds(300), .seed = 3}, clock);
  // M/D/1 at utilisation 0.7: service + 0.7 * service / (2 * 0.3).
  EXPECT_NEAR(absl::ToDoubleMilliseconds(result.latency.Mean()), 1 + 0.7 / 0.6, 0.06);
  EXPECT_NEAR(result.OfferedPerSecond(), 700, 7);
  EXPECT_NEAR(result.AchievedPerSecond(), 700, 7);
  EXPECT_EQ(result.lateness.max(), absl::ZeroDuration());
  EXPECT_EQ(result.latency.count(), result.due);
}

TEST(OpenLoop, CountsLatencyFromTheTimeARequestWasDue) {
  SimulatedClock clock;
  QueueTarget target(clock, absl::Microseconds(10));
  target.stall_from = absl::Seconds(2);
  target.stall_to = absl::Seconds(3);
  // The generator may hold ten requests only: the others wait in it while the server stalls.
  const LoadResult result = RunLoad(
      target, {.rate = 1000, .max_in_flight = 10, .warm_up = absl::Seconds(1), .duration = absl::Seconds(9)}, clock);
  // A tenth of the window's requests fell into the stall; half of those waited for more than half of it.
  EXPECT_EQ(result.latency.count(), result.due);
  EXPECT_NEAR(absl::ToDoubleSeconds(result.latency.max()), 1, 0.02);
  EXPECT_NEAR(absl::ToDoubleSeconds(result.latency.Quantile(1 - 0.5 / 9)), 0.5, 0.06);
  EXPECT_LE(target.in_flight, 10);
  EXPECT_GT(result.lateness.max(), absl::Milliseconds(900));
}

TEST(OpenLoop, CountsWhatItCouldNotSend) {
  SimulatedClock clock;
  QueueTarget target(clock, absl::Milliseconds(100));
  const LoadResult result = RunLoad(target,
                                    {.rate = 100,
                                     .max_in_flight = 5,
                                     .warm_up = absl::ZeroDuration(),
                                     .duration = absl::Seconds(10),
                                     .grace = absl::Seconds(1)},
                                    clock);
  EXPECT_NEAR(result.AchievedPerSecond(), 10, 0.2);
  EXPECT_NEAR(static_cast<double>(result.latency.count()), 110, 6);
  EXPECT_EQ(result.latency.count() + result.unsent, result.due);
}

TEST(ClosedLoop, KeepsItsNumberInFlight) {
  SimulatedClock clock;
  QueueTarget target(clock, absl::Milliseconds(1));
  const LoadResult result = RunLoad(target, {.concurrency = 4, .duration = absl::Seconds(10)}, clock);
  EXPECT_EQ(target.in_flight, 4);
  EXPECT_NEAR(result.AchievedPerSecond(), 1000, 1);
  EXPECT_NEAR(absl::ToDoubleMilliseconds(result.latency.Quantile(0.5)), 4, 4 * LatencyHistogram::kPrecision);
  EXPECT_EQ(result.latency.count(), result.due);
}

TEST(BothLoops, EndEarlyWhenTheyAreStopped) {
  for (double rate : {0.0, 100.0}) {
    SimulatedClock clock;
    QueueTarget target(clock, absl::Milliseconds(1));
    LoadOptions options;
    options.rate = rate;
    options.stop = [&clock] { return clock.Now() >= absl::Seconds(4); };
    const LoadResult result = RunLoad(target, options, clock);
    EXPECT_NEAR(absl::ToDoubleSeconds(result.window), 3, 0.11) << rate;
    EXPECT_NEAR(result.AchievedPerSecond(), rate > 0 ? rate : 1000, 20) << rate;
    EXPECT_EQ(result.latency.count(), result.due) << rate;
    EXPECT_LT(clock.Now(), absl::Seconds(5));
  }
}

TEST(ClosedLoop, CountsErrorsByCodeAndNotAsLatency) {
  SimulatedClock clock;
  QueueTarget target(clock, absl::Milliseconds(1));
  target.fail_every = 10;
  const LoadResult result =
      RunLoad(target, {.concurrency = 1, .warm_up = absl::ZeroDuration(), .duration = absl::Seconds(1)}, clock);
  EXPECT_NEAR(static_cast<double>(result.errors.at(absl::StatusCode::kUnavailable)), 100, 1);
  EXPECT_EQ(result.errors.size(), 1u);
  EXPECT_EQ(result.latency.count() + result.errors.at(absl::StatusCode::kUnavailable), result.due);
}

TEST(LatencyHistogram, KeepsItsPrecisionAtEveryMagnitude) {
  for (int64_t ns = 1; ns < int64_t{1} << 50; ns = ns * 3 + 1) {
    LatencyHistogram histogram;
    histogram.Add(absl::Nanoseconds(ns));
    const auto buckets = histogram.Buckets();
    ASSERT_EQ(buckets.size(), 1u);
    EXPECT_LE(buckets[0].low, absl::Nanoseconds(ns));
    EXPECT_GT(buckets[0].high, absl::Nanoseconds(ns));
    EXPECT_LE(absl::ToDoubleNanoseconds(buckets[0].high - buckets[0].low),
              std::max(1.0, LatencyHistogram::kPrecision * absl::ToDoubleNanoseconds(buckets[0].low)));
    EXPECT_EQ(histogram.Quantile(0.5), absl::Nanoseconds(ns));  // the exact largest value bounds it
  }
}

TEST(LatencyHistogram, BucketsLeaveNoGaps) {
  LatencyHistogram histogram;
  for (int64_t ns = 0; ns < 5000; ++ns) histogram.Add(absl::Nanoseconds(ns));
  const auto buckets = histogram.Buckets();
  for (size_t i = 1; i < buckets.size(); ++i) EXPECT_EQ(buckets[i].low, buckets[i - 1].high);
  for (size_t i = 0; i + 1 < buckets.size(); ++i) {
    EXPECT_EQ(buckets[i].count, absl::ToInt64Nanoseconds(buckets[i].high - buckets[i].low));
  }
  EXPECT_EQ(histogram.count(), 5000);
}

TEST(LatencyHistogram, QuantilesAreNearestRanksAndNeverTooSmall) {
  LatencyHistogram a, b;
  for (int64_t i = 1; i <= 1000; ++i) (i % 2 == 0 ? a : b).Add(absl::Microseconds(i));
  a.Merge(b);
  for (double q : {0.5, 0.9, 0.99, 0.999, 1.0}) {
    const double exact = 1000 * q, found = absl::ToDoubleMicroseconds(a.Quantile(q));
    EXPECT_GE(found, exact) << q;
    EXPECT_LE(found, exact * (1 + LatencyHistogram::kPrecision)) << q;
  }
  EXPECT_EQ(a.Quantile(1), absl::Microseconds(1000));
  EXPECT_NEAR(absl::ToDoubleMicroseconds(a.Mean()), 500.5, 1e-6);
  EXPECT_EQ(LatencyHistogram().Quantile(0.99), absl::ZeroDuration());
}

}  // namespace
}  // namespace octet::client
