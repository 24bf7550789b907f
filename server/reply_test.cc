// Hand-written responses read back by Protobuf.
#include "server/reply.h"

#include <cstring>
#include <string>

#include "gtest/gtest.h"
#include "proto/grpc_service.pb.h"

namespace octet::server {
namespace {

inference::ModelInferResponse Read(const Reply& reply) {
  inference::ModelInferResponse proto;
  EXPECT_TRUE(proto.ParseFromArray(reply.wire().data(), static_cast<int>(reply.wire().size())));
  return proto;
}

TEST(ReplyTest, IsWhatProtobufReads) {
  const ReplyHeader header{"resnet@int8", "12", "id-7", "int8"};
  auto reply = Reply::Create(header, {{"probabilities", DType::kF32, {2, 300}},
                                      {"label", DType::kS64, {2}},
                                      {"scalar", DType::kBool, {}}});
  ASSERT_TRUE(reply.ok()) << reply.status();
  ASSERT_EQ(reply->raw(0).size(), 2400u);
  ASSERT_EQ(reply->raw(1).size(), 16u);
  ASSERT_EQ(reply->raw(2).size(), 1u);
  for (size_t i = 0; i < 3; ++i)
    std::memset(reply->raw(i).data(), static_cast<int>('a' + i), reply->raw(i).size());
  const inference::ModelInferResponse proto = Read(*reply);
  EXPECT_EQ(proto.model_name(), "resnet@int8");
  EXPECT_EQ(proto.model_version(), "12");
  EXPECT_EQ(proto.id(), "id-7");
  ASSERT_EQ(proto.parameters().count("variant"), 1u);
  EXPECT_EQ(proto.parameters().at("variant").string_param(), "int8");
  ASSERT_EQ(proto.outputs_size(), 3);
  EXPECT_EQ(proto.outputs(0).name(), "probabilities");
  EXPECT_EQ(proto.outputs(0).datatype(), "FP32");
  ASSERT_EQ(proto.outputs(0).shape_size(), 2);
  EXPECT_EQ(proto.outputs(0).shape(1), 300);
  EXPECT_EQ(proto.outputs(1).datatype(), "INT64");
  EXPECT_EQ(proto.outputs(2).shape_size(), 0);
  ASSERT_EQ(proto.raw_output_contents_size(), 3);
  EXPECT_EQ(proto.raw_output_contents(0), std::string(2400, 'a'));
  EXPECT_EQ(proto.raw_output_contents(1), std::string(16, 'b'));
  EXPECT_EQ(proto.raw_output_contents(2), "c");
  EXPECT_EQ(reply->wire().size(), proto.ByteSizeLong());
}

TEST(ReplyTest, EmptyFieldsAreLeftOut) {
  auto reply = Reply::Create({"m", "1", "", "f32"}, {{"y", DType::kF32, {0, 4}}});
  ASSERT_TRUE(reply.ok());
  const inference::ModelInferResponse proto = Read(*reply);
  EXPECT_EQ(proto.id(), "");
  ASSERT_EQ(proto.raw_output_contents_size(), 1);
  EXPECT_EQ(proto.raw_output_contents(0), "");
}

TEST(ReplyTest, RefusesMoreThanProtobufCanCarry) {
  auto reply = Reply::Create({"m", "1", "", "f32"}, {{"y", DType::kF32, {1 << 29, 4}}});
  EXPECT_EQ(reply.status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace octet::server
