// Arrival times, and counting what comes back.
#include "client/load.h"

#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/rng.h"

namespace octet::client {
namespace {

constexpr absl::Duration kPoll = absl::Microseconds(200), kStopPoll = absl::Milliseconds(100);

class SteadyClock final : public LoadClock {
 public:
  absl::Duration Now() override {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return absl::DurationFromTimespec(now);
  }
  void SleepUntil(absl::Duration time) override {
    // The default slack of 50 us would delay every request of a fast model by a tenth of its latency.
    thread_local const int slack = prctl(PR_SET_TIMERSLACK, 1);
    (void)slack;
    const timespec until = absl::ToTimespec(std::max(time, absl::ZeroDuration()));
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
    }
  }
};

// One window. Callbacks refer to it: it lives until none is outstanding.
class Run {
 public:
  Run(LoadTarget& target, const LoadOptions& options, LoadClock& clock)
      : target_(target),
        options_(options),
        clock_(clock),
        start_(clock.Now()),
        begin_(start_ + options.warm_up),
        end_(begin_ + options.duration) {}

  LoadResult Closed() {
    for (int64_t i = 0; i < options_.concurrency; ++i) SendNext();
    SleepUntil(End());
    return Finish();
  }

  LoadResult Open() {
    const CounterRng rng(options_.seed);
    absl::Duration due = start_;
    for (int64_t i = 0;; ++i) {
      // Exponential gaps: -ln(1 - u) / rate.
      due += absl::Seconds(-std::log1p(-rng.Uniform(static_cast<uint64_t>(i))) / options_.rate);
      if (due >= End() || !SleepUntil(due)) return Finish();
      while (Outstanding() >= options_.max_in_flight && clock_.Now() < End() + options_.grace) {
        if (!SleepUntil(clock_.Now() + kPoll)) break;
      }
      const absl::Duration now = clock_.Now();
      const bool sent = now < End() + options_.grace && Outstanding() < options_.max_in_flight;
      if (due >= begin_) {
        absl::MutexLock lock(&mutex_);
        ++result_.due;
        if (sent) {
          result_.lateness.Add(now - due);
        } else {
          ++result_.unsent;
        }
      }
      if (sent) Send(due);
    }
  }

 private:
  absl::Duration End() {
    absl::MutexLock lock(&mutex_);
    return end_;
  }

  // False when the run was stopped: its end is now.
  bool SleepUntil(absl::Duration time) {
    while (true) {
      const absl::Duration now = clock_.Now();
      if (options_.stop && now >= next_look_) {
        next_look_ = now + kStopPoll;
        if (options_.stop()) {
          absl::MutexLock lock(&mutex_);
          end_ = std::min(end_, now);
          return false;
        }
      }
      if (now >= time) return true;
      clock_.SleepUntil(options_.stop ? std::min(time, now + kStopPoll) : time);
    }
  }

  void Send(absl::Duration due) {
    int64_t number = 0;
    {
      absl::MutexLock lock(&mutex_);
      number = sent_++;
      ++outstanding_;
    }
    target_.Send(number, [this, due](const absl::Status& status) { Ended(due, status); });
  }

  void SendNext() {
    const absl::Duration now = clock_.Now();
    if (now >= begin_) {
      absl::MutexLock lock(&mutex_);
      ++result_.due;
    }
    Send(now);
  }

  void Ended(absl::Duration due, const absl::Status& status) {
    const absl::Duration now = clock_.Now();
    bool more = false;
    {
      absl::MutexLock lock(&mutex_);
      more = options_.rate <= 0 && now < end_;
      if (status.ok() && now >= begin_ && now < end_) ++result_.completed_in_window;
      if (due >= begin_) {
        if (status.ok()) {
          result_.latency.Add(now - due);
        } else {
          ++result_.errors[status.code()];
        }
      }
    }
    if (more) SendNext();
    // Last: afterwards this object may be gone.
    absl::MutexLock lock(&mutex_);
    --outstanding_;
  }

  int64_t Outstanding() {
    absl::MutexLock lock(&mutex_);
    return outstanding_;
  }

  LoadResult Finish() {
    SleepUntil(End());
    while (Outstanding() > 0) clock_.SleepUntil(clock_.Now() + kPoll);
    absl::MutexLock lock(&mutex_);
    result_.window = std::max(end_ - begin_, absl::ZeroDuration());
    return std::move(result_);
  }

  LoadTarget& target_;
  const LoadOptions options_;
  LoadClock& clock_;
  const absl::Duration start_, begin_;
  absl::Duration next_look_;  // of the thread that runs the window
  absl::Mutex mutex_;
  absl::Duration end_ ABSL_GUARDED_BY(mutex_);
  LoadResult result_ ABSL_GUARDED_BY(mutex_);
  int64_t sent_ ABSL_GUARDED_BY(mutex_) = 0, outstanding_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

LoadClock& LoadClock::Steady() {
  static SteadyClock clock;  // no state
  return clock;
}

LoadResult RunLoad(LoadTarget& target, const LoadOptions& options, LoadClock& clock) {
  Run run(target, options, clock);
  return options.rate > 0 ? run.Open() : run.Closed();
}

}  // namespace octet::client
