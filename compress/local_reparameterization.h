// Distributions fitted behind the layer's activation: local reparameterisation (LR-nets) of ternary and binary weights against
// the float network's layer, by gradient descent on rows of inputs.
//
// Each weight is random, of parameters a, b and a fixed scale s, with S the sigmoid:
//   ternary: P(0) = S(a), P(+1) = (1 - P(0)) S(b), P(-1) = the rest     binary: P(+1) = S(a), P(-1) = the rest
//   mu = s (P(+1) - P(-1)),   v = s^2 (P(+1) + P(-1)) - mu^2
// Given inputs h of an output position a sum of many independent weights is nearly normal:
//   z ~ N(m, V),   m = sum_c mu_c h_c + bias,   V = sum_c v_c h_c^2
// and what follows is f(z) = min(max(z, low), high). With y the float layer's result behind f, the mean of T samples of the
// layer, each with an f of its own, is expected to miss it by
//   J = (E f(z) - y)^2 + Var f(z) / T
// which compress/distribution.h minimises in closed form for f = identity; here f counts. With two draws z_i = m + sqrt(V + eps)
// n_i, a_i = f(z_i), an estimate without bias of J is
//   L = (a_1 - y)(a_2 - y) + (a_1 - a_2)^2 / 2T
// and, of g_i = f'(z_i) (a_j - y +/- (a_1 - a_2) / T) (j the other one; + for i = 1), dL/dm = g_1 + g_2 and
// dL/dV = (g_1 n_1 + g_2 n_2) / (2 sqrt(V + eps)): Adam on a, b and the bias by the chain rule. T = 1 is the method's own loss.
//
// The file stores two neighbouring levels of a weight, not three: of all distributions with mean mu the one of least variance.
// Derived in docs/stochastic.md. Source: Shayer, Levi, Fetaya, "Learning discrete weights using the local reparameterization
// trick", ICLR 2018, arXiv:1710.07739, where the loss is that of labels.
#ifndef OCTET_COMPRESS_LOCAL_REPARAMETERIZATION_H_
#define OCTET_COMPRESS_LOCAL_REPARAMETERIZATION_H_

#include <cstdint>
#include <limits>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "compress/collect_rows.h"
#include "compress/weight_matrix.h"

namespace octet::compress {

// f above; the identity by default.
struct Clamp {
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
};

struct LocalFitOptions {
  double samples = 2;  // T, 1 or more
  int steps = 2000;
  int batch = 128;     // rows a step
  double learning_rate = 0.05;  // of a and b; falls linearly to 0
  double entropy = 0;  // weight of the mean v / s^2 of a channel's weights in its loss, which is relative to E[y^2]
  uint64_t seed = 0;   // noise: Philox, keyed by seed and stream; counter: step, row of the batch, channel
  uint32_t stream = 0;
  int threads = 1;     // the result does not depend on it
};

// What became of it, on the rows held aside, summed over channels and relative to sum E[y^2].
struct LocalFitReport {
  int64_t channels = 0, improved = 0;  // of output channels, those that left their start
  double samples_before = 0, samples_after = 0;  // J of what the file stores
  double mode_before = 0, mode_after = 0;        // the same of the most probable codes
};

// Starts from m's codes and steps and from `bias` (of the most probable codes, in reals, [outputs]), and replaces them, output
// channel by output channel, where on the rows held aside neither J nor the most probable codes' error is larger than at the
// start: so no channel gets worse there. `weights` are those that m stands for; they say where weights that are certain at the
// start may move. A step costs about 8 * batch * channels * columns operations.
// Errors: kInvalidArgument (shapes, options, no rows held aside), kUnimplemented (other grids than ternary and binary).
absl::StatusOr<LocalFitReport> FitLocally(const LayerRows& rows, const Clamp& behind, const WeightMatrix& weights,
                                          const LocalFitOptions& options, QuantizedMatrix* m, std::vector<float>* bias);

// J of one output for z ~ N(mean, variance), exactly.
double ExpectedLocalError(double mean, double variance, double y, const Clamp& behind, double samples);

// Parameters of some output channels, and gradients in the same places.
struct LocalParameters {
  int64_t channels = 0, columns = 0;
  std::vector<float> a, b;   // [channels, columns]; binary: b is empty
  std::vector<float> scale;  // s, [channels, columns]; of gradients unused
  std::vector<float> bias;   // [channels]
};

// One step's rows.
struct LocalBatch {
  int64_t rows = 0;
  std::vector<float> src;        // [rows, columns]
  std::vector<float> target;     // y, [channels, rows]
  std::vector<float> noise[2];   // n_1 and n_2, [channels, rows]
  std::vector<float> weight;     // [channels]: 1 / E[y^2]
  Clamp behind;
};

// Per channel: weight * mean over rows of L, plus options.entropy * mean_c v_c / s_c^2; and its derivatives.
// Oracle: local_reparameterization_reference.h.
std::vector<double> LocalLoss(const LocalParameters& p, const LocalBatch& batch, const LocalFitOptions& options,
                              LocalParameters* gradient);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_LOCAL_REPARAMETERIZATION_H_
