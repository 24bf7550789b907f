// The client against a small server of the same protocol in this process.
#include "client/client.h"

#include <gmock/gmock.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "base/status.h"
#include "proto/grpc_service.grpc.pb.h"

namespace octet::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Answers ModelInfer with the inputs it got: raw, or typed (FP32) for the model "typed". The model
// "fails" is refused with a reason, "hangs" waits for `release`.
class EchoService final : public inference::GRPCInferenceService::Service {
 public:
  absl::Notification release;
  std::atomic<int> infer_calls = 0;

  grpc::Status ServerLive(grpc::ServerContext*, const inference::ServerLiveRequest*,
                          inference::ServerLiveResponse* response) override {
    response->set_live(true);
    return grpc::Status::OK;
  }
  grpc::Status ServerReady(grpc::ServerContext*, const inference::ServerReadyRequest*,
                           inference::ServerReadyResponse* response) override {
    response->set_ready(false);
    return grpc::Status::OK;
  }
  grpc::Status ServerMetadata(grpc::ServerContext*, const inference::ServerMetadataRequest*,
                              inference::ServerMetadataResponse* response) override {
    response->set_name("echo server");
    response->set_version("3");
    response->add_extensions("statistics");
    return grpc::Status::OK;
  }
  grpc::Status RepositoryIndex(grpc::ServerContext*, const inference::RepositoryIndexRequest*,
                               inference::RepositoryIndexResponse* response) override {
    auto* model = response->add_models();
    model->set_name("echo");
    model->set_state("UNAVAILABLE");
    model->set_reason("it only echoes");
    return grpc::Status::OK;
  }
  grpc::Status RepositoryModelLoad(grpc::ServerContext*, const inference::RepositoryModelLoadRequest* request,
                                   inference::RepositoryModelLoadResponse*) override {
    if (request->model_name() == "echo") return grpc::Status::OK;
    return {grpc::StatusCode::NOT_FOUND, "no " + request->model_name()};
  }
  grpc::Status RepositoryModelUnload(grpc::ServerContext*, const inference::RepositoryModelUnloadRequest* request,
                                     inference::RepositoryModelUnloadResponse*) override {
    if (request->model_name() == "echo") return grpc::Status::OK;
    return {grpc::StatusCode::NOT_FOUND, "no " + request->model_name()};
  }
  grpc::Status ModelReady(grpc::ServerContext*, const inference::ModelReadyRequest* request,
                          inference::ModelReadyResponse* response) override {
    response->set_ready(request->name() == "echo" && request->version() == "2");
    return grpc::Status::OK;
  }
  grpc::Status ModelMetadata(grpc::ServerContext*, const inference::ModelMetadataRequest* request,
                             inference::ModelMetadataResponse* response) override {
    if (request->has_version()) return {grpc::StatusCode::NOT_FOUND, "no such version"};
    response->set_name(request->name());
    response->add_versions("1");
    response->set_platform("echo");
    auto* input = response->add_inputs();
    input->set_name("x");
    input->set_datatype("FP32");
    input->add_shape(-1);
    input->add_shape(3);
    response->add_outputs()->set_name("y");
    return grpc::Status::OK;
  }
  grpc::Status ModelStatistics(grpc::ServerContext*, const inference::ModelStatisticsRequest*,
                               inference::ModelStatisticsResponse* response) override {
    auto* stats = response->add_model_stats();
    stats->set_name("echo@int8");
    stats->set_inference_count(64);
    stats->set_execution_count(2);
    stats->mutable_inference_stats()->mutable_success()->set_count(2);
    stats->mutable_inference_stats()->mutable_compute_infer()->set_ns(1500);
    for (uint64_t bytes : {100, 20}) {
      auto* usage = stats->add_memory_usage();
      usage->set_type("weights");
      usage->set_byte_size(bytes);
    }
    return grpc::Status::OK;
  }
  grpc::Status ModelInfer(grpc::ServerContext* context, const inference::ModelInferRequest* request,
                          inference::ModelInferResponse* response) override {
    ++infer_calls;
    if (request->model_name() == "hangs") release.WaitForNotification();
    // Refused until the third attempt, as by a server that drains.
    if (request->model_name() == "drains" && infer_calls < 3) {
      context->AddTrailingMetadata("octet-reason", "draining");
      return {grpc::StatusCode::UNAVAILABLE, "draining"};
    }
    if (request->model_name() == "fails") {
      context->AddTrailingMetadata("octet-reason", "queue_full");
      return {grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue of 'fails' is full"};
    }
    response->set_model_name(request->model_name());
    response->set_id(request->id());
    *response->mutable_parameters() = request->parameters();
    for (int i = 0; i < request->inputs_size(); ++i) {
      auto* output = response->add_outputs();
      output->set_name(request->inputs(i).name());
      output->set_datatype(request->inputs(i).datatype());
      *output->mutable_shape() = request->inputs(i).shape();
      const std::string& raw = request->raw_input_contents(i);
      if (request->model_name() != "typed") {
        response->add_raw_output_contents(raw);
        continue;
      }
      const auto* values = reinterpret_cast<const float*>(raw.data());
      output->mutable_contents()->mutable_fp32_contents()->Add(values,
                                                               values + raw.size() / sizeof(float));
    }
    return grpc::Status::OK;
  }
};

class ClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.SetMaxReceiveMessageSize(-1);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    address_ = absl::StrCat("127.0.0.1:", port);
    auto client = Client::Connect(address_);
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }

  static InferRequest Request(const std::string& model) {
    InferRequest request;
    request.model = model;
    request.inputs = {{"x", Tensor::FromF32({1, 3}, {1, 2, 3})}};
    return request;
  }

  EchoService service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::unique_ptr<Client> client_;
};

