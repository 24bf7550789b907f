// The best classes of a row of scores.
#ifndef OCTET_CLIENT_TOP_K_H_
#define OCTET_CLIENT_TOP_K_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/tensor.h"

namespace octet::client {

struct Scored {
  int64_t index = 0;
  float score = 0;
};

// The min(k, size) highest scores, highest first; equal scores by lower index, NaN last. Requires:
// k >= 0.
std::vector<Scored> TopK(absl::Span<const float> scores, int64_t k);

// TopK of each row of a tensor [..., classes] of any type. Errors: kInvalidArgument for a scalar or
// no classes.
absl::StatusOr<std::vector<std::vector<Scored>>> TopKOfRows(const Tensor& scores, int64_t k);

}  // namespace octet::client

#endif  // OCTET_CLIENT_TOP_K_H_
