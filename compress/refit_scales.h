// Scales fitted again once codes are known, to the error of the layer's output; and codes to scales, in turn.
//
// A row's weights are s_g l_c with l_c the level of column c less its zero point and g its group. For fixed codes the loss
// e^T H e, e = w - s l and H the damped Gram matrix, is quadratic in the scales. One at a time,
//   s_g <- s_g + l_g^T (H e)_g / l_g^T H_gg l_g        (l_g: l with zeros outside group g)
// lowers it until it stands still: least squares on the layer's output, where compress/fit_grid.h had only the weights and
// each input's square. Multiples (compress/scale_multiples.h) get a base anew and then move by whole steps. Behind it codes
// move to the new scales (RefineRounding), and so on. A row keeps its start unless its loss falls.
// With few levels this is most of what rounding alone cannot reach: cf. the alternating refinement of arXiv:2410.03129.
#ifndef OCTET_COMPRESS_REFIT_SCALES_H_
#define OCTET_COMPRESS_REFIT_SCALES_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "compress/fit_grid.h"
#include "compress/moments.h"
#include "compress/weight_matrix.h"

namespace octet::compress {

struct RefitScalesOptions {
  ScaleForm form = ScaleForm::kF32;         // of m's scales
  absl::Span<const float> minimum_scale;    // as FitOptions has it; empty: none
  double damping = 0.01;                    // of H, times the mean of G's diagonal, alike for all inputs
  int rounds = 4;                           // of scales, then codes; at most
  int threads = 1;                          // the result does not depend on it
};

// Replaces m->scale and m->codes of rows where that lowers e^T H e. Leaves alone scales that are powers of two or of a whole
// tensor. Errors: kInvalidArgument (shapes), kUnimplemented (grids of vectors), kFailedPrecondition (no Gram matrix).
absl::Status RefitScales(const WeightMatrix& weights, const Moments& moments, const RefitScalesOptions& options,
                         QuantizedMatrix* m);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_REFIT_SCALES_H_
