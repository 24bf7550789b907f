// Finds products, and which of them come first and last.
#include "compress/products.h"

#include <algorithm>

#include "absl/log/log.h"

namespace octet::compress {
namespace {

using graph::Graph;
using graph::kNoValue;
using graph::Node;
using graph::ValueId;

bool IsRealValue(const Graph& g, ValueId id) {
  const graph::Value& v = g.value(id);
  return v.dtype == DType::kF32 && !v.quant.has_value() && !v.is_constant();
}

bool IsTransposed(const Node& n) { return n.op == "Gemm" && n.GetInt("transB", 0) != 0; }

bool HasUsableBias(const Graph& g, const Node& n, int64_t rows) {
  if (!n.has_input(2)) return true;
  const graph::Value& b = g.value(n.inputs[2]);
  return b.is_constant() && b.dtype == DType::kF32 && b.data->num_elements() == rows;
}

bool IsProduct(const Graph& g, const Node& n) {
  if (!n.domain.empty() || (n.op != "Conv" && n.op != "Gemm" && n.op != "MatMul") || n.inputs.size() < 2) return false;
  const graph::Value& w = g.value(n.inputs[1]);
  if (!w.is_constant() || w.dtype != DType::kF32 || w.quant.has_value() || !IsRealValue(g, n.inputs[0])) return false;
  if (w.data->num_elements() == 0) return false;
  if (n.op == "Conv") return HasUsableBias(g, n, w.data->shape()[0]);
  const auto& src_shape = g.value(n.inputs[0]).shape;
  if (w.data->shape().size() != 2 || !src_shape.has_value() || src_shape->size() < 2) return false;
  if (n.op == "Gemm" && (n.GetFloat("alpha", 1) != 1 || n.GetInt("transA", 0) != 0)) return false;
  return HasUsableBias(g, n, w.data->shape()[IsTransposed(n) ? 0 : 1]);
}

// Marks the values that depend on a product's result (forward), or that a product's source depends on (backward).
std::vector<bool> Reached(const Graph& g, const std::vector<bool>& product, bool forward) {
  std::vector<bool> reached(g.values.size());
  auto visit = [&](size_t i) {
    const Node& n = g.nodes[i];
    const std::vector<ValueId>& from = forward ? n.inputs : n.outputs;
    const std::vector<ValueId>& to = forward ? n.outputs : n.inputs;
    const bool any = product[i] || std::any_of(from.begin(), from.end(), [&](ValueId v) {
                       return v != kNoValue && reached[static_cast<size_t>(v)];
                     });
    for (ValueId v : to) {
      if (any && v != kNoValue) reached[static_cast<size_t>(v)] = true;
    }
  };
  for (size_t i = 0; i < g.nodes.size(); ++i) visit(forward ? i : g.nodes.size() - 1 - i);
  return reached;
}

}  // namespace

bool IsActivation(const Node& n) {
  static constexpr const char* kOps[] = {"Relu", "Clip", "LeakyRelu", "HardSwish", "HardSigmoid",
                                         "Sigmoid", "Tanh", "Elu", "Gelu"};
  return n.domain.empty() && std::find(std::begin(kOps), std::end(kOps), n.op) != std::end(kOps);
}

ValueId BehindActivation(const Graph& graph, const std::vector<std::vector<int>>& consumers, ValueId id) {
  const std::vector<int>& readers = consumers[static_cast<size_t>(id)];
  if (readers.size() != 1 || graph.IsOutput(id)) return id;
  const Node& next = graph.nodes[static_cast<size_t>(readers[0])];
  return IsActivation(next) && next.inputs[0] == id ? next.outputs[0] : id;
}

int ProducerIndex(const Graph& graph, ValueId output) {
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const std::vector<ValueId>& outputs = graph.nodes[i].outputs;
    if (std::find(outputs.begin(), outputs.end(), output) != outputs.end()) return static_cast<int>(i);
  }
  LOG(FATAL) << "value " << output << " has no producer";
}

const Node& ProducerOf(const Graph& graph, ValueId output) {
  return graph.nodes[static_cast<size_t>(ProducerIndex(graph, output))];
}

Node& ProducerOf(Graph& graph, ValueId output) {
  return graph.nodes[static_cast<size_t>(ProducerIndex(graph, output))];
}

std::vector<Product> FindProducts(const Graph& graph) {
  std::vector<bool> is_product(graph.nodes.size());
  for (size_t i = 0; i < graph.nodes.size(); ++i) is_product[i] = IsProduct(graph, graph.nodes[i]);
  const std::vector<bool> behind = Reached(graph, is_product, true), before = Reached(graph, is_product, false);
  const std::vector<bool> captured = graph.Captured();
  const auto consumers = graph.Consumers();
  std::vector<Product> products;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& n = graph.nodes[i];
    if (!is_product[i] || captured[static_cast<size_t>(n.inputs[0])]) continue;
    const Tensor& w = *graph.value(n.inputs[1]).data;
    Product p;
    p.node = static_cast<int>(i);
    p.name = n.name.empty() ? graph.value(n.outputs[0]).name : n.name;
    p.op = n.op;
    p.src = n.inputs[0];
    p.output = n.outputs[0];
    p.result = BehindActivation(graph, consumers, p.output);
    p.weights_elements = w.num_elements();
    const bool rows_first = n.op == "Conv" || IsTransposed(n);
    p.rows = w.shape()[rows_first ? 0 : 1];
    p.inputs = w.shape()[rows_first ? 1 : 0];
    p.first = !behind[static_cast<size_t>(p.src)];
    p.last = !before[static_cast<size_t>(p.output)];
    p.depthwise = n.op == "Conv" && p.inputs == 1 && n.GetInt("group", 1) > 1;
    products.push_back(std::move(p));
  }
  return products;
}

}  // namespace octet::compress
