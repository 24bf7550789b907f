// Rounding column by column, each correcting what the columns before it did to the output (OBQ in a fixed order, GPTQ).
//
// With e = w - w' of one row, H the damped Gram matrix of its inputs in the order of rounding, and the factorization
// H = (I + F) D (I + F)^T, F strictly upper triangular and D diagonal:
//   e^T H e = sum_k D_k (w_k + sum_{j<k} e_j F_jk - w'_k)^2
// so w'_k = Q(w_k + sum_{j<k} e_j F_jk) makes every term as small as the grid allows, given the columns before. This is
// GPTQ's update without its inverse. A code of a vector grid covers several columns: the vector that makes the sum of
// their terms smallest.
// Sources: arXiv:2210.17323 (GPTQ); arXiv:2307.13304 (the factorization and the equivalence).
#ifndef OCTET_COMPRESS_ERROR_FEEDBACK_H_
#define OCTET_COMPRESS_ERROR_FEEDBACK_H_

#include <cstdint>

#include "absl/status/status.h"
#include "compress/moments.h"
#include "compress/weight_matrix.h"

namespace octet::compress {

struct ErrorFeedbackOptions {
  double damping = 0.01;  // added to the Gram matrix's diagonal, in units of its mean; times 10 where that is too little
  // kActivation: inputs with the largest E[x^2] first, so that the others can correct them.
  enum class Order : uint8_t { kNatural, kActivation } order = Order::kActivation;
  int threads = 1;        // the result does not depend on it
};

// Replaces m->codes; scales, zero points and levels stay as fitted. Inputs that are always zero round to the nearest.
// Errors: kInvalidArgument (shapes, negative damping), kFailedPrecondition (no Gram matrix; no damping up to 10^4 made it
// positive definite).
absl::Status RoundWithErrorFeedback(const WeightMatrix& weights, const Moments& moments,
                                    const ErrorFeedbackOptions& options, QuantizedMatrix* m);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_ERROR_FEEDBACK_H_
