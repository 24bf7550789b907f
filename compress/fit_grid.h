// Fits a grid to a weight matrix: scales, zero points and tables, data-free or weighted by the inputs' energy.
//
//   minimise sum_rc h[c] (w[r,c] - w'[r,c])^2,   w'[r,c] = scale * (level - zero),   h[c] = E[x_c^2] or 1
//
// which is the mean squared error of the product's result when its inputs are uncorrelated. Errors of correlated inputs
// are the business of rounding methods that start from here. One file per method; sources stand there.
#ifndef OCTET_COMPRESS_FIT_GRID_H_
#define OCTET_COMPRESS_FIT_GRID_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "compress/weight_matrix.h"

namespace octet::compress {

// How scales are chosen. Tables that are fitted themselves (kmeans*, binary2, binary3, vq2), ternary and binary have no
// use for their outermost level: they are fitted by squared error under every method but kHqq, ternary and binary
// exactly.
enum class ScaleMethod : uint8_t {
  kMaximum,  // the largest magnitude maps to the outermost level: nothing is clipped
  kMse,      // the clipping of smallest squared error; never worse than kMaximum
  kKQuant,   // affine grids: least squares for scale and minimum at once (compress/kquant.h); others: kMse
  kHqq,      // kMse, then the scale or zero point of smallest sum |w - w'|^0.7 (compress/hqq.h); vectors: kMse
};

enum class ScaleForm : uint8_t {
  kF32,        // any positive number
  kMultiples,  // kGroup only: scale = m * base[row] with small integers m (compress/scale_multiples.h)
};

struct FitOptions {
  ScaleMethod method = ScaleMethod::kMse;
  ScaleForm form = ScaleForm::kF32;
  // [conv_groups, columns] or empty: h above. Entries below 1e-6 of their conv group's mean count as that much, so that
  // weights of inputs that calibration never saw keep sensible values.
  absl::Span<const float> importance;
  // [rows] or empty: lower bounds of scales, not for kGroup: they keep the s32 bias in range (compress/bias.h).
  absl::Span<const float> minimum_scale;
  uint64_t seed = 1;  // draws the sample and the first centroids of vector codebooks
};

// Fits and rounds to nearest. The result's grid holds the levels: of fitted tables; of nf4 under kMultiples scaled to
// +/- 15, as fitted tables then are, too. Groups whose weights are all zero get scale 1, or 2^-64 under grids without a
// zero (binary*); with kMultiples the base of their row, and when that is all zero 1 or 2^-19.
// Errors: kInvalidArgument naming value and rule: a group that is no positive multiple of 8; a grid of vectors whose
// inputs are no multiple of 4; an affine grid per tensor; importance, minimum_scale or values of another size; weights
// or importance that are NaN or beyond 2^120 in magnitude, negative importance; kMultiples without kGroup; no weights.
absl::StatusOr<QuantizedMatrix> FitGrid(const WeightMatrix& matrix, const Grid& grid, const Granularity& granularity,
                                        const FitOptions& options);

// Rounds every weight to its nearest level (vector: the nearest one, all weights counting alike) under the scales,
// zero points and tables that `m` has: for weights that moved after the fit. Requires: matrix of m's shape.
void RoundToNearest(const WeightMatrix& matrix, QuantizedMatrix* m);

// noise = sum h (w - w')^2, signal = sum h w^2; h as it is given ([conv_groups, columns]), or 1 when empty.
struct WeightError {
  double signal = 0, noise = 0;
};
WeightError ErrorOf(const WeightMatrix& matrix, const QuantizedMatrix& m, absl::Span<const float> importance = {});

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_FIT_GRID_H_
