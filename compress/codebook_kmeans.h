// The best table of s8 levels for a histogram: weighted one-dimensional k-means, solved exactly.
#ifndef OCTET_COMPRESS_CODEBOOK_KMEANS_H_
#define OCTET_COMPRESS_CODEBOOK_KMEANS_H_

#include <cstdint>
#include <vector>

#include "compress/level_histogram.h"

namespace octet::compress {

// Ascending, `entries` distinct levels in [-largest, largest], 0 among them, of smallest squared error. Dynamic
// programming over levels instead of weights,
//   D[k][l] = min_{j<l} D[k-1][j] + (error of the weights between levels j and l),
// in which no step passes over 0: entries * (2 largest + 1)^2 operations. Rounding centroids to s8 is part of the
// optimum, not an afterthought. Requires: 1 <= entries <= 2 largest + 1, largest <= 127.
// Source: Wang and Song, "Ckmeans.1d.dp", R Journal 3(2), 2011, for exact k-means by dynamic programming.
std::vector<int8_t> KMeansLevels(const LevelHistogram& histogram, int entries, int largest);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_CODEBOOK_KMEANS_H_
