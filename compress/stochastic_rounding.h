// Stochastic rounding: each weight goes to the level above it with the probability that leaves its mean where it was.
//
//   P(upper) = f = (w - lower) / (upper - lower),   E[w'] = w,   Var[w'] = f (1 - f) (upper - lower)^2
//
// One draw has up to twice the squared error of rounding to nearest, but an unbiased one; of several draws the best by the
// layer's expected output error is kept, row by row. Random numbers are those of base/philox.h, keyed by seed, stream and
// element. Sources: arXiv:1502.02551 (stochastic rounding); arXiv:2004.10568, section 3 (draws against a layer's loss).
#ifndef OCTET_COMPRESS_STOCHASTIC_ROUNDING_H_
#define OCTET_COMPRESS_STOCHASTIC_ROUNDING_H_

#include <cstdint>

#include "absl/status/status.h"
#include "compress/moments.h"
#include "compress/weight_matrix.h"

namespace octet::compress {

struct StochasticRoundingOptions {
  uint64_t seed = 0;
  uint32_t stream = 0;
  int draws = 1;  // per row the one of least d^T G d is kept
};

// Replaces m->codes; weights beyond the grid's ends go to the end. `moments` is needed for more than one draw, else may be
// nullptr. Errors: kInvalidArgument (shapes, draws below 1 or above 1024, no moments), kUnimplemented (grids of vectors).
absl::Status RoundStochastically(const WeightMatrix& weights, const Moments* moments, const StochasticRoundingOptions& options,
                                 QuantizedMatrix* m);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_STOCHASTIC_ROUNDING_H_
