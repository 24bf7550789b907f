// Queries, edits and invariants of graphs.
#include "graph/graph.h"

#include <gtest/gtest.h>

namespace octet::graph {
namespace {

ValueId AddF32(Graph* graph, const char* name) {
  Value value;
  value.name = name;
  value.dtype = DType::kF32;
  return graph->AddValue(std::move(value));
}

// x -> Relu -> y -> Add(y, c) -> z; z is the output.
Graph SmallGraph() {
  Graph graph;
  const ValueId x = AddF32(&graph, "x");
  const ValueId y = AddF32(&graph, "y");
  const ValueId z = AddF32(&graph, "z");
  const ValueId c = graph.AddConstant("c", Tensor::FromF32({1}, {2.0f}));
  graph.inputs = {x};
  graph.outputs = {z};
  graph.nodes.push_back(Node{"Relu", "", "first", {x}, {y}, {}});
  graph.nodes.push_back(Node{"Add", "", "", {y, c}, {z}, {}});
  return graph;
}

TEST(GraphTest, ReadsAttributesOfTheRightKind) {
  Node node;
  node.attributes["axis"] = int64_t{3};
  node.attributes["pads"] = std::vector<int64_t>{1, 2};
  node.attributes["alpha"] = 0.5f;
  EXPECT_EQ(node.GetInt("axis", 0), 3);
  EXPECT_EQ(node.GetInt("pads", 7), 7);
  EXPECT_EQ(node.GetInts("pads"), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(node.GetFloat("alpha", 0), 0.5f);
  EXPECT_EQ(node.GetString("mode", "nearest"), "nearest");
}

TEST(GraphTest, FindsProducersAndConsumers) {
  const Graph graph = SmallGraph();
  EXPECT_TRUE(graph.Validate().ok()) << graph.Validate();
  EXPECT_EQ(graph.Producers(), (std::vector<int>{-1, 0, 1, -1}));
  EXPECT_EQ(graph.Consumers()[1], (std::vector<int>{1}));
  EXPECT_TRUE(graph.IsOutput(2));
  EXPECT_FALSE(graph.IsOutput(1));
  EXPECT_EQ(graph.ConstantInput(graph.nodes[1], 1)->ToF32()[0], 2.0f);
  EXPECT_EQ(graph.ConstantInput(graph.nodes[1], 0), nullptr);
  EXPECT_EQ(graph.ConstantInput(graph.nodes[1], 2), nullptr);
}

TEST(GraphTest, DescribesNodesByNameOrByOutput) {
  const Graph graph = SmallGraph();
  EXPECT_EQ(Describe(graph, graph.nodes[0]), "Relu 'first'");
  EXPECT_EQ(Describe(graph, graph.nodes[1]), "Add #1 -> 'z'");
}

TEST(GraphTest, RemovesDeadNodesAndUnreadConstants) {
  Graph graph = SmallGraph();
  graph.ReplaceReads(2, 1);  // the output is y now
  graph.RemoveDead();
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_EQ(graph.nodes[0].op, "Relu");
  EXPECT_FALSE(graph.value(3).is_constant());
  EXPECT_EQ(graph.outputs[0], 1);
}

TEST(GraphTest, KeepsWhatASubgraphCaptures) {
  Graph graph = SmallGraph();
  auto branch = std::make_shared<Graph>();
  const ValueId captured = AddF32(branch.get(), "y");
  branch->outputs = {captured};
  const ValueId condition = graph.AddConstant("condition", Tensor::FromS64({}, {1}));
  const ValueId out = AddF32(&graph, "out");
  Node node{"If", "", "", {condition}, {out}, {}};
  node.attributes["then_branch"] = std::shared_ptr<const Graph>(branch);
  graph.nodes.push_back(node);
  graph.outputs = {out};
  EXPECT_EQ(graph.Consumers()[1], (std::vector<int>{1, 2}));
  graph.RemoveDead();
  ASSERT_EQ(graph.nodes.size(), 2u);
  EXPECT_EQ(graph.nodes[0].op, "Relu");
  EXPECT_TRUE(graph.Validate().ok()) << graph.Validate();
}

TEST(GraphTest, MakesNamesThatNoValueHas) {
  Graph graph = SmallGraph();
  EXPECT_EQ(graph.UniqueName("fresh"), "fresh");
  EXPECT_EQ(graph.UniqueName("x"), "x_1");
  AddF32(&graph, "x_1");
  EXPECT_EQ(graph.UniqueName("x"), "x_2");
}

TEST(GraphTest, ValidateRefusesBrokenInvariants) {
  Graph repeated = SmallGraph();
  repeated.value(1).name = "x";
  EXPECT_FALSE(repeated.Validate().ok());

  Graph disordered = SmallGraph();
  std::swap(disordered.nodes[0], disordered.nodes[1]);
  EXPECT_NE(disordered.Validate().message().find("before it is produced"), std::string::npos);

  Graph twice = SmallGraph();
  twice.nodes.push_back(Node{"Relu", "", "", {0}, {1}, {}});
  EXPECT_FALSE(twice.Validate().ok());

  Graph range = SmallGraph();
  range.nodes[0].inputs[0] = 99;
  EXPECT_FALSE(range.Validate().ok());

  Graph dangling = SmallGraph();
  dangling.outputs.push_back(AddF32(&dangling, "nobody"));
  EXPECT_FALSE(dangling.Validate().ok());

  Graph scales = SmallGraph();
  scales.value(1).dtype = DType::kU8;
  scales.value(1).quant = QuantParams{{0.1f, 0.2f}, {}, -1, 0};
  EXPECT_FALSE(scales.Validate().ok());
}

}  // namespace
}  // namespace octet::graph
