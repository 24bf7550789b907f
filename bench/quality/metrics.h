// Numbers that say how good predictions are, or how close to the float network's. Pure functions.
#ifndef OCTET_BENCH_QUALITY_METRICS_H_
#define OCTET_BENCH_QUALITY_METRICS_H_

#include "bench/quality/predictions.h"

namespace octet::bench {

// 100 * share of samples whose largest element (the first of equals) lies at the label.
// Requires: one label per sample, labels not empty.
double Top1Percent(const PredictedOutput& output, absl::Span<const int64_t> labels);

// 100 * share of samples with the same largest element. Requires: equal shapes and sizes.
double AgreementPercent(const PredictedOutput& reference, const PredictedOutput& found);

// 10 log10(sum reference^2 / sum (reference - found)^2) over all samples and outputs; 200 when equal, -200 when a
// found value is not finite. Requires: equal shapes and sizes.
double PredictionsSqnrDb(const Predictions& reference, const Predictions& found);

// 100 * |A and B| / |A or B| of the masks A = (reference > threshold) and B = (found > threshold), counted over all
// samples together (a photo without text has no IoU of its own); 100 when both are empty. Requires: equal sizes.
double MaskIouPercent(const PredictedOutput& reference, const PredictedOutput& found, float threshold);

}  // namespace octet::bench

#endif  // OCTET_BENCH_QUALITY_METRICS_H_
