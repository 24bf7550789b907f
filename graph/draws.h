// Weights as distributions: every code has an alternative, one step up or down its grid, and a probability of coming out
// as that. A sample of the network is the network with every code drawn.
//
//   steps[i] = a:   P(code[i] + sign(a)) = |a| / (2 m),   P(code[i]) = 1 - |a| / (2 m),   m = 127 (s8) or 7 (s4)
//
// So the stored code is always the most probable one, a = 0 says that a weight is decided, and the most probable network
// is the one that stands in the file. Codes are counted as they are stored: integers, or indices of levels.
//
// Sample t takes the alternative where u_t < P, u_t = u + r(t) mod 1, with u uniform in [0, 1), one number per weight, and
// r(t) = 0, 1/2, 1/4, 3/4, 1/8, ... (van der Corput's sequence, the bits of t reversed). Each sample by itself is a draw of
// independent weights. But the u_t of the first T = 2^k samples lie 1/T apart, so that an alternative of probability P comes
// out in floor(T P) or ceil(T P) of them: the mean of their weights has a variance of at most gap^2 / (4 T^2) where that of
// independent samples has gap^2 P (1 - P) / T.
// Source: Cranley and Patterson, SIAM J. Numer. Anal. 13, 1976 (rotations of a sequence by a random number).
#ifndef OCTET_GRAPH_DRAWS_H_
#define OCTET_GRAPH_DRAWS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "graph/graph.h"

namespace octet::graph {

// Errors: kInvalidArgument naming the rule: a value that is no constant with quant or holds vectors; steps of another type
// than s8 or s4 or of another shape; -128 or -8; a step that leaves the stored type or the table of levels.
absl::Status CheckAlternatives(const Value& weights);

// Probability of the alternative that `step` stands for. Requires: dtype is kS8 or kS4.
double AlternativeProbability(int step, DType dtype);

// Some weight is not decided.
bool IsUndecided(const Value& weights);

// Tells tensors apart when drawing; stays the same through files.
uint32_t StreamOf(absl::string_view name);

// The codes of one sample: the same (seed, sample, stream, element) gives the same code always.
// Requires: CheckAlternatives(weights) is OK.
Tensor DrawCodes(const Value& weights, uint64_t seed, uint32_t sample);

// The network with all codes drawn and no distribution left.
Graph DrawSample(Graph graph, uint64_t seed, uint32_t sample);

}  // namespace octet::graph

#endif  // OCTET_GRAPH_DRAWS_H_
