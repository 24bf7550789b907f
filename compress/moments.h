// Second moments of a product's inputs, in the column order of compress/weight_matrix.h: what error feedback, learned
// rounding and expected errors need, gathered sample by sample.
#ifndef OCTET_COMPRESS_MOMENTS_H_
#define OCTET_COMPRESS_MOMENTS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace octet::compress {

// With x the inputs that one output element reads (zeros where a convolution pads):
//   gram[g] = E[x x^T], mean[g] = E[x]        per conv group g, over samples and output positions
// so the mean squared error of a row with weights w' instead of w is (w - w')^T gram (w - w').
struct Moments {
  int64_t columns = 0;
  int64_t conv_groups = 1;
  int64_t count = 0;         // output positions seen
  std::vector<float> gram;   // [conv_groups, columns, columns]
  std::vector<float> mean;   // [conv_groups, columns]
  // [conv_groups, columns]: E[x_c^2]. Only of products with too many columns for a Gram matrix, whose `gram` is empty.
  std::vector<float> diagonal;

  absl::Span<const float> Gram(int64_t g) const {
    return absl::MakeConstSpan(gram).subspan(static_cast<size_t>(g * columns * columns),
                                             static_cast<size_t>(columns * columns));
  }
  absl::Span<const float> Mean(int64_t g) const {
    return absl::MakeConstSpan(mean).subspan(static_cast<size_t>(g * columns), static_cast<size_t>(columns));
  }
};

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_MOMENTS_H_
