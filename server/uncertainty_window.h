// What an ensemble's answers say about their own uncertainty, over the latest answers.
//
//   predictive entropy   H[mean over members of p(class)], in nats
//   mutual information   that entropy minus the mean of the members' entropies: what the weights, not the input, leave
//   open
#ifndef OCTET_SERVER_UNCERTAINTY_WINDOW_H_
#define OCTET_SERVER_UNCERTAINTY_WINDOW_H_

#include <cstdint>
#include <deque>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace octet::server {

struct UncertaintySummary {
  int64_t answers = 0;
  double entropy_nats = 0;     // mean
  double epistemic_share = 0;  // mean mutual information / mean entropy; 0 where the entropy is 0
  double uncertain_ratio = 0;  // share of answers whose entropy exceeds max_entropy_nats
};

struct UncertaintyLimits {
  int64_t max_answers = 10'000;
  absl::Duration max_age = absl::Minutes(10);
  double max_entropy_nats = 0;  // above it an answer is uncertain
};

// Thread-safe; Add costs a lock and a push.
class UncertaintyWindow {
 public:
  explicit UncertaintyWindow(UncertaintyLimits limits) : limits_(limits) {}

  // One answered row. Values that are not finite are ignored; negative ones (rounding) count as 0.
  void Add(double entropy_nats, double mutual_information_nats, absl::Time now);
  void Reset();
  UncertaintySummary Summary(absl::Time now) const;  // all zero when empty

 private:
  struct Entry {
    absl::Time time;
    double entropy, information;
  };

  const UncertaintyLimits limits_;
  mutable absl::Mutex mu_;
  std::deque<Entry> entries_ ABSL_GUARDED_BY(mu_);
};

}  // namespace octet::server

#endif  // OCTET_SERVER_UNCERTAINTY_WINDOW_H_
