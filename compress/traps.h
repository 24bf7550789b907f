// Known ways to ruin a network by quantizing it, seen from the float graph.
#ifndef OCTET_COMPRESS_TRAPS_H_
#define OCTET_COMPRESS_TRAPS_H_

#include <string>
#include <vector>

#include "graph/graph.h"

namespace octet::compress {

// One scale for all output channels of a layer leaves a channel log2(largest / own) bits fewer than the layer has, largest and own
// being max |w|. Depthwise layers, whose channels were normalized one by one, suffer most: 0.1 % top-1 of MobileNet
// instead of 71 % (Krishnamoorthi, arXiv:1806.08342, table 3).
struct PerTensorRisk {
  std::string node;
  bool depthwise = false;
  double spread = 1;          // largest over smallest max |w| of channels that are not 0
  double starved_share = 0;   // of these channels that lose more than kStarvedBits

  std::string Warning() const;
};

inline constexpr double kStarvedBits = 4;

// Layers (Conv, Gemm, MatMul with constant f32 weights) in which more than `tolerated` of the channels would be starved by
// a per-tensor scale, worst first.
std::vector<PerTensorRisk> PerTensorRisks(const graph::Graph& graph, double tolerated = 0.02);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_TRAPS_H_
