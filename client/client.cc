// Calls over one gRPC channel.
#include "client/client.h"

#include <grpcpp/completion_queue.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/status.h"
#include "client/balance.h"
#include "client/wire.h"
#include "proto/grpc_service.grpc.pb.h"

namespace octet::client {

struct PreparedRequest::Wire {
  grpc::ByteBuffer buffer;
};

namespace {

constexpr char kInferMethod[] = "/inference.GRPCInferenceService/ModelInfer";
constexpr char kReasonKey[] = "octet-reason";

// gRPC's codes are Abseil's.
absl::Status ToStatus(const grpc::Status& status, const grpc::ClientContext& context) {
  if (status.ok()) return absl::OkStatus();
  absl::Status out(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  const auto& metadata = context.GetServerTrailingMetadata();
  const auto reason = metadata.find(kReasonKey);
  if (reason == metadata.end()) return out;
  return WithReason(std::move(out),
                    absl::string_view(reason->second.data(), reason->second.size()));
}

void SetDeadline(grpc::ClientContext& context, absl::Duration deadline) {
  context.set_deadline(absl::ToChronoTime(absl::Now() + deadline));
}

absl::StatusOr<InferResult> ToResult(const grpc::Status& status, const grpc::ClientContext& context,
                                     grpc::ByteBuffer* buffer) {
  OCTET_RETURN_IF_ERROR(ToStatus(status, context));
  inference::ModelInferResponse response;
  if (!grpc::SerializationTraits<inference::ModelInferResponse>::Deserialize(buffer, &response)
           .ok()) {
    return absl::DataLossError("the answer is no ModelInferResponse");
  }
  return DecodeResponse(std::move(response));
}

std::vector<TensorSpec> ToSpecs(
    const google::protobuf::RepeatedPtrField<inference::ModelMetadataResponse::TensorMetadata>&
        from) {
  std::vector<TensorSpec> specs;
  for (const auto& tensor : from) {
    specs.push_back(
        {tensor.name(), tensor.datatype(), Shape(tensor.shape().begin(), tensor.shape().end())});
  }
  return specs;
}

DurationStatistic ToDuration(const inference::StatisticDuration& from) {
  return {from.count(), absl::Nanoseconds(from.ns())};
}

ModelStatistics ToStatistics(const inference::ModelStatistics& from) {
  ModelStatistics out;
  out.name = from.name();
  out.version = from.version();
  out.inference_count = from.inference_count();
  out.execution_count = from.execution_count();
  out.success = ToDuration(from.inference_stats().success());
  out.fail = ToDuration(from.inference_stats().fail());
  out.queue = ToDuration(from.inference_stats().queue());
  out.compute_infer = ToDuration(from.inference_stats().compute_infer());
  for (const inference::MemoryUsage& usage : from.memory_usage()) {
    out.memory_bytes[usage.type()] += usage.byte_size();
  }
  return out;
}

template <typename Request>
Request NamedRequest(const std::string& model, const std::string& version) {
  Request request;
  request.set_name(model);
  if (!version.empty()) request.set_version(version);
  return request;
}

// What one asynchronous call needs until it ends.
struct AsyncCall {
  PreparedRequest request;
  grpc::ClientContext context;
  grpc::ByteBuffer response;
  Client::Callback done;
};

}  // namespace

struct Client::Impl {
  Impl(std::shared_ptr<grpc::Channel> channel, const ClientOptions& client_options)
      : stub(inference::GRPCInferenceService::NewStub(channel)),
        generic(channel),
        options(client_options) {}

  // One unary call of a generated stub with the default deadline.
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (inference::GRPCInferenceService::Stub::*method)(
                                    grpc::ClientContext*, const Request&, Response*),
                                const Request& request) {
    return Call(method, request, options.deadline);
  }
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (inference::GRPCInferenceService::Stub::*method)(
                                    grpc::ClientContext*, const Request&, Response*),
                                const Request& request, absl::Duration deadline) {
    grpc::ClientContext context;
    SetDeadline(context, deadline);
    Response response;
    OCTET_RETURN_IF_ERROR(ToStatus((stub.get()->*method)(&context, request, &response), context));
    return response;
  }

