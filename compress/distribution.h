// Learned distributions over codes: which weights a layer is sure of, from the second moments of its inputs alone.
//
// Every weight keeps the code that rounding chose and gets one alternative, the level above or below, with probability p of
// at most 1/2. With d = p (alternative - code) the mean's distance from the code, e = w - code, H the damped Gram matrix, and
// samples drawn independently, the mean of T samples of the layer misses the float layer by
//   J(d) = (e - d)^T H (e - d) + 1/T sum_c H_cc v_c,   v_c = |d_c| (g_c - |d_c|),   g_c = |alternative - code|
// the mean's error plus what is left of the variance. For T = 1 the quadratic parts in d_c cancel: J is linear in each weight,
// some vertex is best and nothing is left to learn but rounding. For T >= 2 it is convex on each side of the code. With the
// others fixed, d* = d_c + (H (e - d))_c / H_cc the minimum without variance, the best d_c is
//   sign(d*) min(g/2, max(0, (|d*| - g / 2T) / (1 - 1/T)))
// so a weight stays decided unless its mean wants to move by more than g / 2T. Sweeps over the weights lower J until it stands
// still; they start at d = 0, so that J never exceeds the deterministic layer's error, and 2 d <= g keeps the rounded code the
// most probable one. The layer's bias makes the most probable codes right on average, so errors are counted from there: e^T m
// with m = E[x] is no error, and H (e - d) above stands for H (e - d) - m e^T m. Derived in docs/stochastic.md.
#ifndef OCTET_COMPRESS_DISTRIBUTION_H_
#define OCTET_COMPRESS_DISTRIBUTION_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "compress/moments.h"
#include "compress/weight_matrix.h"

namespace octet::compress {

struct DistributionOptions {
  double samples = 8;     // T, 2 or more
  int bits = 8;           // of a stored step: 8 or 4
  double damping = 0.01;  // as in compress/learned_rounding.h
  int sweeps = 20;        // at most
  int threads = 1;        // the result does not depend on it
};

// Fills m->steps (graph/draws.h) by descent from m->codes. Probabilities are rounded to what `bits` can say.
// Errors: kInvalidArgument (shapes, options), kUnimplemented (grids of vectors), kFailedPrecondition (no Gram matrix).
absl::Status FitDistribution(const WeightMatrix& weights, const Moments& moments, const DistributionOptions& options,
                             QuantizedMatrix* m);

// The two parts of a layer's expected squared error, summed over rows, and what it is relative to.
struct ExpectedError {
  double signal = 0;    // w^T G w
  double mode = 0;      // of the most probable codes: E[(e^T x - e^T m)^2]
  double mean = 0;      // of the mean of all samples: E[((e - d)^T x - e^T m)^2]
  double variance = 0;  // sum_c G_cc v_c of one sample

  // Of the mean of t samples that are drawn independently; those of an ensemble spread evenly (graph/draws.h) and err less.
  double OfSamples(double t) const { return mean + variance / t; }
};
// Per row. Requires: the moments have a Gram matrix or diagonals; m has steps.
std::vector<ExpectedError> ExpectedErrors(const WeightMatrix& weights, const Moments& moments, const QuantizedMatrix& m);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_DISTRIBUTION_H_
