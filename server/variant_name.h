// The spelling of variant names.
#ifndef OCTET_SERVER_VARIANT_NAME_H_
#define OCTET_SERVER_VARIANT_NAME_H_

#include <algorithm>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"

namespace octet::server {

// [a-z0-9][a-z0-9-]*
inline bool IsVariantName(absl::string_view name) {
  const auto lower = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !name.empty() && lower(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return lower(c) || c == '-'; });
}

// "ternary-mc8": 8 samples of the distributions in the file of variant "ternary", served as one model.
struct EnsembleName {
  std::string file_variant;
  int samples = 0;
};
inline std::optional<EnsembleName> ParseEnsembleName(absl::string_view name) {
  const size_t at = name.rfind("-mc");
  EnsembleName out;
  if (at == absl::string_view::npos || !IsVariantName(name.substr(0, at)) || name.size() - at > 6) return std::nullopt;
  const absl::string_view digits = name.substr(at + 3);
  const bool number = !digits.empty() && digits[0] != '0' &&
                      std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!number || !absl::SimpleAtoi(digits, &out.samples)) return std::nullopt;
  out.file_variant = std::string(name.substr(0, at));
  return out;
}

}  // namespace octet::server

#endif  // OCTET_SERVER_VARIANT_NAME_H_
