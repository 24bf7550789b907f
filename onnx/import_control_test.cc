// If, Loop and Scan: what import makes of their subgraphs, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/control_flow.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "onnx/test_model.h"

namespace octet::onnx_io {
namespace {

using graph::Graph;
using graph::Node;
using ::onnx::TensorProto;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

void Attach(::onnx::NodeProto* node, const std::string& key, TestModel sub) {
  auto* a = node->add_attribute();
  a->set_name(key);
  a->set_type(::onnx::AttributeProto::GRAPH);
  *a->mutable_g() = sub.graph();
}

TestModel Branch(const std::string& op, const std::vector<std::string>& inputs) {
  TestModel m;
  m.Output("r").Node(op, inputs, {"r"});
  return m;
}

// y = c ? relu(x) : x + w
TestModel Choice() {
  TestModel m(11);
  m.Input("c", {1}, TensorProto::BOOL).Input("x", {2, 3}).Output("y").F32("w", {3}, {1, 2, 3});
  auto* node = m.Node("If", {"c"}, {"y"}, "choose");
  Attach(node, "then_branch", Branch("Relu", {"x"}));
  Attach(node, "else_branch", Branch("Add", {"x", "w"}));
  return m;
}

std::vector<std::string> CapturedOf(const Graph& g, const std::string& key) {
  std::vector<std::string> names;
  const auto sub = graph::Subgraph(g.nodes.back(), key);
  for (graph::ValueId id : graph::CapturedValues(*sub)) names.push_back(sub->value(id).name);
  return names;
}

TEST(ImportControlFlow, BranchesCaptureByNameAndCopyConstants) {
  const auto g = Choice().Import();
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "If");
  EXPECT_EQ(g->value(g->outputs[0]).dtype, DType::kF32);
  EXPECT_EQ(*g->value(g->outputs[0]).shape, Shape({2, 3}));
  EXPECT_THAT(CapturedOf(*g, "then_branch"), ElementsAre("x"));
  EXPECT_THAT(CapturedOf(*g, "else_branch"), ElementsAre("x"));
  const auto other = graph::Subgraph(g->nodes[0], "else_branch");
  EXPECT_THAT(other->ConstantInput(other->nodes[0], 1)->ToF32(), ElementsAre(1, 2, 3));
}

TEST(ImportControlFlow, SubgraphsAreTranslatedLikeGraphs) {
  TestModel m = Choice();
  TestModel old;
  old.Output("r");
  SetInts(old.Node("Unsqueeze", {"x"}, {"r"}), "axes", {0});  // an attribute in opset 11
  auto* a = m.graph().mutable_node(0)->mutable_attribute(0);
  *a->mutable_g() = old.graph();
  const auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  const auto branch = graph::Subgraph(g->nodes[0], "then_branch");
  EXPECT_THAT(branch->ConstantInput(branch->nodes[0], 1)->ToS64(), ElementsAre(0));
  EXPECT_FALSE(g->value(g->outputs[0]).shape.has_value()) << "branches of other ranks";
  for (int d : {2, 3}) m.graph().mutable_output(0)->mutable_type()->mutable_tensor_type()->mutable_shape()->add_dim()->set_dim_value(d);
  EXPECT_EQ(m.Import()->value(g->outputs[0]).dim_names.size(), 2u);
}

TEST(ImportControlFlow, ConstantConditionLeavesItsBranchOnly) {
  for (const bool value : {true, false}) {
    TestModel m = Choice();
    m.graph().mutable_input()->DeleteSubrange(0, 1);
    m.Init<uint8_t>("c", {1}, TensorProto::BOOL, {static_cast<uint8_t>(value)});
    // The branch that is never taken may hold anything.
    m.graph().mutable_node(0)->mutable_attribute(value ? 1 : 0)->mutable_g()->mutable_node(0)->set_op_type("Unheard");
    const auto g = m.Import();
    ASSERT_TRUE(g.ok()) << g.status();
    EXPECT_EQ(Operators(*g), value ? "Relu" : "Add");
    EXPECT_EQ(g->value(g->outputs[0]).name, "y");
    EXPECT_TRUE(ExportModel(*g).ok());
  }
}

TEST(ImportControlFlow, SiblingsMayUseTheSameNames) {
  TestModel m = Choice();
  m.Output("z");
  auto* second = m.Node("If", {"c"}, {"z"}, "again");
  Attach(second, "then_branch", Branch("Neg", {"y"}));
  Attach(second, "else_branch", Branch("Add", {"y", "w"}));
  const auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  std::set<std::string> names;
  for (const graph::Value& v : g->values) EXPECT_TRUE(names.insert(v.name).second) << v.name;
  for (const Node& node : g->nodes) {
    for (const char* key : {"then_branch", "else_branch"}) {
      const auto sub = graph::Subgraph(node, key);
      const graph::Value& r = sub->value(sub->outputs[0]);
      EXPECT_TRUE(names.insert(r.name).second) << r.name << " is a name of two values";
    }
  }
  EXPECT_THAT(CapturedOf(*g, "then_branch"), ElementsAre("y"));
}

// v grows by concatenation; its declared shape holds for the first turn only.
TestModel Growing() {
  TestModel m(13), body;
  body.Input("i", {}, TensorProto::INT64).Input("go", {}, TensorProto::BOOL).Input("v", {2});
  body.Output("go2", {}, TensorProto::BOOL).Output("v2").Output("s");
  body.Node("Identity", {"go"}, {"go2"});
  SetInt(body.Node("Concat", {"v", "x"}, {"v2"}), "axis", 0);
  body.Node("Relu", {"x"}, {"s"});
  m.Input("n", {1}, TensorProto::INT64).Input("x", {2}).Output("last").Output("all");
  Attach(m.Node("Loop", {"n", "", "x"}, {"last", "all"}, "grow"), "body", body);
  return m;
}

TEST(ImportControlFlow, LoopCarriedShapesThatChangeAreUnknown) {
  const auto g = Growing().Import();
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(*g->value(g->outputs[0]).shape, Shape({kUnknownDim}));
  EXPECT_EQ(*g->value(g->outputs[1]).shape, Shape({kUnknownDim, 2}));
}

TEST(ImportControlFlow, ExportWritesSubgraphs) {
  for (const TestModel& m : {Choice(), Growing()}) {
    const auto g = m.Import();
    ASSERT_TRUE(g.ok()) << g.status();
    const auto bytes = ExportModel(*g);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    const auto again = ImportBytes(ToBuffer(*bytes), "exported.onnx");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(Operators(*again), Operators(*g));
    EXPECT_EQ(*ExportModel(*again), *bytes);
  }
}

std::string Refusal(const TestModel& m) { return std::string(m.Import().status().message()); }

::onnx::GraphProto* BranchOf(TestModel& m, int i) {
  return m.graph().mutable_node(0)->mutable_attribute(i)->mutable_g();
}

TEST(ImportControlFlow, RefusesBranchesThatDoNotFit) {
  TestModel m = Choice();
  m.graph().mutable_node(0)->mutable_attribute()->RemoveLast();
  EXPECT_THAT(Refusal(m), HasSubstr("'choose' (If): attribute 'else_branch' is missing"));
  m = Choice();
  BranchOf(m, 0)->mutable_node(0)->set_input(0, "nobody");
  EXPECT_THAT(Refusal(m), HasSubstr("input 'nobody' is produced by no node"));
  m = Choice();
  m.graph().mutable_node(0)->add_output("second");
  m.Output("second");
  EXPECT_THAT(Refusal(m), HasSubstr("has 1 outputs, the node 2"));
  m = Choice();
  SetInt(BranchOf(m, 0)->mutable_node(0), "to", TensorProto::INT64);
  BranchOf(m, 0)->mutable_node(0)->set_op_type("Cast");
  EXPECT_THAT(Refusal(m), HasSubstr("output 0 is s64 in then_branch and f32 in else_branch"));
  m = Choice();
  m.graph().mutable_input(0)->mutable_type()->mutable_tensor_type()->set_elem_type(TensorProto::FLOAT);
  EXPECT_THAT(Refusal(m), HasSubstr("the condition is f32, expected bool"));
  m = Choice();
  *BranchOf(m, 0)->add_input() = m.graph().input(1);
  EXPECT_THAT(Refusal(m), HasSubstr("then_branch has inputs"));
  m = Choice();
  BranchOf(m, 1)->mutable_node(0)->set_op_type("Unheard");
  EXPECT_THAT(Refusal(m), HasSubstr("operator 'Unheard'"));
}

TEST(ImportControlFlow, RefusesBodiesThatDoNotFit) {
  TestModel m = Growing();
  BranchOf(m, 0)->mutable_input()->RemoveLast();
  EXPECT_FALSE(m.Import().ok());
  m = Growing();
  BranchOf(m, 0)->mutable_output()->RemoveLast();
  EXPECT_THAT(Refusal(m), HasSubstr("body has 2 outputs, expected 3"));
  m = Growing();
  m.graph().mutable_node(0)->set_input(2, "");
  EXPECT_FALSE(m.Import().ok());
  m = Growing();
  m.graph().mutable_node(0)->set_op_type("Scan");
  EXPECT_FALSE(m.Import().ok());
  m = Growing();
  BranchOf(m, 0)->mutable_input(2)->mutable_type()->mutable_sequence_type();
  EXPECT_EQ(m.Import().status().code(), absl::StatusCode::kUnimplemented) << m.Import().status();
  m = Growing();
  m.graph().mutable_node(0)->mutable_attribute(0)->set_type(::onnx::AttributeProto::GRAPHS);
  EXPECT_FALSE(m.Import().ok());
}

// A producer of what only a subgraph reads must run, and before it.
TEST(ImportControlFlow, CapturedValuesOrderTheGraph) {
  TestModel m = Choice();
  BranchOf(m, 0)->mutable_node(0)->set_input(0, "late");
  m.Node("Neg", {"x"}, {"late"});
  const auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "Neg If");
  TestModel cycle = Choice();
  BranchOf(cycle, 0)->mutable_node(0)->set_input(0, "late");
  cycle.Node("Neg", {"y"}, {"late"});
  EXPECT_THAT(Refusal(cycle), HasSubstr("cyclic"));
}

}  // namespace
}  // namespace octet::onnx_io
