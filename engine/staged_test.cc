// Control flow and shapes that depend on data, on graphs made by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/program.h"
#include "engine/test_util.h"

namespace octet::engine {
namespace {

using graph::kNoValue;
using graph::ValueId;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A subgraph under construction: captured values are named only.
class SubMaker : public GraphMaker {
 public:
  ValueId Captured(const std::string& name) {
    graph::Value v;
    v.name = name;
    return g.AddValue(std::move(v));
  }
  std::pair<std::string, graph::Attribute> As(const std::string& key) {
    return {key, std::make_shared<const graph::Graph>(g)};
  }
};

Tensor Bool(bool value) {
  const uint8_t byte = value ? 1 : 0;
  return Tensor::FromValues<uint8_t>(DType::kBool, {}, {&byte, 1});
}
Tensor F32(Shape shape, std::vector<float> values) { return Tensor::FromF32(std::move(shape), values); }

// Adds a node with several results.
std::vector<ValueId> NodeOf(GraphMaker& m, const std::string& op, std::vector<ValueId> inputs,
                            const std::vector<std::string>& outputs,
                            std::vector<std::pair<std::string, graph::Attribute>> attributes = {}) {
  m.Node(op, std::move(inputs), outputs[0], std::move(attributes));
  std::vector<ValueId> ids = m.g.nodes.back().outputs;
  for (size_t i = 1; i < outputs.size(); ++i) {
    graph::Value v;
    v.name = outputs[i];
    ids.push_back(m.g.AddValue(std::move(v)));
  }
  m.g.nodes.back().outputs = ids;
  return ids;
}

std::shared_ptr<Program> MustCompile(graph::Graph g, const CompileOptions& options = {}) {
  auto program = Program::Compile(std::move(g), options);
  EXPECT_TRUE(program.ok()) << program.status();
  return program.ok() ? *program : nullptr;
}

std::vector<Tensor> MustRun(Program& program, const std::vector<Tensor>& inputs) {
  auto out = RunProgram(program, inputs);
  EXPECT_TRUE(out.ok()) << out.status();
  return out.ok() ? *out : std::vector<Tensor>(program.outputs().size());
}

// if (c) y = relu(x) else y = reshape(-x, [-1]); z = y + 1
graph::Graph IfGraph(bool constant, bool value = true) {
  GraphMaker m;
  ValueId c;
  if (constant) {
    c = m.g.AddConstant("c", Bool(value));
  } else {
    c = m.Input("c", {}, DType::kBool);
  }
  m.Input("x", {2, kUnknownDim});
  SubMaker yes, no;
  yes.Output(yes.Node("Relu", {yes.Captured("x")}, "r"));
  no.Output(no.Node("Reshape", {no.Node("Neg", {no.Captured("x")}, "r"), no.Ints("flat", {-1})}, "f"));
  const ValueId y = m.Node("If", {c}, "y", {yes.As("then_branch"), no.As("else_branch")});
  m.Output(m.Node("Add", {y, m.F32("one", {}, {1})}, "z"));
  return m.g;
}

TEST(IfTest, TakesEitherBranchAtRunTime) {
  auto program = MustCompile(IfGraph(false));
  auto context = Context::Create(*program->Specialise({{}, {2, 2}}, 1));
  ASSERT_TRUE(context.ok()) << context.status();
  EXPECT_FALSE(program->batch_proof().batchable);
  const Tensor x = F32({2, 2}, {1, -2, 3, -4});
  for (int round = 0; round < 3; ++round) {
    const auto yes = MustRun(*program, {Bool(true), x});
    EXPECT_EQ(yes[0].shape(), Shape({2, 2}));
    EXPECT_THAT(yes[0].ToF32(), ElementsAre(2, 1, 4, 1));
    const auto no = MustRun(*program, {Bool(false), x});
    EXPECT_EQ(no[0].shape(), Shape({4}));
    EXPECT_THAT(no[0].ToF32(), ElementsAre(0, 3, -2, 5));
  }
}

// The condition is an input that decides by itself: pinned, so no If is left in what runs.
TEST(IfTest, PinsAnInputThatDecides) {
  auto program = MustCompile(IfGraph(false));
  auto specialisation = program->Specialise({{}, {2, 2}}, 1);
  ASSERT_TRUE(specialisation.ok());
  EXPECT_EQ((*specialisation)->output_shapes()[0], Shape({kUnknownDim}));
  MustRun(*program, {Bool(true), F32({2, 2}, {1, 2, 3, 4})});
  const std::vector<StepInfo> steps = (*specialisation)->Steps();
  EXPECT_FALSE(steps.empty());
  for (const StepInfo& step : steps) EXPECT_NE(step.op, "If");
  const int64_t made = program->Cache().made;
  MustRun(*program, {Bool(true), F32({2, 2}, {4, 3, 2, 1})});
  EXPECT_EQ(program->Cache().made, made) << "the same shapes and contents are not made again";
}

TEST(IfTest, ConstantConditionLeavesOnePlan) {
  for (bool value : {true, false}) {
    auto program = MustCompile(IfGraph(true, value));
    auto specialisation = program->Specialise({{2, 1}}, 1);
    ASSERT_TRUE(specialisation.ok()) << specialisation.status();
    EXPECT_EQ((*specialisation)->output_shapes()[0], value ? Shape({2, 1}) : Shape({2}));
    EXPECT_THAT(MustRun(*program, {F32({2, 1}, {1, -1})})[0].ToF32(),
                value ? ElementsAre(2, 1) : ElementsAre(0, 2));
  }
}

// The condition is computed from float data; the branches nest and read through two levels.
TEST(IfTest, DecidesByDataAndNests) {
  GraphMaker m;
  const ValueId x = m.Input("x", {3});
  m.Node("Mul", {x, m.F32("two", {}, {2})}, "twice");
  const ValueId sum = m.Node("ReduceSum", {x, m.Ints("axes", {0})}, "sum", {{"keepdims", int64_t{0}}});
  const ValueId c = m.Node("Greater", {sum, m.F32("zero", {}, {0})}, "positive");
  m.Node("Greater", {sum, m.F32("ten", {}, {10})}, "large");
  SubMaker inner_yes, inner_no, yes, no;
  inner_yes.Output(inner_yes.Node("Neg", {inner_yes.Captured("local")}, "r"));
  inner_no.Output(inner_no.Captured("twice"));
  yes.Node("Add", {yes.Captured("x"), yes.F32("three", {}, {3})}, "local");
  yes.Output(yes.Node("If", {yes.Captured("large")}, "r", {inner_yes.As("then_branch"), inner_no.As("else_branch")}));
  no.Output(no.F32("fixed", {3}, {7, 8, 9}));
  m.Output(m.Node("If", {c}, "y", {yes.As("then_branch"), no.As("else_branch")}));
  auto program = MustCompile(m.g);
  EXPECT_THAT(MustRun(*program, {F32({3}, {1, 2, 3})})[0].ToF32(), ElementsAre(2, 4, 6));
  EXPECT_THAT(MustRun(*program, {F32({3}, {10, 2, 3})})[0].ToF32(), ElementsAre(-13, -5, -6));
  EXPECT_THAT(MustRun(*program, {F32({3}, {-10, 2, 3})})[0].ToF32(), ElementsAre(7, 8, 9));
}

// A branch that first runs after the initializers were released still finds its weights.
TEST(IfTest, BranchesKeepTheirWeights) {
  constexpr int64_t kN = 64;  // 16 KB: larger than what always survives
  GraphMaker m;
  const ValueId x = m.Input("x", {1, kN});
  const ValueId sum = m.Node("ReduceSum", {x}, "sum", {{"keepdims", int64_t{0}}});
  const ValueId c = m.Node("Greater", {sum, m.F32("zero", {}, {0})}, "positive");
  SubMaker yes, no;
  yes.Output(yes.Node("MatMul", {yes.Captured("x"), yes.Random("w", {kN, kN}, 1)}, "r"));
  no.Output(no.Node("MatMul", {no.Captured("x"), no.Random("w", {kN, kN}, 2)}, "r"));
  m.Output(m.Node("If", {c}, "y", {yes.As("then_branch"), no.As("else_branch")}));
  const std::vector<float> w1 = yes.g.values[1].data->ToF32(), w2 = no.g.values[1].data->ToF32();
  auto program = MustCompile(m.g);
  std::vector<float> ones(kN, 1.0f), minus(kN, -1.0f);
  const auto expect = [&](const std::vector<float>& in, const std::vector<float>& w) {
    const std::vector<float> y = MustRun(*program, {F32({1, kN}, in)})[0].ToF32();
    for (size_t j = 0; j < kN; ++j) {
      double e = 0;
      for (size_t k = 0; k < kN; ++k) e += in[k] * w[k * kN + j];
      ASSERT_NEAR(y[j], e, 1e-4) << j;
    }
  };
  expect(ones, w1);
  program->ReleaseInitializers();
  expect(minus, w2);
  const int64_t weights = program->Memory().weights;
  EXPECT_LT(weights, 2 * kN * kN * 4 + 1024);
  expect(ones, w1);
  expect(minus, w2);
  EXPECT_EQ(program->Memory().weights, weights);
}

// y starts as x and doubles by concatenation at every turn; s stacks the first element plus the turn's number.
graph::Graph DoublingLoop(Shape trips) {
  GraphMaker m;
  const ValueId n = m.Input("n", std::move(trips), DType::kS64);
  const ValueId x = m.Input("x", {kUnknownDim});
  SubMaker body;
  const ValueId i = body.Input("i", {}, DType::kS64), go = body.Input("go", {}, DType::kBool);
  const ValueId y = body.Input("y", {kUnknownDim});
  const ValueId twice = body.Node("Concat", {y, y}, "y2", {{"axis", int64_t{0}}});
  const ValueId head = body.Node("Slice", {y, body.Ints("b", {0}), body.Ints("e", {1})}, "head");
  const ValueId turn = body.Node("Cast", {i}, "turn", {{"to", int64_t{1}}});
  body.Output(body.Node("Identity", {go}, "go2"));
  body.Output(twice);
  body.Output(body.Node("Add", {head, turn}, "s"));
  const auto out = NodeOf(m, "Loop", {n, kNoValue, x}, {"last", "stack"}, {body.As("body")});
  m.Output(m.Node("Neg", {out[0]}, "negative"));
  m.Output(out[1]);
  return m.g;
}

TEST(LoopTest, ShapesMayChangeFromTurnToTurn) {
  auto program = MustCompile(DoublingLoop({}));
  for (int64_t n : {3, 1, 3}) {
    const auto out = MustRun(*program, {Tensor::FromS64({}, {n}), F32({2}, {5, 6})});
    EXPECT_EQ(out[0].shape(), Shape({2 << n}));
    EXPECT_EQ(out[0].ToF32().back(), -6);
    EXPECT_EQ(out[1].shape(), Shape({n, 1}));
    EXPECT_EQ(out[1].ToF32().back(), 5.0f + static_cast<float>(n) - 1);
  }
}

TEST(LoopTest, NoTurnGivesInitialValuesAndEmptyStacks) {
  auto program = MustCompile(DoublingLoop({}));
  for (int64_t n : {0, -3}) {
    const auto out = MustRun(*program, {Tensor::FromS64({}, {n}), F32({2}, {5, 6})});
    EXPECT_THAT(out[0].ToF32(), ElementsAre(-5, -6));
    EXPECT_EQ(out[1].shape()[0], 0);
    EXPECT_THAT(out[1].ToF32(), IsEmpty());
  }
}

TEST(LoopTest, RefusesATripCountThatIsNoNumber) {
  EXPECT_THAT(Program::Compile(DoublingLoop({2})).status().message(), HasSubstr("trip count"));
  auto program = MustCompile(DoublingLoop({kUnknownDim}));
  const auto out = RunProgram(*program, {Tensor::FromS64({2}, {1, 1}), F32({2}, {5, 6})});
  EXPECT_TRUE(absl::IsInvalidArgument(out.status())) << out.status();
  EXPECT_THAT(out.status().message(), HasSubstr("Loop 'node_last'"));
  EXPECT_TRUE(RunProgram(*program, {Tensor::FromS64({1}, {1}), F32({2}, {5, 6})}).ok());
}

TEST(LoopTest, StopsAtTheMemoryBound) {
  CompileOptions options;
  options.max_specialisation_bytes = 1 << 20;
  auto program = MustCompile(DoublingLoop({}), options);
  const auto out = RunProgram(*program, {Tensor::FromS64({}, {40}), F32({2}, {5, 6})});
  EXPECT_TRUE(absl::IsResourceExhausted(out.status())) << out.status();
  EXPECT_THAT(out.status().message(), HasSubstr("Loop 'node_last'"));
  // The program is as good as before.
  EXPECT_EQ(MustRun(*program, {Tensor::FromS64({}, {2}), F32({2}, {5, 6})})[0].shape(), Shape({8}));
}

// while (v < limit) v = v * w + 1, with weights captured from outside: packed once for all turns and runs.
TEST(LoopTest, RunsWhileItsConditionHoldsAndPacksOnce) {
  constexpr int64_t kN = 64;
  GraphMaker m;
  const ValueId x = m.Input("x", {1, kN});
  std::vector<float> half(kN * kN, 0.0f);
  for (size_t i = 0; i < kN; ++i) half[i * kN + i] = 2.0f;
  m.F32("w", {kN, kN}, half);
  m.F32("limit", {}, {1000});
  SubMaker body;
  body.Input("i", {}, DType::kS64);
  body.Input("go", {}, DType::kBool);
  const ValueId v = body.Input("v", {1, kN});
  const ValueId next = body.Node("MatMul", {v, body.Captured("w")}, "next");
  const ValueId largest = body.Node("ReduceMax", {next}, "largest", {{"keepdims", int64_t{0}}});
  body.Output(body.Node("Less", {largest, body.Captured("limit")}, "go_on"));
  body.Output(next);
  const ValueId go = m.g.AddConstant("go0", Bool(true));
  m.Output(m.Node("Loop", {kNoValue, go, x}, "y", {body.As("body")}));
  auto program = MustCompile(m.g);
  const std::vector<float> ones(kN, 1.0f);
  EXPECT_EQ(MustRun(*program, {F32({1, kN}, ones)})[0].ToF32()[3], 1024);
  program->ReleaseInitializers();
  const int64_t weights = program->Memory().weights, made = program->Cache().made;
  std::vector<float> small(kN, 0.0625f);
  EXPECT_EQ(MustRun(*program, {F32({1, kN}, small)})[0].ToF32()[3], 1024);
  EXPECT_EQ(program->Memory().weights, weights);
  EXPECT_EQ(program->Cache().made, made);
}

TEST(ScanTest, ScansBackwardsAndAlongOtherAxes) {
  GraphMaker m;
  const ValueId start = m.Input("start", {2}), x = m.Input("x", {2, kUnknownDim});
  SubMaker body;
  const ValueId s = body.Input("s", {2}), t = body.Input("t", {2});
  const ValueId sum = body.Node("Add", {s, t}, "sum");
  body.Output(sum);
  body.Output(body.Node("Mul", {sum, body.F32("ten", {}, {10})}, "scaled"));
  const auto out = NodeOf(m, "Scan", {start, x}, {"last", "all"},
                          {body.As("body"),
                           {"num_scan_inputs", int64_t{1}},
                           {"scan_input_axes", std::vector<int64_t>{1}},
                           {"scan_input_directions", std::vector<int64_t>{1}},
                           {"scan_output_axes", std::vector<int64_t>{-1}}});
  m.Output(out[0]);
  m.Output(out[1]);
  auto program = MustCompile(m.g);
  const auto got = MustRun(*program, {F32({2}, {100, 200}), F32({2, 3}, {1, 2, 3, 4, 5, 6})});
  EXPECT_THAT(got[0].ToF32(), ElementsAre(106, 215));
  EXPECT_EQ(got[1].shape(), Shape({2, 3}));
  EXPECT_THAT(got[1].ToF32(), ElementsAre(1030, 1050, 1060, 2060, 2110, 2150));
}

// y = gather(x, nonzero(x)) @ w: as many rows as x has elements that are not zero.
graph::Graph SelectRows() {
  GraphMaker m;
  const ValueId x = m.Input("x", {kUnknownDim, 1});
  const ValueId where = m.Node("NonZero", {x}, "where");
  const ValueId rows = m.Node("Gather", {where, m.g.AddConstant("first", Tensor::FromS64({}, {0}))}, "rows",
                              {{"axis", int64_t{0}}});
  const ValueId kept = m.Node("Gather", {x, rows}, "kept", {{"axis", int64_t{0}}});
  m.Output(m.Node("MatMul", {kept, m.F32("w", {1, 2}, {1, -1})}, "y"));
  return m.g;
}

TEST(StagedTest, SelectionsDecideShapesBehindThem) {
  auto program = MustCompile(SelectRows());
  auto specialisation = program->Specialise({{4, 1}}, 1);
  ASSERT_TRUE(specialisation.ok()) << specialisation.status();
  EXPECT_EQ((*specialisation)->output_shapes()[0], Shape({kUnknownDim, 2}));
  EXPECT_THAT(MustRun(*program, {F32({4, 1}, {0, 2, 0, 3})})[0].ToF32(), ElementsAre(2, -2, 3, -3));
  EXPECT_EQ(MustRun(*program, {F32({4, 1}, {0, 0, 0, 0})})[0].shape(), Shape({0, 2}));
  EXPECT_THAT(MustRun(*program, {F32({4, 1}, {1, 2, 3, 4})})[0].ToF32(), ElementsAre(1, -1, 2, -2, 3, -3, 4, -4));
}

TEST(StagedTest, KeepsABoundedNumberOfStages) {
  CompileOptions options;
  options.max_specialisations = 8;
  auto program = MustCompile(SelectRows(), options);
  auto context = Context::Create(*program->Specialise({{100, 1}}, 1));
  ASSERT_TRUE(context.ok()) << context.status();
  for (size_t n = 0; n < 60; ++n) {
    std::vector<float> x(100, 0.0f);
    std::fill(x.begin(), x.begin() + static_cast<int64_t>(n), 1.0f);
    std::memcpy((*context)->input(0).data(), x.data(), 400);
    ASSERT_TRUE((*context)->Run().ok());
    ASSERT_EQ((*context)->output_shape(0), Shape({static_cast<int64_t>(n), 2}));
    ASSERT_EQ((*context)->output(0).size(), n * 8);
    ASSERT_LE(program->Cache().specialisations, 8);
  }
  EXPECT_GT(program->Cache().evicted, 0);
  EXPECT_GT(program->Memory().activations, 0);
  context->reset();
  EXPECT_EQ(program->Memory().activations, 0) << "everything that a context took is given back";
}

// The window's place changes with data, its size does not: the stage behind it is made once.
TEST(StagedTest, ComputedStartsDoNotMakeNewStages) {
  GraphMaker m;
  const ValueId x = m.Input("x", {6}), at = m.Input("at", {1}, DType::kS64);
  const ValueId end = m.Node("Add", {at, m.Ints("length", {2})}, "end");
  const ValueId window = m.Node("Slice", {x, at, end}, "window");
  m.Output(m.Node("Neg", {window}, "y"));
  auto program = MustCompile(m.g);
  const Tensor six = F32({6}, {0, 1, 2, 3, 4, 5});
  EXPECT_THAT(MustRun(*program, {six, Tensor::FromS64({1}, {0})})[0].ToF32(), ElementsAre(0, -1));
  const int64_t made = program->Cache().made;
  EXPECT_THAT(MustRun(*program, {six, Tensor::FromS64({1}, {3})})[0].ToF32(), ElementsAre(-3, -4));
  EXPECT_EQ(program->Cache().made, made);
  EXPECT_THAT(MustRun(*program, {six, Tensor::FromS64({1}, {5})})[0].ToF32(), ElementsAre(-5));
}

// Operators whose operands decide shapes, all computed from float data.
TEST(StagedTest, ComputedOperands) {
  GraphMaker m;
  const ValueId x = m.Input("x", {2, 2});  // reads 3 in its first element
  const ValueId flat = m.Node("Reshape", {x, m.Ints("flat", {4})}, "flat_x");
  const ValueId count = m.Node("Slice", {flat, m.Ints("b", {0}), m.Ints("e", {1})}, "count");
  const ValueId n = m.Node("Cast", {count}, "n", {{"to", int64_t{7}}});
  const ValueId scalar = m.Node("Squeeze", {n}, "scalar");
  m.Output(m.Node("ConstantOfShape", {n}, "zeros"));
  m.Output(m.Node("Range", {m.g.AddConstant("r0", Tensor::FromS64({}, {0})), scalar,
                            m.g.AddConstant("r1", Tensor::FromS64({}, {1}))}, "range"));
  const ValueId one = m.F32("row", {1, 1}, {5});
  m.Output(m.Node("Expand", {one, m.Node("Concat", {n, m.Ints("two", {2})}, "target", {{"axis", int64_t{0}}})}, "expand"));
  m.Output(m.Node("Tile", {count, n}, "tile"));
  auto program = MustCompile(m.g);
  for (float k : {3.0f, 1.0f}) {
    const auto out = MustRun(*program, {F32({2, 2}, {k, 1, 2, 3})});
    const auto size = static_cast<int64_t>(k);
    EXPECT_EQ(out[0].shape(), Shape({size}));
    EXPECT_EQ(out[1].ToS64().back(), size - 1);
    EXPECT_EQ(out[2].shape(), Shape({size, 2}));
    EXPECT_EQ(out[3].ToF32(), std::vector<float>(static_cast<size_t>(size), k));
  }
  const auto huge = RunProgram(*program, {F32({2, 2}, {1e15f, 1, 2, 3})});
  EXPECT_FALSE(huge.ok());
  EXPECT_THAT(huge.status().message(), HasSubstr("node_"));
}

TEST(StagedTest, NamesTheOperatorThatItLacks) {
  GraphMaker m;
  const ValueId x = m.Input("x", {2});
  m.Output(m.Node("NoSuchOperator", {x}, "y"));
  EXPECT_THAT(Program::Compile(m.g).status().message(), HasSubstr("NoSuchOperator"));
}

}  // namespace
}  // namespace octet::engine
