// Weights of few bits in files: what export writes is what import gives back, and nothing else is taken.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "base/float16.h"
#include "graph/constant_quantization.h"
#include "graph/test_weights.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "onnx/test_model.h"

namespace octet::onnx_io {
namespace {

using graph::Graph;
using graph::MakeWeights;
using graph::StoredWeights;
using graph::Value;
using graph::ValueId;
using graph::WeightForm;
using graph::WeightForms;
using ::onnx::ModelProto;
using ::onnx::TensorProto;
using ::testing::AllOf;
using ::testing::HasSubstr;

struct Operand {
  std::string name;
  Shape shape;
  int row_axis;
};

// Of Conv, Gemm with transB, MatMul. Inputs are a multiple of 4 but no multiple of some groups.
std::vector<Operand> Operands() {
  return {{"conv", {3, 44, 3, 2}, 0}, {"nk", {5, 44}, 0}, {"kn", {44, 6}, 1}, {"conv1d", {7, 36, 3}, 0}};
}

Graph ProductOf(const StoredWeights& weights, const Operand& operand) {
  Graph g;
  g.name = "product";
  const auto value = [&](const char* name, Shape shape) {
    Value v;
    v.name = name;
    v.dtype = DType::kF32;
    v.shape = std::move(shape);
    return g.AddValue(std::move(v));
  };
  const int64_t inputs = operand.shape[static_cast<size_t>(1 - operand.row_axis)];
  const int64_t rows = operand.shape[static_cast<size_t>(operand.row_axis)];
  Shape x_shape = {2, inputs}, y_shape = {2, rows};
  for (size_t d = 2; d < operand.shape.size(); ++d) {
    x_shape.push_back(operand.shape[d]);
    y_shape.push_back(1);
  }
  const ValueId x = value("x", x_shape);
  Value w = weights.value;
  w.name = "w";
  const ValueId id = g.AddValue(std::move(w)), y = value("y", y_shape);
  g.inputs = {x};
  g.outputs = {y};
  if (operand.shape.size() > 2) {
    g.nodes.push_back({"Conv", "", "product", {x, id}, {y}, {}});
  } else if (operand.row_axis == 0) {
    g.nodes.push_back({"Gemm", "", "product", {x, id}, {y}, {{"transB", int64_t{1}}}});
  } else {
    g.nodes.push_back({"MatMul", "", "product", {x, id}, {y}, {}});
  }
  return g;
}

void ExpectSameWeights(const Value& a, const Value& b) {
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.dtype, b.dtype);
  EXPECT_EQ(a.shape, b.shape);
  EXPECT_EQ(a.quant, b.quant);
  ASSERT_TRUE(a.is_constant() && b.is_constant());
  ASSERT_EQ(a.data->size_bytes(), b.data->size_bytes());
  EXPECT_EQ(std::memcmp(a.data->data(), b.data->data(), static_cast<size_t>(a.data->size_bytes())), 0);
}

// A matrix's vectors need an axis: one scale per tensor does not tell [N, K] from [K, N].
TEST(WeightLevels, EveryFormComesBackAndMeansItsReals) {
  for (const WeightForm& form : WeightForms()) {
    for (const Operand& operand : Operands()) {
      SCOPED_TRACE(form.name + " " + operand.name);
      const StoredWeights weights = MakeWeights(form, operand.shape, operand.row_axis, 7);
      const auto reals = graph::DequantizeTensor(*weights.value.data, *weights.value.quant);
      ASSERT_TRUE(reals.ok()) << reals.status();
      EXPECT_EQ(reals->ToVector<float>(), weights.reals);
      const Graph g = ProductOf(weights, operand);
      const auto bytes = ExportModel(g);
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      const auto again = ImportBytes(ToBuffer(*bytes), "exported.onnx");
      ASSERT_TRUE(again.ok()) << again.status();
      ASSERT_EQ(again->nodes.size(), 1u);
      EXPECT_EQ(again->nodes[0].op, g.nodes[0].op);
      ExpectSameWeights(again->value(again->nodes[0].inputs[1]), g.value(g.nodes[0].inputs[1]));
      EXPECT_EQ(*ExportModel(g), *bytes) << "export is not deterministic";
    }
  }
}

ModelProto Exported(const Graph& g) {
  ModelProto model;
  const auto bytes = ExportModel(g);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  if (bytes.ok()) {
    EXPECT_TRUE(model.ParseFromString(*bytes));
  }
  return model;
}

const TensorProto* Initializer(const ModelProto& model, const std::string& name) {
  for (const TensorProto& t : model.graph().initializer()) {
    if (t.name() == name) return &t;
  }
  return nullptr;
}

WeightForm FormOf(const std::string& name) {
  for (const WeightForm& form : WeightForms()) {
    if (form.name == name) return form;
  }
  return {};
}

TEST(WeightLevels, FilesCarryTheFunctionOnlyWhenTheyCallIt) {
  const Operand conv = Operands()[0];
  const ModelProto levels = Exported(ProductOf(MakeWeights(FormOf("u2"), conv.shape, 0, 1), conv));
  EXPECT_EQ(levels.opset_import(0).version(), 17);
  EXPECT_EQ(levels.ir_version(), 8);
  ASSERT_EQ(levels.functions_size(), 1);
  EXPECT_EQ(levels.functions(0).domain(), "ai.octet");
  EXPECT_EQ(levels.functions(0).name(), "DecodeWeights");
  const ModelProto integers = Exported(ProductOf(MakeWeights(FormOf("s4_groups"), conv.shape, 0, 1), conv));
  EXPECT_EQ(integers.functions_size(), 0);
  EXPECT_EQ(integers.opset_import_size(), 1);
  EXPECT_EQ(integers.opset_import(0).version(), 21);
}

// Half the bytes where it costs nothing: many scales, of few bits, all exact.
TEST(WeightLevels, ManyExactScalesAreStoredAsF16) {
  const auto type = [](const char* form, const Shape& shape, const char* name) {
    const ModelProto model = Exported(ProductOf(MakeWeights(FormOf(form), shape, 0, 3), {"", shape, 0}));
    const TensorProto* scales = Initializer(model, name);
    return scales == nullptr ? 0 : scales->data_type();
  };
  EXPECT_EQ(type("s4_groups", {8, 64, 3, 3}, "w_scale_f16"), TensorProto::FLOAT16);
  EXPECT_EQ(type("s4_groups", {8, 64, 3, 3}, "w_scale"), 0);
  EXPECT_EQ(type("s4_groups_f32", {8, 64, 3, 3}, "w_scale"), TensorProto::FLOAT) << "not exact";
  EXPECT_EQ(type("s4_groups", {8, 64}, "w_scale"), TensorProto::FLOAT) << "few";
  EXPECT_EQ(type("u2_groups", {8, 64, 3, 3}, "w_scale"), TensorProto::FLOAT16);
  EXPECT_EQ(type("vectors_groups", {8, 64, 3, 3}, "w_scale"), TensorProto::FLOAT) << "not exact";
  // Subnormal in f16: exact, but a runtime may flush them.
  StoredWeights small = MakeWeights(FormOf("u2_groups"), {8, 64, 3, 3}, 0, 3);
  small.value.quant->scale[5] = 0x1p-15f;
  const ModelProto model = Exported(ProductOf(small, {"", {8, 64, 3, 3}, 0}));
  EXPECT_EQ(Initializer(model, "w_scale")->data_type(), TensorProto::FLOAT);
}

TEST(WeightLevels, OneNodeServesAllReaders) {
  Graph g = ProductOf(MakeWeights(FormOf("u4"), {44, 6}, 1, 1), Operands()[2]);
  Value z = g.value(g.outputs[0]);
  z.name = "z";
  const ValueId id = g.AddValue(std::move(z));
  g.nodes.push_back({"MatMul", "", "second", g.nodes[0].inputs, {id}, {}});
  g.outputs.push_back(id);
  const ModelProto model = Exported(g);
  int decodes = 0;
  for (const auto& node : model.graph().node()) decodes += node.op_type() == "DecodeWeights";
  EXPECT_EQ(decodes, 1);
  const auto again = ImportBytes(ToBuffer(model.SerializeAsString()), "exported.onnx");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->nodes[0].inputs[1], again->nodes[1].inputs[1]);
}

