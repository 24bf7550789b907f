// How sure an ensemble should be: the temperature at which its answers are likeliest if the float network's are the truth.
//
//   t* = argmin_t -mean_i sum_c q_ic log( 1/T sum_k softmax(z_ki / t)_c )
//
// with q the float network's class probabilities of sample i and z_k the logits of draw k. No labels are needed: an ensemble
// cannot know better than the network it was made from how sure to be, but it can know where it disagrees with that network.
// Samples that weights were fitted to disagree too little; give others. cf. arXiv:1706.04599 (with labels), arXiv:1503.02531
// (a network's probabilities as soft labels). Derived in docs/stochastic.md.
#ifndef OCTET_COMPRESS_ENSEMBLE_TEMPERATURE_H_
#define OCTET_COMPRESS_ENSEMBLE_TEMPERATURE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/sample_reader.h"
#include "graph/graph.h"

namespace octet::compress {

// t* in [0.1, 10], by golden section on log t; to 3 digits. `reference` and each draw are logits or log probabilities,
// [rows, classes]. Requires: at least one draw and one row.
double FitTemperature(absl::Span<const float> reference, absl::Span<const std::vector<float>> draws, int64_t classes);

// Temperatures of output 0 for ensembles of 2, 4 and 8 draws with seed 0, as the metadata graph::kTemperatures wants them. Runs
// `reference` and 8 draws of `compressed`, one network in memory at a time; keeps the answers to all samples.
// Errors: kFailedPrecondition where output 0 is no rows of class scores or there is no sample; those of reader and engine.
absl::StatusOr<std::string> FitTemperatures(const graph::Graph& reference, const graph::Graph& compressed,
                                            data::SampleReader& samples, const std::vector<int64_t>& indices, int threads);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_ENSEMBLE_TEMPERATURE_H_
