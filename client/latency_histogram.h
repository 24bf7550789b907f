// Latencies in logarithmic buckets: constant memory, a stated relative precision at every magnitude, as HdrHistogram.
#ifndef OCTET_CLIENT_LATENCY_HISTOGRAM_H_
#define OCTET_CLIENT_LATENCY_HISTOGRAM_H_

#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace octet::client {

// Buckets are kSteps equal parts of each power of two of nanoseconds; below kSteps ns every value has its own.
// Thread-compatible. 60 kB.
class LatencyHistogram {
 public:
  static constexpr int kStepBits = 7;
  static constexpr int kSteps = 1 << kStepBits;
  static constexpr double kPrecision = 1.0 / kSteps;  // a bucket's width is at most this share of its lower edge

  struct Bucket {
    absl::Duration low, high;  // values in [low, high)
    int64_t count = 0;
  };

  // A negative latency counts as zero.
  void Add(absl::Duration latency);
  void Merge(const LatencyHistogram& other);

  int64_t count() const { return count_; }
  absl::Duration max() const { return absl::Nanoseconds(max_ns_); }
  absl::Duration Mean() const;  // of the exact values; zero when empty
  // The largest value of the bucket that holds the q-quantile (0 to 1, nearest rank), at most max(): never flattering.
  // Zero when empty.
  absl::Duration Quantile(double q) const;
  std::vector<Bucket> Buckets() const;  // those that hold values, ascending

 private:
  std::vector<int64_t> counts_ = std::vector<int64_t>((64 - kStepBits) * kSteps);
  int64_t count_ = 0, max_ns_ = 0;
  double sum_ns_ = 0;
};

}  // namespace octet::client

#endif  // OCTET_CLIENT_LATENCY_HISTOGRAM_H_