TEST(WeightLevels, GraphRefusesWhatCannotBeDecoded) {
  const auto refused = [](const char* form, const std::function<void(Value&)>& change) {
    Graph g = ProductOf(MakeWeights(FormOf(form), {44, 6}, 1, 1), Operands()[2]);
    EXPECT_TRUE(g.Validate().ok());
    change(g.value(g.nodes[0].inputs[1]));
    return std::string(g.Validate().message());
  };
  EXPECT_THAT(refused("u2_three_levels", [](Value& v) { v.quant->levels.pop_back(); }), HasSubstr("of 2 levels"));
  EXPECT_THAT(refused("u2", [](Value& v) { v.quant->levels.push_back(1); }), HasSubstr("at most 4 levels"));
  EXPECT_THAT(refused("u2", [](Value& v) { v.quant->zero_point.assign(6, 1); }), HasSubstr("zero points"));
  EXPECT_THAT(refused("u2", [](Value& v) { v.quant->scale.pop_back(); }), HasSubstr("expected 6 scales"));
  EXPECT_THAT(refused("u2", [](Value& v) { v.quant->scale[1] = 0; }), HasSubstr("positive finite"));
  EXPECT_THAT(refused("vectors", [](Value& v) { v.quant->levels.pop_back(); }), HasSubstr("1024 levels"));
  EXPECT_THAT(refused("vectors", [](Value& v) { v.quant->vector = 2; }), HasSubstr("expected 1 or 4"));
  EXPECT_THAT(refused("vectors", [](Value& v) { v.quant->levels.clear(); }), HasSubstr("without levels"));
  EXPECT_THAT(refused("vectors",
                      [](Value& v) {
                        v.quant->axis = -1;
                        v.quant->scale.resize(1);
                      }),
              HasSubstr("tells [N, K] from [K, N]"));
  EXPECT_THAT(refused("vectors_groups", [](Value& v) { v.quant->block = 6; }), HasSubstr("expected multiples"));
  // Of a value that is computed.
  Graph g = ProductOf(MakeWeights(FormOf("u2"), {44, 6}, 1, 1), Operands()[2]);
  g.value(g.inputs[0]).dtype = DType::kU2;
  g.value(g.inputs[0]).quant = QuantParams{{1.0f}, {}, -1, 0, {1, 2}, 1};
  EXPECT_THAT(std::string(g.Validate().message()), HasSubstr("only constants"));
}

