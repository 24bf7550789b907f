// Latencies of the last minute as a histogram fine enough for percentiles.
#ifndef OCTET_SERVER_LATENCY_WINDOW_H_
#define OCTET_SERVER_LATENCY_WINDOW_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace octet::server {

struct LatencySummary {
  struct Bucket {
    double lower_seconds, upper_seconds;
    uint64_t count;
  };
  absl::Duration span;  // that was looked at: shorter in the first minute
  uint64_t count = 0;
  double mean_seconds = 0, max_seconds = 0;
  std::vector<Bucket> buckets;  // not empty ones, ascending

  // The latency that `share` of the requests did not exceed, interpolated within its bucket: off by at most 9 %. 0 when
  // there were none.
  double Percentile(double share) const;
};

// Buckets grow by 2^(1/8) from 10 microseconds; slices of 10 s leave as time passes. Thread-compatible.
class LatencyWindow {
 public:
  static constexpr absl::Duration kSlice = absl::Seconds(10);
  static constexpr int kSlices = 6;

  void Add(absl::Duration latency, absl::Time now);
  LatencySummary Summary(absl::Time now) const;

 private:
  static constexpr int kBuckets = 200;  // up to 330 s; longer ones count there
  struct Slice {
    int64_t number = -1;  // of time / kSlice
    uint64_t count = 0;
    double seconds = 0, max_seconds = 0;
    std::array<uint32_t, kBuckets> buckets{};
  };

  std::array<Slice, kSlices> slices_;
  absl::Time first_ = absl::InfiniteFuture();
};

}  // namespace octet::server

#endif  // OCTET_SERVER_LATENCY_WINDOW_H_
