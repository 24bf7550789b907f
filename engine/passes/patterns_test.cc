// Patterns: each form becomes its node and computes the same; a near miss stays and says why.
#include "engine/passes/patterns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_join.h"
#include "engine/passes/passes.h"
#include "engine/program.h"
#include "engine/test_util.h"
#include "graph/shape_inference.h"

namespace octet::engine {
namespace {

using graph::ValueId;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::string> Ops(const graph::Graph& g) {
  std::vector<std::string> ops;
  for (const graph::Node& n : g.nodes) ops.push_back(n.op);
  return ops;
}

std::string Text(const PassLog& log) {
  return absl::StrJoin(log.notes(), "\n", [](std::string* out, const PassNote& n) {
    absl::StrAppend(out, n.kind == PassNote::Kind::kFired ? "+ " : "- ", n.pass, " | ", n.node, " | ", n.text);
  });
}

struct Rewritten {
  graph::Graph g;
  std::string log;
};
Rewritten Rewrite(graph::Graph g) {
  PassLog log;
  EXPECT_TRUE(graph::InferShapes(&g).ok());
  const absl::Status status = RunPasses(&g, &log);
  EXPECT_TRUE(status.ok()) << status;
  return {std::move(g), Text(log)};
}

Tensor Random(Shape shape, uint64_t seed, float span = 4) {
  std::vector<float> values(static_cast<size_t>(NumElements(shape)));
  const CounterRng rng(seed);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(rng.Uniform(i) * 2 - 1) * span;
  return Tensor::FromF32(std::move(shape), values);
}

// Outputs with every intermediate value an output, too: nothing may be fused then.
std::vector<Tensor> RunUnfused(graph::Graph g, const std::vector<Tensor>& inputs) {
  const size_t outputs = g.outputs.size();
  for (const graph::Node& n : g.nodes) {
    for (ValueId id : n.outputs) {
      if (!g.value(id).quant.has_value()) g.outputs.push_back(id);
    }
  }
  auto program = Program::Compile(std::move(g));
  EXPECT_TRUE(program.ok()) << program.status();
  auto results = RunProgram(**program, inputs);
  EXPECT_TRUE(results.ok()) << results.status();
  results->resize(outputs);
  return *results;
}

// The graph fused computes what it computes unfused.
void ExpectSame(const graph::Graph& g, const std::vector<Tensor>& inputs, double tolerance) {
  auto program = Program::Compile(g);
  ASSERT_TRUE(program.ok()) << program.status();
  auto fused = RunProgram(**program, inputs, 2);
  ASSERT_TRUE(fused.ok()) << fused.status();
  const std::vector<Tensor> plain = RunUnfused(g, inputs);
  ASSERT_EQ(fused->size(), plain.size());
  for (size_t o = 0; o < plain.size(); ++o) {
    const std::vector<float> got = (*fused)[o].ToF32(), want = plain[o].ToF32();
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], tolerance * (1 + std::fabs(want[i]))) << o << ", " << i;
  }
}

// A graph of f32 values in the terms of the patterns.
class Maker : public GraphMaker {
 public:
  ValueId C(float value) { return F32(Fresh("c"), {}, {value}); }
  ValueId V(std::vector<float> values) {
    const auto n = static_cast<int64_t>(values.size());
    return F32(Fresh("v"), {n}, std::move(values));
  }
  ValueId N(const std::string& op, std::vector<ValueId> inputs,
            std::vector<std::pair<std::string, graph::Attribute>> attributes = {}) {
    return Node(op, std::move(inputs), Fresh(op), std::move(attributes));
  }
  ValueId Mean(ValueId x, std::vector<int64_t> axes = {-1}) { return N("ReduceMean", {x, Ints(Fresh("axes"), axes)}); }
  std::string Fresh(const std::string& stem) { return stem + "_" + std::to_string(count_++); }

 private:
  int count_ = 0;
};

TEST(GeluPatternTest, EveryFormBecomesGelu) {
  for (int form = 0; form < 6; ++form) {
    Maker m;
    const ValueId x = m.Input("x", {2, 40});
    const ValueId erf = m.N("Erf", {form % 2 == 0 ? m.N("Div", {x, m.C(1.41421356f)}) : m.N("Mul", {m.C(0.70710678f), x})});
    const ValueId one = form < 3 ? m.N("Add", {erf, m.C(1)}) : m.N("Add", {m.C(1), erf});
    ValueId y = form % 3 == 0   ? m.N("Mul", {m.N("Mul", {x, one}), m.C(0.5f)})
                : form % 3 == 1 ? m.N("Mul", {m.N("Mul", {x, m.C(0.5f)}), one})
                                : m.N("Mul", {x, m.N("Div", {one, m.C(2)})});
    m.Output(y);
    EXPECT_THAT(Ops(Rewrite(m.g).g), ::testing::ElementsAre("Gelu")) << form;
    ExpectSame(m.g, {Random({2, 40}, 1)}, 2e-6);
  }
}

