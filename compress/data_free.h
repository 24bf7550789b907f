// Ranges and channel means without any sample: what BatchNormalization's parameters say about its results, carried forward
// through the functions behind it.
//
//   BatchNormalization          x[c] ~ N(beta[c], gamma[c]^2): training normalized every channel
//   elementwise f               E[f(x)], Var[f(x)] of a normal x: in closed form for Relu and Clip(a, b),
//     E[y]   = a F(u) + mu (F(v) - F(u)) + sigma (p(u) - p(v)) + b (1 - F(v)),   u = (a - mu) / sigma, v = (b - mu) / sigma
//     E[y^2] = a^2 F(u) + (mu^2 + sigma^2)(F(v) - F(u)) + sigma ((mu + a) p(u) - (mu + b) p(v)) + b^2 (1 - F(v))
//     (F, p: the standard normal distribution and its density); by quadrature for the others
//   Add                         means and variances add (channels of different layers as independent)
//   range of a channel          mean +/- n sigma behind a BatchNormalization, then by interval arithmetic; of a tensor the
//                               union of its channels'
// Source: Nagel et al., arXiv:1906.04721, section 4.2 and appendix C.
#ifndef OCTET_COMPRESS_DATA_FREE_H_
#define OCTET_COMPRESS_DATA_FREE_H_

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "compress/equalize.h"
#include "compress/ranges.h"
#include "compress/regions.h"
#include "graph/graph.h"

namespace octet::compress {

struct DataFreeOptions {
  // Of a normal distribution 2e-9 of the values lie beyond 6: with millions of elements none is expected to be clipped, and
  // real distributions have heavier tails. A u8 step is then 12 sigma / 255, 37 dB below the signal; 4 would gain 3.5 dB where
  // tails are normal and lose all where they are not, which nobody could see without samples.
  double sigmas = 6;
  // Of graph inputs by name; of all others `input`: images as the samples' default options scale them. A network that
  // wants normalized images needs its own, [-2.2, 2.7] for ImageNet's usual mean and deviation.
  absl::flat_hash_map<std::string, Range> inputs;
  Range input = {0, 1};
};

// Of a value. Channels are axis 1; a value whose channels are not known apart has one entry that holds for all.
struct DataFreeStatistics {
  std::vector<double> low, high;        // bounds per channel
  std::vector<double> mean, deviation;  // per channel; both empty where unknown (behind a maximum, a Concat of unknowns)

  Range range() const;  // of the whole tensor, with 0
};

// What is known of the values of `original` (imported, BatchNormalization not folded, shapes inferred), by the ids of
// `prepared` (Prepare(original)): names survive folding, a folded product's result takes over its BatchNormalization's.
// Values of which nothing is known are absent: products without BatchNormalization behind them and what depends on them
// alone, up to functions that are bounded themselves (Sigmoid, Softmax, Tanh, Clip with two bounds).
// Errors: kInvalidArgument for sigmas <= 0, an input of that name that the graph lacks, a range without width.
absl::StatusOr<absl::flat_hash_map<graph::ValueId, DataFreeStatistics>> ComputeDataFreeStatistics(
    const graph::Graph& original, const graph::Graph& prepared, const DataFreeOptions& options);

// Names of values that a static int8 scheme needs ranges of and `statistics` lacks.
std::vector<std::string> MissingRanges(const graph::Graph& prepared, const Regions& regions,
                                       const absl::flat_hash_map<graph::ValueId, DataFreeStatistics>& statistics);

// What Equalize wants of these statistics: those whose means are known per channel.
absl::flat_hash_map<graph::ValueId, ChannelMoments> MomentsOf(
    const absl::flat_hash_map<graph::ValueId, DataFreeStatistics>& statistics);

// The statistics of an equalized graph. Those of values whose channels are not known apart are dropped.
void Rescale(const EqualizeReport& report, absl::flat_hash_map<graph::ValueId, DataFreeStatistics>* statistics);

// Mean and deviation of min(max(x, low), high) of a normal x; low and high may be infinite, deviation may be 0.
struct NormalMoments {
  double mean = 0, deviation = 0;
};
NormalMoments ClippedNormal(const NormalMoments& x, double low, double high);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_DATA_FREE_H_
