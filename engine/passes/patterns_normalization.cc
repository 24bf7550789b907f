// Layer and root-mean-square normalization out of their reductions.
//
//   d = x - mean(x);  y = d / sqrt(mean(d^2) + epsilon) * scale + bias
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/passes/patterns.h"

namespace octet::engine {
namespace {

using graph::Graph;
using graph::Node;
using graph::ValueId;

// The first of the axes reduced by the node that makes `label`: they must be the last ones of x and kept.
absl::StatusOr<int64_t> FirstAxis(const Match& m, const std::string& label, int64_t rank) {
  const Node& reduce = m.node(label);
  if (reduce.GetInt("keepdims", 1) == 0) return absl::UnimplementedError("the mean does not keep its dimensions");
  const Tensor* axes = m.graph().ConstantInput(reduce, 1);
  if (axes == nullptr || !axes->valid()) return absl::UnimplementedError("the axes of the mean are computed");
  std::vector<int64_t> sorted = axes->ToS64();
  for (int64_t& a : sorted) a += a < 0 ? rank : 0;
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i < sorted.size(); ++i) {
    if (sorted[i] != rank - static_cast<int64_t>(sorted.size() - i)) {
      return absl::UnimplementedError("the mean is not over the last axes");
    }
  }
  if (sorted.empty()) return absl::UnimplementedError("the mean is over all axes");
  return sorted[0];
}

// `id` has one element per normalized element: the shape of x from `axis` on, behind leading ones.
absl::Status CheckParameter(const Graph& g, ValueId id, absl::Span<const int64_t> row, absl::string_view what) {
  const auto& shape = g.value(id).shape;
  const bool fits = shape.has_value() && shape->size() >= row.size() &&
                    std::all_of(shape->begin(), shape->end() - static_cast<int64_t>(row.size()),
                                [](int64_t d) { return d == 1; }) &&
                    std::equal(row.begin(), row.end(), shape->end() - static_cast<int64_t>(row.size()));
  if (fits) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("the ", what, " '", g.value(id).name, "' has shape ",
                                               shape.has_value() ? ShapeString(*shape) : "unknown", ", expected ",
                                               ShapeString(row)));
}

// A parameter in the shape that the operator wants: without leading ones where it is a constant.
ValueId Parameter(Graph& g, ValueId id, const Shape& row) {
  const graph::Value& v = g.value(id);
  if (!v.is_constant() || v.data->shape() == row) return id;
  absl::StatusOr<Tensor> reshaped = v.data->Reshaped(row);
  return reshaped.ok() ? g.AddConstant(g.UniqueName(absl::StrCat(v.name, "_row")), *reshaped) : id;
}

absl::StatusOr<Node> Make(const Match& m, const std::string& op) {
  Graph& g = m.graph();
  const ValueId x = m.value("x");
  const auto shape = g.value(x).shape;
  if (!shape.has_value()) return absl::UnimplementedError("the rank of its source is unknown");
  if (g.value(x).dtype != DType::kF32 && !g.value(x).quant.has_value()) {
    return absl::UnimplementedError("its source is not f32");
  }
  const auto rank = static_cast<int64_t>(shape->size());
  OCTET_ASSIGN_OR_RETURN(const int64_t axis, FirstAxis(m, "var", rank));
  if (m.has("mean")) {
    OCTET_ASSIGN_OR_RETURN(const int64_t mean_axis, FirstAxis(m, "mean", rank));
    if (mean_axis != axis) return absl::UnimplementedError("mean and variance are over different axes");
  }
  const Shape row(shape->begin() + axis, shape->end());
  if (!IsConcrete(row)) return absl::UnimplementedError("the normalized extent is unknown");
  Node node;
  node.op = op;
  node.attributes["axis"] = axis - rank;
  node.attributes["epsilon"] = m.has("epsilon") ? static_cast<float>(m.scalar("epsilon")) : 0.0f;
  node.inputs = {x};
  if (m.has("scale")) {
    OCTET_RETURN_IF_ERROR(CheckParameter(g, m.value("scale"), row, "scale"));
    node.inputs.push_back(Parameter(g, m.value("scale"), row));
  } else {
    const std::vector<float> ones(static_cast<size_t>(NumElements(row)), 1.0f);
    node.inputs.push_back(g.AddConstant(g.UniqueName("ones"), Tensor::FromF32(row, ones)));
  }
  if (m.has("bias")) {
    OCTET_RETURN_IF_ERROR(CheckParameter(g, m.value("bias"), row, "bias"));
    node.inputs.push_back(Parameter(g, m.value("bias"), row));
  }
  return node;
}

