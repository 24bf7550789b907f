// What the distributions in a file say: how sure the network is of each layer, channel and weight.
//
// Per layer, with the learned mean mu of a weight, its variance v and its most probable value m, sums over the layer:
//   noise      sum v / sum mu^2          of one sample, relative to the mean network
//   sharpened  sum (m - mu)^2 / sum mu^2   what the most probable network differs by
//   pruned     1                          what zeros would differ by
// These are errors of the layer's output when its inputs are uncorrelated and equally strong; what real inputs make of
// them is bounded by their Gram matrix's largest eigenvalue over its mean one. Entropies are in bits.
#ifndef OCTET_CLI_DISTRIBUTION_REPORT_H_
#define OCTET_CLI_DISTRIBUTION_REPORT_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/graph.h"

namespace octet::cli {

inline constexpr double kDecidedBits = 0.1;  // a weight of less entropy counts as decided
inline constexpr int kProbabilityBins = 10;  // of 0 to 1/2
inline constexpr int kWeightBins = 40;       // of -1 to 1, in units of the layer's largest magnitude

struct DistributionChannel {
  int64_t channel = 0;  // of the output
  double entropy_bits = 0;  // mean of its weights
  double noise = 0, sharpened = 0;  // as above, within the channel
};

struct DistributionLayer {
  std::string node, weights;
  int64_t count = 0, undecided = 0;  // weights, and those with an alternative at all
  double decided_share = 0, entropy_bits = 0, noise = 0, sharpened = 0;
  std::array<int64_t, kProbabilityBins> probabilities = {};  // of undecided weights' alternatives
  std::array<int64_t, kWeightBins> most_probable = {}, mean = {};
  std::vector<DistributionChannel> channels;  // least certain first
};

struct DistributionReport {
  std::vector<DistributionLayer> layers;  // in the graph's order
  int64_t steps_bytes = 0, codes_bytes = 0;
};

// Errors: kFailedPrecondition when no constant of the graph is a distribution.
absl::StatusOr<DistributionReport> ReportDistribution(const graph::Graph& graph);

std::string DistributionTable(const DistributionReport& report);
std::string DistributionJson(const DistributionReport& report);
std::string DistributionHtml(const DistributionReport& report, const std::string& model);

}  // namespace octet::cli

#endif  // OCTET_CLI_DISTRIBUTION_REPORT_H_
