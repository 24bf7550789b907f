// The scale of one group under a fixed table of levels: by the largest magnitude, by squared error, exactly where there
// is a closed form, or to powers of two.
#ifndef OCTET_COMPRESS_FIT_SCALE_H_
#define OCTET_COMPRESS_FIT_SCALE_H_

#include "compress/level_table.h"

namespace octet::compress {

// The smallest scale that clips nothing: the largest of w / high and w / low over the signs that the table has; 0 when
// that is not above kSmallestScale (a dead group).
float MaximumScale(const LevelTable& table, absl::Span<const float> weights);

// Of MaximumScale times factors from 1 down (to 1/2 for 8 bits, 1/16 for 3: with few levels the optimum lies far
// below the maximum) the scale of smallest error, after the three best were refined by least squares. Requires: not a
// dead group.
float MseScale(const LevelTable& table, const Segment& segment);

// The optimum of levels {-1, 0, 1}: with |w| in descending order, the k that maximises
//   (sum_{i<=k} h_i |w_i|)^2 / sum_{i<=k} h_i,   scale = sum_{i<=k} h_i |w_i| / sum_{i<=k} h_i
// Which weights are not zero depends on |w| > scale / 2 alone, also when weighted. O(n log n).
// Source: derivation from the objective of arXiv:1605.04711.
float TernaryScale(const Segment& segment);

// The optimum of levels {-1, 1}: sum h |w| / sum h. Source: arXiv:1603.05279, section 3.1.
float BinaryScale(const Segment& segment);

// The power of two at or above `scale`.
float PowerOfTwoAbove(float scale);

// Of the powers of two around `scale` the one of smaller error.
float PowerOfTwoNear(const LevelTable& table, const Segment& segment, const ScaleZero& s);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_FIT_SCALE_H_
