// Builds small graphs in a few lines; for tests.
#ifndef OCTET_GRAPH_GRAPH_BUILDER_H_
#define OCTET_GRAPH_GRAPH_BUILDER_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "graph/graph.h"

namespace octet::graph {

class GraphBuilder {
 public:
  ValueId Input(std::string name, std::optional<Shape> shape, DType dtype = DType::kF32) {
    const ValueId id = Make(std::move(name), dtype);
    graph.value(id).shape = std::move(shape);
    graph.inputs.push_back(id);
    return id;
  }
  ValueId Ints(std::vector<int64_t> values) {
    const Shape shape = {static_cast<int64_t>(values.size())};
    return graph.AddConstant(Fresh(), Tensor::FromS64(shape, values));
  }
  ValueId Int(int64_t value) { return graph.AddConstant(Fresh(), Tensor::FromS64({}, {value})); }
  // A constant f32 tensor full of `fill`.
  ValueId Weights(Shape shape, float fill = 0.5f) {
    const std::vector<float> values(static_cast<size_t>(NumElements(shape)), fill);
    return graph.AddConstant(Fresh(), Tensor::FromF32(std::move(shape), values));
  }
  ValueId Floats(std::vector<float> values) {
    const Shape shape = {static_cast<int64_t>(values.size())};
    return graph.AddConstant(Fresh(), Tensor::FromF32(shape, values));
  }

  // Adds a node with one output and returns it; attributes by reference for the caller to fill: see
  // `last`.
  ValueId Add(std::string op, std::vector<ValueId> inputs,
              absl::flat_hash_map<std::string, Attribute> attributes = {}) {
    return AddMany(std::move(op), std::move(inputs), 1, std::move(attributes))[0];
  }
  std::vector<ValueId> AddMany(std::string op, std::vector<ValueId> inputs, int outputs,
                               absl::flat_hash_map<std::string, Attribute> attributes = {}) {
    Node node;
    node.op = std::move(op);
    node.inputs = std::move(inputs);
    for (int i = 0; i < outputs; ++i) node.outputs.push_back(Make(Fresh(), DType::kF32));
    node.attributes = std::move(attributes);
    graph.nodes.push_back(node);
    return node.outputs;
  }
  // Quantize to u8 (or `dtype`) and Dequantize back, as QDQ files have them.
  ValueId Quantize(ValueId x, QuantParams quant, DType dtype = DType::kU8) {
    const ValueId out = Add("Quantize", {x});
    graph.value(out).dtype = dtype;
    graph.value(out).quant = std::move(quant);
    return out;
  }
  ValueId Dequantize(ValueId x) { return Add("Dequantize", {x}); }

  void Output(ValueId id, std::string name = "") {
    if (!name.empty()) graph.value(id).name = std::move(name);
    graph.outputs.push_back(id);
  }

  const Shape& shape(ValueId id) const { return *graph.value(id).shape; }

  Graph graph;

 private:
  ValueId Make(std::string name, DType dtype) {
    Value value;
    value.name = std::move(name);
    value.dtype = dtype;
    return graph.AddValue(std::move(value));
  }
  std::string Fresh() { return "v" + std::to_string(graph.values.size()); }
};

}  // namespace octet::graph

#endif  // OCTET_GRAPH_GRAPH_BUILDER_H_
