// How well class probabilities say what they know: proper scores, calibration, and what uncertainty is good for. Pure
// functions on log probabilities [samples, C]; a sample's label is the class that counts as true.
#ifndef OCTET_BENCH_QUALITY_UNCERTAINTY_H_
#define OCTET_BENCH_QUALITY_UNCERTAINTY_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "bench/quality/predictions.h"

namespace octet::bench {

// Rows of logits, log probabilities or probabilities (all in [0, 1] and of sum 1) as log probabilities, at least log 1e-30.
PredictedOutput LogProbabilities(const PredictedOutput& output);

// log p of p^(1/t) made to sum to 1. t < 1 sharpens.
PredictedOutput AtTemperature(const PredictedOutput& log_p, double t);
// The t between 0.1 and 10 of least negative log likelihood (golden section on log t).
double BestTemperature(const PredictedOutput& log_p, absl::Span<const int64_t> labels);

// -mean log p(label), nats. Requires, as all below: one label per sample.
double NegativeLogLikelihood(const PredictedOutput& log_p, absl::Span<const int64_t> labels);

// mean sum_c (p_c - [c = label])^2, 0 to 2. Source: Brier, Monthly Weather Review 78, 1950.
double BrierScore(const PredictedOutput& log_p, absl::Span<const int64_t> labels);

// 100 * sum over 15 equal bins of the largest probability of share * |accuracy - mean probability|.
// Source: Guo et al., arXiv:1706.04599.
double CalibrationErrorPercent(const PredictedOutput& log_p, absl::Span<const int64_t> labels);

// 100 * accuracy on the `coverage` of the samples with the lowest entropy.
double SelectiveAccuracyPercent(const PredictedOutput& log_p, absl::Span<const int64_t> labels, double coverage);

// H(p) of every sample, nats.
std::vector<double> Entropies(const PredictedOutput& log_p);

// 100 * P(a random one of `high` is larger than a random one of `low`), ties count half: the area under the ROC curve.
double AreaUnderRocPercent(absl::Span<const double> low, absl::Span<const double> high);

// Each sample's most probable class: labels where there are none.
std::vector<int64_t> MostProbable(const PredictedOutput& output);

}  // namespace octet::bench

#endif  // OCTET_BENCH_QUALITY_UNCERTAINTY_H_
