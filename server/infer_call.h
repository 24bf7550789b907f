// One ModelInfer call: from the wire's bytes through parser, repository and scheduler back to wire
// bytes.
#ifndef OCTET_SERVER_INFER_CALL_H_
#define OCTET_SERVER_INFER_CALL_H_

#include <grpcpp/grpcpp.h>

#include <memory>

#include "absl/status/status.h"
#include "server/clock.h"
#include "server/comparison/comparer.h"
#include "server/in_flight.h"
#include "server/metrics.h"
#include "server/repository.h"
#include "server/request_parser.h"
#include "server/scheduler.h"

namespace octet::server {

// What every call needs; outlives all calls.
struct InferEnvironment {
  const Repository* repository = nullptr;
  Scheduler* scheduler = nullptr;
  Metrics* metrics = nullptr;
  Clock* clock = nullptr;
  InFlightBytes* in_flight = nullptr;
  Comparer* comparer = nullptr;
  RequestLimits limits;
};

// Owned by itself: gRPC's OnDone deletes it. Finish is the last thing that touches it before.
class InferCall final : public grpc::ServerUnaryReactor {
 public:
  static grpc::ServerUnaryReactor* Start(const InferEnvironment& environment,
                                         grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response);

  void OnCancel() override;
  void OnDone() override;

 private:
  InferCall(const InferEnvironment& environment, grpc::CallbackServerContext* context,
            grpc::ByteBuffer* response)
      : environment_(environment), context_(context), response_(response) {}

  absl::Status Submit(const grpc::ByteBuffer& request);
  absl::Status SetDeadline(const InferRequest& request, Job* job) const;
  void Answer(absl::StatusOr<Reply> reply);
  void KeepForComparison(Reply* reply);

  const InferEnvironment& environment_;
  grpc::CallbackServerContext* const context_;
  grpc::ByteBuffer* const response_;
  int64_t held_bytes_ = 0;
  Route route_;
  std::shared_ptr<Job> job_;
  std::vector<ByteSpan> kept_outputs_;  // of a sampled answer, in kept_reply_
  std::shared_ptr<grpc::Slice> kept_reply_;
};

}  // namespace octet::server

#endif  // OCTET_SERVER_INFER_CALL_H_