TEST(GeluPatternTest, AnotherConstantIsANearMissThatSaysWhich) {
  Maker m;
  const ValueId x = m.Input("x", {2, 40});
  const ValueId erf = m.N("Erf", {m.N("Div", {x, m.C(1.702f)})});
  m.Output(m.N("Mul", {m.N("Mul", {x, m.N("Add", {erf, m.C(1)})}), m.C(0.5f)}));
  const Rewritten r = Rewrite(m.g);
  EXPECT_THAT(Ops(r.g), Not(Contains("Gelu")));
  EXPECT_THAT(r.log, AllOf(HasSubstr("- gelu | Erf"), HasSubstr("is 1.702, expected 1.41421")));
  ExpectSame(m.g, {Random({2, 40}, 1)}, 2e-6);
}

TEST(GeluPatternTest, AValueInBetweenThatIsReadElsewhereKeepsTheParts) {
  Maker m;
  const ValueId x = m.Input("x", {2, 40});
  const ValueId erf = m.N("Erf", {m.N("Div", {x, m.C(1.41421356f)})});
  m.Output(m.N("Mul", {m.N("Mul", {x, m.N("Add", {erf, m.C(1)})}), m.C(0.5f)}));
  m.Output(m.N("Neg", {erf}));
  const Rewritten r = Rewrite(m.g);
  EXPECT_THAT(Ops(r.g), Not(Contains("Gelu")));
  EXPECT_THAT(r.log, HasSubstr("in between is also read by Neg"));
  ExpectSame(m.g, {Random({2, 40}, 1)}, 2e-6);
}

TEST(GeluPatternTest, RoundingInBetweenIsKept) {
  Maker m;
  const ValueId x = m.Input("x", {2, 40});
  const ValueId erf = m.Node("Erf", {m.N("Div", {x, m.C(1.41421356f)})}, "erf", {}, QuantParams::PerTensor(0.01f, 128));
  m.Output(m.N("Mul", {m.N("Mul", {x, m.N("Add", {erf, m.C(1)})}), m.C(0.5f)}));
  const Rewritten r = Rewrite(m.g);
  EXPECT_THAT(Ops(r.g), Contains("Erf"));
  EXPECT_THAT(r.log, HasSubstr("'erf' in between is rounded to integers"));
}

TEST(GeluPatternTest, TanhForms) {
  for (int form = 0; form < 5; ++form) {  // 4: JAX's
    Maker m;
    const ValueId x = m.Input("x", {2, 40});
    const ValueId cube = form % 2 == 0 ? m.N("Pow", {x, m.C(3)}) : m.N("Mul", {m.N("Mul", {x, x}), x});
    const ValueId inner =
        form == 4 ? m.N("Mul", {m.C(0.797884583f), m.N("Add", {x, m.N("Mul", {m.N("Mul", {m.N("Mul", {m.C(0.044715f), x}), x}), x})})})
        : form < 2 ? m.N("Mul", {m.C(0.797884583f), m.N("Add", {x, m.N("Mul", {m.C(0.044715f), cube})})})
                 : m.N("Mul", {m.N("Mul", {x, m.C(0.797884583f)}),
                               m.N("Add", {m.N("Mul", {m.N("Mul", {x, x}), m.C(0.044715f)}), m.C(1)})});
    const ValueId one = m.N("Add", {m.N("Tanh", {inner}), m.C(1)});
    m.Output(form == 4 ? m.N("Mul", {x, m.N("Mul", {m.C(0.5f), one})}) : m.N("Mul", {m.N("Mul", {x, m.C(0.5f)}), one}));
    const Rewritten r = Rewrite(m.g);
    EXPECT_THAT(Ops(r.g), ::testing::ElementsAre("Gelu")) << form << r.log;
    EXPECT_EQ(r.g.nodes[0].GetString("approximate", ""), "tanh");
    ExpectSame(m.g, {Random({2, 40}, 1)}, 3e-6);
  }
}

