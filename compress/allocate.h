// Which candidate each layer takes: a multiple-choice knapsack over noise, bytes and time.
//
//   minimise   sum_l noise[l][c_l] + lambda_bytes sum_l bytes[l][c_l] + lambda_seconds sum_l seconds[l][c_l]
//
// separates into one choice per layer for given multipliers; every solution lies on the convex hull of what can be reached.
// Noises of layers add up: their errors are nearly uncorrelated. Source: H. Everett, Operations Research 11(3), 1963.
#ifndef OCTET_COMPRESS_ALLOCATE_H_
#define OCTET_COMPRESS_ALLOCATE_H_

#include <cstddef>
#include <vector>

#include "absl/types/span.h"

namespace octet::compress {

// One scheme of one layer, as measured.
struct Candidate {
  double noise = 0;    // relative noise power it adds to the network's result
  double bytes = 0;
  double seconds = 0;
};

// One choice per layer and its sums.
struct Allocation {
  std::vector<size_t> choice;  // index of the candidate, per layer
  Candidate total;
  bool operator==(const Allocation& other) const { return choice == other.choice; }
};

// The best choice for given multipliers; of equal costs the earlier candidate.
Allocation Choose(const std::vector<std::vector<Candidate>>& layers, double per_byte, double per_second);

// The allocation of least noise found with total bytes <= max_bytes and seconds <= max_seconds (infinite where there is no
// limit): bisection over one multiplier, nested over the other, then single upgrades while one fits. When nothing fits,
// the allocation that exceeds the limits least, relative to them.
Allocation LeastNoise(const std::vector<std::vector<Candidate>>& layers, double max_bytes, double max_seconds);

// Allocations from the least noise to the least cost, each cheaper and noisier than the one before, when one resource is to
// be saved: `per_byte` and `per_second` are the weights of the resource.
std::vector<Allocation> Path(const std::vector<std::vector<Candidate>>& layers, double per_byte, double per_second);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_ALLOCATE_H_
