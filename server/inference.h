// One inference, from the wire bytes of a ModelInferRequest to those of its answer: what ModelInfer and every message
// of ModelStreamInfer are. Parser, admission by bytes, repository, scheduler, and the sample for comparison.
#ifndef OCTET_SERVER_INFERENCE_H_
#define OCTET_SERVER_INFERENCE_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/clock.h"
#include "server/comparison/comparer.h"
#include "server/in_flight.h"
#include "server/metrics.h"
#include "server/repository.h"
#include "server/request_parser.h"
#include "server/scheduler.h"

namespace octet::server {

// What every inference needs; outlives them all.
struct InferEnvironment {
  const Repository* repository = nullptr;
  Scheduler* scheduler = nullptr;
  Metrics* metrics = nullptr;
  Clock* clock = nullptr;
  InFlightBytes* in_flight = nullptr;
  Comparer* comparer = nullptr;
  RequestLimits limits;
};

// Thread-compatible; `done` may come from a slot's thread.
class Inference {
 public:
  // The wire bytes of a ModelInferResponse, or why there is none.
  using Done = std::function<void(absl::StatusOr<grpc::Slice>)>;

  // `deadline`: the transport's; gRPC's "none" is the clock's last moment.
  Inference(const InferEnvironment& environment, absl::Time deadline)
      : environment_(environment), deadline_(deadline) {}
  // To be called when the answer is sent: gives the request's bytes back and a sampled answer to the comparison.
  ~Inference();

  Inference(const Inference&) = delete;
  Inference& operator=(const Inference&) = delete;

  // Calls done once, perhaps before it returns. Done may destroy this object.
  void Start(const grpc::ByteBuffer& request, Done done);

  // Lets done be called soon. Requires: Start has returned.
  void Cancel();

 private:
  absl::Status Submit(const grpc::ByteBuffer& request);
  absl::Status SetDeadline(const InferRequest& request, Job* job) const;
  absl::StatusOr<grpc::Slice> Finish(absl::StatusOr<Reply> reply);
  void KeepForComparison(Reply* reply);

  const InferEnvironment& environment_;
  const absl::Time deadline_;
  Done done_;
  int64_t held_bytes_ = 0;
  Route route_;
  std::shared_ptr<Job> job_;
  std::vector<ByteSpan> kept_outputs_;  // of a sampled answer, in kept_reply_
  std::shared_ptr<grpc::Slice> kept_reply_;
};

// The id of a ModelInferRequest, whatever else is wrong with it; empty when it has none.
std::string RequestId(const grpc::ByteBuffer& request);

}  // namespace octet::server

#endif  // OCTET_SERVER_INFERENCE_H_
