// Character by character.
#include "server/quoted.h"

#include "absl/strings/str_format.h"

namespace octet::server {

void AppendQuoted(absl::string_view text, std::string* out) {
  out->push_back('"');
  for (char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out->push_back('\\');
      out->push_back(c);
    } else if (u < 0x20 || u == 0x7f) {
      absl::StrAppendFormat(out, "\\u%04x", static_cast<unsigned>(u));
    } else {
      out->push_back(c);
    }
  }
  out->push_back('"');
}

}  // namespace octet::server
