// Fits a codebook of vectors to a tensor whose groups keep scales of their own.
#ifndef OCTET_COMPRESS_FIT_VECTOR_H_
#define OCTET_COMPRESS_FIT_VECTOR_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/types/span.h"
#include "compress/codebook_vector.h"
#include "compress/level_table.h"

namespace octet::compress {

struct VectorFit {
  std::vector<int8_t> levels;   // [256, 4]
  std::vector<float> scale;     // one per group
  std::vector<uint8_t> codes;   // of the groups' vectors, one after the other
};

// Brings scales (0: a dead group) into the form that is asked for; error(g, scale) is group g's squared error under the
// levels that its weights have.
using ConstrainScales = std::function<void(int largest_level, const std::function<double(size_t g, float scale)>& error,
                                           absl::Span<float> scales)>;

struct VectorOptions {
  int largest = 127;           // magnitude of levels
  bool powers_of_two = false;  // scales
  ConstrainScales constrain;
  uint64_t seed = 1;
};

// The codebook from weights over their group's root mean square; then twice the scales for the codes (least squares,
// constrained) and the codes for the scales. Requires: groups' sizes are multiples of 4.
VectorFit FitVectorGroups(absl::Span<const Segment> groups, const VectorOptions& options);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_FIT_VECTOR_H_
