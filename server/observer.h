// What the scheduler reports about batches and requests: statistics and metrics listen here.
#ifndef OCTET_SERVER_OBSERVER_H_
#define OCTET_SERVER_OBSERVER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace octet::server {

struct ComputeTimes {
  absl::Duration input;   // assembling the batch
  absl::Duration infer;   // running it
  absl::Duration output;  // scattering the replies
};

struct BatchRecord {
  int64_t rows = 0;    // rows of requests, without padding
  int64_t bucket = 0;  // rows that ran
  ComputeTimes times;
};

struct RequestRecord {
  absl::Status status;
  int64_t rows = 0;
  absl::Duration total;   // from arrival to the answer
  absl::Duration queue;   // until its batch started; the whole wait when it never did
  bool executed = false;  // `times` are those of its batch
  ComputeTimes times;
};

// Thread-safe; called from slots and timers with no lock held; must be quick.
class ExecutionObserver {
 public:
  virtual ~ExecutionObserver() = default;
  virtual void OnBatch(const BatchRecord& record) = 0;
  virtual void OnRequest(const RequestRecord& record) = 0;
  // Of an ensemble: predictive entropy and mutual information of the rows of a batch, nats.
  virtual void OnUncertainty(absl::Span<const float> /*entropy*/, absl::Span<const float> /*information*/) {}
};

}  // namespace octet::server

#endif  // OCTET_SERVER_OBSERVER_H_
