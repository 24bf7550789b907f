// A walk by reflection.
#include "server/json.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "server/quoted.h"

namespace octet::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

void AppendMessage(const Message& message, std::string* out);

template <typename Real>
void AppendReal(Real value, std::string* out) {
  if (!std::isfinite(value)) {
    out->append(std::isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    return;
  }
  std::array<char, 32> digits;  // the fewest that read back as the same number: 24 at most
  out->append(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr);
}

// Of a singular field (index < 0) or an element of a repeated one.
void AppendValue(const Message& m, const FieldDescriptor* f, int index, std::string* out) {
  const Reflection* r = m.GetReflection();
  const auto get = [&](auto singular, auto repeated) {
    return index < 0 ? (r->*singular)(m, f) : (r->*repeated)(m, f, index);
  };
  switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      absl::StrAppend(out, get(&Reflection::GetInt32, &Reflection::GetRepeatedInt32));
      return;
    case FieldDescriptor::CPPTYPE_UINT32:
      absl::StrAppend(out, get(&Reflection::GetUInt32, &Reflection::GetRepeatedUInt32));
      return;
    case FieldDescriptor::CPPTYPE_INT64:
      absl::StrAppend(out, "\"", get(&Reflection::GetInt64, &Reflection::GetRepeatedInt64), "\"");
      return;
    case FieldDescriptor::CPPTYPE_UINT64:
      absl::StrAppend(out, "\"", get(&Reflection::GetUInt64, &Reflection::GetRepeatedUInt64), "\"");
      return;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return AppendReal(get(&Reflection::GetDouble, &Reflection::GetRepeatedDouble), out);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return AppendReal(get(&Reflection::GetFloat, &Reflection::GetRepeatedFloat), out);
    case FieldDescriptor::CPPTYPE_BOOL:
      out->append(get(&Reflection::GetBool, &Reflection::GetRepeatedBool) ? "true" : "false");
      return;
    case FieldDescriptor::CPPTYPE_ENUM: {
      const int number = get(&Reflection::GetEnumValue, &Reflection::GetRepeatedEnumValue);
      const auto* value = f->enum_type()->FindValueByNumber(number);
      return value == nullptr ? absl::StrAppend(out, number) : AppendQuoted(value->name(), out);
    }
    case FieldDescriptor::CPPTYPE_STRING: {
      CHECK(f->type() == FieldDescriptor::TYPE_STRING) << f->full_name();
      std::string scratch;
      return AppendQuoted(index < 0 ? r->GetStringReference(m, f, &scratch)
                                    : r->GetRepeatedStringReference(m, f, index, &scratch),
                          out);
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return AppendMessage(index < 0 ? r->GetMessage(m, f) : r->GetRepeatedMessage(m, f, index), out);
  }
}

// Keys are strings or numbers; both are quoted.
void AppendMap(const Message& m, const FieldDescriptor* f, std::string* out) {
  const Descriptor* entry = f->message_type();
  out->push_back('{');
  for (int i = 0; i < m.GetReflection()->FieldSize(m, f); ++i) {
    const Message& item = m.GetReflection()->GetRepeatedMessage(m, f, i);
    if (i > 0) out->push_back(',');
    std::string key;
    AppendValue(item, entry->map_key(), -1, &key);
    out->append(key[0] == '"' ? key : absl::StrCat("\"", key, "\""));
    out->push_back(':');
    AppendValue(item, entry->map_value(), -1, out);
  }
  out->push_back('}');
}

void AppendMessage(const Message& message, std::string* out) {
  const Descriptor* type = message.GetDescriptor();
  CHECK(type->file()->package() != "google.protobuf") << type->full_name();
  bool first = true;
  out->push_back('{');
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* f = type->field(i);
    if (f->has_presence() && !message.GetReflection()->HasField(message, f)) continue;
    if (!first) out->push_back(',');
    first = false;
    absl::StrAppend(out, "\"", f->name(), "\":");
    if (f->is_map()) {
      AppendMap(message, f, out);
    } else if (f->is_repeated()) {
      out->push_back('[');
      for (int k = 0; k < message.GetReflection()->FieldSize(message, f); ++k) {
        if (k > 0) out->push_back(',');
        AppendValue(message, f, k, out);
      }
      out->push_back(']');
    } else {
      AppendValue(message, f, -1, out);
    }
  }
  out->push_back('}');
}

}  // namespace

std::string ToJson(const Message& message) {
  std::string out;
  AppendMessage(message, &out);
  return out;
}

}  // namespace octet::server
