// A whole server in this process over a repository of the embedded model: life cycle, addressing,
// errors, answers.
#include "server/server.h"

#include <grpcpp/grpcpp.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/grpc_service.grpc.pb.h"

namespace octet::server {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(::testing::TempDir()) / absl::StrCat("octet_server_test_", getpid());
    fs::remove_all(root_);
    fs::create_directories(root_ / "fashion" / "1");
    fs::copy_file(fs::path(OCTET_SOURCE_DIR) / "models/fashion-mnist/model.onnx",
                  root_ / "fashion/1/model.onnx");
  }
  void TearDown() override {
    server_.reset();
    fs::remove_all(root_);
  }
  void Write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  void Start() {
    ServerOptions options;
    options.repository = root_.string();
    options.address = "127.0.0.1";
    options.grpc_port = options.http_port = options.metrics_port = 0;
    options.max_message_bytes = 1 << 20;
    auto server = Server::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    server_->AwaitReady();
    stub_ = inference::GRPCInferenceService::NewStub(grpc::CreateChannel(
        absl::StrCat("127.0.0.1:", server_->ports().grpc), grpc::InsecureChannelCredentials()));
  }
  // Zero images.
  static inference::ModelInferRequest Request(int rows, const std::string& model = "fashion") {
    inference::ModelInferRequest request;
    request.set_model_name(model);
    request.set_id("seven");
    auto* input = request.add_inputs();
    input->set_datatype("FP32");
    for (int64_t dim : {static_cast<int64_t>(rows), int64_t{1}, int64_t{28}, int64_t{28}})
      input->add_shape(dim);
    request.add_raw_input_contents()->resize(static_cast<size_t>(rows) * 28 * 28 * 4);
    return request;
  }
  std::string InputName() {
    inference::ModelMetadataRequest ask;
    inference::ModelMetadataResponse metadata;
    ask.set_name("fashion");
    grpc::ClientContext context;
    EXPECT_TRUE(stub_->ModelMetadata(&context, ask, &metadata).ok());
    return metadata.inputs(0).name();
  }
  grpc::Status Infer(inference::ModelInferRequest request, inference::ModelInferResponse* response,
                     std::string* reason = nullptr) {
    if (!request.inputs().empty() && request.inputs(0).name().empty()) {
      request.mutable_inputs(0)->set_name(InputName());
    }
    grpc::ClientContext context;
    const grpc::Status status = stub_->ModelInfer(&context, request, response);
    if (reason != nullptr) {
      auto it = context.GetServerTrailingMetadata().find("octet-reason");
      *reason = it == context.GetServerTrailingMetadata().end()
                    ? ""
                    : std::string(it->second.data(), it->second.size());
    }
    return status;
  }

  fs::path root_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<inference::GRPCInferenceService::Stub> stub_;
};

std::vector<float> Values(const inference::ModelInferResponse& response) {
  std::vector<float> values(response.raw_output_contents(0).size() / 4);
  std::memcpy(values.data(), response.raw_output_contents(0).data(), values.size() * 4);
  return values;
}

TEST_F(ServerTest, AnswersAnyBatchWithTheSameRows) {
  Start();
  inference::ModelInferResponse one, seven;
  grpc::Status status = Infer(Request(1), &one);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(one.id(), "seven");
  EXPECT_EQ(one.model_name(), "fashion");
  EXPECT_EQ(one.model_version(), "1");
  EXPECT_EQ(one.parameters().at("variant").string_param(), "f32");
  ASSERT_EQ(one.outputs_size(), 1);
  const std::vector<float> first = Values(one);
  ASSERT_EQ(first.size(), 10u);
  status = Infer(Request(7), &seven);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(seven.outputs(0).shape(0), 7);
  const std::vector<float> rows = Values(seven);
  ASSERT_EQ(rows.size(), 70u);
  for (size_t i = 0; i < rows.size(); ++i)
    EXPECT_NEAR(rows[i], first[i % 10], 1e-4 + 1e-4 * std::abs(first[i % 10]));
}

