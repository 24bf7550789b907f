// Which variant answers a request that names none: shares of traffic, and the same choice for the same key.
#ifndef OCTET_SERVER_TRAFFIC_H_
#define OCTET_SERVER_TRAFFIC_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace octet::server {

using TrafficWeights = std::map<std::string, double>;  // variant -> share; sums to 1; empty: all to the primary

struct TrafficSettings {
  TrafficWeights weights;
  std::string sticky_parameter;  // request parameter whose value decides; empty: none
};

// Parses "int8:0.9,f32:0.1". Errors: kInvalidArgument (no variant name, share outside [0, 1], named twice, sum not 1).
absl::StatusOr<TrafficWeights> ParseWeights(absl::string_view text);

// Errors as above, for weights that come as numbers.
absl::Status CheckWeights(const TrafficWeights& weights);

// The variant whose interval of [0, 1), laid end to end by name, holds `point`. Requires: not empty.
const std::string& ChooseVariant(const TrafficWeights& weights, double point);

// A point in [0, 1) that depends on nothing but the key: equal in all replicas and across restarts.
double PointOf(absl::string_view key);

// Evenly distributed points in [0, 1), one after another. Thread-safe.
class PointSequence {
 public:
  double Next();

 private:
  std::atomic<uint64_t> count_{0};
};

}  // namespace octet::server

#endif  // OCTET_SERVER_TRAFFIC_H_
