// Generated stubs behind plain calls.
#include "client/octet_client.h"

#include <grpcpp/grpcpp.h>

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "proto/octet/v1/octet.grpc.pb.h"

namespace octet::client {
namespace {

absl::Status ToStatus(const grpc::Status& status, const grpc::ClientContext& context) {
  if (status.ok()) return absl::OkStatus();
  // gRPC's codes are Abseil's.
  absl::Status out(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  const auto& metadata = context.GetServerTrailingMetadata();
  const auto reason = metadata.find("octet-reason");
  if (reason == metadata.end()) return out;
  return WithReason(std::move(out), absl::string_view(reason->second.data(), reason->second.size()));
}

}  // namespace

struct OctetClient::Impl {
  std::unique_ptr<v1::Octet::Stub> stub;
  absl::Duration timeout;

  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::Octet::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                        Response*),
                                const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    Response response;
    OCTET_RETURN_IF_ERROR(ToStatus((stub.get()->*method)(&context, request, &response), context));
    return response;
  }
};

absl::StatusOr<std::unique_ptr<OctetClient>> OctetClient::Connect(const std::string& address, absl::Duration timeout) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  const std::shared_ptr<grpc::Channel> channel =
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  if (!channel->WaitForConnected(absl::ToChronoTime(absl::Now() + timeout))) {
    return absl::UnavailableError(
        absl::StrCat("cannot connect to ", address, " within ", absl::FormatDuration(timeout)));
  }
  auto impl = std::make_unique<Impl>();
  impl->stub = v1::Octet::NewStub(channel);
  impl->timeout = timeout;
  return std::unique_ptr<OctetClient>(new OctetClient(std::move(impl)));
}

OctetClient::OctetClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
OctetClient::~OctetClient() = default;

absl::StatusOr<v1::ListVariantsResponse> OctetClient::ListVariants(const v1::ListVariantsRequest& request) {
  return impl_->Call(&v1::Octet::Stub::ListVariants, request);
}
absl::StatusOr<v1::Version> OctetClient::SetPrimary(const v1::SetPrimaryRequest& request) {
  return impl_->Call(&v1::Octet::Stub::SetPrimary, request);
}
absl::StatusOr<v1::Version> OctetClient::SetWeights(const v1::SetWeightsRequest& request) {
  return impl_->Call(&v1::Octet::Stub::SetWeights, request);
}
absl::StatusOr<v1::Version> OctetClient::SetGuard(const v1::SetGuardRequest& request) {
  return impl_->Call(&v1::Octet::Stub::SetGuard, request);
}
absl::StatusOr<v1::Version> OctetClient::ResetWindows(const v1::ResetWindowsRequest& request) {
  return impl_->Call(&v1::Octet::Stub::ResetWindows, request);
}

absl::StatusOr<v1::CompareResult> OctetClient::Compare(
    const v1::CompareRequest& request, const std::function<bool(const v1::CompareProgress&)>& progress) {
  grpc::ClientContext context;
  const std::unique_ptr<grpc::ClientReader<v1::CompareResponse>> reader = impl_->stub->Compare(&context, request);
  v1::CompareResponse response;
  std::optional<v1::CompareResult> result;
  while (reader->Read(&response)) {
    if (response.has_result()) result = std::move(*response.mutable_result());
    if (response.has_progress() && !progress(response.progress())) context.TryCancel();
  }
  OCTET_RETURN_IF_ERROR(ToStatus(reader->Finish(), context));
  if (!result.has_value()) return absl::DataLossError("the server ended the comparison without a result");
  return *std::move(result);
}

}  // namespace octet::client
