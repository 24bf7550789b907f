// Handlers: each asks a view or the repository and finishes.
#include "server/rpc_service.h"

#include <utility>

#include "server/grpc_status.h"
#include "server/protocol_views.h"

namespace octet::server {
namespace {

using Context = RpcService::Context;
using Reactor = RpcService::Reactor;

Reactor* Finish(Context* context, const absl::Status& status) {
  Reactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status, context));
  return reactor;
}

template <typename Message>
Reactor* Finish(Context* context, absl::StatusOr<Message> result, Message* response) {
  if (result.ok()) *response = *std::move(result);
  return Finish(context, result.status());
}

Reactor* Unsupported(Context* context, absl::string_view what) {
  return Finish(context, absl::UnimplementedError(absl::StrCat("Octet does not support ", what)));
}

// Finishes a call from the loader's thread.
std::function<void(absl::Status)> FinishLater(Reactor* reactor, Context* context,
                                              std::function<void()> changed) {
  return [reactor, context, changed = std::move(changed)](const absl::Status& status) {
    changed();
    reactor->Finish(ToGrpc(status, context));
  };
}

}  // namespace

Reactor* RpcService::ModelInfer(Context* context, const grpc::ByteBuffer* request,
                                grpc::ByteBuffer* response) {
  return InferCall::Start(environment_.infer, context, request, response);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* RpcService::ModelStreamInfer(Context* context) {
  return StreamCall::Start(environment_.infer, context, &streams_);
}

Reactor* RpcService::ServerLive(Context* context, const inference::ServerLiveRequest*,
                                inference::ServerLiveResponse* response) {
  response->set_live(true);
  return Finish(context, absl::OkStatus());
}

Reactor* RpcService::ServerReady(Context* context, const inference::ServerReadyRequest*,
                                 inference::ServerReadyResponse* response) {
  response->set_ready(environment_.ready());
  return Finish(context, absl::OkStatus());
}

Reactor* RpcService::ServerMetadata(Context* context, const inference::ServerMetadataRequest*,
                                    inference::ServerMetadataResponse* response) {
  *response = ServerMetadataView(environment_.version);
  return Finish(context, absl::OkStatus());
}

Reactor* RpcService::ModelReady(Context* context, const inference::ModelReadyRequest* request,
                                inference::ModelReadyResponse* response) {
  const absl::StatusOr<bool> ready =
      ModelReadyView(*environment_.repository, request->name(), request->version());
  if (ready.ok()) response->set_ready(*ready);
  return Finish(context, ready.status());
}

Reactor* RpcService::ModelMetadata(Context* context, const inference::ModelMetadataRequest* request,
                                   inference::ModelMetadataResponse* response) {
  return Finish(context,
                ModelMetadataView(*environment_.repository, request->name(), request->version()),
                response);
}

Reactor* RpcService::ModelConfig(Context* context, const inference::ModelConfigRequest* request,
                                 inference::ModelConfigResponse* response) {
  return Finish(context,
                ModelConfigView(*environment_.repository, request->name(), request->version()),
                response);
}

Reactor* RpcService::ModelStatistics(Context* context,
                                     const inference::ModelStatisticsRequest* request,
                                     inference::ModelStatisticsResponse* response) {
  return Finish(context,
                ModelStatisticsView(*environment_.repository, request->name(), request->version()),
                response);
}

Reactor* RpcService::RepositoryIndex(Context* context,
                                     const inference::RepositoryIndexRequest* request,
                                     inference::RepositoryIndexResponse* response) {
  *response = RepositoryIndexView(*environment_.repository, request->ready());
  return Finish(context, absl::OkStatus());
}

Reactor* RpcService::RepositoryModelLoad(Context* context,
                                         const inference::RepositoryModelLoadRequest* request,
                                         inference::RepositoryModelLoadResponse*) {
  if (!request->parameters().empty()) {
    return Unsupported(context, "parameters of RepositoryModelLoad: change the files, then load");
  }
  Reactor* reactor = context->DefaultReactor();  // every call of it makes a new one
  environment_.repository->Load(request->model_name(),
                                FinishLater(reactor, context, environment_.models_changed));
  return reactor;
}

Reactor* RpcService::RepositoryModelUnload(Context* context,
                                           const inference::RepositoryModelUnloadRequest* request,
                                           inference::RepositoryModelUnloadResponse*) {
  Reactor* reactor = context->DefaultReactor();
  environment_.repository->Unload(request->model_name(),
                                  FinishLater(reactor, context, environment_.models_changed));
  return reactor;
}

Reactor* RpcService::TraceSetting(Context* context, const inference::TraceSettingRequest*,
                                  inference::TraceSettingResponse*) {
  return Unsupported(context, "TraceSetting");
}

Reactor* RpcService::LogSettings(Context* context, const inference::LogSettingsRequest*,
                                 inference::LogSettingsResponse*) {
  return Unsupported(context, "LogSettings");
}

Reactor* RpcService::SystemSharedMemoryStatus(Context* context,
                                              const inference::SystemSharedMemoryStatusRequest*,
                                              inference::SystemSharedMemoryStatusResponse*) {
  return Unsupported(context, "shared memory");
}

Reactor* RpcService::SystemSharedMemoryRegister(Context* context,
                                                const inference::SystemSharedMemoryRegisterRequest*,
                                                inference::SystemSharedMemoryRegisterResponse*) {
  return Unsupported(context, "shared memory");
}

Reactor* RpcService::SystemSharedMemoryUnregister(
    Context* context, const inference::SystemSharedMemoryUnregisterRequest*,
    inference::SystemSharedMemoryUnregisterResponse*) {
  return Unsupported(context, "shared memory");
}

Reactor* RpcService::CudaSharedMemoryStatus(Context* context,
                                            const inference::CudaSharedMemoryStatusRequest*,
                                            inference::CudaSharedMemoryStatusResponse*) {
  return Unsupported(context, "CUDA shared memory");
}

Reactor* RpcService::CudaSharedMemoryRegister(Context* context,
                                              const inference::CudaSharedMemoryRegisterRequest*,
                                              inference::CudaSharedMemoryRegisterResponse*) {
  return Unsupported(context, "CUDA shared memory");
}

Reactor* RpcService::CudaSharedMemoryUnregister(Context* context,
                                                const inference::CudaSharedMemoryUnregisterRequest*,
                                                inference::CudaSharedMemoryUnregisterResponse*) {
  return Unsupported(context, "CUDA shared memory");
}

}  // namespace octet::server