TEST_F(ClientTest, AsksForHealthMetadataAndStatistics) {
  EXPECT_EQ(client_->Live().value(), true);
  EXPECT_EQ(client_->Ready().value(), false);
  EXPECT_EQ(client_->ModelReady("echo", "2").value(), true);
  EXPECT_EQ(client_->ModelReady("echo").value(), false);
  auto metadata = client_->Metadata("echo");
  ASSERT_TRUE(metadata.ok()) << metadata.status();
  EXPECT_EQ(metadata->platform, "echo");
  EXPECT_THAT(metadata->versions, ElementsAre("1"));
  ASSERT_EQ(metadata->inputs.size(), 1u);
  EXPECT_EQ(metadata->inputs[0].datatype, "FP32");
  EXPECT_THAT(metadata->inputs[0].shape, ElementsAre(kUnknownDim, 3));
  EXPECT_EQ(metadata->outputs[0].name, "y");
  EXPECT_EQ(client_->Metadata("echo", "9").status().code(), absl::StatusCode::kNotFound);
  auto statistics = client_->Statistics("");
  ASSERT_TRUE(statistics.ok()) << statistics.status();
  ASSERT_EQ(statistics->size(), 1u);
  EXPECT_EQ((*statistics)[0].inference_count, 64u);
  EXPECT_EQ((*statistics)[0].success.count, 2u);
  EXPECT_EQ((*statistics)[0].compute_infer.total, absl::Nanoseconds(1500));
  EXPECT_EQ((*statistics)[0].memory_bytes.at("weights"), 120u);
}

TEST_F(ClientTest, InfersWithRawAndTypedAnswers) {
  for (const char* model : {"echo", "typed"}) {
    InferRequest request = Request(model);
    request.id = "7";
    request.parameters["variant"] = std::string("int8");
    auto result = client_->Infer(request);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->model_name, model);
    EXPECT_EQ(result->id, "7");
    EXPECT_EQ(std::get<std::string>(result->parameters.at("variant")), "int8");
    ASSERT_EQ(result->outputs.size(), 1u);
    EXPECT_EQ(result->outputs[0].name, "x");
    EXPECT_THAT(result->outputs[0].tensor.shape(), ElementsAre(1, 3));
    EXPECT_THAT(result->outputs[0].tensor.ToF32(), ElementsAre(1, 2, 3));
  }
}

TEST_F(ClientTest, SendsAPreparedRequestAgainAndAgain) {
  auto prepared = PreparedRequest::Create(Request("echo"));
  ASSERT_TRUE(prepared.ok());
  EXPECT_GT(prepared->size_bytes(), 12);
  for (int i = 0; i < 3; ++i) {
    auto result = client_->Infer(*prepared);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_THAT(result->outputs[0].tensor.ToF32(), ElementsAre(1, 2, 3));
  }
  EXPECT_EQ(service_.infer_calls, 3);
  EXPECT_EQ(client_->Infer(PreparedRequest()).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ClientTest, PassesMegabytesBothWays) {
  InferRequest request = Request("echo");
  const std::vector<float> values(5'000'000, 0.25f);  // 20 MB: above gRPC's default limit of 4
  request.inputs[0].tensor = Tensor::FromF32({5'000'000}, values);
  auto result = client_->Infer(request);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->outputs[0].tensor.ToF32(), values);
}

