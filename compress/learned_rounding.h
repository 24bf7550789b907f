// Choosing, for every weight, between the two levels around it so that the layer's output changes least: by gradient
// descent (AdaRound) and by descent over single weights.
//
// The loss of a row is e^T H e with e = w - w' and H its damped Gram matrix; because the loss is quadratic no data is needed
// while it is minimised. AdaRound relaxes the choice, w' = lower + h(v) (upper - lower):
//   h(v) = clamp(sigmoid(v) * 1.2 - 0.1, 0, 1)
//   min_v  e^T H e / mean_c(H_cc (upper_c - lower_c)^2) + regulariser * sum_c (1 - |2 h(v_c) - 1|^beta)
// by Adam from h = (w - lower) / (upper - lower), beta falling linearly from beta_first to beta_last after the first fifth
// of the iterations, during which the regulariser is off.
// Source: arXiv:2004.10568; the loss is that of its local quadratic form for a layer without activation.
#ifndef OCTET_COMPRESS_LEARNED_ROUNDING_H_
#define OCTET_COMPRESS_LEARNED_ROUNDING_H_

#include "absl/status/status.h"
#include "compress/moments.h"
#include "compress/weight_matrix.h"

namespace octet::compress {

struct LearnedRoundingOptions {
  int iterations = 400;
  double learning_rate = 0.05;
  double regulariser = 0.05;
  double beta_first = 20, beta_last = 2;
  double damping = 0.01;  // as in compress/error_feedback.h: keeps weights near their own values where samples say little
  int threads = 1;        // the result does not depend on it
};

// Replaces m->codes by the best, per row in d^T G d, of: the codes it came with, the nearest levels, and both of these and
// the learned choice after RefineRounding. Never worse than the first two.
// Costs iterations * rows * columns^2 multiply-adds.
// Errors: kInvalidArgument (shapes, options), kUnimplemented (grids of vectors), kFailedPrecondition (no Gram matrix).
absl::Status RoundLearned(const WeightMatrix& weights, const Moments& moments, const LearnedRoundingOptions& options,
                          QuantizedMatrix* m);

// Moves codes, one at a time and by one level, always the one whose move lowers e^T H e most, until none does. Usable
// behind any rounding method; costs about rows * columns^2. `damping` and `threads` as above.
// Errors: as RoundLearned.
absl::Status RefineRounding(const WeightMatrix& weights, const Moments& moments, double damping, int threads,
                            QuantizedMatrix* m);

// The same of one row, whose Gram matrix [columns, columns] is given as it counts. Requires: a grid of single weights.
void RefineRow(const WeightMatrix& weights, const float* gram, int64_t row, QuantizedMatrix* m);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_LEARNED_ROUNDING_H_
