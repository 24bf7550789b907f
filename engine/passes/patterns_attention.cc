// Scaled dot-product attention as one node.
//
// FusedAttention(Q, K, V, mask): logical operands [batch..., rows, columns], stored in another order of dimensions:
//   p = softmax(scale * Q K^T + mask, last axis);  y = p V
// Attributes: scale; q_perm, k_perm, v_perm, y_perm: perm as Transpose has it, from the stored order to
// [batch..., query, depth], [batch..., depth, key], [batch..., key, depth], [batch..., query, depth] (y: from the stored
// order, too); p_scale, p_zero_point, p_signed when the probabilities are rounded to integers.
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/passes/patterns.h"

namespace octet::engine {
namespace {

using graph::Graph;
using graph::Node;
using graph::ValueId;

// An operand behind the Transpose and the factors in front of the product.
struct Source {
  ValueId id;
  std::vector<int64_t> perm;
  double factor = 1;
};

std::optional<double> ScalarConstant(const Graph& g, ValueId id) {
  const graph::Value& v = g.value(id);
  if (!v.is_constant() || v.quant.has_value() || !v.data->valid() || v.data->num_elements() != 1) return std::nullopt;
  return v.data->ToF64()[0];
}

Source SourceOf(const Match& m, ValueId id, size_t rank) {
  const Graph& g = m.graph();
  Source s{id, std::vector<int64_t>(rank), 1};
  std::iota(s.perm.begin(), s.perm.end(), 0);
  bool transposed = false;
  while (m.producer(s.id) != nullptr) {
    const Node& n = *m.producer(s.id);
    if (!n.domain.empty()) break;
    // A quantized value in between may hold the same integers only: a transposed one does, a scaled one does not.
    if (n.op == "Transpose" && !transposed && n.GetInts("perm").size() == rank &&
        g.value(s.id).quant == g.value(n.inputs[0]).quant && g.value(s.id).dtype == g.value(n.inputs[0]).dtype) {
      s.perm = n.GetInts("perm");
      transposed = true;
      s.id = n.inputs[0];
      continue;
    }
    const std::optional<double> c =
        (n.op == "Mul" || n.op == "Div") && n.inputs.size() == 2 ? ScalarConstant(g, n.inputs[1]) : std::nullopt;
    if (!c.has_value() || g.value(s.id).quant.has_value() || *c == 0) break;
    s.factor *= n.op == "Mul" ? *c : 1 / *c;
    s.id = n.inputs[0];
  }
  return s;
}

bool FitsInt8(const graph::Value& v) {
  return !v.quant.has_value() || (v.quant->per_tensor() && (v.dtype == DType::kU8 || v.dtype == DType::kS8));
}

absl::StatusOr<Node> Make(const Match& m) {
  Graph& g = m.graph();
  const auto& scores = g.value(m.value("scores")).shape;
  if (!scores.has_value() || scores->size() < 3 || scores->size() > 4) {
    return absl::UnimplementedError("the scores have not 3 or 4 dimensions");
  }
  const size_t rank = scores->size();
  const Node& softmax = m.node("p");
  const int64_t axis = softmax.GetInt("axis", -1);
  if (axis != -1 && axis != static_cast<int64_t>(rank) - 1) {
    return absl::UnimplementedError("the softmax is not along the last axis");
  }
  const Source q = SourceOf(m, m.value("q"), rank), k = SourceOf(m, m.value("k"), rank),
               v = SourceOf(m, m.value("v"), rank);
  if (v.factor != 1) return absl::UnimplementedError("V is scaled");
  for (const Source* s : {&q, &k, &v}) {
    const graph::Value& value = g.value(s->id);
    if (!value.shape.has_value() || value.shape->size() != rank) {
      return absl::UnimplementedError(absl::StrCat("'", value.name, "' has another rank than the scores"));
    }
    if (!FitsInt8(value) || (!value.quant.has_value() && value.dtype != DType::kF32)) {
      return absl::UnimplementedError(absl::StrCat("'", value.name, "' is neither f32 nor 8 bits with one scale"));
    }
  }
  double scale = q.factor * k.factor;
  if (m.has("scale")) scale *= m.scalar("scale");
  if (m.has("divisor")) scale /= m.scalar("divisor");
  Node node;
  node.op = "FusedAttention";
  node.inputs = {q.id, k.id, v.id};
  if (m.has("mask")) {
    const auto& mask = g.value(m.value("mask")).shape;
    if (!mask.has_value() || mask->size() > rank) return absl::UnimplementedError("the mask has more dimensions than the scores");
    if (g.value(m.value("mask")).dtype != DType::kF32 || g.value(m.value("mask")).quant.has_value()) {
      return absl::UnimplementedError("the mask is not f32");
    }
    node.inputs.push_back(m.value("mask"));
  }
  node.attributes["scale"] = static_cast<float>(scale);
  node.attributes["q_perm"] = q.perm;
  node.attributes["k_perm"] = k.perm;
  node.attributes["v_perm"] = v.perm;
  std::vector<int64_t> y_perm(rank);
  std::iota(y_perm.begin(), y_perm.end(), 0);
  if (m.has("y")) {  // the root is Transpose(y): stored dimension i is logical dimension perm[i]
    const std::vector<int64_t> perm = m.node("transposed").GetInts("perm");
    if (perm.size() != rank) return absl::UnimplementedError("the Transpose behind it has no perm");
    const graph::Value &y = g.value(m.value("y")), &moved = g.value(m.root());
    if (y.quant.has_value() && (y.quant != moved.quant || y.dtype != moved.dtype)) {
      return absl::UnimplementedError("the Transpose behind it changes the parameters of its integers");
    }
    for (size_t i = 0; i < rank; ++i) y_perm[static_cast<size_t>(perm[i])] = static_cast<int64_t>(i);
  }
  node.attributes["y_perm"] = y_perm;
  if (const graph::Value& p = g.value(m.value("p")); p.quant.has_value()) {
    if (!FitsInt8(p)) return absl::UnimplementedError("the probabilities are not stored in 8 bits with one scale");
    node.attributes["p_scale"] = p.quant->scale[0];
    node.attributes["p_zero_point"] = int64_t{p.quant->zero_point_at(0)};
    node.attributes["p_signed"] = int64_t{p.dtype == DType::kS8};
  }
  return node;
}

}  // namespace

PatternGroup AttentionPatterns() {
  const Pattern scores = Op("MatMul", {Any("q"), Any("k")}, "scores");
  const Pattern scaled = OneOf({Op("Mul", {scores, Scalar("scale")}), Op("Div", {scores, Scalar("divisor")}), scores});
  const Pattern masked = OneOf({Op("Add", {scaled, Any("mask")}), scaled});
  const Pattern p = Op("Softmax", {masked}, "p");
  const Pattern y = Op("MatMul", {p, Any("v")}, "y");
  return {"attention", "Softmax",
          {{Op("Transpose", {y}, "transposed"), Make, {}, {"p", "y"}}, {Op("MatMul", {p, Any("v")}), Make, {}, {"p"}}}};
}

}  // namespace octet::engine
