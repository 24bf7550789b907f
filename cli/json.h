// JSON text from values, in the order they are given.
#ifndef OCTET_CLI_JSON_H_
#define OCTET_CLI_JSON_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace octet::cli {

// One JSON value as text. NaN, infinities and nullopt become null. Value type.
class Json {
 public:
  Json() : text_("null") {}
  Json(bool value) : text_(value ? "true" : "false") {}               // NOLINT: values convert
  Json(int value) : Json(static_cast<int64_t>(value)) {}              // NOLINT
  Json(int64_t value);                                                // NOLINT
  Json(double value);                                                 // NOLINT
  Json(absl::string_view value);                                      // NOLINT
  Json(const std::string& value) : Json(absl::string_view(value)) {}  // NOLINT
  Json(const char* value) : Json(absl::string_view(value)) {}         // NOLINT
  template <typename T>
  Json(const std::optional<T>& value) : Json(value.has_value() ? Json(*value) : Json()) {}  // NOLINT

  struct Member;
  static Json Object(const std::vector<Member>& members);
  template <typename T>
  static Json Array(const std::vector<T>& items) {
    Json out;
    out.text_ = "[";
    for (const T& item : items) out.Append(Json(item));
    out.text_ += "]";
    return out;
  }

  const std::string& text() const { return text_; }

 private:
  void Append(const Json& item) {
    if (text_.size() > 1) text_ += ",";
    text_ += item.text_;
  }
  std::string text_;
};

struct Json::Member {
  std::string key;
  Json value;
};

}  // namespace octet::cli

#endif  // OCTET_CLI_JSON_H_