// ---- hostile files

// w [4, 6] in 2 bits behind MatMul; three levels; scales per column.
TestModel DecodeModel() {
  TestModel m(17, 8);
  m.Input("x", {1, 4}).Output("y");
  m.U8("codes", {6}, {0x21, 0x12, 0x00, 0x0a, 0x84, 0x22}).S8("levels", {3, 1}, {-7, 0, 9});
  m.F32("scales", {1, 6}, {1, 2, 3, 4, 5, 6});
  auto* node = m.Node("DecodeWeights", {"codes", "levels", "scales"}, {"w"}, "decode");
  node->set_domain("ai.octet");
  SetInt(SetInt(SetInt(node, "axis", 1), "bits", 2), "block", 0);
  SetInts(SetInts(SetInts(node, "perm", {0, 1}), "shape", {4, 6}), "stored", {4, 6});
  m.Node("MatMul", {"x", "w"}, {"y"});
  auto* import = m.proto.add_opset_import();
  import->set_domain("ai.octet");
  import->set_version(1);
  return m;
}

::onnx::AttributeProto* AttributeOf(TestModel& m, const std::string& name) {
  for (auto& a : *m.graph().mutable_node(0)->mutable_attribute()) {
    if (a.name() == name) return &a;
  }
  return nullptr;
}

