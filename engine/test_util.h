// Test helper: builds small canonical graphs and runs programs on given inputs.
#ifndef OCTET_ENGINE_TEST_UTIL_H_
#define OCTET_ENGINE_TEST_UTIL_H_

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/parallel_for.h"
#include "base/rng.h"
#include "base/status.h"
#include "engine/program.h"
#include "graph/graph.h"

namespace octet::engine {

// Adds values and nodes by name; names are created on first use.
class GraphMaker {
 public:
  graph::ValueId Input(const std::string& name, Shape shape, DType dtype = DType::kF32) {
    graph::Value v;
    v.name = name;
    v.dtype = dtype;
    v.shape = std::move(shape);
    const graph::ValueId id = g.AddValue(std::move(v));
    g.inputs.push_back(id);
    return id;
  }
  graph::ValueId F32(const std::string& name, Shape shape, std::vector<float> values) {
    return g.AddConstant(name, Tensor::FromF32(std::move(shape), values));
  }
  graph::ValueId Ints(const std::string& name, std::vector<int64_t> values) {
    const auto n = static_cast<int64_t>(values.size());
    return g.AddConstant(name, Tensor::FromS64({n}, values));
  }
  // Uniform in [-1, 1), seeded by the name's length and `seed`.
  graph::ValueId Random(const std::string& name, Shape shape, uint64_t seed) {
    const auto n = static_cast<size_t>(NumElements(shape));
    std::vector<float> values(n);
    const CounterRng rng(seed);
    for (size_t i = 0; i < n; ++i) values[i] = static_cast<float>(rng.Uniform(i) * 2 - 1);
    return F32(name, std::move(shape), std::move(values));
  }
  graph::ValueId Node(const std::string& op, std::vector<graph::ValueId> inputs, const std::string& out,
                      std::vector<std::pair<std::string, graph::Attribute>> attributes = {},
                      std::optional<QuantParams> quant = std::nullopt) {
    graph::Value v;
    v.name = out;
    v.dtype = quant.has_value() ? DType::kU8 : DType::kF32;
    v.quant = std::move(quant);
    const graph::ValueId id = g.AddValue(std::move(v));
    graph::Node n;
    n.op = op;
    n.name = "node_" + out;
    n.inputs = std::move(inputs);
    n.outputs = {id};
    for (auto& [key, value] : attributes) n.attributes.emplace(key, std::move(value));
    g.nodes.push_back(std::move(n));
    return id;
  }
  void Output(graph::ValueId id) { g.outputs.push_back(id); }

  graph::Graph g;
};

// Runs once with team size `threads`; inputs and outputs as raw tensors.
inline absl::StatusOr<std::vector<Tensor>> RunProgram(Program& program, const std::vector<Tensor>& inputs,
                                                      int threads = 1) {
  std::vector<Shape> shapes;
  for (const Tensor& t : inputs) shapes.push_back(t.shape());
  OCTET_ASSIGN_OR_RETURN(auto specialisation, program.Specialise(shapes, threads));
  OCTET_ASSIGN_OR_RETURN(auto context, Context::Create(specialisation));
  SetTeamSize(threads);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const absl::Span<std::byte> to = context->input(static_cast<int>(i));
    if (static_cast<int64_t>(to.size()) != inputs[i].size_bytes()) {
      return absl::InternalError("input size differs from the context's");
    }
    std::memcpy(to.data(), inputs[i].data(), to.size());
  }
  OCTET_RETURN_IF_ERROR(context->Run());
  std::vector<Tensor> outputs;
  for (size_t i = 0; i < program.outputs().size(); ++i) {
    const absl::Span<const std::byte> from = context->output(static_cast<int>(i));
    const std::vector<std::byte> copy(from.begin(), from.end());
    outputs.push_back(Tensor::FromValues<std::byte>(program.outputs()[i].dtype,
                                                    context->output_shape(static_cast<int>(i)), copy));
  }
  return outputs;
}

}  // namespace octet::engine

#endif  // OCTET_ENGINE_TEST_UTIL_H_
