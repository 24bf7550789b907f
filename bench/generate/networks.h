// The generated networks: well-known architectures with seeded weights, so that no file has to be shipped.
#ifndef OCTET_BENCH_GENERATE_NETWORKS_H_
#define OCTET_BENCH_GENERATE_NETWORKS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/graph.h"

namespace octet::bench {

// resnet18, resnet50 (arXiv:1512.03385; stride on the 3x3), mobilenetv2 (arXiv:1801.04381), encoder (six layers of
// BERT-base, arXiv:1810.04805, 128 tokens), mlp (768-3072-3072-768), lstm (two layers of 512, 64 steps), tiny.
std::vector<std::string> GeneratedNetworks();

// Errors: kNotFound naming what there is.
absl::StatusOr<graph::Graph> MakeNetwork(const std::string& name);

}  // namespace octet::bench

#endif  // OCTET_BENCH_GENERATE_NETWORKS_H_
