// Read back by Protobuf's own parser, and as pages read it.
#include "server/json.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/json_util.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "proto/grpc_service.pb.h"
#include "proto/octet/v1/octet.pb.h"

namespace octet::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Fills every field, two elements of repeated ones, with values that differ.
void Fill(google::protobuf::Message* m, int depth, int* n) {
  using F = google::protobuf::FieldDescriptor;
  const auto* r = m->GetReflection();
  for (int i = 0; i < m->GetDescriptor()->field_count(); ++i) {
    const F* f = m->GetDescriptor()->field(i);
    if (f->type() == F::TYPE_BYTES) continue;
    for (int k = 0; k < (f->is_repeated() ? 2 : 1); ++k) {
      const int v = ++*n;
      const std::string text = absl::StrCat("text \"", v, "\" \\ \n <ü>");
      const bool many = f->is_repeated();
      switch (f->cpp_type()) {
        case F::CPPTYPE_INT32:
          many ? r->AddInt32(m, f, -v) : r->SetInt32(m, f, -v);
          break;
        case F::CPPTYPE_UINT32:
          many ? r->AddUInt32(m, f, ~0u - v) : r->SetUInt32(m, f, ~0u - v);
          break;
        case F::CPPTYPE_INT64:
          many ? r->AddInt64(m, f, INT64_MIN + v) : r->SetInt64(m, f, INT64_MIN + v);
          break;
        case F::CPPTYPE_UINT64:
          many ? r->AddUInt64(m, f, UINT64_MAX - v) : r->SetUInt64(m, f, UINT64_MAX - v);
          break;
        case F::CPPTYPE_DOUBLE: {
          constexpr double kInfinity = std::numeric_limits<double>::infinity();
          const double value = v % 5 == 0 ? kInfinity : v % 5 == 1 ? -kInfinity : v % 5 == 2 ? 1e-300 / v : 1.0 / v;
          many ? r->AddDouble(m, f, value) : r->SetDouble(m, f, value);
          break;
        }
        case F::CPPTYPE_FLOAT:
          many ? r->AddFloat(m, f, 1.0f / static_cast<float>(v)) : r->SetFloat(m, f, 1.0f / static_cast<float>(v));
          break;
        case F::CPPTYPE_BOOL:
          many ? r->AddBool(m, f, true) : r->SetBool(m, f, true);
          break;
        case F::CPPTYPE_ENUM:
          many ? r->AddEnumValue(m, f, 1) : r->SetEnumValue(m, f, 1);
          break;
        case F::CPPTYPE_STRING:
          many ? r->AddString(m, f, text) : r->SetString(m, f, text);
          break;
        case F::CPPTYPE_MESSAGE:
          if (depth > 0) Fill(many ? r->AddMessage(m, f) : r->MutableMessage(m, f), depth - 1, n);
          break;
      }
    }
  }
}

template <typename Message>
void ExpectReadsBack(const Message& message) {
  Message read;
  const std::string json = ToJson(message);
  const auto status = google::protobuf::util::JsonStringToMessage(json, &read);
  ASSERT_TRUE(status.ok()) << status.ToString() << "\n" << json;
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(message, read)) << json;
}

TEST(JsonTest, EveryFieldOfOurMessagesReadsBack) {
  int n = 0;
  v1::ListVariantsResponse list;
  Fill(&list, 8, &n);
  EXPECT_GT(n, 500);
  ExpectReadsBack(list);
  inference::ModelStatisticsResponse statistics;
  Fill(&statistics, 8, &n);
  ExpectReadsBack(statistics);
  ExpectReadsBack(v1::ListVariantsResponse());
}

TEST(JsonTest, DefaultsAreWrittenAndAbsentMessagesAreNot) {
  v1::Variant variant;
  variant.set_name("int8");
  EXPECT_THAT(ToJson(variant), AllOf(HasSubstr("\"name\":\"int8\""), HasSubstr("\"in_memory\":false"),
                                     HasSubstr("\"rows\":\"0\""), HasSubstr("\"layers\":[]")));
  EXPECT_THAT(ToJson(variant), Not(HasSubstr("\"memory\"")));
  v1::Version version;
  (*version.mutable_weights())["a"] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(ToJson(version), HasSubstr("\"weights\":{\"a\":\"NaN\"}"));
}

}  // namespace
}  // namespace octet::server
