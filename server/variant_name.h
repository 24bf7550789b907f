// The spelling of variant names.
#ifndef OCTET_SERVER_VARIANT_NAME_H_
#define OCTET_SERVER_VARIANT_NAME_H_

#include <algorithm>

#include "absl/strings/string_view.h"

namespace octet::server {

// [a-z0-9][a-z0-9-]*
inline bool IsVariantName(absl::string_view name) {
  const auto lower = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !name.empty() && lower(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return lower(c) || c == '-'; });
}

}  // namespace octet::server

#endif  // OCTET_SERVER_VARIANT_NAME_H_
