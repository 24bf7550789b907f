// Text as a JSON string.
#ifndef OCTET_SERVER_QUOTED_H_
#define OCTET_SERVER_QUOTED_H_

#include <string>

#include "absl/strings/string_view.h"

namespace octet::server {

// With quotes; control characters, quotes and backslashes escaped. Requires: UTF-8.
void AppendQuoted(absl::string_view text, std::string* out);

}  // namespace octet::server

#endif  // OCTET_SERVER_QUOTED_H_