  const std::unique_ptr<inference::GRPCInferenceService::Stub> stub;
  grpc::GenericStub generic;
  const ClientOptions options;
  absl::Mutex mutex;
  int64_t outstanding ABSL_GUARDED_BY(mutex) = 0;
};

absl::StatusOr<PreparedRequest> PreparedRequest::Create(const InferRequest& request) {
  OCTET_ASSIGN_OR_RETURN(grpc::ByteBuffer buffer, EncodeRequest(request));
  PreparedRequest out;
  out.wire_ = std::make_shared<const Wire>(Wire{std::move(buffer)});
  return out;
}

int64_t PreparedRequest::size_bytes() const {
  return wire_ == nullptr ? 0 : static_cast<int64_t>(wire_->buffer.Length());
}

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const std::string& address,
                                                        const ClientOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  // A connection of its own: two clients to one server share no HTTP/2 flow control.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetServiceConfigJSON(ServiceConfigJson(address, options.retry));
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, options.retry == Retry::kRefused ? 1 : 0);
  // What is larger is not kept for a second attempt; by reference, not copied.
  arguments.SetInt(GRPC_ARG_PER_RPC_RETRY_BUFFER_SIZE, 64 << 20);
  const std::shared_ptr<grpc::Channel> channel =
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  if (!channel->WaitForConnected(absl::ToChronoTime(absl::Now() + options.connect_timeout))) {
    return absl::UnavailableError(absl::StrCat("cannot connect to ", address, " within ",
                                               absl::FormatDuration(options.connect_timeout)));
  }
  return std::unique_ptr<Client>(new Client(std::make_unique<Impl>(channel, options)));
}

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Client::~Client() {
  absl::MutexLock lock(&impl_->mutex);
  impl_->mutex.Await(absl::Condition(
      +[](int64_t* outstanding) { return *outstanding == 0; }, &impl_->outstanding));
}

absl::StatusOr<bool> Client::Live() {
  OCTET_ASSIGN_OR_RETURN(const auto response,
                         impl_->Call(&inference::GRPCInferenceService::Stub::ServerLive,
                                     inference::ServerLiveRequest()));
  return response.live();
}

absl::StatusOr<bool> Client::Ready() {
  OCTET_ASSIGN_OR_RETURN(const auto response,
                         impl_->Call(&inference::GRPCInferenceService::Stub::ServerReady,
                                     inference::ServerReadyRequest()));
  return response.ready();
}

absl::StatusOr<ServerMetadata> Client::Server() {
  OCTET_ASSIGN_OR_RETURN(const auto response, impl_->Call(&inference::GRPCInferenceService::Stub::ServerMetadata,
                                                          inference::ServerMetadataRequest()));
  return ServerMetadata{
      response.name(), response.version(), {response.extensions().begin(), response.extensions().end()}};
}

absl::StatusOr<std::vector<ModelState>> Client::Index() {
  OCTET_ASSIGN_OR_RETURN(const auto response, impl_->Call(&inference::GRPCInferenceService::Stub::RepositoryIndex,
                                                          inference::RepositoryIndexRequest()));
  std::vector<ModelState> out;
  for (const auto& model : response.models()) {
    out.push_back({model.name(), model.version(), model.state(), model.reason()});
  }
  return out;
}

absl::Status Client::Load(const std::string& model, absl::Duration deadline) {
  inference::RepositoryModelLoadRequest request;
  request.set_model_name(model);
  return impl_->Call(&inference::GRPCInferenceService::Stub::RepositoryModelLoad, request, deadline).status();
}

