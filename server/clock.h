// Time as an injected dependency, so that tests decide when deadlines pass.
#ifndef OCTET_SERVER_CLOCK_H_
#define OCTET_SERVER_CLOCK_H_

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace octet::server {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() = 0;

  // Waits on `cv` until it is signalled or Now() reaches `deadline`; may return early. Requires:
  // `mu` is held.
  virtual void WaitUntil(absl::CondVar* cv, absl::Mutex* mu, absl::Time deadline) = 0;
};

class SystemClock final : public Clock {
 public:
  absl::Time Now() override { return absl::Now(); }
  void WaitUntil(absl::CondVar* cv, absl::Mutex* mu, absl::Time deadline) override {
    cv->WaitWithDeadline(mu, deadline);
  }
};

}  // namespace octet::server

#endif  // OCTET_SERVER_CLOCK_H_
