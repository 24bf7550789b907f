// Nodes, values and random weights.
#include "bench/generate/network_maker.h"

#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "base/rng.h"

namespace octet::bench {

using graph::ValueId;

std::string NetworkMaker::Fresh(const std::string& stem) { return absl::StrCat(stem, "_", count_++); }

ValueId NetworkMaker::Value(const std::string& name, std::optional<Shape> shape) {
  graph::Value value;
  value.name = name;
  value.dtype = DType::kF32;
  value.shape = std::move(shape);
  return graph_.AddValue(std::move(value));
}

ValueId NetworkMaker::Input(const std::string& name, Shape rest) {
  rest.insert(rest.begin(), kUnknownDim);
  const ValueId id = Value(name, rest);
  graph_.value(id).dim_names.assign(rest.size(), "");
  graph_.value(id).dim_names[0] = "batch";
  graph_.inputs.push_back(id);
  return id;
}

ValueId NetworkMaker::Node(const std::string& op, std::vector<ValueId> inputs, Attributes attributes) {
  graph::Node node;
  node.op = op;
  node.name = Fresh(op);
  node.inputs = std::move(inputs);
  node.outputs = {Value(node.name + "_out", std::nullopt)};
  for (auto& [key, value] : attributes) node.attributes.emplace(key, std::move(value));
  graph_.nodes.push_back(std::move(node));
  return graph_.nodes.back().outputs[0];
}

ValueId NetworkMaker::Normal(Shape shape, double mean, double deviation) {
  const CounterRng rng(seed_, stream_++);
  std::vector<float> values(static_cast<size_t>(NumElements(shape)));
  for (size_t i = 0; i < values.size(); ++i) {  // Box and Muller
    const double radius = std::sqrt(-2 * std::log(1 - rng.Uniform(2 * i)));
    const double angle = 2 * std::numbers::pi * rng.Uniform(2 * i + 1);
    values[i] = static_cast<float>(mean + deviation * radius * std::cos(angle));
  }
  return graph_.AddConstant(Fresh("weights"), Tensor::FromF32(std::move(shape), values));
}

ValueId NetworkMaker::Weights(Shape shape, int64_t fan_in, double gain) {
  return Normal(std::move(shape), 0, gain * std::sqrt(2.0 / static_cast<double>(fan_in)));
}

ValueId NetworkMaker::Ints(std::vector<int64_t> values) {
  const auto n = static_cast<int64_t>(values.size());
  return graph_.AddConstant(Fresh("ints"), Tensor::FromS64({n}, values));
}

ValueId NetworkMaker::Scalar(float value) {
  return graph_.AddConstant(Fresh("scalar"), Tensor::FromF32({}, {value}));
}

ValueId NetworkMaker::Convolution(ValueId src, const Conv& c) {
  const int64_t pad = (c.kernel - 1) / 2, in_group = c.channels / c.groups;
  const ValueId weights = Weights({c.outputs, in_group, c.kernel, c.kernel}, in_group * c.kernel * c.kernel, c.gain);
  return Node("Conv", {src, weights, Normal({c.outputs}, 0.05, 0.1)},
              {{"kernel_shape", std::vector<int64_t>{c.kernel, c.kernel}},
               {"strides", std::vector<int64_t>{c.stride, c.stride}},
               {"pads", std::vector<int64_t>{pad, pad, pad, pad}},
               {"group", c.groups}});
}

ValueId NetworkMaker::Dense(ValueId src, int64_t inputs, int64_t outputs, double gain) {
  return Node("Gemm", {src, Weights({outputs, inputs}, inputs, gain), Normal({outputs}, 0, 0.1)},
              {{"transB", int64_t{1}}});
}

ValueId NetworkMaker::Linear(ValueId src, int64_t inputs, int64_t outputs, double gain) {
  const ValueId product = Node("MatMul", {src, Weights({inputs, outputs}, inputs, gain)});
  return Node("Add", {product, Normal({outputs}, 0, 0.1)});
}

graph::Graph NetworkMaker::Finish(ValueId output, Shape rest) {
  rest.insert(rest.begin(), kUnknownDim);
  graph_.value(output).name = "output";
  graph_.value(output).dim_names.assign(rest.size(), "");
  graph_.value(output).dim_names[0] = "batch";
  graph_.value(output).shape = std::move(rest);
  graph_.outputs = {output};
  return std::move(graph_);
}

}  // namespace octet::bench
