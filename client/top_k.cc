// Partial sort of scores.
#include "client/top_k.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace octet::client {

std::vector<Scored> TopK(absl::Span<const float> scores, int64_t k) {
  std::vector<Scored> all;
  all.reserve(scores.size());
  for (float score : scores) all.push_back({static_cast<int64_t>(all.size()), score});
  const size_t kept = std::min(all.size(), static_cast<size_t>(k));
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(kept), all.end(),
                    [](const Scored& a, const Scored& b) {
                      if (std::isnan(a.score) != std::isnan(b.score)) return std::isnan(b.score);
                      if (a.score != b.score && !std::isnan(a.score)) return a.score > b.score;
                      return a.index < b.index;
                    });
  all.resize(kept);
  return all;
}

absl::StatusOr<std::vector<std::vector<Scored>>> TopKOfRows(const Tensor& scores, int64_t k) {
  if (scores.shape().empty() || scores.shape().back() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("no classes to rank in shape ", ShapeString(scores.shape())));
  }
  const std::vector<float> values = scores.ToF32();
  const size_t classes = static_cast<size_t>(scores.shape().back());
  std::vector<std::vector<Scored>> rows;
  for (size_t start = 0; start < values.size(); start += classes) {
    rows.push_back(TopK(absl::MakeConstSpan(values).subspan(start, classes), k));
  }
  return rows;
}

}  // namespace octet::client
