// Known ways to ruin a network by quantizing it, found in what a recipe makes of its layers.
#ifndef OCTET_COMPRESS_TRAPS_H_
#define OCTET_COMPRESS_TRAPS_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "compress/products.h"
#include "compress/weight_matrix.h"

namespace octet::compress {

enum class TrapKind : uint8_t {
  kPerTensor,     // one scale for channels that differ too much (PerTensorRisk)
  kClippedRange,  // a range that cut too much of a value's energy; it was replaced (ChooseGuardedRange)
};
absl::string_view NameOf(TrapKind kind);  // "per-tensor" "clipped-range"

// A trap that a recipe walked into. `where`: a node, or the value whose range it is.
struct Trap {
  TrapKind kind = TrapKind::kPerTensor;
  std::string where, text;
};

// One scale for all output channels of a layer leaves a channel log2(largest / own) bits fewer than the layer has, largest and own
// being max |w|. Depthwise layers, whose channels were normalized one by one, suffer most: 0.1 % top-1 of MobileNet
// instead of 71 % (Krishnamoorthi, arXiv:1806.08342, table 3).
struct PerTensorRisk {
  bool depthwise = false;
  double spread = 1;         // largest over smallest max |w| of channels that are not 0
  double starved_share = 0;  // of these channels that lose more than half of the grid's bits
  int bits = 8;

  std::string Warning() const;
};

// The risk of one scale for the weights of `product` on a grid of `bits`, when more than `tolerated` of its channels
// would be starved.
std::optional<PerTensorRisk> FindPerTensorRisk(const Product& product, const WeightMatrix& weights, int bits,
                                               double tolerated = 0.02);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_TRAPS_H_
