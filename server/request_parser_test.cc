// The hand-written parser against Protobuf's own serializer, slice borders, and bytes that lie.
#include "server/request_parser.h"

#include <cstring>
#include <string>
#include <vector>

#include "base/rng.h"
#include "gmock/gmock.h"
#include "google/protobuf/stubs/logging.h"
#include "gtest/gtest.h"
#include "proto/grpc_service.pb.h"

namespace octet::server {
namespace {

using ::testing::HasSubstr;

// A message whose bytes lie in slices of `slice_bytes`, each in a heap block of its own so that
// ASan sees overreads.
WireMessage Slice(const std::string& bytes, size_t slice_bytes) {
  auto blocks = std::make_shared<std::vector<std::vector<std::byte>>>();
  WireMessage message;
  for (size_t at = 0; at < bytes.size(); at += slice_bytes) {
    const size_t n = std::min(slice_bytes, bytes.size() - at);
    auto& block = blocks->emplace_back(n);
    std::memcpy(block.data(), bytes.data() + at, n);
  }
  for (const auto& block : *blocks) message.slices.emplace_back(block.data(), block.size());
  message.owner = blocks;
  return message;
}

absl::StatusOr<InferRequest> Parse(const inference::ModelInferRequest& proto,
                                   size_t slice_bytes = 1 << 20) {
  return ParseInferRequest(Slice(proto.SerializeAsString(), slice_bytes));
}

std::string Joined(const InputTensor& tensor) {
  std::string out;
  for (ByteSpan piece : tensor.pieces)
    out.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  return out;
}

template <typename T>
std::vector<T> Elements(const InputTensor& tensor) {
  const std::string bytes = Joined(tensor);
  std::vector<T> out(bytes.size() / sizeof(T));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

inference::ModelInferRequest RawRequest() {
  inference::ModelInferRequest proto;
  proto.set_model_name("resnet@int8");
  proto.set_model_version("3");
  proto.set_id("request-\xc3\xa9");
  (*proto.mutable_parameters())["variant"].set_string_param("int8");
  (*proto.mutable_parameters())["timeout"].set_int64_param(-5);
  (*proto.mutable_parameters())["flag"].set_bool_param(true);
  (*proto.mutable_parameters())["ratio"].set_double_param(0.25);
  (*proto.mutable_parameters())["priority"].set_uint64_param(~0ull);
  auto* first = proto.add_inputs();
  first->set_name("x");
  first->set_datatype("FP32");
  for (int64_t dim : {2, 3, 50}) first->add_shape(dim);
  auto* second = proto.add_inputs();
  second->set_name("mask");
  second->set_datatype("BOOL");
  second->add_shape(5);
  std::string raw(2 * 3 * 50 * 4, '\0');
  for (size_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<char>(i * 7);
  *proto.add_raw_input_contents() = raw;
  *proto.add_raw_input_contents() = std::string("\1\0\1\1\0", 5);
  proto.add_outputs()->set_name("probabilities");
  proto.add_outputs()->set_name("y");
  return proto;
}

TEST(RequestParserTest, ReadsEnvelopeAndRawContentsWhateverTheSlices) {
  const inference::ModelInferRequest proto = RawRequest();
  for (size_t slice : {1, 2, 3, 7, 64, 100000}) {
    SCOPED_TRACE(slice);
    absl::StatusOr<InferRequest> request = Parse(proto, slice);
    ASSERT_TRUE(request.ok()) << request.status();
    EXPECT_EQ(request->model_name, "resnet@int8");
    EXPECT_EQ(request->model_version, "3");
    EXPECT_EQ(request->id, "request-\xc3\xa9");
    EXPECT_EQ(std::get<std::string>(request->parameters["variant"]), "int8");
    EXPECT_EQ(std::get<int64_t>(request->parameters["timeout"]), -5);
    EXPECT_EQ(std::get<bool>(request->parameters["flag"]), true);
    EXPECT_EQ(std::get<double>(request->parameters["ratio"]), 0.25);
    EXPECT_EQ(std::get<uint64_t>(request->parameters["priority"]), ~0ull);
    EXPECT_THAT(request->outputs, ::testing::ElementsAre("probabilities", "y"));
    ASSERT_EQ(request->inputs.size(), 2u);
    EXPECT_EQ(request->inputs[0].name, "x");
    EXPECT_EQ(request->inputs[0].dtype, DType::kF32);
    EXPECT_EQ(request->inputs[0].shape, (Shape{2, 3, 50}));
    EXPECT_EQ(Joined(request->inputs[0]), proto.raw_input_contents(0));
    EXPECT_EQ(request->inputs[1].dtype, DType::kBool);
    EXPECT_EQ(Joined(request->inputs[1]), proto.raw_input_contents(1));
    EXPECT_EQ(request->held_bytes, static_cast<int64_t>(proto.ByteSizeLong()));
  }
}

TEST(RequestParserTest, KeepsRawContentsInPlace) {
  const std::string bytes = RawRequest().SerializeAsString();
  WireMessage message = Slice(bytes, 1 << 20);
  const ByteSpan block = message.slices[0];
  absl::StatusOr<InferRequest> request = ParseInferRequest(std::move(message));
  ASSERT_TRUE(request.ok());
  ASSERT_EQ(request->inputs[0].pieces.size(), 1u);
  EXPECT_GE(request->inputs[0].pieces[0].data(), block.data());
  EXPECT_LT(request->inputs[0].pieces[0].data(), block.data() + block.size());
}

template <typename Fill>
absl::StatusOr<InferRequest> Typed(const std::string& datatype, int64_t count, Fill fill,
                                   size_t slice = 5) {
  inference::ModelInferRequest proto;
  proto.set_model_name("m");
  auto* input = proto.add_inputs();
  input->set_name("x");
  input->set_datatype(datatype);
  input->add_shape(count);
  fill(input->mutable_contents());
  return Parse(proto, slice);
}

TEST(RequestParserTest, DecodesTypedContentsOfEveryDatatype) {
  auto f32 = Typed("FP32", 3, [](auto* c) {
    for (float v : {1.5f, -2.0f, 1e30f}) c->add_fp32_contents(v);
  });
  ASSERT_TRUE(f32.ok()) << f32.status();
  EXPECT_THAT(Elements<float>(f32->inputs[0]), ::testing::ElementsAre(1.5f, -2.0f, 1e30f));
  auto f64 = Typed("FP64", 2, [](auto* c) {
    for (double v : {1.5, -1e300}) c->add_fp64_contents(v);
  });
  ASSERT_TRUE(f64.ok());
  EXPECT_THAT(Elements<double>(f64->inputs[0]), ::testing::ElementsAre(1.5, -1e300));
  auto s8 = Typed("INT8", 3, [](auto* c) {
    for (int v : {-128, 127, -1}) c->add_int_contents(v);
  });
  ASSERT_TRUE(s8.ok());
  EXPECT_THAT(Elements<int8_t>(s8->inputs[0]), ::testing::ElementsAre(-128, 127, -1));
  auto s16 = Typed("INT16", 2, [](auto* c) {
    for (int v : {-32768, 32767}) c->add_int_contents(v);
  });
  ASSERT_TRUE(s16.ok());
  EXPECT_THAT(Elements<int16_t>(s16->inputs[0]), ::testing::ElementsAre(-32768, 32767));
  auto s32 = Typed("INT32", 2, [](auto* c) {
    for (int v : {INT32_MIN, INT32_MAX}) c->add_int_contents(v);
  });
  ASSERT_TRUE(s32.ok());
  EXPECT_THAT(Elements<int32_t>(s32->inputs[0]), ::testing::ElementsAre(INT32_MIN, INT32_MAX));
  auto s64 = Typed("INT64", 2, [](auto* c) {
    for (int64_t v : {INT64_MIN, INT64_MAX}) c->add_int64_contents(v);
  });
  ASSERT_TRUE(s64.ok());
  EXPECT_THAT(Elements<int64_t>(s64->inputs[0]), ::testing::ElementsAre(INT64_MIN, INT64_MAX));
  auto u8 = Typed("UINT8", 2, [](auto* c) {
    for (unsigned v : {0u, 255u}) c->add_uint_contents(v);
  });
  ASSERT_TRUE(u8.ok());
  EXPECT_THAT(Elements<uint8_t>(u8->inputs[0]), ::testing::ElementsAre(0, 255));
  auto u32 = Typed("UINT32", 1, [](auto* c) { c->add_uint_contents(~0u); });
  ASSERT_TRUE(u32.ok());
  EXPECT_THAT(Elements<uint32_t>(u32->inputs[0]), ::testing::ElementsAre(~0u));
  auto u64 = Typed("UINT64", 1, [](auto* c) { c->add_uint64_contents(~0ull); });
  ASSERT_TRUE(u64.ok());
  EXPECT_THAT(Elements<uint64_t>(u64->inputs[0]), ::testing::ElementsAre(~0ull));
  auto flags =
      Typed("BOOL", 2, [](auto* c) { c->add_bool_contents(true), c->add_bool_contents(false); });
  ASSERT_TRUE(flags.ok());
  EXPECT_THAT(Elements<uint8_t>(flags->inputs[0]), ::testing::ElementsAre(1, 0));
}

void ExpectRefused(const absl::StatusOr<InferRequest>& request, absl::StatusCode code,
                   const std::string& text) {
  ASSERT_FALSE(request.ok()) << "expected: " << text;
  EXPECT_EQ(request.status().code(), code) << request.status();
  EXPECT_THAT(std::string(request.status().message()), HasSubstr(text));
}

TEST(RequestParserTest, RefusesTypedContentsThatDoNotFit) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  ExpectRefused(Typed("INT8", 1, [](auto* c) { c->add_int_contents(128); }), invalid,
                "element 0 is 128");
  ExpectRefused(
      Typed("UINT8", 2, [](auto* c) { c->add_uint_contents(1), c->add_uint_contents(256); }),
      invalid, "element 1 is 256, outside the range of UINT8");
  ExpectRefused(Typed("FP32", 1, [](auto* c) { c->add_int_contents(1); }), invalid,
                "int_contents does not fit datatype FP32");
  ExpectRefused(Typed("FP32", 1, [](auto* c) { c->add_fp32_contents(1), c->add_fp64_contents(1); }),
                invalid, "fp64_contents does not fit");
  ExpectRefused(Typed("FP16", 1, [](auto* c) { c->add_fp32_contents(1); }), invalid,
                "raw_input_contents only");
  ExpectRefused(Typed("FP32", 3, [](auto* c) { c->add_fp32_contents(1); }), invalid,
                "holds 1 elements, its shape has 3");
  ExpectRefused(Typed("FP32", 1, [](auto* c) { c->add_fp32_contents(1), c->add_fp32_contents(2); }),
                invalid, "holds more elements");
  ExpectRefused(Typed("BYTES", 1, [](auto* c) { c->add_bytes_contents("s"); }), invalid,
                "datatype 'BYTES'");
  ExpectRefused(Typed("INT64", int64_t{1} << 40, [](auto* c) { c->add_int64_contents(1); }),
                invalid, "fewer elements");
}

TEST(RequestParserTest, RefusesDataThatContradictsTheShape) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  inference::ModelInferRequest proto = RawRequest();
  proto.mutable_raw_input_contents(1)->pop_back();
  ExpectRefused(Parse(proto), invalid, "input 'mask': raw content has 4 bytes, BOOL [5] needs 5");
  proto.mutable_raw_input_contents()->RemoveLast();
  ExpectRefused(Parse(proto), invalid, "1 entries for 2 inputs");
  proto.clear_raw_input_contents();
  ExpectRefused(Parse(proto), invalid, "input 'x' has no data");
  proto = RawRequest();
  proto.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1);
  ExpectRefused(Parse(proto), invalid, "although raw_input_contents");
  proto = RawRequest();
  proto.mutable_inputs(0)->set_shape(0, -2);
  ExpectRefused(Parse(proto), invalid, "input 'x'");
  proto = RawRequest();
  for (int i = 0; i < 3; ++i) proto.mutable_inputs(0)->set_shape(i, int64_t{1} << 40);
  ExpectRefused(Parse(proto), invalid, "input 'x'");
  proto = RawRequest();
  for (int i = 0; i < 20; ++i) proto.mutable_inputs(0)->add_shape(1);
  ExpectRefused(Parse(proto), invalid, "dimensions");
  proto = RawRequest();
  (*proto.mutable_inputs(0)->mutable_parameters())["shared_memory_region"].set_string_param("r");
  ExpectRefused(Parse(proto), absl::StatusCode::kUnimplemented, "shared_memory_region");
  proto = RawRequest();
  (*proto.mutable_parameters())["sequence_id"].set_int64_param(1);
  ExpectRefused(Parse(proto), absl::StatusCode::kUnimplemented, "sequence_id");
}

TEST(RequestParserTest, RefusesFloodsOfTinyEntries) {
  std::string flood;
  for (int i = 0; i < 100000; ++i) flood += std::string("\x3a\x00", 2);  // raw_input_contents: ""
  ExpectRefused(ParseInferRequest(Slice(flood, 4096)), absl::StatusCode::kInvalidArgument,
                "raw_input_contents");
  flood.clear();
  for (int i = 0; i < 100000; ++i) flood += std::string("\x2a\x00", 2);  // inputs: {}
  ExpectRefused(ParseInferRequest(Slice(flood, 4096)), absl::StatusCode::kInvalidArgument,
                "inputs");
}

TEST(RequestParserTest, RefusesWhatIsNotUtf8) {
  ExpectRefused(ParseInferRequest(Slice(std::string("\x0a\x02\xc3\x28", 4), 16)),
                absl::StatusCode::kInvalidArgument, "model_name");
}

TEST(RequestParserTest, SkipsUnknownFieldsOfEveryWireType) {
  inference::ModelInferRequest proto = RawRequest();
  // Fields 100 to 103: varint, fixed64, bytes, fixed32.
  const std::string unknown = std::string("\xa0\x06\x05", 3) + std::string("\xa9\x06", 2) +
                              std::string(8, 'x') + std::string("\xb2\x06\x02hi", 5) +
                              std::string("\xbd\x06", 2) + std::string(4, 'y');
  auto request = ParseInferRequest(Slice(unknown + proto.SerializeAsString() + unknown, 3));
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->inputs.size(), 2u);
}

