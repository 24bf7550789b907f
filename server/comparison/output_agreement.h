// How closely one answer's output matches the reference's on the same inputs.
#ifndef OCTET_SERVER_COMPARISON_OUTPUT_AGREEMENT_H_
#define OCTET_SERVER_COMPARISON_OUTPUT_AGREEMENT_H_

#include <cstdint>

#include "absl/types/span.h"
#include "base/shape.h"

namespace octet::server {

// Sums over the rows of one answer, so that answers of different sizes can be added up.
struct OutputAgreement {
  int64_t rows = 0;      // of axis 0; 1 for scalars
  bool classes = false;  // rows are scores of classes: rank 2 with more than one column
  int64_t agreeing = 0;  // rows whose largest class is the same, the first of equals counting
  double signal = 0;     // sum reference^2
  double noise = 0;      // sum (reference - found)^2
  double cosine = 0;     // sum over rows
};

// A finite number on one side against NaN or infinity on the other counts as noise 10^20 times the signal and as a row
// that does not agree; elements that are not finite on both sides are equal. Requires: both spans have
// NumElements(shape) elements.
OutputAgreement CompareOutput(absl::Span<const float> reference, absl::Span<const float> found, const Shape& shape);

// 10 log10(signal / noise), clamped to [-kMaxDb, kMaxDb]; kMaxDb without noise.
inline constexpr double kMaxDb = 200;
double Decibels(double signal, double noise);

}  // namespace octet::server

#endif  // OCTET_SERVER_COMPARISON_OUTPUT_AGREEMENT_H_
