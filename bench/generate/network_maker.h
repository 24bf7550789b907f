// Builds the float graphs of the generated networks: named nodes, seeded He-scaled weights.
#ifndef OCTET_BENCH_GENERATE_NETWORK_MAKER_H_
#define OCTET_BENCH_GENERATE_NETWORK_MAKER_H_

#include <string>
#include <utility>
#include <vector>

#include "graph/graph.h"

namespace octet::bench {

using Attributes = std::vector<std::pair<std::string, graph::Attribute>>;

// Weights depend on the seed and on the order of calls only: the same program makes the same file on every machine.
class NetworkMaker {
 public:
  NetworkMaker(std::string name, uint64_t seed) : seed_(seed) { graph_.name = std::move(name); }

  // Axis 0 is the batch and free ("batch").
  graph::ValueId Input(const std::string& name, Shape rest);
  graph::ValueId Node(const std::string& op, std::vector<graph::ValueId> inputs, Attributes attributes = {});

  // Normal weights of standard deviation `gain` * sqrt(2 / fan_in): He et al., arXiv:1502.01852.
  graph::ValueId Weights(Shape shape, int64_t fan_in, double gain = 1);
  graph::ValueId Normal(Shape shape, double mean, double deviation);
  graph::ValueId Ints(std::vector<int64_t> values);
  graph::ValueId Scalar(float value);

  struct Conv {
    int64_t channels, outputs, kernel = 1, stride = 1, groups = 1;
    double gain = 1;
  };
  // Same padding, small random bias (as BatchNormalization leaves one when it is folded).
  graph::ValueId Convolution(graph::ValueId src, const Conv& conv);
  // Gemm with transB, as torch exports it.
  graph::ValueId Dense(graph::ValueId src, int64_t inputs, int64_t outputs, double gain = 1);
  // [..., inputs] x [inputs, outputs] + bias, as torch exports a Linear on sequences.
  graph::ValueId Linear(graph::ValueId src, int64_t inputs, int64_t outputs, double gain = 1);

  graph::Graph Finish(graph::ValueId output, Shape rest);

 private:
  graph::ValueId Value(const std::string& name, std::optional<Shape> shape);
  std::string Fresh(const std::string& stem);

  graph::Graph graph_;
  uint64_t seed_, stream_ = 0;
  int count_ = 0;
};

}  // namespace octet::bench

#endif  // OCTET_BENCH_GENERATE_NETWORK_MAKER_H_