TEST_F(ClientTest, KeepsCodeMessageAndReasonOfErrors) {
  const absl::Status status = client_->Infer(Request("fails")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'fails' is full"));
  EXPECT_EQ(ReasonOf(status), "queue_full");
  auto prepared = PreparedRequest::Create(Request("fails"));
  ASSERT_TRUE(prepared.ok());
  absl::Notification ended;
  client_->InferAsync(*prepared, [&](absl::StatusOr<InferResult> result) {
    EXPECT_EQ(ReasonOf(result.status()), "queue_full");
    ended.Notify();
  });
  ended.WaitForNotification();
}

TEST_F(ClientTest, GivesUpAtTheDeadline) {
  const absl::Status status = client_->Infer(Request("hangs"), absl::Milliseconds(50)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ReasonOf(status), "deadline");
  service_.release.Notify();
}

TEST_F(ClientTest, RunsManyCallsAtOnce) {
  auto prepared = PreparedRequest::Create(Request("echo"));
  ASSERT_TRUE(prepared.ok());
  constexpr int kCalls = 100;
  absl::BlockingCounter left(kCalls);
  std::atomic<int> right = 0;
  for (int i = 0; i < kCalls; ++i) {
    client_->InferAsync(*prepared, [&](absl::StatusOr<InferResult> result) {
      if (result.ok() && result->outputs[0].tensor.ToF32()[2] == 3) ++right;
      left.DecrementCount();
    });
  }
  left.Wait();
  EXPECT_EQ(right, kCalls);
}

TEST_F(ClientTest, AsksForServerIndexAndLoads) {
  const auto server = client_->Server();
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ(server->name, "echo server");
  EXPECT_THAT(server->extensions, ElementsAre("statistics"));
  const auto index = client_->Index();
  ASSERT_TRUE(index.ok()) << index.status();
  ASSERT_EQ(index->size(), 1u);
  EXPECT_EQ((*index)[0].reason, "it only echoes");
  EXPECT_TRUE(client_->Load("echo", absl::Seconds(30)).ok());
  EXPECT_TRUE(client_->Unload("echo", absl::InfiniteDuration()).ok());
  EXPECT_EQ(client_->Load("none", absl::Seconds(30)).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(client_->Unload("none", absl::Seconds(30)).code(), absl::StatusCode::kNotFound);
}

TEST_F(ClientTest, StreamKeepsOrderAndGoesOnAfterAnError) {
  constexpr int kRequests = 50, kBad = 17;
  int sent = 0, outstanding = 0, most = 0;
  auto next = [&]() -> std::optional<PreparedRequest> {
    if (sent == kRequests) return std::nullopt;
    InferRequest request = Request(sent == kBad ? "fails" : "echo");
    request.id = absl::StrCat(sent++);
    most = std::max(most, ++outstanding);
    return *PreparedRequest::Create(request);
  };
  std::vector<std::string> ids;
  auto answer = [&](absl::StatusOr<InferResult> result) {
    --outstanding;
    ids.push_back(result.ok() ? result->id : std::string(ReasonOf(result.status())));
  };
  ASSERT_TRUE(client_->Stream(next, 7, answer).ok());
  ASSERT_EQ(ids.size(), static_cast<size_t>(kRequests));
  for (int i = 0; i < kRequests; ++i) EXPECT_EQ(ids[static_cast<size_t>(i)], i == kBad ? "queue_full" : absl::StrCat(i));
  EXPECT_LE(most, 8);  // the one just read waits for the oldest
  EXPECT_EQ(client_->Stream(next, 0, answer).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ClientTest, SendsAgainWhatADrainingServerRefused) {
  const auto result = client_->Infer(Request("drains"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(service_.infer_calls, 3);
}

TEST_F(ClientTest, GoesRoundOverSeveralServers) {
  EchoService other;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&other);
  const std::unique_ptr<grpc::Server> second = builder.BuildAndStart();
  auto client = Client::Connect(absl::StrCat("ipv4:", address_, ",127.0.0.1:", port));
  ASSERT_TRUE(client.ok()) << client.status();
  // Both are connected once both have answered; from there on they take turns.
  while (other.infer_calls == 0 || service_.infer_calls == 0) ASSERT_TRUE((*client)->Infer(Request("echo")).ok());
  const int first_before = service_.infer_calls, second_before = other.infer_calls;
  for (int i = 0; i < 10; ++i) ASSERT_TRUE((*client)->Infer(Request("echo")).ok());
  EXPECT_EQ(service_.infer_calls - first_before, 5);
  EXPECT_EQ(other.infer_calls - second_before, 5);
}

TEST_F(ClientTest, DestructionWaitsForOutstandingCalls) {
  auto prepared = PreparedRequest::Create(Request("echo"));
  ASSERT_TRUE(prepared.ok());
  std::atomic<int> ended = 0;
  for (int i = 0; i < 20; ++i) {
    client_->InferAsync(*prepared, [&](absl::StatusOr<InferResult>) { ++ended; });
  }
  client_.reset();
  EXPECT_EQ(ended, 20);
}

TEST_F(ClientTest, DoesNotRetryWhenToldNotTo) {
  ClientOptions options;
  options.retry = Retry::kNever;
  const auto once = Client::Connect(address_, options);
  ASSERT_TRUE(once.ok()) << once.status();
  EXPECT_EQ((*once)->Infer(Request("drains")).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(service_.infer_calls, 1);
}

TEST_F(ClientTest, SaysThatTheServerIsGone) {
  server_->Shutdown();
  EXPECT_EQ(client_->Live().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(client_->Infer(Request("echo")).status().code(), absl::StatusCode::kUnavailable);
  ClientOptions options;
  options.connect_timeout = absl::Milliseconds(200);
  const absl::Status status = Client::Connect(address_, options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr(address_));
}

}  // namespace
}  // namespace octet::client
