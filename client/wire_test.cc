// Requests and responses as bytes: what Protobuf reads back, and answers that break the protocol.
#include "client/wire.h"

#include <gmock/gmock.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "client/datatype.h"

namespace octet::client {
namespace {

using inference::ModelInferRequest;
using inference::ModelInferResponse;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelInferRequest Decoded(grpc::ByteBuffer buffer) {
  ModelInferRequest message;
  EXPECT_TRUE(grpc::SerializationTraits<ModelInferRequest>::Deserialize(&buffer, &message).ok());
  return message;
}

TEST(Wire, ProtobufReadsTheRequestBack) {
  InferRequest request{"m@int8", "3", "id-1", {}, {"y", "z"}, {}};
  const std::vector<float> large(50000, 1.5f);  // its length takes three bytes
  request.inputs = {{"a", Tensor::FromF32({2}, {1, -2})},
                    {"empty", Tensor::FromF32({0, 4}, {})},
                    {"large", Tensor::FromF32({50000}, large)},
                    {"i", Tensor::FromS64({1}, {-7})}};
  request.parameters = {
      {"variant", std::string("int8")}, {"timeout", int64_t{9}}, {"b", true}, {"d", 0.5}};
  auto buffer = EncodeRequest(request);
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  request.inputs.clear();  // the buffer keeps the tensors alive
  const ModelInferRequest message = Decoded(*buffer);
  EXPECT_EQ(message.model_name(), "m@int8");
  EXPECT_EQ(message.model_version(), "3");
  EXPECT_EQ(message.id(), "id-1");
  ASSERT_EQ(message.inputs_size(), 4);
  EXPECT_EQ(message.inputs(0).datatype(), "FP32");
  EXPECT_EQ(message.inputs(3).datatype(), "INT64");
  EXPECT_THAT(message.inputs(1).shape(), ElementsAre(0, 4));
  ASSERT_EQ(message.raw_input_contents_size(), 4);
  const float a[] = {1, -2};
  EXPECT_EQ(message.raw_input_contents(0), std::string(reinterpret_cast<const char*>(a), 8));
  EXPECT_EQ(message.raw_input_contents(1), "");
  EXPECT_EQ(message.raw_input_contents(2),
            std::string(reinterpret_cast<const char*>(large.data()), 200000));
  EXPECT_EQ(message.outputs(1).name(), "z");
  EXPECT_EQ(message.parameters().at("variant").string_param(), "int8");
  EXPECT_EQ(message.parameters().at("timeout").int64_param(), 9);
  EXPECT_TRUE(message.parameters().at("b").bool_param());
  EXPECT_EQ(message.parameters().at("d").double_param(), 0.5);
}

TEST(Wire, RefusesRequestsThatCannotBeSaid) {
  const Tensor one = Tensor::FromF32({1}, {1});
  EXPECT_THAT(std::string(EncodeRequest({"", "", "", {}, {}, {}}).status().message()),
              HasSubstr("no model"));
  EXPECT_THAT(std::string(EncodeRequest({"m", "", "", {{"", one}}, {}, {}}).status().message()),
              HasSubstr("unnamed"));
  EXPECT_THAT(
      std::string(
          EncodeRequest({"m", "", "", {{"a", one}, {"a", one}}, {}, {}}).status().message()),
      HasSubstr("'a'"));
  EXPECT_THAT(
      std::string(EncodeRequest({"m", "", "", {{"a", Tensor()}}, {}, {}}).status().message()),
      HasSubstr("'a'"));
  const uint8_t nibbles[] = {0};
  const Tensor s4 = Tensor::FromValues<uint8_t>(DType::kS4, {2}, nibbles);
  EXPECT_THAT(std::string(EncodeRequest({"m", "", "", {{"a", s4}}, {}, {}}).status().message()),
              HasSubstr("s4"));
}

ModelInferResponse WithOutput(const std::string& datatype, const std::vector<int64_t>& shape) {
  ModelInferResponse response;
  auto* output = response.add_outputs();
  output->set_name("y");
  output->set_datatype(datatype);
  for (int64_t dim : shape) output->add_shape(dim);
  return response;
}

TEST(Wire, ReadsEveryTypedField) {
  struct Case {
    const char* datatype;
    std::function<void(inference::InferTensorContents*)> fill;  // with two elements
    std::vector<double> expected;
  };
  const Case cases[] = {
      {"FP32", [](auto* c) { c->add_fp32_contents(1.5f), c->add_fp32_contents(-2); }, {1.5, -2}},
      {"FP64", [](auto* c) { c->add_fp64_contents(0.1), c->add_fp64_contents(3); }, {0.1, 3}},
      {"INT8", [](auto* c) { c->add_int_contents(-128), c->add_int_contents(127); }, {-128, 127}},
      {"INT16", [](auto* c) { c->add_int_contents(-32768), c->add_int_contents(1); }, {-32768, 1}},
      {"INT32", [](auto* c) { c->add_int_contents(-70000), c->add_int_contents(1); }, {-70000, 1}},
      {"INT64", [](auto* c) { c->add_int64_contents(-5), c->add_int64_contents(1); }, {-5, 1}},
      {"UINT8", [](auto* c) { c->add_uint_contents(255), c->add_uint_contents(0); }, {255, 0}},
      {"UINT16", [](auto* c) { c->add_uint_contents(65535), c->add_uint_contents(0); }, {65535, 0}},
      {"UINT32",
       [](auto* c) { c->add_uint_contents(4000000000u), c->add_uint_contents(0); },
       {4e9, 0}},
      {"UINT64", [](auto* c) { c->add_uint64_contents(5), c->add_uint64_contents(0); }, {5, 0}},
      {"BOOL", [](auto* c) { c->add_bool_contents(true), c->add_bool_contents(false); }, {1, 0}},
  };
  for (const Case& c : cases) {
    ModelInferResponse response = WithOutput(c.datatype, {2});
    c.fill(response.mutable_outputs(0)->mutable_contents());
    auto result = DecodeResponse(response);
    ASSERT_TRUE(result.ok()) << c.datatype << " " << result.status();
    EXPECT_EQ(result->outputs[0].name, "y");
    EXPECT_EQ(DatatypeOf(result->outputs[0].tensor.dtype()), c.datatype);
    EXPECT_EQ(result->outputs[0].tensor.ToF64(), c.expected) << c.datatype;
  }
}

TEST(Wire, ReadsRawContentsAndParameters) {
  ModelInferResponse response = WithOutput("FP32", {1, 2});
  *response.add_outputs() = response.outputs(0);
  response.mutable_outputs(1)->set_datatype("FP16");
  const float y[] = {3, std::numeric_limits<float>::infinity()};
  response.add_raw_output_contents(std::string(reinterpret_cast<const char*>(y), 8));
  response.add_raw_output_contents(std::string("\x00\x3c\x00\xbc", 4));
  response.set_model_name("m");
  response.set_model_version("2");
  response.set_id("q");
  (*response.mutable_parameters())["variant"].set_string_param("f32");
  (*response.mutable_parameters())["n"].set_uint64_param(4);
  auto result = DecodeResponse(response);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->model_name + result->model_version + result->id, "m2q");
  EXPECT_EQ(std::get<std::string>(result->parameters.at("variant")), "f32");
  EXPECT_EQ(std::get<int64_t>(result->parameters.at("n")), 4);
  EXPECT_THAT(result->outputs[0].tensor.shape(), ElementsAre(1, 2));
  EXPECT_THAT(result->outputs[0].tensor.ToF32(), ElementsAre(3, y[1]));
  EXPECT_THAT(result->outputs[1].tensor.ToF32(), ElementsAre(1, -1));
}

TEST(Wire, NamesTheOutputThatBreaksTheProtocol) {
  const auto fails = [](ModelInferResponse response, const std::string& raw) {
    if (raw != "-") response.add_raw_output_contents(raw);
    const absl::Status status = DecodeResponse(std::move(response)).status();
    EXPECT_THAT(std::string(status.message()), HasSubstr("'y'"));
    return status.code();
  };
  const auto kLost = absl::StatusCode::kDataLoss;
  EXPECT_EQ(fails(WithOutput("FP32", {2}), "1234"), kLost);
  EXPECT_EQ(fails(WithOutput("FP32", {2}), "-"), kLost);
  EXPECT_EQ(fails(WithOutput("FP32", {-2}), "12345678"), kLost);
  EXPECT_EQ(fails(WithOutput("FP32", {1ll << 40, 1ll << 40}), ""), kLost);
  EXPECT_EQ(fails(WithOutput("FP16", {1}), "-"), kLost);
  EXPECT_EQ(fails(WithOutput("BYTES", {1}), "1234"), absl::StatusCode::kUnimplemented);
  ModelInferResponse out_of_range = WithOutput("INT8", {1});
  out_of_range.mutable_outputs(0)->mutable_contents()->add_int_contents(128);
  EXPECT_EQ(fails(out_of_range, "-"), kLost);
  ModelInferResponse two = WithOutput("FP32", {1});
  two.add_raw_output_contents("1234");
  two.add_raw_output_contents("1234");
  EXPECT_EQ(DecodeResponse(two).status().code(), kLost);
}

}  // namespace
}  // namespace octet::client