TEST_F(ServerTest, ConcurrentClientsAllGetAnswers) {
  Start();
  std::vector<std::thread> clients;
  std::atomic<int> failed{0};
  for (int c = 0; c < 4; ++c) {
    clients.emplace_back([&, c] {
      for (int i = 0; i < 25; ++i) {
        inference::ModelInferResponse response;
        if (!Infer(Request(1 + (c + i) % 5), &response).ok()) ++failed;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(failed, 0);
}

TEST_F(ServerTest, ErrorsHaveCodesReasonsAndNames) {
  Start();
  inference::ModelInferResponse response;
  std::string reason;
  grpc::Status status = Infer(Request(1, "resnet"), &response, &reason);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(),
              HasSubstr("unknown model 'resnet'; the repository has: fashion"));
  EXPECT_EQ(reason, "not_found");
  status = Infer(Request(1, "fashion@int4"), &response, &reason);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("no variant 'int4'; there are: f32"));
  inference::ModelInferRequest bad = Request(1);
  bad.mutable_inputs(0)->set_shape(2, 27);
  bad.mutable_raw_input_contents(0)->resize(27 * 28 * 4);
  status = Infer(bad, &response, &reason);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(),
              HasSubstr("expected shape [?, 1, 28, 28], got [1, 1, 27, 28]"));
  EXPECT_EQ(reason, "invalid_argument");
  status = Infer(Request(33), &response, &reason);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("maximum batch size of 32"));
  inference::ModelInferRequest two = Request(1, "fashion@f32");
  (*two.mutable_parameters())["variant"].set_string_param("int8");
  EXPECT_EQ(Infer(two, &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  ASSERT_TRUE(Infer(Request(1), &response).ok());  // still serving
}

TEST_F(ServerTest, BrokenModelsDoNotStopTheServer) {
  Write("broken/1/model.onnx", "this is no model");
  Write("empty/readme.txt", "");
  Write("misnamed/config.pbtxt", "name: \"other\"");
  Write("misnamed/1/model.onnx", "");
  Start();
  inference::RepositoryIndexRequest ask;
  inference::RepositoryIndexResponse index;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->RepositoryIndex(&context, ask, &index).ok());
  std::map<std::string, std::string> states;
  for (const auto& model : index.models()) {
    states[model.name()] = model.state();
    EXPECT_EQ(model.reason().empty(), model.state() == "READY")
        << model.name() << ": " << model.reason();
  }
  EXPECT_EQ(states["fashion"], "READY");
  EXPECT_EQ(states["fashion@f32"], "READY");
  EXPECT_EQ(states["broken"], "UNAVAILABLE");
  EXPECT_EQ(states["empty"], "UNAVAILABLE");
  EXPECT_EQ(states["misnamed"], "UNAVAILABLE");
  inference::ModelInferResponse response;
  std::string reason;
  const grpc::Status status = Infer(Request(1, "broken"), &response, &reason);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(reason, "failed_precondition");
  EXPECT_TRUE(Infer(Request(1), &response).ok());
}

TEST_F(ServerTest, LoadsAndUnloadsOnRequest) {
  Start();
  inference::RepositoryModelUnloadRequest unload;
  inference::RepositoryModelUnloadResponse unloaded;
  unload.set_model_name("fashion");
  grpc::ClientContext unload_context;
  ASSERT_TRUE(stub_->RepositoryModelUnload(&unload_context, unload, &unloaded).ok());
  inference::ModelInferResponse response;
  inference::ModelInferRequest request = Request(1);
  request.mutable_inputs(0)->set_name("x");
  EXPECT_EQ(Infer(request, &response).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  inference::RepositoryModelLoadRequest load;
  inference::RepositoryModelLoadResponse loaded;
  load.set_model_name("fashion");
  grpc::ClientContext load_context;
  ASSERT_TRUE(stub_->RepositoryModelLoad(&load_context, load, &loaded).ok());
  EXPECT_TRUE(Infer(Request(1), &response).ok());
  load.set_model_name("../fashion");
  grpc::ClientContext outside;
  EXPECT_EQ(stub_->RepositoryModelLoad(&outside, load, &loaded).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServerTest, RefusesMessagesAboveTheLimit) {
  Start();
  inference::ModelInferResponse response;
  inference::ModelInferRequest request = Request(1);
  request.mutable_inputs(0)->set_name("x");
  request.mutable_raw_input_contents(0)->resize(2 << 20);
  EXPECT_EQ(Infer(request, &response).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(ServerTest, SaysWhatItDoesNotSupport) {
  Start();
  grpc::ClientContext context;
  inference::SystemSharedMemoryStatusRequest request;
  inference::SystemSharedMemoryStatusResponse response;
  const grpc::Status status = stub_->SystemSharedMemoryStatus(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(), HasSubstr("shared memory"));
}

TEST_F(ServerTest, AStreamIsAnsweredInOrderAndOutlivesErrors) {
  Start();
  inference::ModelInferRequest request = Request(1);
  request.mutable_inputs(0)->set_name(InputName());
  inference::ModelInferResponse alone;
  ASSERT_TRUE(Infer(request, &alone).ok());
  grpc::ClientContext context;
  const auto stream = stub_->ModelStreamInfer(&context);
  constexpr int kMessages = 300;  // more than may be in flight
  std::thread writer([&] {
    for (int i = 0; i < kMessages; ++i) {
      inference::ModelInferRequest message = request;
      message.set_id(absl::StrCat("id", i));
      if (i % 7 == 3) message.set_model_name("resnet");                      // refused by the repository
      if (i % 7 == 5) message.mutable_raw_input_contents(0)->resize(4);      // refused by the parser
      if (i % 7 == 6) (*message.mutable_parameters())["timeout"].set_string_param("soon");  // by the call itself
      EXPECT_TRUE(stream->Write(message));
    }
    stream->WritesDone();
  });
  inference::ModelStreamInferResponse response;
  int answers = 0;
  for (; stream->Read(&response); ++answers) {
    EXPECT_EQ(response.infer_response().id(), absl::StrCat("id", answers));
    if (answers % 7 == 3 || answers % 7 > 4) {
      EXPECT_THAT(response.error_message(), HasSubstr(answers % 7 == 3   ? "unknown model 'resnet'"
                                                      : answers % 7 == 5 ? "raw content has 4 bytes"
                                                                         : "'timeout' must be"));
      const auto& parameters = response.infer_response().parameters();
      EXPECT_EQ(parameters.at("octet-code").string_param(), answers % 7 == 3 ? "NOT_FOUND" : "INVALID_ARGUMENT");
      EXPECT_EQ(parameters.at("octet-reason").string_param(), answers % 7 == 3 ? "not_found" : "invalid_argument");
      continue;
    }
    EXPECT_EQ(response.error_message(), "");
    ASSERT_EQ(response.infer_response().outputs_size(), 1);
    EXPECT_EQ(response.infer_response().raw_output_contents(0).size(), alone.raw_output_contents(0).size());
  }
  writer.join();
  EXPECT_EQ(answers, kMessages);
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(ServerTest, AClientThatDoesNotReadIsNotReadEither) {
  Start();
  inference::ModelInferRequest request = Request(1);
  request.mutable_inputs(0)->set_name(InputName());
  request.set_id(std::string(4000, 'i'));  // which the answer repeats
  grpc::ClientContext context;
  const auto stream = stub_->ModelStreamInfer(&context);
  constexpr int kMessages = 10000;  // 40 MB of answers, more than transports buffer
  std::atomic<int> written{0};
  std::thread writer([&] {
    while (written < kMessages && stream->Write(request)) ++written;
    stream->WritesDone();
  });
  int before = -1;
  while (before != written || before == 0) {  // until nothing moves for a while
    before = written;
    absl::SleepFor(absl::Milliseconds(500));
  }
  EXPECT_LT(written, kMessages);
  inference::ModelStreamInferResponse response;
  int answers = 0;
  while (stream->Read(&response)) ++answers;
  writer.join();
  EXPECT_EQ(answers, kMessages);
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServerTest, ACancelledStreamEndsAndLeavesNothingBehind) {
  Start();
  inference::ModelInferRequest request = Request(32);
  request.mutable_inputs(0)->set_name(InputName());
  for (int round = 0; round < 20; ++round) {
    grpc::ClientContext context;
    const auto stream = stub_->ModelStreamInfer(&context);
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(stream->Write(request));
    inference::ModelStreamInferResponse response;
    if (round % 2 == 0) {
      ASSERT_TRUE(stream->Read(&response));
    }
    context.TryCancel();
    while (stream->Read(&response)) {
    }
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  inference::ModelInferResponse response;
  EXPECT_TRUE(Infer(request, &response).ok());
  server_->Shutdown(absl::Seconds(30));  // waits for streams that are left
}

TEST_F(ServerTest, ADrainingServerAnswersWhatAStreamSentAndEndsIt) {
  Start();
  inference::ModelInferRequest request = Request(4);
  request.mutable_inputs(0)->set_name(InputName());
  grpc::ClientContext context, idle_context;
  const auto stream = stub_->ModelStreamInfer(&context), idle = stub_->ModelStreamInfer(&idle_context);
  inference::ModelStreamInferResponse response;
  for (auto* each : {stream.get(), idle.get()}) {
    ASSERT_TRUE(each->Write(request));
    ASSERT_TRUE(each->Read(&response));
  }
  std::thread writer([&] {
    while (stream->Write(request)) {
    }
  });
  std::atomic<int> answered{0};
  std::thread reader([&] {
    inference::ModelStreamInferResponse answer;
    while (stream->Read(&answer)) ++answered;
  });
  while (answered < 20) std::this_thread::yield();  // in full swing
  const absl::Time start = absl::Now();
  server_->Shutdown(absl::Seconds(30));
  EXPECT_LT(absl::Now() - start, absl::Seconds(20)) << "open streams must not hold the drain up";
  writer.join();
  reader.join();
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("draining"));
  EXPECT_FALSE(idle->Read(&response));
  EXPECT_EQ(idle->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

// A call that races with the transport's own shutdown may end as CANCELLED; everything accepted
// before is answered.
TEST_F(ServerTest, ShutdownAnswersWhatItAcceptedAndRefusesTheRest) {
  Start();
  const std::string input = InputName();
  std::vector<std::thread> clients;
  std::atomic<int> answered{0}, refused{0}, raced{0}, other{0};
  for (int c = 0; c < 4; ++c) {
    clients.emplace_back([&] {
      while (true) {
        inference::ModelInferResponse response;
        inference::ModelInferRequest request = Request(4);
        request.mutable_inputs(0)->set_name(input);
        const grpc::Status status = Infer(request, &response);
        if (status.ok()) {
          ++answered;
          continue;
        }
        ++(status.error_code() == grpc::StatusCode::UNAVAILABLE ? refused
           : status.error_code() == grpc::StatusCode::CANCELLED ? raced
                                                                : other);
        return;
      }
    });
  }
  while (answered < 20) std::this_thread::yield();
  server_->Shutdown(absl::Seconds(30));
  for (std::thread& client : clients) client.join();
  EXPECT_GT(refused, 0);
  EXPECT_EQ(refused + raced, 4);
  EXPECT_EQ(other, 0);
}

TEST(ServerStartTest, RefusesWhatItCannotServe) {
  ServerOptions options;
  options.repository = "/nonexistent";
  options.address = "127.0.0.1";
  options.grpc_port = options.http_port = options.metrics_port = 0;
  EXPECT_EQ(Server::Start(options).status().code(), absl::StatusCode::kNotFound);
  options.slots = 0;
  EXPECT_EQ(Server::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace octet::server