TEST(SwishPatternTest, SigmoidTimesItsSourceRunsInsideTheConvolution) {
  Maker m;
  const ValueId x = m.Input("x", {1, 4, 6, 6});
  const ValueId c = m.N("Conv", {x, m.Random("w", {8, 4, 3, 3}, 1)});
  m.Output(m.N("Mul", {c, m.N("Sigmoid", {c})}));
  EXPECT_THAT(Ops(Rewrite(m.g).g), ::testing::ElementsAre("Conv", "Swish"));
  auto program = Program::Compile(m.g);
  ASSERT_TRUE(program.ok()) << program.status();
  auto s = (*program)->Specialise({Shape{1, 4, 6, 6}}, 1);
  ASSERT_TRUE(s.ok()) << s.status();
  std::vector<std::string> steps;
  for (const StepInfo& step : (*s)->Steps()) steps.push_back(step.op);
  EXPECT_THAT(steps, Contains("Conv+Swish"));
  ExpectSame(m.g, {Random({1, 4, 6, 6}, 1)}, 1e-5);
}

TEST(SwishPatternTest, QuickGeluAndAGateOfAnotherValue) {
  Maker m;
  const ValueId x = m.Input("x", {3, 5}), z = m.Input("z", {3, 5});
  m.Output(m.N("Mul", {x, m.N("Sigmoid", {m.N("Mul", {x, m.C(1.702f)})})}));
  m.Output(m.N("Mul", {x, m.N("Sigmoid", {z})}));
  const Rewritten r = Rewrite(m.g);
  EXPECT_THAT(Ops(r.g), ::testing::UnorderedElementsAre("Swish", "Sigmoid", "Mul"));
  EXPECT_THAT(r.log, HasSubstr("- swish | Sigmoid"));
  ExpectSame(m.g, {Random({3, 5}, 1), Random({3, 5}, 2)}, 2e-6);
}

TEST(ActivationPatternTest, MishHardSwishHardSigmoidLeakyRelu) {
  const auto clip = [](Maker& m, ValueId x) { return m.N("Clip", {m.N("Add", {x, m.C(3)}), m.C(0), m.C(6)}); };
  const auto check = [](Maker& m, ValueId y, const std::string& op) {
    m.Output(y);
    const Rewritten r = Rewrite(m.g);
    EXPECT_THAT(Ops(r.g), ::testing::ElementsAre(op)) << r.log;
    ExpectSame(m.g, {Random({3, 50}, 1)}, 3e-6);
  };
  const auto with = [&](const std::string& op, auto&& body) {
    Maker m;
    const ValueId x = m.Input("x", {3, 50});
    check(m, body(m, x), op);
  };
  with("Mish", [](Maker& m, ValueId x) { return m.N("Mul", {x, m.N("Tanh", {m.N("Softplus", {x})})}); });
  with("HardSwish", [&](Maker& m, ValueId x) { return m.N("Div", {m.N("Mul", {x, clip(m, x)}), m.C(6)}); });
  with("HardSwish", [&](Maker& m, ValueId x) { return m.N("Mul", {x, m.N("Div", {clip(m, x), m.C(6)})}); });
  with("HardSwish", [](Maker& m, ValueId x) {
    return m.N("Mul", {x, m.N("HardSigmoid", {x}, {{"alpha", 1.0f / 6}, {"beta", 0.5f}})});
  });
  with("HardSigmoid", [&](Maker& m, ValueId x) { return m.N("Mul", {clip(m, x), m.C(1.0f / 6)}); });
  with("LeakyRelu", [](Maker& m, ValueId x) { return m.N("Max", {x, m.N("Mul", {m.C(0.1f), x})}); });
}

TEST(ActivationPatternTest, NearMissesSayWhy) {
  Maker m;
  const ValueId x = m.Input("x", {3, 50});
  m.Output(m.N("Max", {x, m.N("Mul", {m.C(2), x})}));
  m.Output(m.N("Mul", {x, m.N("HardSigmoid", {x}, {{"alpha", 0.2f}, {"beta", 0.5f}})}));
  m.Output(m.N("Div", {m.N("Mul", {x, m.N("Clip", {m.N("Add", {x, m.C(3)}), m.C(0), m.C(5)})}), m.C(6)}));
  const Rewritten r = Rewrite(m.g);
  EXPECT_THAT(r.log, AllOf(HasSubstr("the factor is 2, expected within [0, 1]"), HasSubstr("HardSigmoid has alpha 0.2"),
                           HasSubstr("is 5, expected 6")));
  ExpectSame(m.g, {Random({3, 50}, 1)}, 3e-6);
}

