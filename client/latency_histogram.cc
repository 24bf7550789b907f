// Index arithmetic of logarithmic buckets.
#include "client/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace octet::client {
namespace {

constexpr int kBits = LatencyHistogram::kStepBits;

// Values below 2 * kSteps are their own index; above, each further power of two takes kSteps indices.
size_t IndexOf(uint64_t ns) {
  if (ns < uint64_t{LatencyHistogram::kSteps}) return static_cast<size_t>(ns);
  const int shift = std::bit_width(ns) - 1 - kBits;
  return (static_cast<size_t>(shift) << kBits) + static_cast<size_t>(ns >> shift);
}

int64_t LowOf(size_t index) {
  if (index < 2 * size_t{LatencyHistogram::kSteps}) return static_cast<int64_t>(index);
  const int shift = static_cast<int>(index >> kBits) - 1;
  return static_cast<int64_t>((index & (LatencyHistogram::kSteps - 1)) + LatencyHistogram::kSteps) << shift;
}

}  // namespace

void LatencyHistogram::Add(absl::Duration latency) {
  const int64_t ns = std::max<int64_t>(0, absl::ToInt64Nanoseconds(latency));
  ++counts_[IndexOf(static_cast<uint64_t>(ns))];
  ++count_;
  max_ns_ = std::max(max_ns_, ns);
  sum_ns_ += static_cast<double>(ns);
}

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  max_ns_ = std::max(max_ns_, other.max_ns_);
  sum_ns_ += other.sum_ns_;
}

absl::Duration LatencyHistogram::Mean() const {
  return count_ == 0 ? absl::ZeroDuration() : absl::Nanoseconds(sum_ns_ / static_cast<double>(count_));
}

absl::Duration LatencyHistogram::Quantile(double q) const {
  const double rank = std::max(1.0, std::ceil(std::clamp(q, 0.0, 1.0) * static_cast<double>(count_)));
  int64_t seen = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (counts_[i] > 0 && static_cast<double>(seen) >= rank) {
      return absl::Nanoseconds(std::min(max_ns_, LowOf(i + 1) - 1));
    }
  }
  return absl::ZeroDuration();
}

std::vector<LatencyHistogram::Bucket> LatencyHistogram::Buckets() const {
  std::vector<Bucket> buckets;
  for (size_t i = 0; i < counts_.size(); ++i) {
    if (counts_[i] > 0) buckets.push_back({absl::Nanoseconds(LowOf(i)), absl::Nanoseconds(LowOf(i + 1)), counts_[i]});
  }
  return buckets;
}

}  // namespace octet::client
