// Bookkeeping around windows and guard.
#include "server/comparison/pair.h"

#include "server/log.h"

namespace octet::server {
namespace {
constexpr size_t kMostTimes = 64;
}  // namespace

void Pair::Record(const std::map<std::string, OutputAgreement>& outputs, absl::Duration cpu, absl::Time now) {
  absl::MutexLock lock(&mu_);
  ++compared_;
  cpu_ += cpu;
  for (const auto& [name, agreement] : outputs) {
    outputs_.try_emplace(name, window_).first->second.Add(agreement, now);
  }
  if (guard_.settings.enabled()) Apply(DecideGuard(guard_.settings, tripped(), Outputs(now)), now);
}

void Pair::Apply(const GuardDecision& decision, absl::Time now) {
  if (decision.action == GuardAction::kStay) return;
  const bool trip = decision.action == GuardAction::kTrip;
  guard_.tripped = trip;
  guard_.reason = decision.reason;
  guard_.since = now;
  ++(trip ? guard_.trips : guard_.recoveries);
  tripped_.store(trip, std::memory_order_release);
  outputs_.clear();
  Log(trip ? Severity::kWarning : Severity::kInfo,
      trip ? "guard tripped: the reference answers for the variant" : "guard recovered: the variant answers again",
      {{"model", labels_.model},
       {"version", labels_.version},
       {"variant", labels_.variant},
       {"reference", labels_.reference},
       {"why", decision.reason}});
}

bool Pair::TimesDue() const {
  absl::MutexLock lock(&mu_);
  return compared_ % kTimedEvery == kTimedEvery / 2;
}

void Pair::RecordTimes(absl::Duration variant, absl::Duration reference) {
  absl::MutexLock lock(&mu_);
  times_.emplace_back(variant, reference);
  if (times_.size() > kMostTimes) times_.pop_front();
}

void Pair::SetGuard(const GuardSettings& settings) {
  absl::MutexLock lock(&mu_);
  guard_.settings = settings;
}

bool Pair::Recover(absl::Time now) {
  absl::MutexLock lock(&mu_);
  if (!tripped()) return false;
  Apply({GuardAction::kRecover, "asked for by RPC"}, now);
  return true;
}

void Pair::ResetWindows() {
  absl::MutexLock lock(&mu_);
  outputs_.clear();
  times_.clear();
}

OutputSummaries Pair::Outputs(absl::Time now) const {
  OutputSummaries summaries;
  for (const auto& [name, window] : outputs_) {
    WindowSummary summary = window.Summary(now);
    if (summary.comparisons > 0) summaries.emplace(name, summary);
  }
  return summaries;
}

PairSummary Pair::Summary(absl::Time now) const {
  PairSummary summary;
  summary.labels = labels_;
  summary.dropped = dropped_.load(std::memory_order_relaxed);
  summary.failed = failed_.load(std::memory_order_relaxed);
  summary.waiting = waiting_.load(std::memory_order_relaxed);
  absl::MutexLock lock(&mu_);
  summary.outputs = Outputs(now);
  summary.compared = compared_;
  summary.cpu = cpu_;
  summary.guard = guard_;
  absl::Duration variant, reference;
  for (const auto& [v, r] : times_) {
    variant += v;
    reference += r;
  }
  if (reference > absl::ZeroDuration()) summary.latency_ratio = absl::FDivDuration(variant, reference);
  return summary;
}

}  // namespace octet::server
