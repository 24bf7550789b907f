// Class probabilities of a row of scores; internal to compress/.
#ifndef OCTET_COMPRESS_SOFTMAX_H_
#define OCTET_COMPRESS_SOFTMAX_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "graph/ensemble.h"
#include "graph/graph.h"

namespace octet::compress {

// softmax(row / t), in place of `p`, whose size is the number of classes, one or more. Requires: t > 0.
inline void Softmax(const float* row, double t, std::vector<double>* p) {
  double largest = row[0], sum = 0;
  for (size_t c = 0; c < p->size(); ++c) largest = std::max<double>(largest, row[c]);
  for (size_t c = 0; c < p->size(); ++c) sum += (*p)[c] = std::exp((row[c] - largest) / t);
  for (double& x : *p) x /= sum;
}

// Output 0 is a Softmax's result: probabilities, whose logarithms are scores.
inline bool GivesProbabilities(const graph::Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(),
                     [&](const graph::Node& n) { return n.op == "Softmax" && n.outputs[0] == graph.outputs[0]; });
}
inline float ScoreOf(float output, bool probability) {
  return probability ? std::log(std::max(output, graph::kLeastProbability)) : output;
}

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_SOFTMAX_H_