// d / sqrt(var + e) * g + b in the exporters' variants.
ValueId LayerNorm(Maker& m, ValueId x, int form, std::vector<int64_t> axes = {-1}) {
  const ValueId mean = m.Mean(x, axes);
  const ValueId d = m.N("Sub", {x, mean});
  const ValueId d2 = form == 1 ? m.N("Sub", {x, mean}) : d;  // PyTorch before 1.9 subtracts twice
  const ValueId square = form % 2 == 0 ? m.N("Pow", {d2, m.C(2)}) : m.N("Mul", {d2, d2});
  const ValueId sum = m.N("Add", {m.Mean(square, axes), m.C(1e-3f)});
  const ValueId gain = m.Random(m.Fresh("gain"), {16}, 5), bias = m.Random(m.Fresh("bias"), {16}, 6);
  if (form == 3) {  // TensorFlow
    const ValueId factor = m.N("Mul", {m.N("Reciprocal", {m.N("Sqrt", {sum})}), gain});
    return m.N("Add", {m.N("Mul", {x, factor}), m.N("Sub", {bias, m.N("Mul", {mean, factor})})});
  }
  const ValueId n = form == 2 ? m.N("Mul", {d, m.N("Reciprocal", {m.N("Sqrt", {sum})})}) : m.N("Div", {d, m.N("Sqrt", {sum})});
  return m.N("Add", {m.N("Mul", {n, gain}), bias});
}

TEST(LayerNormalizationPatternTest, EveryVariantBecomesOneNode) {
  for (int form = 0; form < 4; ++form) {
    Maker m;
    const ValueId x = m.Input("x", {2, 5, 16});
    m.Output(LayerNorm(m, x, form));
    const Rewritten r = Rewrite(m.g);
    EXPECT_THAT(Ops(r.g), ::testing::ElementsAre("LayerNormalization")) << form << "\n" << r.log;
    ExpectSame(m.g, {Random({2, 5, 16}, 1)}, 1e-5);
  }
}

TEST(LayerNormalizationPatternTest, OverAnotherAxisItStays) {
  Maker m;
  const ValueId x = m.Input("x", {2, 5, 16});
  m.Output(LayerNorm(m, x, 0, {1}));
  const Rewritten r = Rewrite(m.g);
  EXPECT_THAT(Ops(r.g), Not(Contains("LayerNormalization")));
  EXPECT_THAT(r.log, HasSubstr("- layer-normalization | ReduceMean"));
  EXPECT_THAT(r.log, HasSubstr("the mean is not over the last axes"));
  ExpectSame(m.g, {Random({2, 5, 16}, 1)}, 1e-5);
}

TEST(LayerNormalizationPatternTest, MeanAndInverseDeviationThatAreReadBecomeOutputs) {
  Maker m;  // ONNX's own function body
  const ValueId x = m.Input("x", {6, 16});
  const ValueId mean = m.Mean(x), squares = m.Mean(m.N("Mul", {x, x}));
  const ValueId variance = m.N("Sub", {squares, m.N("Mul", {mean, mean})});
  const ValueId deviation = m.N("Sqrt", {m.N("Add", {variance, m.C(1e-2f)})});
  const ValueId n = m.N("Div", {m.N("Sub", {x, mean}), deviation});
  m.Output(m.N("Add", {m.N("Mul", {n, m.Random("g", {1, 16}, 3)}), m.Random("b", {1, 16}, 4)}));
  m.Output(m.N("Neg", {mean}));
  m.Output(m.N("Reciprocal", {deviation}));
  const Rewritten r = Rewrite(m.g);
  EXPECT_THAT(Ops(r.g), ::testing::ElementsAre("LayerNormalization", "Neg")) << r.log;
  ExpectSame(m.g, {Random({6, 16}, 1, 1)}, 2e-5);
}

TEST(RmsNormalizationPatternTest, BecomesOneNodeAndNotWithAnotherSource) {
  for (bool same : {true, false}) {
    Maker m;
    const ValueId x = m.Input("x", {2, 5, 16}), z = m.Input("z", {2, 5, 16});
    const ValueId r = m.N("Sqrt", {m.N("Add", {m.Mean(m.N("Mul", {x, x})), m.C(1e-5f)})});
    m.Output(m.N("Mul", {m.N("Div", {same ? x : z, r}), m.Random("g", {16}, 3)}));
    m.Output(m.N("Neg", {z}));
    const Rewritten made = Rewrite(m.g);
    EXPECT_EQ(Ops(made.g)[0] == "RMSNormalization", same) << made.log;
    ExpectSame(m.g, {Random({2, 5, 16}, 1), Random({2, 5, 16}, 2)}, 1e-5);
  }
}

