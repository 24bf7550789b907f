// Slices in a ring, told apart by their number.
#include "server/latency_window.h"

#include <algorithm>
#include <cmath>

namespace octet::server {
namespace {

constexpr double kLeastSeconds = 1e-5;
constexpr double kPerOctave = 8;

double UpperBound(int bucket) { return kLeastSeconds * std::exp2(bucket / kPerOctave); }

}  // namespace

void LatencyWindow::Add(absl::Duration latency, absl::Time now) {
  const double seconds = std::max(0.0, absl::ToDoubleSeconds(latency));
  const int64_t number = absl::ToUnixSeconds(now) / absl::ToInt64Seconds(kSlice);
  Slice& slice = slices_[static_cast<size_t>(number % kSlices)];
  if (slice.number != number) {
    slice = Slice{};
    slice.number = number;
  }
  first_ = std::min(first_, now);
  const double octaves = seconds <= kLeastSeconds ? 0 : std::log2(seconds / kLeastSeconds);
  const int bucket = std::min(kBuckets - 1, static_cast<int>(std::ceil(octaves * kPerOctave)));
  ++slice.buckets[static_cast<size_t>(bucket)];
  ++slice.count;
  slice.seconds += seconds;
  slice.max_seconds = std::max(slice.max_seconds, seconds);
}

LatencySummary LatencyWindow::Summary(absl::Time now) const {
  LatencySummary summary;
  const int64_t number = absl::ToUnixSeconds(now) / absl::ToInt64Seconds(kSlice);
  std::array<uint64_t, kBuckets> buckets{};
  double seconds = 0;
  for (const Slice& slice : slices_) {
    if (slice.number < 0 || slice.number <= number - kSlices || slice.number > number) continue;
    summary.count += slice.count;
    seconds += slice.seconds;
    summary.max_seconds = std::max(summary.max_seconds, slice.max_seconds);
    for (size_t i = 0; i < buckets.size(); ++i) buckets[i] += slice.buckets[i];
  }
  const absl::Time begin = absl::FromUnixSeconds((number - kSlices + 1) * absl::ToInt64Seconds(kSlice));
  summary.span = std::max(absl::ZeroDuration(), now - std::max(begin, first_));
  if (summary.count == 0) return summary;
  summary.mean_seconds = seconds / static_cast<double>(summary.count);
  for (int i = 0; i < kBuckets; ++i) {
    const uint64_t count = buckets[static_cast<size_t>(i)];
    if (count > 0) summary.buckets.push_back({i == 0 ? 0 : UpperBound(i - 1), UpperBound(i), count});
  }
  return summary;
}

double LatencySummary::Percentile(double share) const {
  const double rank = share * static_cast<double>(count);
  double below = 0;
  for (const Bucket& bucket : buckets) {
    const double in = static_cast<double>(bucket.count);
    if (below + in >= rank) {
      const double at = bucket.lower_seconds + (bucket.upper_seconds - bucket.lower_seconds) * (rank - below) / in;
      return std::min(at, max_seconds);
    }
    below += in;
  }
  return max_seconds;
}

}  // namespace octet::server
