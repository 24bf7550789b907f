// Cross-layer equalization: channels between two products are scaled so that no channel of a weight tensor is large where
// its neighbour layer's is small; and absorption of biases that lift a channel far above 0. Both leave the network's
// function as it is.
//
//   first product -> homogeneous functions -> second product, per shared channel i with r1 = max |W1[i, :]|,
//   r2 = max |W2[:, i]|:      s = sqrt(r1 / r2);  W1[i, :] /= s, b1[i] /= s, W2[:, i] *= s      (s = 1 when r1 or r2 is 0)
//
// repeated over all pairs until no s differs from 1 by more than the tolerance: a depthwise layer between two others ends
// with the cube root of the three ranges' product on all sides.
// Source: Nagel et al., arXiv:1906.04721, sections 4.1 and 4.1.3.
#ifndef OCTET_COMPRESS_EQUALIZE_H_
#define OCTET_COMPRESS_EQUALIZE_H_

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "graph/graph.h"

namespace octet::compress {

// Mean and deviation per channel of a value: from calibration (ValueStatistics) or from BatchNormalization (data_free.h).
struct ChannelMoments {
  std::vector<double> mean, deviation;
};

struct EqualizeOptions {
  double tolerance = 1e-3;
  int max_rounds = 100;
  // Clip with an upper bound between two products keeps them apart (its bound would be another one per channel), or
  // becomes Relu, which changes the function where the bound was reached. Clip(0, inf) always counts as Relu.
  enum class Clips : uint8_t { kSkip, kMakeRelu } clips = Clips::kSkip;
  // Needs moments of the first product's result: c = max(0, mean - sigmas * deviation) leaves b1 and comes back as
  // b2 += W2 c. Exact as long as the channel never falls below c. Only in front of products that do not pad.
  enum class Absorb : uint8_t { kOff, kOn } absorb = Absorb::kOn;
  double sigmas = 3;
};

// What happened to a value between two products: new = (old / divided_by[c]) - lowered_by[c].
struct RescaledValue {
  graph::ValueId value = graph::kNoValue;
  std::vector<double> divided_by, lowered_by;
  graph::ValueId relu_of = graph::kNoValue;  // at and behind a Clip that became Relu: what that reads
};

struct EqualizedPair {
  std::string first, second;  // names of the nodes
  // Largest over smallest max |w| per channel (dead ones aside) of the first product's rows.
  double spread_before = 1, spread_after = 1;
  int absorbed_channels = 0;
};

struct EqualizeReport {
  std::vector<EqualizedPair> pairs;
  std::vector<RescaledValue> values;
  std::vector<std::string> skipped;  // "Conv 'a' -> Conv 'b': reason"
  int rounds = 0;
};

// Pairs: Conv, Gemm or MatMul with constant f32 weights on both sides; between them Relu, LeakyRelu, PRelu with constant
// slopes, and poolings, each read once only, and no output of the graph. `moments` is keyed by the first products' results
// and may lack any. Requires: prepared (no BatchNormalization), shapes inferred. Statistics gathered before the call no longer hold: see
// RescaledValue. Errors: those of Validate (our bug).
absl::StatusOr<EqualizeReport> Equalize(graph::Graph* graph, const EqualizeOptions& options,
                                        const absl::flat_hash_map<graph::ValueId, ChannelMoments>& moments = {});

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_EQUALIZE_H_