MakeNode Maker(const std::string& op) {
  return [op](const Match& m) { return Make(m, op); };
}

Pattern Square(const Pattern& x) { return OneOf({Op("Pow", {x, Number(2)}), Op("Mul", {x, x})}); }

// a / sqrt(variance + epsilon), by division, reciprocal or power.
std::vector<Pattern> OverDeviation(const Pattern& a, const Pattern& variance) {
  const Pattern sum = Op("Add", {variance, Scalar("epsilon")});
  const Pattern deviation = Op("Sqrt", {sum});
  return {Op("Div", {a, deviation}), Op("Mul", {a, Op("Reciprocal", {deviation}, "inverse")}),
          Op("Mul", {a, Op("Div", {Number(1), deviation})}), Op("Mul", {a, Op("Pow", {sum, Number(-0.5)})})};
}

// The forms with scale and bias first, then with scale, then bare.
PatternGroup WithParameters(PatternGroup group, const std::vector<Pattern>& normalized, const MakeNode& make,
                            const std::vector<std::string>& exposed) {
  for (const Pattern& p : normalized) {
    group.patterns.push_back({Op("Add", {Op("Mul", {p, Any("scale")}), Any("bias")}), make, exposed});
  }
  for (const Pattern& p : normalized) group.patterns.push_back({Op("Mul", {p, Any("scale")}), make, exposed});
  for (const Pattern& p : normalized) group.patterns.push_back({p, make, exposed});
  return group;
}

}  // namespace

PatternGroup LayerNormalizationPatterns() {
  const Pattern x = Any("x"), d = Any("d");
  const Pattern mean = Op("ReduceMean", {x, Any("axes")}, "mean");
  const Pattern difference = Op("Sub", {x, mean}, "d");
  // The first d that is met is taken apart; behind it, d is a value that is known.
  const Pattern variance = Op("ReduceMean", {Square(d), Any("")}, "var");
  std::vector<Pattern> normalized = OverDeviation(difference, variance);
  // E[x^2] - E[x]^2, as ONNX's own function body has it.
  const Pattern moments = Op("Sub", {Op("ReduceMean", {Square(x), Any("")}, "var"), Square(Any("mean"))});
  for (const Pattern& p : OverDeviation(difference, moments)) normalized.push_back(p);
  PatternGroup group = WithParameters({"layer-normalization", "ReduceMean", {}}, normalized,
                                      Maker("LayerNormalization"), {"mean", "inverse"});
  // TensorFlow's form: x (scale / deviation) + (bias - mean (scale / deviation)).
  const Pattern subtracted = Op("Sub", {x, Any("mean")}, "d");
  const Pattern squared = OneOf({Op("Pow", {subtracted, Number(2)}), Op("Mul", {subtracted, d})});
  const Pattern sum = Op("Add", {Op("ReduceMean", {squared, Any("")}, "var"), Scalar("epsilon")});
  const Pattern inverse = OneOf({Op("Reciprocal", {Op("Sqrt", {sum})}), Op("Pow", {sum, Number(-0.5)})});
  const Pattern shift = Op("Sub", {Any("bias"), Op("Mul", {Op("ReduceMean", {x, Any("axes")}, "mean"), Any("factor")})});
  group.patterns.insert(group.patterns.begin(),
                        {Op("Add", {shift, Op("Mul", {Op("Mul", {inverse, Any("scale")}, "factor"), x})}),
                         Maker("LayerNormalization"), {"mean"}});
  return group;
}

PatternGroup RmsNormalizationPatterns() {
  const Pattern x = Any("x");
  const Pattern mean = Op("ReduceMean", {Square(x), Any("")}, "var");
  return WithParameters({"rms-normalization", "ReduceMean", {}}, OverDeviation(x, mean), Maker("RMSNormalization"), {});
}

}  // namespace octet::engine