void Replace(TestModel& m, int index, const std::function<void(TestModel&)>& add) {
  m.graph().mutable_initializer()->DeleteSubrange(index, 1);
  add(m);
}

TEST(HostileDecodeWeights, TheModelItselfIsFineWithoutAFunction) {
  const auto g = DecodeModel().Import();
  ASSERT_TRUE(g.ok()) << g.status();
  const Value& w = g->value(g->nodes[0].inputs[1]);
  EXPECT_EQ(w.name, "codes");
  EXPECT_EQ(w.dtype, DType::kU2);
  EXPECT_EQ(w.quant, (QuantParams{{1, 2, 3, 4, 5, 6}, {}, 1, 0, {-7, 0, 9}, 1}));
}

TEST(HostileDecodeWeights, EachRuleIsNamed) {
  using Change = std::function<void(TestModel&)>;
  const auto set_int = [](const char* name, int64_t v) -> Change {
    return [=](TestModel& m) { AttributeOf(m, name)->set_i(v); };
  };
  const auto set_ints = [](const char* name, std::vector<int64_t> v) -> Change {
    return [=](TestModel& m) { AttributeOf(m, name)->mutable_ints()->Assign(v.begin(), v.end()); };
  };
  const auto scales = [](const TestModel::Dims& dims, const std::vector<float>& v) -> Change {
    return [=](TestModel& m) { Replace(m, 2, [&](TestModel& n) { n.F32("scales", dims, v); }); };
  };
  const auto codes = [](const TestModel::Dims& dims, const std::vector<uint8_t>& v) -> Change {
    return [=](TestModel& m) { Replace(m, 0, [&](TestModel& n) { n.U8("codes", dims, v); }); };
  };
  const auto levels = [](const TestModel::Dims& dims, const std::vector<int8_t>& v) -> Change {
    return [=](TestModel& m) { Replace(m, 1, [&](TestModel& n) { n.S8("levels", dims, v); }); };
  };
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const int64_t huge = int64_t{1} << 40;
  const std::pair<Change, const char*> cases[] = {
      {codes({5}, {0, 0, 0, 0, 0}), "shape of codes: expected [6], found [5]"},
      {codes({2, 3}, {0, 0, 0, 0, 0, 0}), "shape of codes: expected [6], found [2, 3]"},
      {codes({6}, {0, 0, 0, 0x30, 0, 0}), "codes: byte 3 holds code 3 of 3 levels"},
      {levels({2, 1}, {1, 2}), "codes: byte 0 holds code 2 of 2 levels"},
      {levels({5, 1}, {1, 2, 3, 4, 5}), "expected at most 4 levels"},
      {levels({3}, {1, 2, 3}), "levels: expected shape [entries, 1]"},
      {levels({3, 4}, std::vector<int8_t>(12)), "levels: expected shape [entries, 1]"},
      {levels({0, 1}, {}), "levels: expected shape [entries, 1]"},
      {scales({1, 6}, {1, 2, nan, 4, 5, 6}), "scale: expected positive finite numbers, found nan"},
      {scales({1, 6}, {1, 2, inf, 4, 5, 6}), "scale: expected positive finite numbers, found inf"},
      {scales({1, 6}, {1, 2, -3, 4, 5, 6}), "scale: expected positive finite numbers, found -3"},
      {scales({1, 6}, {1, 2, 0, 4, 5, 6}), "scale: expected positive finite numbers, found 0"},
      {scales({6}, {1, 2, 3, 4, 5, 6}), "shape of scales: expected [1, 6], found [6]"},
      {scales({1, 5}, {1, 2, 3, 4, 5}), "expected 6 scales"},
      {set_int("bits", 3), "bits: expected 1, 2, 4 or 8, found 3"},
      {set_int("bits", 8), "levels: expected shape [entries, 4]"},
      {set_int("axis", 2), "axis: expected -1 to 1, found 2"},
      {set_int("axis", -2), "axis: expected -1 to 1, found -2"},
      {set_int("axis", huge), "axis: expected -1 to 1"},
      {set_int("axis", -1), "expected 1 scales"},
      {set_int("block", -1), "block -1 along axis 1"},
      {set_int("block", 2), "expected 12 scales"},
      {set_int("block", huge), "expected 4 scales"},
      {set_ints("shape", {}), "shape: expected 1 to 12 dimensions"},
      {set_ints("shape", {4, -6}), "shape: expected positive dimensions"},
      {set_ints("shape", {4, 0}), "shape: expected positive dimensions"},
      {set_ints("shape", {huge, huge}), "more than 2^62"},
      {set_ints("shape", {huge, 6}), "stored: expected [1099511627776, 6]"},
      {set_ints("shape", {6, 4}), "expected 4 scales"},
      {set_ints("stored", {6, 4}), "stored: expected [4, 6], found [6, 4]"},
      {set_ints("stored", {24}), "stored: expected [4, 6], found [24]"},
      {set_ints("perm", {1, 0}), "perm: expected [0, 1], found [1, 0]"},
      {[](TestModel& m) { m.graph().mutable_node(0)->mutable_attribute()->DeleteSubrange(0, 1); },
       "attribute 'axis' is missing"},
      {[](TestModel& m) { m.graph().mutable_node(0)->set_input(1, "codes"); }, "levels: expected s8, found u8"},
      {[](TestModel& m) { m.graph().mutable_node(0)->set_input(2, "levels"); },
       "scales: expected f16 or f32, found s8"},
      {[](TestModel& m) { m.graph().mutable_node(0)->set_input(0, "x"); }, "input 0 (codes) is computed"},
      {[](TestModel& m) { m.graph().mutable_node(0)->mutable_input()->RemoveLast(); }, "expected 3 to 3 inputs"},
      {[](TestModel& m) { SetInt(m.graph().mutable_node(0), "rows", 1); }, "attribute 'rows' (an int) is not known"},
  };
  for (const auto& [change, message] : cases) {
    SCOPED_TRACE(message);
    TestModel m = DecodeModel();
    change(m);
    const absl::Status status = m.Import().status();
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("'decode' (DecodeWeights)"), HasSubstr(message)));
  }
  TestModel newer = DecodeModel();
  newer.proto.mutable_opset_import(1)->set_version(2);
  EXPECT_THAT(std::string(newer.Import().status().message()), HasSubstr("opset of ai.octet: expected 1, found 2"));
}

