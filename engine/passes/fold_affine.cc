// Batch normalisation, bias and per-channel factors folded into the product before them.
#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/float16.h"
#include "base/status.h"
#include "engine/passes/passes.h"
#include "graph/shape_inference.h"

namespace octet::engine {
namespace {

using graph::Graph;
using graph::Node;
using graph::ValueId;

// y[c] = factor[c] * x[c] + shift[c] along the output channels of a product.
struct Affine {
  std::vector<double> factor, shift;
};

// Constants of these types are folded, in f32, and rounded to their type again; f64 and integers are left alone.
bool IsFoldable(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16; }

// The type that constants beside `id` must have.
DType RealType(const Graph& g, ValueId id) { return g.value(id).quant.has_value() ? DType::kF32 : g.value(id).dtype; }

bool IsProduct(const Node& n) {
  return n.domain.empty() && (n.op == "Conv" || n.op == "Gemm" || n.op == "MatMul");
}

// Output channels of a product, or 0 when its weights are computed.
int64_t OutputChannels(const Graph& g, const Node& n) {
  if (n.inputs.size() < 2 || !g.value(n.inputs[1]).is_constant()) return 0;
  const Shape& w = g.value(n.inputs[1]).data->shape();
  if (n.op == "Conv") return w.size() >= 3 ? w[0] : 0;
  if (w.size() != 2) return 0;
  return n.op == "Gemm" && n.GetInt("transB", 0) != 0 ? w[0] : w[1];
}

// A constant that varies along the channel axis of a product's result only: one entry per channel; else nullopt.
std::optional<std::vector<double>> PerChannel(const Graph& g, ValueId id, size_t rank, size_t axis,
                                              int64_t channels) {
  const graph::Value& v = g.value(id);
  if (!v.is_constant() || v.quant.has_value() || !IsFoldable(v.data->dtype())) return std::nullopt;
  const Shape& shape = v.data->shape();
  if (shape.size() > rank) return std::nullopt;
  const std::vector<double> values = v.data->ToF64();
  if (values.size() == 1) return std::vector<double>(static_cast<size_t>(channels), values[0]);
  for (size_t i = 0; i < shape.size(); ++i) {
    const size_t in_result = rank - shape.size() + i;
    if (shape[i] != (in_result == axis ? channels : 1)) return std::nullopt;
  }
  return static_cast<int64_t>(values.size()) == channels ? std::make_optional(values) : std::nullopt;
}

std::optional<Affine> BatchNormalizationOf(const Graph& g, const Node& bn, int64_t channels) {
  std::vector<double> parts[4];  // scale, bias, mean, variance
  for (size_t i = 0; i < 4; ++i) {
    const Tensor* t = g.ConstantInput(bn, i + 1);
    if (t == nullptr || t->num_elements() != channels || !IsFoldable(t->dtype())) return std::nullopt;
    parts[i] = t->ToF64();
  }
  const double epsilon = bn.GetFloat("epsilon", 1e-5f);
  Affine affine;
  for (size_t c = 0; c < static_cast<size_t>(channels); ++c) {
    const double factor = parts[0][c] / std::sqrt(parts[3][c] + epsilon);
    affine.factor.push_back(factor);
    affine.shift.push_back(parts[1][c] - parts[2][c] * factor);
  }
  return affine;
}

// What `node` does to input `from` (the result of a product) as an affine map per channel; nullopt when it is another.
std::optional<Affine> AffineOf(const Graph& g, const Node& node, ValueId from, size_t rank, size_t axis,
                               int64_t channels) {
  if (!node.domain.empty()) return std::nullopt;
  if (node.op == "BatchNormalization") {
    return node.inputs[0] == from && axis == 1 ? BatchNormalizationOf(g, node, channels) : std::nullopt;
  }
  if (node.inputs.size() != 2) return std::nullopt;
  const bool first = node.inputs[0] == from;
  if (first && node.inputs[1] == from) return std::nullopt;
  if (!first && node.op != "Add" && node.op != "Mul") return std::nullopt;
  const auto constant = PerChannel(g, node.inputs[first ? 1 : 0], rank, axis, channels);
  if (!constant.has_value()) return std::nullopt;
  const auto n = static_cast<size_t>(channels);
  Affine affine{std::vector<double>(n, 1.0), std::vector<double>(n, 0.0)};
  for (size_t c = 0; c < n; ++c) {
    const double value = (*constant)[c];
    if (node.op == "Add") {
      affine.shift[c] = value;
    } else if (node.op == "Sub") {
      affine.shift[c] = -value;
    } else if (node.op == "Mul") {
      affine.factor[c] = value;
    } else if (node.op == "Div") {
      affine.factor[c] = 1 / value;
    } else {
      return std::nullopt;
    }
    if (!std::isfinite(affine.factor[c])) return std::nullopt;
  }
  return affine;
}

// The vector becomes the tensor's memory: weights can be large. 16-bit floats are rounded into one of their own.
ValueId AddReals(Graph* g, absl::string_view stem, DType dtype, Shape shape, std::vector<float> values) {
  if (dtype == DType::kF16 || dtype == DType::kBF16) {
    std::vector<uint16_t> bits;
    for (float v : values) bits.push_back(dtype == DType::kF16 ? F16FromF32(v) : BF16FromF32(v));
    return g->AddConstant(g->UniqueName(stem), Tensor::FromValues<uint16_t>(dtype, std::move(shape), bits));
  }
  auto owner = std::make_shared<const std::vector<float>>(std::move(values));
  const auto* data = reinterpret_cast<const std::byte*>(owner->data());
  return g->AddConstant(g->UniqueName(stem), Tensor(DType::kF32, std::move(shape), data, std::move(owner)));
}

bool HasOneReader(const Graph& g, ValueId id) {
  int readers = g.IsOutput(id) ? 1 : 0;
  for (const Node& n : g.nodes) readers += static_cast<int>(std::count(n.inputs.begin(), n.inputs.end(), id));
  return readers == 1;
}

// W' = W * factor along the output channel axis. Weights that only `n` reads are given up at once: loading must not hold
// a second copy of all of them.
ValueId ScaledWeights(Graph* g, const Node& n, const std::vector<double>& factor) {
  const std::string name = g->value(n.inputs[1]).name;
  Tensor w = *g->value(n.inputs[1]).data;
  if (HasOneReader(*g, n.inputs[1]) && !g->Captured()[static_cast<size_t>(n.inputs[1])]) {
    g->value(n.inputs[1]).data.reset();
  }
  std::vector<float> values = w.ToF32();
  const Shape shape = w.shape();
  const DType dtype = w.dtype();
  w = Tensor();
  const bool channel_first = n.op == "Conv" || (n.op == "Gemm" && n.GetInt("transB", 0) != 0);
  const size_t channels = factor.size();
  const size_t inner = channel_first ? values.size() / channels : 1;
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(values[i] * factor[i / inner % channels]);
  }
  return AddReals(g, absl::StrCat(name, "_folded"), dtype, shape, std::move(values));
}

// The bias of a product in real units, or nullopt when it is computed or of a shape that varies along other axes.
std::optional<std::vector<double>> CurrentBias(const Graph& g, const Node& n, int64_t channels) {
  if (!n.has_input(2)) return std::vector<double>(static_cast<size_t>(channels), 0.0);
  auto bias = PerChannel(g, n.inputs[2], n.op == "Conv" ? 1 : 2, n.op == "Conv" ? 0 : 1, channels);
  if (bias.has_value() && n.op == "Gemm") {
    for (double& b : *bias) b *= n.GetFloat("beta", 1.0f);
  }
  return bias;
}

// Folds `affine` into product `n`. False when its operands do not allow it.
bool FoldInto(Graph* g, Node* n, const Affine& affine) {
  const auto channels = static_cast<int64_t>(affine.factor.size());
  std::optional<std::vector<double>> bias = CurrentBias(*g, *n, channels);
  if (!bias.has_value()) return false;
  bool scales = false;
  for (double f : affine.factor) scales = scales || f != 1;
  const graph::Value& w = g->value(n->inputs[1]);
  if (scales && (w.quant.has_value() || !IsFoldable(w.dtype))) return false;
  if (scales) n->inputs[1] = ScaledWeights(g, *n, affine.factor);
  std::vector<float> values;
  for (size_t c = 0; c < bias->size(); ++c) {
    values.push_back(static_cast<float>((*bias)[c] * affine.factor[c] + affine.shift[c]));
  }
  const ValueId id = AddReals(g, absl::StrCat(g->value(n->outputs[0]).name, "_bias"), RealType(*g, n->inputs[1]),
                              {channels}, std::move(values));
  n->inputs.resize(3, graph::kNoValue);
  n->inputs[2] = id;
  if (n->op == "Gemm") n->attributes.erase("beta");
  // Of matrices, a Gemm says the same in ONNX's words.
  const auto& shape = g->value(n->inputs[0]).shape;
  if (n->op == "MatMul" && shape.has_value() && shape->size() == 2) n->op = "Gemm";
  return true;
}

// One fold at product `i`; true when something changed.
bool FoldAt(Graph* g, size_t i, const std::vector<std::vector<int>>& consumers, PassLog* log) {
  Node& product = g->nodes[i];
  if (!IsProduct(product)) return false;
  const ValueId out = product.outputs[0];
  const graph::Value& result = g->value(out);
  if (!result.shape.has_value()) return false;
  const auto refuse = [&](const Node& next, const std::string& why) {
    if (log != nullptr) log->Refused("fold-affine", Describe(*g, next), why);
    return false;
  };
  const std::vector<int>& readers = consumers[static_cast<size_t>(out)];
  const size_t rank = result.shape->size();
  const int64_t channels = OutputChannels(*g, product);
  if (channels <= 0 || readers.empty() || rank == 0) return false;
  const size_t axis = product.op == "Conv" ? 1 : rank - 1;
  const Node& next = g->nodes[static_cast<size_t>(readers[0])];
  const std::optional<Affine> affine = AffineOf(*g, next, out, rank, axis, channels);
  if (!affine.has_value()) return false;
  const std::string name = absl::StrCat("'", result.name, "'");
  if (g->IsOutput(out)) return refuse(next, absl::StrCat("the product's result ", name, " is an output of the graph"));
  if (readers.size() != 1) return refuse(next, absl::StrCat("the product's result ", name, " is also read elsewhere"));
  // A rounding between product and bias is dropped where the sum is rounded, as between product and residual.
  if (result.quant.has_value() && (next.op != "Add" || !g->value(next.outputs[0]).quant.has_value())) {
    return refuse(next, absl::StrCat("the product's result ", name, " is rounded to integers"));
  }
  // The result must not be larger than the product's own (a constant of higher extent broadcasts it).
  const graph::Value& after = g->value(next.outputs[0]);
  if (!after.shape.has_value() || after.shape->size() != rank) return refuse(next, "it broadcasts the product's result");
  const ValueId final_value = next.outputs[0];
  if (!FoldInto(g, &product, *affine)) return refuse(next, "the product's weights or bias are quantized or computed");
  if (log != nullptr) log->Fired("fold-affine", Describe(*g, next), absl::StrCat("into ", Describe(*g, product)));
  product.outputs[0] = final_value;
  Node& gone = g->nodes[static_cast<size_t>(consumers[static_cast<size_t>(out)][0])];
  gone = Node{"Identity", "", "", {}, {}, {}};
  return true;
}

// Gemm's beta on a constant bias.
void FoldBeta(Graph* g) {
  for (Node& n : g->nodes) {
    if (n.op != "Gemm" || !n.domain.empty() || n.GetFloat("beta", 1.0f) == 1.0f || !n.has_input(2)) continue;
    const graph::Value& c = g->value(n.inputs[2]);
    if (!c.is_constant() || c.quant.has_value() || !IsFoldable(c.dtype)) continue;
    std::vector<float> values = c.data->ToF32();
    for (float& v : values) v *= n.GetFloat("beta", 1.0f);
    const Shape shape = c.data->shape();
    n.inputs[2] = AddReals(g, absl::StrCat(c.name, "_beta"), c.dtype, shape, std::move(values));
    n.attributes.erase("beta");
  }
}

// BatchNormalization that follows no product: x * factor + shift.
absl::Status ExpandBatchNormalization(Graph* g) {
  std::vector<Node> nodes;
  for (Node& n : g->nodes) {
    const bool lone = n.op == "BatchNormalization" && n.domain.empty();
    const Tensor* scale = lone ? g->ConstantInput(n, 1) : nullptr;
    const auto& shape = lone ? g->value(n.inputs[0]).shape : std::nullopt;
    if (scale == nullptr || !shape.has_value() || shape->size() < 2 || !IsFoldable(RealType(*g, n.inputs[0]))) {
      nodes.push_back(std::move(n));
      continue;
    }
    const std::optional<Affine> affine = BatchNormalizationOf(*g, n, scale->num_elements());
    if (!affine.has_value()) {
      nodes.push_back(std::move(n));
      continue;
    }
    Shape per_channel(shape->size() - 1, 1);
    per_channel[0] = scale->num_elements();
    const std::string stem = g->value(n.outputs[0]).name;
    const DType dtype = RealType(*g, n.inputs[0]);
    const ValueId factor = AddReals(g, stem + "_factor", dtype, per_channel,
                                    std::vector<float>(affine->factor.begin(), affine->factor.end()));
    const ValueId shift = AddReals(g, stem + "_shift", dtype, per_channel,
                                   std::vector<float>(affine->shift.begin(), affine->shift.end()));
    graph::Value scaled;
    scaled.name = g->UniqueName(stem + "_scaled");
    scaled.dtype = dtype;
    scaled.shape = g->value(n.inputs[0]).shape;
    const ValueId middle = g->AddValue(std::move(scaled));
    nodes.push_back(Node{"Mul", "", n.name, {n.inputs[0], factor}, {middle}, {}});
    nodes.push_back(Node{"Add", "", n.name, {middle, shift}, {n.outputs[0]}, {}});
  }
  g->nodes = std::move(nodes);
  return absl::OkStatus();
}

}  // namespace

absl::Status FoldAffine(Graph* graph, PassLog* log) {
  FoldBeta(graph);
  std::vector<std::vector<int>> consumers = graph->Consumers();
  for (size_t i = 0; i < graph->nodes.size(); ++i) {
    while (FoldAt(graph, i, consumers, log)) consumers = graph->Consumers();
  }
  std::erase_if(graph->nodes, [](const Node& n) { return n.outputs.empty(); });
  OCTET_RETURN_IF_ERROR(ExpandBatchNormalization(graph));
  graph->RemoveDead();
  return graph::InferShapes(graph);
}

}  // namespace octet::engine
