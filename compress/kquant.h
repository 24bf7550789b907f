// Scale and zero point of one group under an affine grid: levels 0..L, w' = scale * (level - zero), 0 <= zero <= L, so
// that 0 is always exact.
#ifndef OCTET_COMPRESS_KQUANT_H_
#define OCTET_COMPRESS_KQUANT_H_

#include "compress/level_table.h"

namespace octet::compress {

// From the range [low, high] that includes 0: scale = (high - low) / L, zero = round(-low / scale), so that ends are
// cut by at most half a step; scale 0 for a dead group.
ScaleZero MaximumAffine(const LevelTable& table, absl::Span<const float> weights);

// Of MaximumAffine's range times factors from 1 down, with scales refined by least squares, the one of smallest error.
ScaleZero MseAffine(const LevelTable& table, const Segment& segment);

// Weighted least squares for scale and minimum at once: under the levels L_i that a candidate scale gives,
//   D = sum h * sum h L^2 - (sum h L)^2
//   scale = (sum h * sum h w L - sum h w * sum h L) / D
//   minimum = (sum h L^2 * sum h w - sum h L * sum h w L) / D
// then zero = round(-minimum / scale), and the scale once more by least squares; the best of all candidates, of which
// MseAffine is one. Source: the k-quant formats of ggml, as ONNX Runtime's weight-only quantizer describes them.
ScaleZero KQuantAffine(const LevelTable& table, const Segment& segment);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_KQUANT_H_
