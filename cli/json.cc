// JSON by RFC 8259.
#include "cli/json.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace octet::cli {

Json::Json(int64_t value) : text_(absl::StrCat(value)) {}

Json::Json(double value) : text_(std::isfinite(value) ? absl::StrFormat("%.9g", value) : "null") {}

Json::Json(absl::string_view value) {
  text_ = "\"";
  for (char c : value) {
    if (c == '"' || c == '\\') {
      text_ += '\\';
      text_ += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(&text_, "\\u%04x", static_cast<int>(c));
    } else {
      text_ += c;
    }
  }
  text_ += "\"";
}

Json Json::Object(const std::vector<Member>& members) {
  Json out;
  out.text_ = "{";
  for (const Member& m : members) {
    Json item;
    item.text_ = absl::StrCat(Json(absl::string_view(m.key)).text_, ":", m.value.text_);
    out.Append(item);
  }
  out.text_ += "}";
  return out;
}

}  // namespace octet::cli
