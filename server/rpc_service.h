// GRPCInferenceService on gRPC's callback API: ModelInfer and ModelStreamInfer on raw bytes, everything else on
// generated messages.
#ifndef OCTET_SERVER_RPC_SERVICE_H_
#define OCTET_SERVER_RPC_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <string>

#include "proto/grpc_service.grpc.pb.h"
#include "server/infer_call.h"
#include "server/repository.h"
#include "server/stream_call.h"

namespace octet::server {

struct RpcEnvironment {
  InferEnvironment infer;
  Repository* repository = nullptr;
  std::function<bool()> ready;           // ServerReady
  std::function<void()> models_changed;  // after a load or unload
  std::string version;
};

namespace internal {
template <class Base>
using Unary1 = inference::GRPCInferenceService::WithCallbackMethod_ServerLive<
    inference::GRPCInferenceService::WithCallbackMethod_ServerReady<
        inference::GRPCInferenceService::WithCallbackMethod_ModelReady<
            inference::GRPCInferenceService::WithCallbackMethod_ServerMetadata<
                inference::GRPCInferenceService::WithCallbackMethod_ModelMetadata<
                    inference::GRPCInferenceService::WithCallbackMethod_ModelConfig<
                        inference::GRPCInferenceService::WithCallbackMethod_ModelStatistics<
                            Base>>>>>>>;
template <class Base>
using Unary2 = inference::GRPCInferenceService::WithCallbackMethod_RepositoryIndex<
    inference::GRPCInferenceService::WithCallbackMethod_RepositoryModelLoad<
        inference::GRPCInferenceService::WithCallbackMethod_RepositoryModelUnload<
            inference::GRPCInferenceService::WithCallbackMethod_TraceSetting<
                inference::GRPCInferenceService::WithCallbackMethod_LogSettings<Base>>>>>;
template <class Base>
using SharedMemory = inference::GRPCInferenceService::WithCallbackMethod_SystemSharedMemoryStatus<
    inference::GRPCInferenceService::WithCallbackMethod_SystemSharedMemoryRegister<
        inference::GRPCInferenceService::WithCallbackMethod_SystemSharedMemoryUnregister<
            inference::GRPCInferenceService::WithCallbackMethod_CudaSharedMemoryStatus<
                inference::GRPCInferenceService::WithCallbackMethod_CudaSharedMemoryRegister<
                    inference::GRPCInferenceService::WithCallbackMethod_CudaSharedMemoryUnregister<
                        Base>>>>>>;
using RpcBase = inference::GRPCInferenceService::WithRawCallbackMethod_ModelInfer<
    inference::GRPCInferenceService::WithRawCallbackMethod_ModelStreamInfer<
        Unary1<Unary2<SharedMemory<inference::GRPCInferenceService::Service>>>>>;
}  // namespace internal

// Thread-safe.
class RpcService final : public internal::RpcBase {
 public:
  explicit RpcService(RpcEnvironment environment) : environment_(std::move(environment)) {}

  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  Reactor* ModelInfer(Context* context, const grpc::ByteBuffer* request,
                      grpc::ByteBuffer* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* ModelStreamInfer(Context* context) override;
  void DrainStreams() { streams_.Drain(); }  // before the scheduler stops

  Reactor* ServerLive(Context* context, const inference::ServerLiveRequest* request,
                      inference::ServerLiveResponse* response) override;
  Reactor* ServerReady(Context* context, const inference::ServerReadyRequest* request,
                       inference::ServerReadyResponse* response) override;
  Reactor* ServerMetadata(Context* context, const inference::ServerMetadataRequest* request,
                          inference::ServerMetadataResponse* response) override;
  Reactor* ModelReady(Context* context, const inference::ModelReadyRequest* request,
                      inference::ModelReadyResponse* response) override;
  Reactor* ModelMetadata(Context* context, const inference::ModelMetadataRequest* request,
                         inference::ModelMetadataResponse* response) override;
  Reactor* ModelConfig(Context* context, const inference::ModelConfigRequest* request,
                       inference::ModelConfigResponse* response) override;
  Reactor* ModelStatistics(Context* context, const inference::ModelStatisticsRequest* request,
                           inference::ModelStatisticsResponse* response) override;
  Reactor* RepositoryIndex(Context* context, const inference::RepositoryIndexRequest* request,
                           inference::RepositoryIndexResponse* response) override;
  Reactor* RepositoryModelLoad(Context* context,
                               const inference::RepositoryModelLoadRequest* request,
                               inference::RepositoryModelLoadResponse* response) override;
  Reactor* RepositoryModelUnload(Context* context,
                                 const inference::RepositoryModelUnloadRequest* request,
                                 inference::RepositoryModelUnloadResponse* response) override;

  // Not supported: UNIMPLEMENTED with the reason.
  Reactor* TraceSetting(Context* context, const inference::TraceSettingRequest* request,
                        inference::TraceSettingResponse* response) override;
  Reactor* LogSettings(Context* context, const inference::LogSettingsRequest* request,
                       inference::LogSettingsResponse* response) override;
  Reactor* SystemSharedMemoryStatus(Context* context,
                                    const inference::SystemSharedMemoryStatusRequest* request,
                                    inference::SystemSharedMemoryStatusResponse* response) override;
  Reactor* SystemSharedMemoryRegister(
      Context* context, const inference::SystemSharedMemoryRegisterRequest* request,
      inference::SystemSharedMemoryRegisterResponse* response) override;
  Reactor* SystemSharedMemoryUnregister(
      Context* context, const inference::SystemSharedMemoryUnregisterRequest* request,
      inference::SystemSharedMemoryUnregisterResponse* response) override;
  Reactor* CudaSharedMemoryStatus(Context* context,
                                  const inference::CudaSharedMemoryStatusRequest* request,
                                  inference::CudaSharedMemoryStatusResponse* response) override;
  Reactor* CudaSharedMemoryRegister(Context* context,
                                    const inference::CudaSharedMemoryRegisterRequest* request,
                                    inference::CudaSharedMemoryRegisterResponse* response) override;
  Reactor* CudaSharedMemoryUnregister(
      Context* context, const inference::CudaSharedMemoryUnregisterRequest* request,
      inference::CudaSharedMemoryUnregisterResponse* response) override;

 private:
  const RpcEnvironment environment_;
  OpenStreams streams_;
};

}  // namespace octet::server

#endif  // OCTET_SERVER_RPC_SERVICE_H_
