// Time of each product in Octet's own engine.
#ifndef OCTET_COMPRESS_LAYER_TIMES_H_
#define OCTET_COMPRESS_LAYER_TIMES_H_

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "data/sample_reader.h"
#include "graph/graph.h"

namespace octet::compress {

struct LayerTimes {
  double total = 0;  // seconds of one run
  absl::flat_hash_map<std::string, double> steps;  // seconds by node name; a fused step counts for each of its nodes
};

// Runs `graph` on one sample (batch 1, a team of `threads`) until about `seconds` have passed, at least 5 times after two
// that do not count; medians. Errors: the engine's.
absl::StatusOr<LayerTimes> MeasureLayers(const graph::Graph& graph, const data::Sample& sample, int threads,
                                         double seconds);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_LAYER_TIMES_H_
