// Names, hoisting and inlining of subgraphs, and inference through them.
#include "graph/control_flow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/batching.h"
#include "graph/shape_inference.h"

namespace octet::graph {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

ValueId Add(Graph* g, const std::string& name, std::optional<Shape> shape = std::nullopt,
            DType dtype = DType::kF32) {
  Value v;
  v.name = name;
  v.dtype = dtype;
  v.shape = std::move(shape);
  return g->AddValue(std::move(v));
}

ValueId Emit(Graph* g, const std::string& op, std::vector<ValueId> inputs, const std::string& out) {
  const ValueId id = Add(g, out);
  g->nodes.push_back(Node{op, "", "node_" + out, std::move(inputs), {id}, {}});
  return id;
}

// r = x * w, where x is captured and w a constant.
std::shared_ptr<const Graph> Branch(const std::string& captured, const Tensor& w) {
  auto g = std::make_shared<Graph>();
  const ValueId x = Add(g.get(), captured);
  g->outputs = {Emit(g.get(), "Mul", {x, g->AddConstant("w", w)}, "r")};
  return g;
}

Graph Choice(const Tensor& w) {
  Graph g;
  g.inputs = {Add(&g, "c", Shape{}, DType::kBool), Add(&g, "x", Shape{kUnknownDim, 2})};
  const ValueId y = Emit(&g, "If", {g.inputs[0]}, "y");
  g.nodes[0].attributes["then_branch"] = Branch("x", w);
  g.nodes[0].attributes["else_branch"] = Branch("x", w);
  g.outputs = {y};
  return g;
}

Tensor Weights(size_t n) {
  return Tensor::FromF32({static_cast<int64_t>(n), 2}, std::vector<float>(2 * n, 3.0f));
}

TEST(ControlFlow, NormalizedNamesAreUnique) {
  Graph g = Choice(Weights(1));
  ASSERT_TRUE(NormalizeSubgraphs(&g).ok());
  std::vector<std::string> names;
  for (const char* key : {"then_branch", "else_branch"}) {
    const auto sub = Subgraph(g.nodes[0], key);
    EXPECT_EQ(sub->value(CapturedValues(*sub)[0]).name, "x");
    for (const Value& v : sub->values) names.push_back(v.name);
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::unique(names.begin(), names.end()) - names.begin(), 5) << "w, r twice and x";
  EXPECT_THAT(CapturedNames(g.nodes[0]), ElementsAre("x"));
}

TEST(ControlFlow, NormalizeHandsCapturesThroughGraphsBetween) {
  Graph g = Choice(Weights(1));
  auto outer = std::make_shared<Graph>();
  const ValueId c = Add(outer.get(), "c", Shape{}, DType::kBool);
  outer->outputs = {Emit(outer.get(), "If", {c}, "inner")};
  outer->nodes[0].attributes = g.nodes[0].attributes;
  g.nodes[0].attributes["then_branch"] = std::shared_ptr<const Graph>(outer);
  ASSERT_TRUE(NormalizeSubgraphs(&g).ok());
  const auto between = Subgraph(g.nodes[0], "then_branch");
  std::vector<std::string> names;
  for (ValueId id : OuterValues(*between)) names.push_back(between->value(id).name);
  EXPECT_THAT(names, UnorderedElementsAre("c", "x"));
  EXPECT_TRUE(InferShapes(&g).ok()) << InferShapes(&g);
  EXPECT_EQ(*g.value(g.outputs[0]).shape, Shape({kUnknownDim, 2}));

  g.nodes[0].attributes["else_branch"] = Branch("nobody", Weights(1));
  EXPECT_THAT(NormalizeSubgraphs(&g).message(), HasSubstr("'nobody'"));
}

TEST(ControlFlow, HoistingSharesEqualConstants) {
  const Tensor big = Weights(600), small = Weights(1);
  Graph g = Choice(big);
  g.nodes[0].attributes["else_branch"] = Branch("x", big);
  ASSERT_TRUE(NormalizeSubgraphs(&g).ok());
  const size_t values = g.values.size();
  HoistConstants(&g, 4096);
  EXPECT_EQ(g.values.size(), values + 1) << "both branches hold the same bytes";
  EXPECT_THAT(CapturedNames(g.nodes[0]), UnorderedElementsAre("x", g.values.back().name));
  EXPECT_TRUE(g.Validate().ok()) << g.Validate();
  EXPECT_TRUE(InferShapes(&g).ok());
  EXPECT_EQ(*g.value(g.outputs[0]).shape, Shape({600, 2}));
  Graph kept = Choice(small);
  ASSERT_TRUE(NormalizeSubgraphs(&kept).ok());
  HoistConstants(&kept, 4096);
  EXPECT_THAT(CapturedNames(kept.nodes[0]), ElementsAre("x"));
}

TEST(ControlFlow, InlinesBranchesOfKnownConditions) {
  for (const bool condition : {true, false}) {
    Graph g = Choice(Weights(1));
    // else gives x itself: a result that no node of the branch writes.
    auto same = std::make_shared<Graph>();
    same->outputs = {Add(same.get(), "x")};
    g.nodes[0].attributes["else_branch"] = std::shared_ptr<const Graph>(same);
    g.inputs.erase(g.inputs.begin());
    const uint8_t byte = condition ? 1 : 0;
    g.value(0).data = Tensor::FromValues<uint8_t>(DType::kBool, {}, {&byte, 1});
    ASSERT_TRUE(NormalizeSubgraphs(&g).ok());
    const auto any = InlineConstantIfs(&g);
    ASSERT_TRUE(any.ok() && *any) << any.status();
    ASSERT_EQ(g.nodes.size(), 1u);
    EXPECT_EQ(g.nodes[0].op, condition ? "Mul" : "Identity");
    EXPECT_EQ(g.nodes[0].outputs[0], g.outputs[0]);
    EXPECT_TRUE(g.Validate().ok()) << g.Validate();
    EXPECT_FALSE(*InlineConstantIfs(&g));
  }
}

TEST(ControlFlow, BranchesOfOtherShapesGiveWhatBothHave) {
  Graph g = Choice(Weights(1));
  g.value(1).shape = Shape{5, 2};
  auto rows = std::make_shared<Graph>();
  rows->outputs = {rows->AddConstant("k", Weights(7))};
  g.nodes[0].attributes["else_branch"] = std::shared_ptr<const Graph>(rows);
  ASSERT_TRUE(InferShapes(&g).ok());
  EXPECT_EQ(*g.value(g.outputs[0]).shape, Shape({kUnknownDim, 2}));
  auto scalar = std::make_shared<Graph>();
  scalar->outputs = {scalar->AddConstant("k", Tensor::FromF32({}, {1.0f}))};
  g.nodes[0].attributes["else_branch"] = std::shared_ptr<const Graph>(scalar);
  ASSERT_TRUE(InferShapes(&g).ok());
  EXPECT_FALSE(g.value(g.outputs[0]).shape.has_value());
  auto number = std::make_shared<Graph>();
  number->outputs = {number->AddConstant("k", Tensor::FromS64({}, {1}))};
  g.nodes[0].attributes["else_branch"] = std::shared_ptr<const Graph>(number);
  EXPECT_THAT(InferShapes(&g).message(), HasSubstr("If 'node_y'"));
}

// A second inference with other types around must not keep the first one's results.
TEST(ControlFlow, InferenceFollowsChangesAround) {
  Graph g = Choice(Weights(1));
  ASSERT_TRUE(InferShapes(&g).ok());
  EXPECT_EQ(*g.value(g.outputs[0]).shape, Shape({kUnknownDim, 2}));
  g.value(1).shape = Shape{4, 2};
  ASSERT_TRUE(InferShapes(&g).ok());
  EXPECT_EQ(*g.value(g.outputs[0]).shape, Shape({4, 2}));
}

TEST(ControlFlow, IsNotBatched) {
  Graph g = Choice(Weights(1));
  g.value(0).shape = Shape{kUnknownDim};
  ASSERT_TRUE(InferShapes(&g).ok());
  const BatchProof proof = ProveBatchable(g);
  EXPECT_FALSE(proof.batchable);
  EXPECT_THAT(proof.obstacle, HasSubstr("If 'node_y'"));
}

}  // namespace
}  // namespace octet::graph
