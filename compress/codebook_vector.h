// Codebooks of vectors: 256 entries of 4 neighbouring weights each, 2 bits per weight.
#ifndef OCTET_COMPRESS_CODEBOOK_VECTOR_H_
#define OCTET_COMPRESS_CODEBOOK_VECTOR_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace octet::compress {

inline constexpr size_t kVectorEntries = 256, kVectorSize = 4;

struct VectorCodebook {
  std::vector<int8_t> levels;  // [256, 4]; entry 0 is the zero vector
  float unit = 1;              // a vector is about unit * levels; a power of two
};

// Weighted k-means, minimise sum_i sum_d h[i,d] (x[i,d] - c[code_i, d])^2, from k-means++ on a sample of 2^16 vectors;
// entry 0 stays zero (dead channels and padding need it). Centroids are rounded to [-largest, largest] with one unit.
// x and h: [n, 4], n > 0; h not negative. Source: Arthur and Vassilvitskii, "k-means++", SODA 2007.
VectorCodebook FitVectors(absl::Span<const float> x, absl::Span<const float> h, int largest, uint64_t seed);

// code_i: the entry nearest to x[i], in level units, weighted by h[i]; the lower of two equally near ones.
// codes: [n].
void AssignVectors(absl::Span<const float> x, absl::Span<const float> h, absl::Span<const int8_t> levels,
                   absl::Span<uint8_t> codes);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_CODEBOOK_VECTOR_H_