// Every prefix of a valid message either parses or is refused; neither reads past the bytes (ASan)
// nor accepts data that Protobuf itself calls malformed.
TEST(RequestParserTest, SurvivesEveryTruncation) {
  inference::ModelInferRequest proto = RawRequest();
  proto.mutable_inputs(0)->set_shape(2, 1);
  proto.mutable_raw_input_contents(0)->resize(24);
  const std::string bytes = proto.SerializeAsString();
  for (size_t n = 0; n < bytes.size(); ++n) {
    const bool ok = ParseInferRequest(Slice(bytes.substr(0, n), 7)).ok();
    inference::ModelInferRequest reparsed;
    EXPECT_TRUE(!ok || reparsed.ParseFromString(bytes.substr(0, n))) << n;
  }
}

TEST(RequestParserTest, AcceptsNoMutationThatProtobufRefuses) {
  google::protobuf::LogSilencer silence;
  const std::string original = RawRequest().SerializeAsString();
  const CounterRng rng(20240607);
  int accepted = 0;
  for (uint64_t round = 0; round < 20000; ++round) {
    std::string bytes = original;
    const int edits = 1 + static_cast<int>(rng.Bits(round * 16) % 4);
    for (uint64_t e = 1; e <= static_cast<uint64_t>(edits); ++e) {
      const uint64_t bits = rng.Bits(round * 16 + e);
      // Mostly in the envelope: its first 200 bytes.
      const size_t at = bits % (bits & 1 ? bytes.size() : 200);
      bytes[at] = static_cast<char>(bits >> 40);
    }
    auto request = ParseInferRequest(Slice(bytes, 1 + rng.Bits(round * 16 + 9) % 97));
    if (!request.ok()) continue;
    ++accepted;
    inference::ModelInferRequest proto;
    ASSERT_TRUE(proto.ParseFromString(bytes)) << "seed 20240607 round " << round;
    ASSERT_EQ(request->model_name, proto.model_name());
    ASSERT_EQ(request->inputs.size(), static_cast<size_t>(proto.inputs_size()));
    for (int i = 0; i < proto.inputs_size(); ++i) {
      ASSERT_EQ(Joined(request->inputs[static_cast<size_t>(i)]), proto.raw_input_contents(i));
    }
  }
  EXPECT_GT(accepted, 100);  // the comparison above was made
}

}  // namespace
}  // namespace octet::server
