// The raw callback of ModelInfer.
#include "server/infer_call.h"

#include <utility>

#include "server/grpc_status.h"

namespace octet::server {

grpc::ServerUnaryReactor* InferCall::Start(const InferEnvironment& environment,
                                           grpc::CallbackServerContext* context,
                                           const grpc::ByteBuffer* request,
                                           grpc::ByteBuffer* response) {
  auto* call = new InferCall(environment, context);
  call->inference_.Start(*request, [call, context, response](absl::StatusOr<grpc::Slice> answer) {
    if (answer.ok()) {
      grpc::ByteBuffer buffer(&*answer, 1);
      response->Swap(&buffer);
    }
    call->Finish(ToGrpc(answer.status(), context));
  });
  return call;
}

}  // namespace octet::server
