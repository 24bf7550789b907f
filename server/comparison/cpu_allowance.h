// A share of CPU time: what was spent is earned back as time passes.
#ifndef OCTET_SERVER_COMPARISON_CPU_ALLOWANCE_H_
#define OCTET_SERVER_COMPARISON_CPU_ALLOWANCE_H_

#include <algorithm>

#include "absl/time/time.h"

namespace octet::server {

// Over any time span T at most cpus * T + kBurst is spent, and one task more. Thread-compatible.
class CpuAllowance {
 public:
  static constexpr absl::Duration kBurst = absl::Seconds(1);

  // `cpus`: share times the CPUs of the budget.
  CpuAllowance(double cpus, absl::Time now) : cpus_(cpus), earned_at_(now) {}

  bool Affords(absl::Time now) {
    Earn(now);
    return balance_ > absl::ZeroDuration();
  }
  void Spend(absl::Duration cpu) { balance_ -= cpu; }

 private:
  void Earn(absl::Time now) {
    if (now <= earned_at_) return;
    balance_ = std::min(kBurst, balance_ + cpus_ * (now - earned_at_));
    earned_at_ = now;
  }

  const double cpus_;
  absl::Time earned_at_;
  absl::Duration balance_ = kBurst;
};

}  // namespace octet::server

#endif  // OCTET_SERVER_COMPARISON_CPU_ALLOWANCE_H_