absl::Status Client::Unload(const std::string& model, absl::Duration deadline) {
  inference::RepositoryModelUnloadRequest request;
  request.set_model_name(model);
  return impl_->Call(&inference::GRPCInferenceService::Stub::RepositoryModelUnload, request, deadline).status();
}

absl::StatusOr<bool> Client::ModelReady(const std::string& model, const std::string& version) {
  OCTET_ASSIGN_OR_RETURN(const auto response,
                         impl_->Call(&inference::GRPCInferenceService::Stub::ModelReady,
                                     NamedRequest<inference::ModelReadyRequest>(model, version)));
  return response.ready();
}

absl::StatusOr<ModelMetadata> Client::Metadata(const std::string& model,
                                               const std::string& version) {
  OCTET_ASSIGN_OR_RETURN(
      const auto response,
      impl_->Call(&inference::GRPCInferenceService::Stub::ModelMetadata,
                  NamedRequest<inference::ModelMetadataRequest>(model, version)));
  return ModelMetadata{response.name(),
                       {response.versions().begin(), response.versions().end()},
                       response.platform(),
                       ToSpecs(response.inputs()),
                       ToSpecs(response.outputs())};
}

absl::StatusOr<std::vector<ModelStatistics>> Client::Statistics(const std::string& model,
                                                                const std::string& version) {
  OCTET_ASSIGN_OR_RETURN(
      const auto response,
      impl_->Call(&inference::GRPCInferenceService::Stub::ModelStatistics,
                  NamedRequest<inference::ModelStatisticsRequest>(model, version)));
  std::vector<ModelStatistics> out;
  for (const inference::ModelStatistics& one : response.model_stats())
    out.push_back(ToStatistics(one));
  return out;
}

absl::StatusOr<InferResult> Client::Infer(const InferRequest& request) {
  return Infer(request, impl_->options.deadline);
}

absl::StatusOr<InferResult> Client::Infer(const InferRequest& request, absl::Duration deadline) {
  OCTET_ASSIGN_OR_RETURN(const PreparedRequest prepared, PreparedRequest::Create(request));
  return Infer(prepared, deadline);
}

absl::StatusOr<InferResult> Client::Infer(const PreparedRequest& request) {
  return Infer(request, impl_->options.deadline);
}

absl::StatusOr<InferResult> Client::Infer(const PreparedRequest& request, absl::Duration deadline) {
  if (request.wire_ == nullptr) return absl::InvalidArgumentError("an empty prepared request");
  grpc::ClientContext context;
  SetDeadline(context, deadline);
  grpc::ByteBuffer response;
  grpc::Status status;
  // A queue of its own, as generated stubs do: the calling thread polls, no other thread wakes it.
  grpc::CompletionQueue queue;
  const auto call =
      impl_->generic.PrepareUnaryCall(&context, kInferMethod, request.wire_->buffer, &queue);
  call->StartCall();
  call->Finish(&response, &status, &context);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  return ToResult(status, context, &response);
}

void Client::InferAsync(const PreparedRequest& request, Callback done) {
  InferAsync(request, impl_->options.deadline, std::move(done));
}

void Client::InferAsync(const PreparedRequest& request, absl::Duration deadline, Callback done) {
  if (request.wire_ == nullptr) {
    done(absl::InvalidArgumentError("an empty prepared request"));
    return;
  }
  {
    absl::MutexLock lock(&impl_->mutex);
    ++impl_->outstanding;
  }
  // Freed by its own callback, which gRPC calls exactly once.
  auto* call = new AsyncCall{request, {}, {}, std::move(done)};
  SetDeadline(call->context, deadline);
  impl_->generic.UnaryCall(&call->context, kInferMethod, grpc::StubOptions(),
                           &request.wire_->buffer, &call->response,
                           [impl = impl_.get(), call](const grpc::Status& status) {
                             call->done(ToResult(status, call->context, &call->response));
                             delete call;
                             absl::MutexLock lock(&impl->mutex);
                             --impl->outstanding;
                           });
}

}  // namespace octet::client
