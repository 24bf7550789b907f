// The best table of signed sums for a histogram: weights as sums of a few binary vectors.
#ifndef OCTET_COMPRESS_MULTI_BINARY_H_
#define OCTET_COMPRESS_MULTI_BINARY_H_

#include <cstdint>
#include <vector>

#include "compress/level_histogram.h"

namespace octet::compress {

// All sums +/- a_1 +/- ... +/- a_terms of integers a_1 >= ... >= a_terms >= 1 whose total is at most `largest`,
// ascending without repetitions (2^terms entries or fewer), of smallest squared error. The literature alternates
// between codes and least squares for a (Xu et al., "Alternating multi-bit quantization", arXiv:1802.00150); on the
// s8 grid there are so few a (4,032 pairs, about 60,000 triples) that all are tried: the result is the optimum.
// Requires: terms 2 or 3; terms <= largest <= 127.
std::vector<int8_t> SignedSums(const LevelHistogram& histogram, int terms, int largest);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_MULTI_BINARY_H_
