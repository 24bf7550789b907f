// Small state behind locks.
#include "server/comparison/version_control.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"
#include "base/status.h"

namespace octet::server {

VersionControl::VersionControl(ControlOptions options, absl::Time now)
    : options_(std::move(options)),
      fraction_(options_.fraction),
      allowance_(options_.max_comparison_cpus, now),
      primary_(options_.primary),
      traffic_(options_.traffic) {
  if (options_.reference.empty()) return;
  for (const std::string& variant : options_.variants) {
    if (variant == options_.reference) continue;
    pairs_[variant] = std::make_shared<Pair>(PairLabels{options_.model, options_.version, variant, options_.reference},
                                             options_.window, options_.guard);
  }
}

std::string VersionControl::primary() const {
  absl::MutexLock lock(&mu_);
  return primary_;
}

TrafficSettings VersionControl::traffic() const {
  absl::MutexLock lock(&mu_);
  return traffic_;
}

absl::Status VersionControl::Known(const std::string& variant) const {
  if (std::find(options_.variants.begin(), options_.variants.end(), variant) != options_.variants.end()) {
    return absl::OkStatus();
  }
  return absl::NotFoundError(absl::StrCat("model '", options_.model, "' version ", options_.version,
                                          " has no variant '", variant,
                                          "'; there are: ", absl::StrJoin(options_.variants, ", ")));
}

absl::Status VersionControl::SetPrimary(const std::string& variant) {
  OCTET_RETURN_IF_ERROR(Known(variant));
  absl::MutexLock lock(&mu_);
  primary_ = variant;
  traffic_.weights.clear();
  return absl::OkStatus();
}

absl::Status VersionControl::SetTraffic(TrafficSettings traffic) {
  OCTET_RETURN_IF_ERROR(CheckWeights(traffic.weights));
  for (const auto& [variant, share] : traffic.weights) OCTET_RETURN_IF_ERROR(Known(variant));
  absl::MutexLock lock(&mu_);
  traffic_ = std::move(traffic);
  return absl::OkStatus();
}

absl::Status VersionControl::SetFraction(double fraction) {
  if (!(fraction >= 0 && fraction <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("comparison fraction: ", fraction, " is outside [0, 1]"));
  }
  if (fraction > 0 && options_.reference.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("model '", options_.model, "' has no reference to compare with"));
  }
  fraction_.store(fraction, std::memory_order_relaxed);
  return absl::OkStatus();
}

std::string VersionControl::Intended(const std::optional<std::string>& sticky_key) {
  absl::MutexLock lock(&mu_);
  if (traffic_.weights.empty()) return primary_;
  return ChooseVariant(traffic_.weights, sticky_key.has_value() ? PointOf(*sticky_key) : points_.Next());
}

std::shared_ptr<Pair> VersionControl::pair(const std::string& variant) const {
  auto it = pairs_.find(variant);
  return it == pairs_.end() ? nullptr : it->second;
}

bool VersionControl::AnyTripped() const {
  return std::any_of(pairs_.begin(), pairs_.end(), [](const auto& item) { return item.second->tripped(); });
}

void VersionControl::SetTarget(const std::string& variant, std::optional<ReplayTarget> target) {
  absl::MutexLock lock(&targets_mu_);
  if (target.has_value()) {
    targets_[variant] = *std::move(target);
  } else {
    targets_.erase(variant);
  }
}

void VersionControl::ClearTargets() {
  absl::MutexLock lock(&targets_mu_);
  targets_.clear();
}

std::optional<ReplayTarget> VersionControl::target(const std::string& variant) const {
  absl::MutexLock lock(&targets_mu_);
  auto it = targets_.find(variant);
  if (it == targets_.end()) return std::nullopt;
  return it->second;
}

}  // namespace octet::server
