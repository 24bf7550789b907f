// One ModelInfer call: an inference whose answer ends the call.
#ifndef OCTET_SERVER_INFER_CALL_H_
#define OCTET_SERVER_INFER_CALL_H_

#include <grpcpp/grpcpp.h>

#include "server/inference.h"

namespace octet::server {

// Owned by itself: gRPC's OnDone deletes it. Finish is the last thing that touches it before.
class InferCall final : public grpc::ServerUnaryReactor {
 public:
  static grpc::ServerUnaryReactor* Start(const InferEnvironment& environment,
                                         grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response);

  // gRPC calls this only after Start returned.
  void OnCancel() override { inference_.Cancel(); }
  void OnDone() override { delete this; }

 private:
  InferCall(const InferEnvironment& environment, grpc::CallbackServerContext* context)
      : inference_(environment, absl::FromChrono(context->deadline())) {}

  Inference inference_;
};

}  // namespace octet::server

#endif  // OCTET_SERVER_INFER_CALL_H_
