// T samples of a network whose weights are distributions, as one network: it gives their mean prediction and how much they
// differ.
//
// What no undecided weight reaches is computed once. Behind that every sample has nodes of its own; decided weights are
// shared, only undecided ones exist T times. With p_t the t-th sample's class probabilities of a row and H(p) = -sum p log p:
//   <output>                      mean_t p_t as the network gives it: a probability, or its logarithm for logits
//   <output>_predictive_entropy   H(mean_t p_t), nats, shape [rows]
//   <output>_mutual_information   H(mean_t p_t) - mean_t H(p_t): the part of it that comes from not knowing the weights
// and of an output of values, with x_t the samples' results:
//   <output>                      mean_t x_t
//   <output>_std                  sqrt(sum_t (x_t - mean)^2 / (T - 1)), shape of the output; as samples spread evenly
//                                 (graph/draws.h) that is up to sqrt(T / (T - 1)) too large
// p_t is softmax(logits_t / temperature), a temperature of 1 unless the file says otherwise (kTemperatures).
// Source of the split: Depeweg et al., arXiv:1710.07283, section 3.
#ifndef OCTET_GRAPH_ENSEMBLE_H_
#define OCTET_GRAPH_ENSEMBLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "graph/graph.h"

namespace octet::graph {

inline constexpr int kMostSamples = 64;
inline constexpr float kLeastProbability = 1e-30f;  // below it a class counts as impossible: log stays finite
// How outputs of an ensemble are told apart from those of the network.
inline constexpr absl::string_view kPredictiveEntropy = "_predictive_entropy";
inline constexpr absl::string_view kMutualInformation = "_mutual_information";
inline constexpr absl::string_view kStandardDeviation = "_std";

// Metadata of a file: temperatures of an output of classes by the number of samples, "2:1.49 4:1.27 8:1.21". The entry of the
// most samples that are not more than the ensemble's counts, else the first one.
inline constexpr absl::string_view kTemperatures = "ai.octet.ensemble.temperatures";
// Errors: kInvalidArgument quoting an entry that is not SAMPLES:TEMPERATURE with a temperature in [0.01, 100], samples ascending.
absl::StatusOr<double> TemperatureOf(absl::string_view temperatures, int samples);

struct EnsembleOptions {
  int samples = 8;
  uint64_t seed = 0;
  // What outputs are. kAuto: classes where rows of two or more numbers come from Softmax, or from a product whose result
  // goes out as it is; else values. Metadata "ai.octet.outputs" of a file, "classes" or "values", goes before kAuto.
  enum class Outputs : uint8_t { kAuto, kClasses, kValues } outputs = Outputs::kAuto;
};

// The graph's own outputs come first, in their order, under their names; then those of uncertainty, for outputs that depend
// on undecided weights.
// Errors: kInvalidArgument (samples outside 2..64; metadata of another meaning), kFailedPrecondition (no weight is undecided),
// kUnimplemented (undecided weights inside or in front of control flow; an output that is not f32 or has no axis).
absl::StatusOr<Graph> MakeEnsemble(const Graph& graph, const EnsembleOptions& options);

}  // namespace octet::graph

#endif  // OCTET_GRAPH_ENSEMBLE_H_
