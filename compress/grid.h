// Grids: which numbers a code can stand for, up to a scale.
//
//   real = scale * levels[code]                              one real of a weight
//   real[4 j + d] = scale * levels[4 code[j] + d]            grids of vectors
//
// Every grid is a table of at most 256 small integers, so that one kernel family (look up, multiply 8-bit integers) runs
// them all: integers of b bits, powers of two, normal-float quantiles, learned codebooks, ternary, binary.
#ifndef OCTET_COMPRESS_GRID_H_
#define OCTET_COMPRESS_GRID_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace octet::compress {

enum class GridKind : uint8_t {
  kInteger,      // consecutive integers: int8, int6, int4, int3, int2
  kAffine,       // consecutive integers from 0 with a zero point per group: uint4, uint3, uint2
  kLogarithmic,  // 0 and +/- powers of two
  kFixed,        // another fixed table: nf4
  kLearned,      // a table fitted to each tensor (k-means); levels are empty until fitted
  kMultiBinary,  // all sums of +/- alpha_i, alphas fitted to each tensor
  kVector,       // 256 vectors of 4, fitted to each tensor
};

struct Grid {
  std::string name;            // "int4", "nf4", "ternary", ...
  GridKind kind = GridKind::kInteger;
  int bits = 8;                // of a code; of kVector: 8, shared by `vector` weights
  int vector = 1;
  enum class Scales : uint8_t { kAny, kPowersOfTwo } scales = Scales::kAny;
  std::vector<int8_t> levels;  // ascending and distinct when vector = 1; 256 * vector entries otherwise

  double bits_per_weight() const { return static_cast<double>(bits) / vector; }
  bool operator==(const Grid&) const = default;
};

// By name: int8 int7 int6 int4 int3 int2 (symmetric: +/- (2^(b-1) - 1)), uint4 uint3 uint2 (affine), log4 log3, nf4, kmeans4
// kmeans3 kmeans2, vq2, ternary, binary, binary2 binary3; with the suffix "-po2" scales are powers of two.
// Errors: kInvalidArgument naming the grids there are.
absl::StatusOr<Grid> MakeGrid(absl::string_view name);
std::vector<std::string> GridNames();

// Index of the level nearest to x (in units of the scale); of two equally near ones the even level, else the lower index:
// the integers' half to even. Requires: grid.vector == 1 and levels not empty.
int NearestLevel(const Grid& grid, double x);

// The two levels around x: levels[lower] <= x <= levels[lower + 1] where there are such; at the ends both indices are the
// end's. What learned and stochastic rounding choose between.
struct Neighbours {
  int lower = 0, upper = 0;
};
Neighbours NeighboursOf(const Grid& grid, double x);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_GRID_H_
