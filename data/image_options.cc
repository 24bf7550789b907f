// ImageOptions from text.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "data/sample_reader.h"

namespace octet::data {
namespace {

constexpr int64_t kMaxSide = 16384;

absl::Status Bad(absl::string_view key, absl::string_view value, absl::string_view rule) {
  return absl::InvalidArgumentError(absl::StrCat("image option ", key, "=", value, ": ", rule));
}

absl::Status ParseSide(absl::string_view key, absl::string_view value, int64_t* out) {
  if (absl::SimpleAtoi(value, out) && *out >= 1 && *out <= kMaxSide) return absl::OkStatus();
  return Bad(key, value, absl::StrCat("expected an integer in [1, ", kMaxSide, "]"));
}

absl::Status ParseSize(absl::string_view value, ImageOptions* options) {
  const std::vector<absl::string_view> sides = absl::StrSplit(value, 'x');
  if (sides.size() > 2) return Bad("size", value, "expected N or WIDTHxHEIGHT");
  OCTET_RETURN_IF_ERROR(ParseSide("size", sides.front(), &options->width));
  return ParseSide("size", sides.back(), &options->height);
}

absl::Status ParseFloat(absl::string_view key, absl::string_view value, float* out) {
  if (absl::SimpleAtof(value, out) && std::isfinite(*out)) return absl::OkStatus();
  return Bad(key, value, "expected finite numbers");
}

absl::Status ParseTriple(absl::string_view key, absl::string_view value,
                         std::array<float, 3>* out) {
  const std::vector<absl::string_view> parts = absl::StrSplit(value, ':');
  if (parts.size() != 1 && parts.size() != 3)
    return Bad(key, value, "expected one number or three");
  for (size_t c = 0; c < 3; ++c) {
    OCTET_RETURN_IF_ERROR(ParseFloat(key, parts[parts.size() == 1 ? 0 : c], &(*out)[c]));
  }
  return absl::OkStatus();
}

template <typename E>
absl::Status ParseWord(absl::string_view key, absl::string_view value,
                       std::vector<std::pair<absl::string_view, E>> words, E* out) {
  std::string known;
  for (const auto& [word, meaning] : words) {
    if (value == word) {
      *out = meaning;
      return absl::OkStatus();
    }
    absl::StrAppend(&known, known.empty() ? "" : " or ", word);
  }
  return Bad(key, value, absl::StrCat("expected ", known));
}

absl::Status ParseOption(absl::string_view key, absl::string_view value, ImageOptions* o) {
  using O = ImageOptions;
  if (key == "size") return ParseSize(value, o);
  if (key == "short") return ParseSide(key, value, &o->resize_short_side);
  if (key == "mean") return ParseTriple(key, value, &o->mean);
  if (key == "fit") {
    return ParseWord<O::Fit>(key, value, {{"crop", O::Fit::kCrop}, {"stretch", O::Fit::kStretch}},
                             &o->fit);
  }
  if (key == "channels") {
    return ParseWord<O::Channels>(
        key, value,
        {{"rgb", O::Channels::kRgb}, {"bgr", O::Channels::kBgr}, {"gray", O::Channels::kGray}},
        &o->channels);
  }
  if (key == "order") {
    return ParseWord<O::Order>(key, value, {{"nchw", O::Order::kNchw}, {"nhwc", O::Order::kNhwc}},
                               &o->order);
  }
  if (key == "scale") {
    OCTET_RETURN_IF_ERROR(ParseFloat(key, value, &o->scale));
    return o->scale != 0 ? absl::OkStatus() : Bad(key, value, "expected a number other than 0");
  }
  if (key == "std") {
    OCTET_RETURN_IF_ERROR(ParseTriple(key, value, &o->std));
    const bool positive = std::all_of(o->std.begin(), o->std.end(), [](float s) { return s > 0; });
    return positive ? absl::OkStatus() : Bad(key, value, "expected positive numbers");
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown image option '", key,
                   "', known are size, short, fit, channels, order, scale, mean, std"));
}

}  // namespace

absl::StatusOr<ImageOptions> ImageOptions::Parse(absl::string_view text) {
  ImageOptions options;
  std::vector<absl::string_view> seen;
  for (absl::string_view part : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(absl::StripAsciiWhitespace(part), absl::MaxSplits('=', 1));
    if (!absl::StrContains(part, '=')) {  // splitting the null value would yield no parts at all
      return absl::InvalidArgumentError(
          absl::StrCat("image option '", pair.first, "': expected key=value"));
    }
    if (std::find(seen.begin(), seen.end(), pair.first) != seen.end()) {
      return Bad(pair.first, pair.second, "given twice");
    }
    seen.push_back(pair.first);
    OCTET_RETURN_IF_ERROR(ParseOption(pair.first, pair.second, &options));
  }
  if (options.fit == Fit::kStretch && (options.width == 0 || options.resize_short_side > 0)) {
    return absl::InvalidArgumentError("image option fit=stretch needs size= and excludes short=");
  }
  return options;
}

}  // namespace octet::data
