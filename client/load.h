// A load generator: keeps a number of requests in flight (closed loop), or sends them at random times whatever the
// answers do (open loop, Poisson arrivals).
//
// Open loop latency counts from the time at which a request was due, not from when it went out: a server that stalls,
// and a generator that falls behind, make latencies longer, never fewer (no coordinated omission). All requests that
// fall due in the window are sent, or counted as unsent.
#ifndef OCTET_CLIENT_LOAD_H_
#define OCTET_CLIENT_LOAD_H_

#include <cstdint>
#include <functional>
#include <map>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/latency_histogram.h"

namespace octet::client {

// What is loaded. Thread-safe.
class LoadTarget {
 public:
  using Done = absl::AnyInvocable<void(const absl::Status&)>;
  virtual ~LoadTarget() = default;
  // Starts request number `i` and returns at once; `done` is called once, later, on any thread, never from inside Send.
  virtual void Send(int64_t i, Done done) = 0;
};

// Time as a generator sees it: since a fixed origin, never going back. Thread-safe.
class LoadClock {
 public:
  virtual ~LoadClock() = default;
  virtual absl::Duration Now() = 0;
  virtual void SleepUntil(absl::Duration time) = 0;
  static LoadClock& Steady();  // the machine's monotonic clock, woken to within its timer's resolution
};

struct LoadOptions {
  double rate = 0;                // > 0: open loop, requests per second on average; 0: closed loop
  int64_t concurrency = 1;        // closed loop: requests in flight
  int64_t max_in_flight = 10000;  // open loop: requests wait in the generator beyond this, and their latency counts
  absl::Duration warm_up = absl::Seconds(1);    // requests due before this are sent and not counted
  absl::Duration duration = absl::Seconds(10);  // of the window behind it
  absl::Duration grace = absl::Seconds(5);  // after the window, for requests that were due in it and have not gone out
  uint64_t seed = 1;                        // of the arrival times
  std::function<bool()> stop = {};  // asked ten times a second: true ends the window then; it is as long as it lasted
};

// Of requests that were due (open loop) or sent (closed loop) in the window.
struct LoadResult {
  LatencyHistogram latency;                    // of those that succeeded
  LatencyHistogram lateness;                   // open loop: how long after its time each request went out
  std::map<absl::StatusCode, int64_t> errors;  // of those that failed
  int64_t due = 0;                             // all of them
  int64_t unsent = 0;                          // that never went out: latency is a lower bound then
  int64_t completed_in_window = 0;             // successes of any request that ended inside the window
  absl::Duration window;                       // zero when it was stopped in the warm-up

  double PerSecond(int64_t count) const {
    return window > absl::ZeroDuration() ? static_cast<double>(count) / absl::ToDoubleSeconds(window) : 0;
  }
  double OfferedPerSecond() const { return PerSecond(due); }
  double AchievedPerSecond() const { return PerSecond(completed_in_window); }
};

// Runs one window and waits for all answers; the target must give every request an end (a deadline).
LoadResult RunLoad(LoadTarget& target, const LoadOptions& options, LoadClock& clock = LoadClock::Steady());

}  // namespace octet::client

#endif  // OCTET_CLIENT_LOAD_H_
