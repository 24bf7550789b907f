// Gram matrices with a little of the identity, and rows of a weight matrix shared out among threads; internal to compress/.
#ifndef OCTET_COMPRESS_DAMPED_GRAM_H_
#define OCTET_COMPRESS_DAMPED_GRAM_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "compress/moments.h"
#include "compress/weight_matrix.h"

namespace octet::compress {

// moments.gram with damping * mean(diagonal) added to each conv group's diagonal; inputs that are always zero get the mean
// itself, so that their weights go to the nearest levels.
std::vector<float> Damped(const Moments& moments, double damping);

// Rows [first, first + rows) of one conv group, and its damped Gram matrix.
struct RowBlock {
  int64_t first = 0, rows = 0;
  const float* gram = nullptr;
};

// Calls body(block) for all blocks, in parallel, with products on one thread each; the blocks do not depend on `threads`.
// The first error that is seen is returned. Requires: gram is Damped's.
absl::Status ForEachBlock(const WeightMatrix& weights, const std::vector<float>& gram, int threads,
                          absl::FunctionRef<absl::Status(const RowBlock&)> body);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_DAMPED_GRAM_H_
