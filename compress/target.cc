// Targets as text.
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "compress/search.h"

namespace octet::compress {
namespace {

struct Unit {
  absl::string_view name;
  double factor;
};

// The number in front of one of `units`.
absl::StatusOr<double> Number(absl::string_view term, absl::string_view text, absl::Span<const Unit> units) {
  const size_t end = text.find_first_not_of("0123456789.+-e");
  const absl::string_view digits = text.substr(0, end), unit = end == absl::string_view::npos ? "" : text.substr(end);
  double value = 0;
  for (const Unit& u : units) {
    if (u.name == unit && absl::SimpleAtod(digits, &value) && std::isfinite(value) && value >= 0) return value * u.factor;
  }
  std::string names;
  for (const Unit& u : units) absl::StrAppend(&names, names.empty() ? "" : ", ", u.name.empty() ? "none" : u.name);
  return absl::InvalidArgumentError(
      absl::StrCat("target '", term, "': '", text, "' is no number with a unit of: ", names));
}

}  // namespace

absl::StatusOr<Target> ParseTarget(absl::string_view text) {
  static constexpr Unit kBytes[] = {{"B", 1}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"kB", 1e3}, {"", 1}};
  static constexpr Unit kSeconds[] = {{"us", 1e-6}, {"ms", 1e-3}, {"s", 1}};
  static constexpr Unit kNone[] = {{"", 1}, {"dB", 1}};
  struct Term {
    absl::string_view prefix;
    double Target::*field;
    absl::Span<const Unit> units;
  };
  const Term terms[] = {{"bytes<=", &Target::max_bytes, kBytes},
                        {"drop<=", &Target::max_drop, kNone},
                        {"latency<=", &Target::max_seconds, kSeconds},
                        {"sqnr>=", &Target::min_sqnr_db, kNone}};
  Target target;
  for (absl::string_view part : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    const std::string term = std::string(absl::StripAsciiWhitespace(part));
    bool known = false;
    for (const Term& t : terms) {
      if (term.rfind(std::string(t.prefix), 0) != 0) continue;
      const absl::StatusOr<double> value = Number(term, absl::string_view(term).substr(t.prefix.size()), t.units);
      if (!value.ok()) return value.status();
      target.*t.field = *value;
      known = true;
    }
    if (!known) {
      return absl::InvalidArgumentError(
          absl::StrCat("target '", term, "', expected bytes<=2MB, drop<=0.5, latency<=3ms or sqnr>=25"));
    }
  }
  return target;
}

}  // namespace octet::compress