TEST(HostileDecodeWeights, VectorCodes) {
  const Operand conv{"conv", {3, 8, 2, 2}, 0};
  const ModelProto good = Exported(ProductOf(MakeWeights(FormOf("vectors"), conv.shape, 0, 1), conv));
  const auto message = [&](const char* name, const std::vector<int64_t>& ints) {
    ModelProto bad = good;
    for (auto& a : *bad.mutable_graph()->mutable_node(0)->mutable_attribute()) {
      if (a.name() == name) a.mutable_ints()->Assign(ints.begin(), ints.end());
    }
    return std::string(ImportBytes(ToBuffer(bad.SerializeAsString()), "bad.onnx").status().message());
  };
  EXPECT_EQ(message("perm", {0, 2, 1}), "");
  EXPECT_THAT(message("perm", {2, 1, 0}), HasSubstr("perm: expected [0, 2, 1]"));
  EXPECT_THAT(message("stored", {3, 8, 4}), HasSubstr("stored: expected [3, 4, 8]"));
  EXPECT_THAT(message("shape", {3, 6, 2, 2}), HasSubstr("vectors of 4 on 6 input channels"));
  EXPECT_THAT(message("shape", {96}), HasSubstr("expected rank 2 or more"));
}

// A small file must not ask for the same large tensor again and again.
TEST(HostileDecodeWeights, ManyNodesOnOneTensorAreBounded) {
  TestModel m(17, 8);
  m.Input("x", {1}).Output("y");
  const int64_t rows = 1 << 17;
  m.U8("codes", {rows}, std::vector<uint8_t>(static_cast<size_t>(rows))).S8("levels", {2, 1}, {-1, 1});
  m.F32("scales", {rows, 1}, std::vector<float>(static_cast<size_t>(rows), 1));
  std::string sum = "x";
  for (int i = 0; i < 64; ++i) {
    auto* node = m.Node("DecodeWeights", {"codes", "levels", "scales"}, {"w" + std::to_string(i)});
    node->set_domain("ai.octet");
    SetInt(SetInt(SetInt(node, "axis", 0), "bits", 1), "block", 0);
    SetInts(SetInts(SetInts(node, "perm", {0, 1}), "shape", {rows, 8}), "stored", {rows, 8});
    const std::string next = i == 63 ? "y" : "sum" + std::to_string(i);
    m.Node("Add", {sum, "w" + std::to_string(i)}, {next});
    sum = next;
  }
  EXPECT_EQ(m.Import().status().code(), absl::StatusCode::kResourceExhausted);
}

