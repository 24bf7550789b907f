// Means over the entries.
#include "server/uncertainty_window.h"

#include <algorithm>
#include <cmath>

namespace octet::server {

void UncertaintyWindow::Add(double entropy_nats, double mutual_information_nats, absl::Time now) {
  if (!std::isfinite(entropy_nats) || !std::isfinite(mutual_information_nats)) return;
  absl::MutexLock lock(&mu_);
  entries_.push_back({now, std::max(0.0, entropy_nats), std::max(0.0, mutual_information_nats)});
  while (static_cast<int64_t>(entries_.size()) > limits_.max_answers || now - entries_.front().time > limits_.max_age) {
    entries_.pop_front();
    if (entries_.empty()) return;
  }
}

void UncertaintyWindow::Reset() {
  absl::MutexLock lock(&mu_);
  entries_.clear();
}

UncertaintySummary UncertaintyWindow::Summary(absl::Time now) const {
  UncertaintySummary summary;
  double entropy = 0, information = 0;
  int64_t uncertain = 0;
  {
    absl::MutexLock lock(&mu_);
    for (const Entry& entry : entries_) {
      if (now - entry.time > limits_.max_age) continue;
      ++summary.answers;
      entropy += entry.entropy;
      information += entry.information;
      if (entry.entropy > limits_.max_entropy_nats) ++uncertain;
    }
  }
  if (summary.answers == 0) return summary;
  summary.entropy_nats = entropy / static_cast<double>(summary.answers);
  summary.epistemic_share = entropy > 0 ? std::min(1.0, information / entropy) : 0;
  summary.uncertain_ratio = static_cast<double>(uncertain) / static_cast<double>(summary.answers);
  return summary;
}

}  // namespace octet::server