struct AttentionForm {
  bool transposed = true;   // [B, T, H, D] in memory, with Transposes around
  bool prescaled = false;   // the factor stands in front of the product
  bool mask = true;
  bool int8 = false;
};

graph::Graph AttentionGraph(const AttentionForm& f, float v_factor = 1) {
  Maker m;
  const Shape shape = f.transposed ? Shape{2, 7, 3, 8} : Shape{2, 3, 7, 8};
  const std::vector<int64_t> heads_first = {0, 2, 1, 3}, keys_last = f.transposed ? std::vector<int64_t>{0, 2, 3, 1} : std::vector<int64_t>{0, 1, 3, 2};
  const auto source = [&](const std::string& name) {
    ValueId x = m.Input(name, shape);
    if (!f.int8) return x;
    return m.Node("Quantize", {x}, name + "_q", {}, QuantParams::PerTensor(0.04f, 128));
  };
  ValueId q = source("q"), k = source("k"), v = source("v");
  const auto move = [&](ValueId x, const std::vector<int64_t>& perm) {
    return m.Node("Transpose", {x}, m.Fresh("t"), {{"perm", perm}},
                  f.int8 ? std::optional(QuantParams::PerTensor(0.04f, 128)) : std::nullopt);
  };
  if (f.transposed) q = move(q, heads_first), v = move(v, heads_first);
  k = move(k, keys_last);
  if (f.prescaled) q = m.N("Mul", {q, m.C(0.35f)});
  if (v_factor != 1) v = m.N("Mul", {v, m.C(v_factor)});
  ValueId s = m.N("MatMul", {q, k});
  if (!f.prescaled) s = m.N("Div", {s, m.C(2.8f)});
  if (f.mask) s = m.N("Add", {s, m.Input("mask", {2, 1, 1, 7})});
  ValueId p = f.int8 ? m.Node("Softmax", {s}, "p", {{"axis", int64_t{-1}}}, QuantParams::PerTensor(1 / 255.0f, 0))
                     : m.N("Softmax", {s}, {{"axis", int64_t{-1}}});
  ValueId y = m.N("MatMul", {p, v});
  if (f.transposed) y = m.N("Transpose", {y}, {{"perm", heads_first}});
  m.Output(y);
  return m.g;
}

std::vector<Tensor> AttentionInputs(const AttentionForm& f) {
  const Shape shape = f.transposed ? Shape{2, 7, 3, 8} : Shape{2, 3, 7, 8};
  std::vector<Tensor> inputs = {Random(shape, 1), Random(shape, 2), Random(shape, 3)};
  if (f.mask) inputs.push_back(Random({2, 1, 1, 7}, 4));
  return inputs;
}

TEST(AttentionPatternTest, BecomesOneNodeWithoutTransposes) {
  for (bool transposed : {true, false}) {
    for (bool prescaled : {true, false}) {
      for (bool mask : {true, false}) {
        const AttentionForm f{transposed, prescaled, mask, false};
        const graph::Graph g = AttentionGraph(f);
        const Rewritten r = Rewrite(g);
        EXPECT_THAT(Ops(r.g), ::testing::ElementsAre("FusedAttention")) << transposed << prescaled << mask << "\n" << r.log;
        ExpectSame(g, AttentionInputs(f), 1e-5);
      }
    }
  }
}

TEST(AttentionPatternTest, QuantizedOperandsAndProbabilities) {
  const AttentionForm f{true, false, true, true};
  const graph::Graph g = AttentionGraph(f);
  const Rewritten r = Rewrite(g);
  EXPECT_THAT(Ops(r.g), ::testing::ElementsAre("Quantize", "Quantize", "Quantize", "FusedAttention")) << r.log;
  // A probability next to a tie may round to the other side: 1/255 of v's range, four.
  ExpectSame(g, AttentionInputs(f), 0.02);
}

