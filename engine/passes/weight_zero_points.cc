// Zero points of weights as a correction by row sums.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/passes/passes.h"
#include "graph/shape_inference.h"

namespace octet::engine {
namespace {

using graph::Graph;
using graph::kNoValue;
using graph::Node;
using graph::Value;
using graph::ValueId;

bool IsDynamic(const Node& n) { return n.op == "DynamicConv" || n.op == "DynamicMatMul"; }
bool IsConv(const Node& n) { return n.op == "Conv" || n.op == "DynamicConv"; }

// A product on an 8-bit source whose weights carry zero points that no kernel subtracts.
bool Concerns(const Graph& g, const Node& n) {
  if (!n.domain.empty()) return false;
  if (!IsConv(n) && n.op != "MatMul" && n.op != "Gemm" && n.op != "DynamicMatMul") return false;
  const Value& src = g.value(n.inputs[0]);
  const bool bytes = src.dtype == DType::kU8 || src.dtype == DType::kS8;
  if (!bytes || (!IsDynamic(n) && !(src.quant.has_value() && src.quant->per_tensor()))) return false;
  const Value& w = g.value(n.inputs[1]);
  if (!w.is_constant() || w.dtype != DType::kS8 || !w.quant.has_value() || w.quant->block != 0) return false;
  if (!IsConv(n) && (w.quant->per_tensor() || w.data->shape().size() != 2)) return false;
  // The correction of an s32 accumulator would need integers of its own.
  if (IsDynamic(n) && !n.has_input(2)) return false;
  const std::vector<int32_t>& z = w.quant->zero_point;
  return std::any_of(z.begin(), z.end(), [](int32_t zero) { return zero != 0; });
}

class Splitter {
 public:
  explicit Splitter(Graph* g) : g_(*g) {}

  void Run() {
    std::vector<Node> nodes;
    for (Node& node : g_.nodes) {
      if (Concerns(g_, node)) {
        Split(std::move(node), &nodes);
      } else {
        nodes.push_back(std::move(node));
      }
    }
    g_.nodes = std::move(nodes);
  }

 private:
  ValueId AddReal(const std::string& stem) {
    Value v;
    v.name = g_.UniqueName(stem);
    v.dtype = DType::kF32;
    return g_.AddValue(std::move(v));
  }

  // Weights of one number that stands for `real`, not 0: [K, 1], [1, K] (transB), [1, C, k...] or, of groups,
  // [O, C/groups, k...].
  ValueId Uniform(const Node& n, const std::string& stem, Shape shape, bool transposed, float real) {
    if (!IsConv(n)) {
      shape[transposed ? 0 : 1] = 1;
    } else if (n.GetInt("group", 1) == 1) {
      shape[0] = 1;
    }
    const std::vector<int8_t> ones(static_cast<size_t>(NumElements(shape)), real < 0 ? -1 : 1);
    const ValueId id = g_.AddConstant(g_.UniqueName(stem), Tensor::FromValues<int8_t>(DType::kS8, shape, ones));
    g_.value(id).quant = QuantParams::PerTensor(std::abs(real), 0);
    return id;
  }

  void Split(Node node, std::vector<Node>* nodes) {
    const Value w = g_.value(node.inputs[1]);
    const std::string stem = g_.value(node.outputs[0]).name;
    const bool transposed = node.op == "Gemm" && node.GetInt("transB", 0) != 0;
    const int64_t channels = IsConv(node) || transposed ? w.data->shape()[0] : w.data->shape()[1];
    Value bare = w;
    bare.name = g_.UniqueName(absl::StrCat(w.name, "_bare"));
    bare.quant->zero_point.assign(w.quant->per_tensor() ? 1 : 0, 0);

    // One factor for all channels goes into the weights of the row sums.
    const float common = w.quant->per_tensor() ? -w.quant->scale[0] * static_cast<float>(w.quant->zero_point_at(0)) : 0;
    std::vector<float> factor;
    for (size_t c = 0; c < static_cast<size_t>(channels); ++c) {
      const size_t at = w.quant->per_tensor() ? 0 : c;
      factor.push_back(-w.quant->scale[at] * static_cast<float>(w.quant->zero_point_at(at)));
    }
    Shape factor_shape = {channels};
    if (IsConv(node)) factor_shape.resize(w.data->shape().size() - 1, 1);

    Node sums = node;
    sums.inputs.resize(IsDynamic(node) ? std::min<size_t>(node.inputs.size(), 4) : 2);
    sums.inputs[1] = Uniform(node, absl::StrCat(w.name, "_ones"), w.data->shape(), transposed, common != 0 ? common : 1);
    sums.attributes.erase("beta");
    sums.outputs = {AddReal(absl::StrCat(stem, "_row_sums"))};
    const ValueId result = node.outputs[0];
    const std::string name = node.name;
    node.inputs[1] = g_.AddValue(std::move(bare));
    node.outputs = {AddReal(absl::StrCat(stem, "_bare"))};
    const ValueId bare_result = node.outputs[0], row_sums = sums.outputs[0];
    nodes->push_back(std::move(node));
    nodes->push_back(std::move(sums));
    ValueId correction = row_sums;
    if (common == 0) {
      const ValueId constant = g_.AddConstant(g_.UniqueName(absl::StrCat(w.name, "_zero_points")),
                                              Tensor::FromF32(factor_shape, factor));
      correction = AddReal(absl::StrCat(stem, "_correction"));
      nodes->push_back(Node{"Mul", "", name, {row_sums, constant}, {correction}, {}});
    }
    nodes->push_back(Node{"Add", "", name, {bare_result, correction}, {result}, {}});
  }

  Graph& g_;
};

}  // namespace

absl::Status SplitWeightZeroPoints(Graph* graph) {
  if (std::none_of(graph->nodes.begin(), graph->nodes.end(),
                   [&](const Node& n) { return Concerns(*graph, n); })) {
    return absl::OkStatus();
  }
  Splitter(graph).Run();
  graph->RemoveDead();
  return graph::InferShapes(graph);
}

}  // namespace octet::engine
