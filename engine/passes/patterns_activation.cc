// Element functions that exporters write in several nodes.
#include <cmath>

#include "absl/strings/str_cat.h"
#include "engine/passes/patterns.h"

namespace octet::engine {
namespace {

using graph::Node;

constexpr double kSqrt2 = 1.4142135623730951;
constexpr double kSqrt2OverPi = 0.7978845608028654;

Node Unary(const Match& m, std::string op) {
  Node node;
  node.op = std::move(op);
  node.inputs = {m.value("x")};
  return node;
}

// factor * x * inner in every grouping. x comes first: once it is known, little of `inner` is left to try.
std::vector<Pattern> ThreeFactors(double factor, const Pattern& inner) {
  const Pattern x = Any("x");
  return {Op("Mul", {x, Times(inner, factor)}), Op("Mul", {Times(x, factor), inner}),
          Op("Mul", {Op("Mul", {x, inner}), Number(factor)}), Op("Div", {Op("Mul", {x, inner}), Number(1 / factor)})};
}

GraphPattern Plain(Pattern pattern, std::string op) {
  return {std::move(pattern), [op](const Match& m) { return Unary(m, op); }, {}};
}

std::vector<GraphPattern> PlainAll(const std::vector<Pattern>& patterns, const std::string& op,
                                   const std::string& approximate = "") {
  std::vector<GraphPattern> all;
  for (const Pattern& p : patterns) {
    all.push_back({p, [op, approximate](const Match& m) {
                     Node node = Unary(m, op);
                     if (!approximate.empty()) node.attributes["approximate"] = approximate;
                     return node;
                   }, {}});
  }
  return all;
}

// Clip(x + 3, 0, 6)
Pattern Relu6Plus3() {
  return Op("Clip", {Op("Add", {Any("x"), Number(3)}), Number(0), Number(6)});
}

}  // namespace

PatternGroup GeluPatterns() {
  const Pattern erf = Op("Erf", {Times(Any("x"), 1 / kSqrt2)});
  return {"gelu", "Erf", PlainAll(ThreeFactors(0.5, Op("Add", {erf, Number(1)})), "Gelu")};
}

PatternGroup GeluTanhPatterns() {
  const Pattern x = Any("x");
  const Pattern square = OneOf({Op("Mul", {x, x}), Op("Pow", {x, Number(2)})});
  const Pattern cube = OneOf({Op("Pow", {x, Number(3)}), Op("Mul", {square, x})});
  // sqrt(2/pi) (x + 0.044715 x^3), also as sqrt(2/pi) x (1 + 0.044715 x^2)
  const Pattern cubic = OneOf({Op("Mul", {cube, Number(0.044715)}),
                               Op("Mul", {square, Op("Mul", {x, Number(0.044715)})}),
                               Op("Mul", {Op("Mul", {square, Number(0.044715)}), x}),
                               Op("Mul", {x, Op("Mul", {x, Op("Mul", {x, Number(0.044715)})})})});
  const Pattern sum = Op("Add", {x, cubic});
  const Pattern factored = Op("Add", {Op("Mul", {square, Number(0.044715)}), Number(1)});
  const Pattern inner = OneOf({Op("Mul", {sum, Number(kSqrt2OverPi)}),
                               Op("Mul", {factored, Op("Mul", {x, Number(kSqrt2OverPi)})})});
  const Pattern one_plus = Op("Add", {Op("Tanh", {inner}), Number(1)});
  std::vector<Pattern> forms = ThreeFactors(0.5, one_plus);
  // x (0.5 + 0.5 tanh)
  forms.push_back(Op("Mul", {x, Op("Add", {Op("Mul", {Op("Tanh", {inner}), Number(0.5)}), Number(0.5)})}));
  return {"gelu-tanh", "Tanh", PlainAll(forms, "Gelu", "tanh")};
}

PatternGroup SwishPatterns() {
  const MakeNode scaled = [](const Match& m) {
    Node node = Unary(m, "Swish");
    node.attributes["alpha"] = static_cast<float>(m.scalar("alpha"));
    return node;
  };
  return {"swish", "Sigmoid",
          {Plain(Op("Mul", {Op("Sigmoid", {Any("x")}), Any("x")}), "Swish"),
           {Op("Mul", {Op("Sigmoid", {Op("Mul", {Any("x"), Scalar("alpha")})}), Any("x")}), scaled, {}}}};
}

PatternGroup MishPatterns() {
  const Pattern x = Any("x");
  const Pattern softplus = OneOf({Op("Softplus", {x}), Op("Log", {Op("Add", {Op("Exp", {x}), Number(1)})})});
  return {"mish", "Softplus", {Plain(Op("Mul", {Op("Tanh", {softplus}), x}), "Mish")}};
}

PatternGroup HardSigmoidPatterns() {
  const MakeNode make = [](const Match& m) {
    Node node = Unary(m, "HardSigmoid");
    node.attributes["alpha"] = 1.0f / 6;
    node.attributes["beta"] = 0.5f;
    return node;
  };
  return {"hard-sigmoid", "Clip",
          {{Op("Div", {Relu6Plus3(), Number(6)}), make, {}}, {Op("Mul", {Relu6Plus3(), Number(1.0 / 6)}), make, {}}}};
}

PatternGroup HardSwishPatterns() {
  const MakeNode make = [](const Match& m) -> absl::StatusOr<Node> {
    const Node& f = m.node("f");
    const double alpha = f.GetFloat("alpha", 0.2f), beta = f.GetFloat("beta", 0.5f);
    if (std::fabs(alpha - 1.0 / 6) > 1e-5 || std::fabs(beta - 0.5) > 1e-6) {
      return absl::UnimplementedError(
          absl::StrCat("HardSigmoid has alpha ", alpha, " and beta ", beta, ", expected 1/6 and 0.5"));
    }
    return Unary(m, "HardSwish");
  };
  std::vector<GraphPattern> forms = PlainAll(ThreeFactors(1.0 / 6, Relu6Plus3()), "HardSwish");
  forms.push_back({Op("Mul", {Op("HardSigmoid", {Any("x")}, "f"), Any("x")}), make, {}});
  return {"hard-swish", "HardSigmoid", std::move(forms)};
}

PatternGroup LeakyReluPatterns() {
  const MakeNode make = [](const Match& m) -> absl::StatusOr<Node> {
    const double alpha = m.scalar("alpha");
    if (!(alpha >= 0 && alpha <= 1)) {
      return absl::UnimplementedError(absl::StrCat("the factor is ", alpha, ", expected within [0, 1]"));
    }
    Node node = Unary(m, "LeakyRelu");
    node.attributes["alpha"] = static_cast<float>(alpha);
    return node;
  };
  return {"leaky-relu", "Max", {{Op("Max", {Op("Mul", {Any("x"), Scalar("alpha")}), Any("x")}), make, {}}}};
}

absl::Span<const PatternGroup> ActivationPatterns() {
  static const auto& groups = *new std::vector<PatternGroup>{
      GeluPatterns(), GeluTanhPatterns(),    SwishPatterns(),   MishPatterns(),
      HardSwishPatterns(), HardSigmoidPatterns(), LeakyReluPatterns()};
  return groups;
}

absl::Span<const PatternGroup> AllPatterns() {
  static const auto& groups = *[] {
    auto* all = new std::vector<PatternGroup>{LayerNormalizationPatterns(), RmsNormalizationPatterns()};
    for (const PatternGroup& group : ActivationPatterns()) all->push_back(group);
    all->push_back(AttentionPatterns());
    return all;
  }();
  return groups;
}

}  // namespace octet::engine