TEST(AttentionPatternTest, NearMissesSayWhy) {
  const Rewritten scaled = Rewrite(AttentionGraph({}, 0.3f));
  EXPECT_THAT(Ops(scaled.g), Contains("Softmax"));
  EXPECT_THAT(scaled.log, AllOf(HasSubstr("- attention | Softmax"), HasSubstr("V is scaled")));
  ExpectSame(AttentionGraph({}, 0.3f), AttentionInputs({}), 1e-5);
  graph::Graph g = AttentionGraph({});
  for (const graph::Node& n : g.nodes) {
    if (n.op == "Softmax") g.outputs.push_back(n.outputs[0]);
  }
  const Rewritten shown = Rewrite(g);
  EXPECT_THAT(Ops(shown.g), Contains("Softmax"));
  EXPECT_THAT(shown.log, HasSubstr("in between is an output of the graph"));
}

TEST(SimplifyTest, EqualNodesBecomeOneAndPowersOfTwoProducts) {
  Maker m;
  const ValueId x = m.Input("x", {2, 3});
  const ValueId a = m.N("Exp", {m.N("Div", {x, m.C(8)})}), b = m.N("Exp", {m.N("Div", {x, m.C(8)})});
  m.Output(m.N("Add", {a, m.N("Div", {b, m.C(3)})}));
  const Rewritten r = Rewrite(m.g);
  EXPECT_THAT(Ops(r.g), ::testing::ElementsAre("Mul", "Exp", "Div", "Add")) << r.log;
  ExpectSame(m.g, {Random({2, 3}, 1)}, 1e-6);
}

TEST(FoldAffineTest, ABiasBehindAMatMulOfHigherRankRunsInsideWithActivationAndResidual) {
  Maker m;
  const ValueId x = m.Input("x", {2, 5, 16});
  const ValueId r = m.N("Exp", {m.N("MatMul", {x, m.Random("w0", {16, 24}, 1)})});
  const ValueId h = m.N("Add", {m.N("MatMul", {x, m.Random("w1", {16, 24}, 2)}), m.Random("b1", {24}, 3)});
  m.Output(m.N("Relu", {m.N("Add", {h, r})}));
  auto program = Program::Compile(m.g);
  ASSERT_TRUE(program.ok()) << program.status();
  auto s = (*program)->Specialise({Shape{2, 5, 16}}, 1);
  ASSERT_TRUE(s.ok()) << s.status();
  std::vector<std::string> steps;
  for (const StepInfo& step : (*s)->Steps()) steps.push_back(step.op);
  EXPECT_THAT(steps, ::testing::ElementsAre("MatMul", "MatMul+Exp+Add+Relu"));
  ExpectSame(m.g, {Random({2, 5, 16}, 1, 0.5f)}, 1e-5);
}

TEST(FusionNotesTest, SayWhyAResidualIsNotTaken) {
  Maker m;
  const ValueId x = m.Input("x", {4, 16});
  const ValueId r = m.N("Exp", {m.N("MatMul", {x, m.Random("w0", {16, 24}, 1)})});
  const ValueId y = m.N("Add", {m.N("MatMul", {x, m.Random("w1", {16, 24}, 2)}), r});
  m.Output(m.N("Mul", {y, r}));
  auto program = Program::Compile(m.g);
  ASSERT_TRUE(program.ok()) << program.status();
  auto s = (*program)->Specialise({Shape{4, 16}}, 1);
  ASSERT_TRUE(s.ok()) << s.status();
  PassLog log;
  std::string text;
  for (const PassNote& n : (*s)->FusionNotes()) absl::StrAppend(&text, n.node, ": ", n.text, "\n");
  EXPECT_THAT(text, HasSubstr("is read later by Mul"));
  ExpectSame(m.g, {Random({4, 16}, 1, 0.5f)}, 1e-5);
}

TEST(FusionNotesTest, ANormalizationWritesItsQuantizedCopy) {
  Maker m;
  const ValueId x = m.Input("x", {4, 16});
  const ValueId n = m.N("LayerNormalization", {x, m.Random("g", {16}, 1), m.Random("b", {16}, 2)});
  const ValueId q = m.Node("Quantize", {n}, "q", {}, QuantParams::PerTensor(0.02f, 128));
  m.Output(m.N("Exp", {n}));
  m.Output(m.N("Dequantize", {q}));
  auto program = Program::Compile(m.g);
  ASSERT_TRUE(program.ok()) << program.status();
  auto s = (*program)->Specialise({Shape{4, 16}}, 1);
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ((*s)->Steps()[0].op, "LayerNormalization+Quantize");
  ExpectSame(m.g, {Random({4, 16}, 1)}, 0.021);
}

}  // namespace
}  // namespace octet::engine