// Whatever the bytes are, import ends with a status or a valid graph.
TEST(HostileDecodeWeights, RandomBytes) {
  const std::string whole = DecodeModel().proto.SerializeAsString();
  const CounterRng rng(20250611);
  uint64_t draw = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string bytes = whole;
    const int flips = 1 + static_cast<int>(rng.Bits(draw++) % 4);
    for (int k = 0; k < flips; ++k) {
      const size_t at = rng.Bits(draw++) % bytes.size();
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << rng.Bits(draw++) % 8));
    }
    const auto g = ImportBytes(ToBuffer(bytes), "flipped");
    if (g.ok()) {
      EXPECT_TRUE(g->Validate().ok()) << round;
    } else {
      EXPECT_NE(g.status().code(), absl::StatusCode::kInternal) << g.status();
    }
  }
}

// Subgraphs carry such weights as well, read by their own nodes.
TEST(WeightLevels, SubgraphsRoundTrip) {
  auto branch = std::make_shared<Graph>(ProductOf(MakeWeights(FormOf("u2"), {44, 6}, 1, 1), Operands()[2]));
  branch->inputs.clear();  // captures x
  for (Value& v : branch->values) {
    if (v.name != "x") v.name = "inner_" + v.name;
  }
  Graph g;
  Value cond, x, y;
  cond.name = "cond";
  cond.dtype = DType::kBool;
  cond.shape = Shape{};
  x = branch->values[0];
  y.name = "y";
  y.dtype = DType::kF32;
  y.shape = Shape{2, 6};
  const ValueId c = g.AddValue(cond), in = g.AddValue(x), out = g.AddValue(y);
  g.inputs = {c, in};
  g.outputs = {out};
  const std::shared_ptr<const Graph> taken = branch;
  g.nodes.push_back({"If", "", "choice", {c}, {out}, {{"then_branch", taken}, {"else_branch", taken}}});
  const ModelProto model = Exported(g);
  EXPECT_EQ(model.functions_size(), 1);
  const auto again = ImportBytes(ToBuffer(model.SerializeAsString()), "exported.onnx");
  ASSERT_TRUE(again.ok()) << again.status();
  const auto inner = std::get<std::shared_ptr<const Graph>>(again->nodes[0].attributes.at("then_branch"));
  const Value& w = inner->value(inner->nodes[0].inputs[1]);
  EXPECT_EQ(w.dtype, DType::kU2);
  EXPECT_EQ(w.quant, branch->value(branch->nodes[0].inputs[1]).quant);
}

}  // namespace
}  // namespace octet::onnx_io
