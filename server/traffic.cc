// Hashes into [0, 1).
#include "server/traffic.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "server/variant_name.h"

namespace octet::server {
namespace {

// The finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014): every bit of the input moves every bit of the result.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

double ToPoint(uint64_t hash) { return static_cast<double>(hash >> 11) * 0x1p-53; }

}  // namespace

absl::Status CheckWeights(const TrafficWeights& weights) {
  double sum = 0;
  for (const auto& [variant, share] : weights) {
    if (!IsVariantName(variant)) return absl::InvalidArgumentError(absl::StrCat("'", variant, "' is no variant name"));
    if (!(share >= 0 && share <= 1)) {
      return absl::InvalidArgumentError(absl::StrCat("variant '", variant, "': share ", share, " is outside [0, 1]"));
    }
    sum += share;
  }
  if (!weights.empty() && std::abs(sum - 1) > 1e-6) {
    return absl::InvalidArgumentError(absl::StrCat("shares must sum to 1, found ", sum));
  }
  return absl::OkStatus();
}

absl::StatusOr<TrafficWeights> ParseWeights(absl::string_view text) {
  TrafficWeights weights;
  for (absl::string_view item : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(item, absl::MaxSplits(':', 1));
    const std::string variant(absl::StripAsciiWhitespace(parts.first));
    double share = 0;
    if (!absl::SimpleAtod(parts.second, &share)) {
      return absl::InvalidArgumentError(absl::StrCat("expected VARIANT:SHARE, found '", item, "'"));
    }
    if (!weights.emplace(variant, share).second) {
      return absl::InvalidArgumentError(absl::StrCat("variant '", variant, "' is named twice"));
    }
  }
  OCTET_RETURN_IF_ERROR(CheckWeights(weights));
  return weights;
}

const std::string& ChooseVariant(const TrafficWeights& weights, double point) {
  double end = 0;
  const std::string* last = nullptr;
  for (const auto& [variant, share] : weights) {
    if (share <= 0) continue;
    end += share;
    last = &variant;
    if (point < end) return variant;
  }
  return last != nullptr ? *last : weights.begin()->first;  // rounding of the sum
}

double PointOf(absl::string_view key) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a, then mixed
  for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return ToPoint(Mix(hash));
}

double PointSequence::Next() { return ToPoint(Mix(count_.fetch_add(1, std::memory_order_relaxed))); }

}  // namespace octet::server
