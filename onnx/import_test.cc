// Import rules: every older form becomes the one form of graph/graph.h.
#include "onnx/import.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/float16.h"
#include "onnx/test_model.h"

namespace octet::onnx_io {
namespace {

using graph::Graph;
using graph::Node;
using graph::Value;
using ::onnx::TensorProto;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Node* Find(const Graph& g, const std::string& op) {
  for (const Node& node : g.nodes) {
    if (node.op == op) return &node;
  }
  return nullptr;
}

// The one node of a graph that reads x [2,3,4] and gives y.
absl::StatusOr<Graph> ImportOne(TestModel& m) {
  m.Input("x", {2, 3, 4}).Output("y");
  return m.Import();
}

std::vector<int64_t> ConstantInts(const Graph& g, const Node& node, size_t i) {
  const Tensor* t = g.ConstantInput(node, i);
  return t == nullptr ? std::vector<int64_t>{-999} : t->ToS64();
}

TEST(Import, SmallNetKeepsNodesWeightsAndShapes) {
  auto g = SmallNet().Import();
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "Conv Relu Add GlobalAveragePool Reshape Gemm Softmax");
  ASSERT_EQ(g->inputs.size(), 1u);
  EXPECT_EQ(g->value(g->inputs[0]).name, "x");
  const Value& y = g->value(g->outputs[0]);
  EXPECT_EQ(y.name, "y");
  EXPECT_EQ(y.dtype, DType::kF32);
  EXPECT_EQ(y.shape, (Shape{1, 3}));
  const Node* conv = Find(*g, "Conv");
  EXPECT_EQ(conv->name, "conv1");
  EXPECT_THAT(g->ConstantInput(*conv, 2)->ToF32(), ElementsAre(0.5f, -1.f));
}

TEST(Import, UnsortedNodesAreSorted) {
  TestModel m = SmallNet();
  m.graph().mutable_node()->SwapElements(0, 6);
  m.graph().mutable_node()->SwapElements(1, 4);
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "Conv Relu Add GlobalAveragePool Reshape Gemm Softmax");
}

TEST(Import, AcceptsTraitsOfRealFiles) {
  TestModel m(9, 3);
  m.proto.mutable_opset_import(0)->set_domain("ai.onnx");
  m.proto.add_opset_import()->set_domain("ai.onnx.ml");  // unused, version missing
  m.Input("x", {-1, 3}).Output("y", {0, 3});
  m.graph()
      .mutable_input(0)
      ->mutable_type()
      ->mutable_tensor_type()
      ->mutable_shape()
      ->mutable_dim(0)
      ->set_dim_param("batch");
  m.Input("w", {3}).F32("w", {3}, {1, 2, 3});  // IR 3 repeats initializers as inputs
  m.Node("Mul", {"x", "w"}, {"y"})->set_domain("ai.onnx");
  auto* meta = m.proto.add_metadata_props();
  meta->set_key("k");
  meta->set_value("v");
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  ASSERT_EQ(g->inputs.size(), 1u);
  const Value& x = g->value(g->inputs[0]);
  EXPECT_EQ(x.shape, (Shape{kUnknownDim, 3}));
  EXPECT_THAT(x.dim_names, ElementsAre("batch", ""));
  EXPECT_EQ(g->metadata.at("k"), "v");
}

TEST(Import, AxesAttributesBecomeInputs) {
  for (const char* op : {"Squeeze", "Unsqueeze", "ReduceMean", "ReduceSum", "ReduceMax"}) {
    TestModel m(11);
    SetInts(m.Node(op, {"x1"}, {"y"}), "axes", {0, 1});
    m.Input("x1", {1, 1, 4}).Output("y");
    auto g = m.Import();
    ASSERT_TRUE(g.ok()) << op << ": " << g.status();
    ASSERT_EQ(Operators(*g), op);
    EXPECT_THAT(ConstantInts(*g, g->nodes[0], 1), ElementsAre(0, 1)) << op;
    EXPECT_FALSE(g->nodes[0].Has("axes"));
  }
}

TEST(Import, SliceAttributesBecomeInputs) {
  TestModel m(9);
  auto* node = m.Node("Slice", {"x"}, {"y"});
  SetInts(SetInts(SetInts(node, "axes", {2}), "starts", {1}), "ends",
          {std::numeric_limits<int64_t>::max()});
  auto g = ImportOne(m);
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_THAT(ConstantInts(*g, g->nodes[0], 1), ElementsAre(1));
  EXPECT_THAT(ConstantInts(*g, g->nodes[0], 3), ElementsAre(2));
  EXPECT_EQ(g->value(g->outputs[0]).shape, (Shape{2, 3, 3}));
}

TEST(Import, ClipAttributesBecomeInputsAndLargestFloatMeansNone) {
  TestModel m(10);
  SetFloat(SetFloat(m.Node("Clip", {"x"}, {"y"}), "min", 0), "max",
           std::numeric_limits<float>::max());
  auto g = ImportOne(m);
  ASSERT_TRUE(g.ok()) << g.status();
  ASSERT_EQ(g->nodes[0].op, "Clip");
  EXPECT_THAT(g->ConstantInput(g->nodes[0], 1)->ToF32(), ElementsAre(0.f));
  EXPECT_FALSE(g->nodes[0].has_input(2));
}

TEST(Import, PadAttributesBecomeInputs) {
  TestModel m(10);
  SetFloat(SetInts(m.Node("Pad", {"x"}, {"y"}), "pads", {0, 0, 1, 0, 0, 2}), "value", 5);
  auto g = ImportOne(m);
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_THAT(ConstantInts(*g, g->nodes[0], 1), ElementsAre(0, 0, 1, 0, 0, 2));
  EXPECT_THAT(g->ConstantInput(g->nodes[0], 2)->ToF32(), ElementsAre(5.f));
  EXPECT_EQ(g->value(g->outputs[0]).shape, (Shape{2, 3, 7}));
}

TEST(Import, SplitAttributeBecomesInputAndEqualPartsAreCounted) {
  TestModel m(11);
  SetInts(SetInt(m.Node("Split", {"x"}, {"y", "z"}), "axis", 1), "split", {1, 2});
  m.Output("z");
  auto g = ImportOne(m);
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_THAT(ConstantInts(*g, g->nodes[0], 1), ElementsAre(1, 2));
  TestModel equal(13);
  SetInt(equal.Node("Split", {"x"}, {"y", "z"}), "axis", 2);
  g = ImportOne(equal);
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(g->nodes[0].GetInt("num_outputs", 0), 2);
  EXPECT_EQ(g->value(g->outputs[0]).shape, (Shape{2, 3, 2}));
}

TEST(Import, UpsampleBecomesAsymmetricFloorResize) {
  for (int64_t opset : {7, 9, 10}) {
    TestModel m(opset);
    auto* node = m.Node(opset == 10 ? "Resize" : "Upsample", {"x"}, {"y"});
    if (opset == 7) {
      SetFloats(node, "scales", {1, 1, 2});
    } else {
      m.F32("s", {3}, {1, 1, 2});
      node->add_input("s");
    }
    SetString(node, "mode", "nearest");
    auto g = ImportOne(m);
    ASSERT_TRUE(g.ok()) << opset << g.status();
    const Node& resize = g->nodes[0];
    EXPECT_EQ(resize.op, "Resize");
    EXPECT_EQ(resize.GetString("coordinate_transformation_mode", ""), "asymmetric");
    EXPECT_EQ(resize.GetString("nearest_mode", ""), "floor");
    EXPECT_EQ(resize.GetString("mode", ""), "nearest");
    EXPECT_THAT(g->ConstantInput(resize, 2)->ToF32(), ElementsAre(1, 1, 2));
    EXPECT_EQ(g->value(g->outputs[0]).shape, (Shape{2, 3, 8}));
  }
}

TEST(Import, OldSoftmaxOverLastAxisIsOneNode) {
  TestModel m(9);
  SetInt(m.Node("Softmax", {"x"}, {"y"}), "axis", 2);
  auto g = ImportOne(m);
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "Softmax");
  EXPECT_EQ(g->nodes[0].GetInt("axis", 99), 2);
}

TEST(Import, OldSoftmaxBeforeOnesKeepsItsAxis) {
  TestModel m(7);
  m.Node("GlobalAveragePool", {"x4"}, {"p"});
  m.Node("Softmax", {"p"}, {"y"});
  m.Input("x4", {1, 5, 3, 3}).Output("y");
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "GlobalAveragePool Softmax");
  EXPECT_EQ(g->nodes[1].GetInt("axis", 99), 1);
}

TEST(Import, OldSoftmaxOverSeveralAxesIsFlattened) {
  TestModel m(9);
  m.Node("LogSoftmax", {"x"}, {"y"});
  auto g = ImportOne(m);
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "Flatten LogSoftmax Reshape");
  EXPECT_EQ(g->nodes[0].GetInt("axis", 99), 1);
  EXPECT_EQ(g->nodes[1].GetInt("axis", 99), -1);
  EXPECT_THAT(ConstantInts(*g, g->nodes[2], 1), ElementsAre(0, 3, 4));
  EXPECT_EQ(g->value(g->outputs[0]).shape, (Shape{2, 3, 4}));
  TestModel now(13);
  now.Node("LogSoftmax", {"x"}, {"y"});
  g = ImportOne(now);
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "LogSoftmax");
  EXPECT_EQ(g->nodes[0].GetInt("axis", 99), -1);
}

TEST(Import, InferenceDropsDropoutIdentityAndTrivialCasts) {
  TestModel m(10);
  SetFloat(m.Node("Dropout", {"x"}, {"d", "mask"}), "ratio", 0.5f);
  m.Node("Identity", {"d"}, {"i"});
  SetInt(m.Node("Cast", {"i"}, {"c"}), "to", TensorProto::FLOAT);
  m.Node("Relu", {"c"}, {"y"});
  auto g = ImportOne(m);
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "Relu");
}

TEST(Import, DropoutMaskIsTrueOfTheInputsShape) {
  TestModel m(10);
  m.Node("Dropout", {"x"}, {"y", "mask"}, "drop");
  m.Output("mask", {}, TensorProto::BOOL);
  auto g = ImportOne(m);
  ASSERT_TRUE(g.ok()) << g.status();
  const Node* fill = Find(*g, "ConstantOfShape");
  ASSERT_NE(fill, nullptr);

  EXPECT_EQ(std::get<Tensor>(fill->attributes.at("value")).ToS64(), std::vector<int64_t>{1});
  EXPECT_EQ(g->value(fill->outputs[0]).dtype, DType::kBool);
}

TEST(Import, Opset6AlignsTheSecondOperandAtAnAxis) {
  TestModel m(6);
  m.F32("b", {3}, {1, 2, 3});
  SetInt(SetInt(m.Node("Add", {"x", "b"}, {"s"}), "broadcast", 1), "axis", 1);
  m.Node("PRelu", {"s", "b"}, {"y"});
  auto g = ImportOne(m);
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "Unsqueeze Add Unsqueeze PRelu");
  EXPECT_EQ(g->value(g->nodes[0].outputs[0]).shape, (Shape{3, 1}));
  EXPECT_EQ(g->value(g->nodes[2].outputs[0]).shape, (Shape{3, 1}));
  EXPECT_TRUE(Find(*g, "Add")->attributes.empty());
}

TEST(Import, Opset6RefusesBatchNormalizationInTraining) {
  for (int64_t is_test : {0, 1}) {
    TestModel m(6);
    m.F32("c", {3}, {1, 2, 3});
    SetInt(m.Node("BatchNormalization", {"x", "c", "c", "c", "c"}, {"y"}), "is_test", is_test);
    EXPECT_EQ(ImportOne(m).status().code(),
              is_test == 1 ? absl::StatusCode::kOk : absl::StatusCode::kUnimplemented);
  }
}

TEST(Import, Opset1AttributesWithoutEffectAreDropped) {
  TestModel m(1);
  SetInts(m.Node("Relu", {"x"}, {"y"}), "consumed_inputs", {0});
  auto g = ImportOne(m);
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "Relu");
}

TEST(Import, SumAndMeanBecomeAdditions) {
  TestModel m(13);
  m.Node("Sum", {"x", "x", "x"}, {"s"});
  m.Node("Mean", {"s", "x"}, {"y"});
  auto g = ImportOne(m);
  ASSERT_TRUE(g.ok()) << g.status();
  std::vector<std::string> ops;
  for (const graph::Node& node : g->nodes) ops.push_back(node.op);
  EXPECT_THAT(ops, testing::ElementsAre("Add", "Add", "Add", "Div"));
  EXPECT_EQ(g->value(g->nodes.back().inputs[1]).data->ToF32(), std::vector<float>{2});
}

TEST(Import, CastLikeBecomesACastToTheTypeOfItsSecondOperand) {
  TestModel m(15);
  m.F32("target", {}, {0});
  m.Node("Shape", {"x"}, {"shape"});
  m.Node("CastLike", {"shape", "target"}, {"y"});
  auto g = ImportOne(m);
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(g->nodes.back().op, "Cast");
  EXPECT_EQ(g->value(g->nodes.back().outputs[0]).dtype, DType::kF32);
}

TEST(Import, OutputThatAliasesKeepsItsName) {
  TestModel m;
  m.Node("Relu", {"x"}, {"r"});
  m.Node("Identity", {"r"}, {"y"});
  m.Node("Neg", {"r"}, {"z"});
  m.Output("z");
  auto g = ImportOne(m);
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(g->value(g->outputs[0]).name, "z");
  EXPECT_EQ(g->value(g->outputs[1]).name, "y");
}

TEST(Import, ConstantNodesBecomeConstants) {
  TestModel m;
  auto* node = m.Node("Constant", {}, {"k"});
  auto* a = node->add_attribute();
  a->set_name("value");
  a->set_type(::onnx::AttributeProto::TENSOR);
  TestModel::Fill<float>(a->mutable_t(), {4}, TensorProto::FLOAT, {1, 2, 3, 4});
  SetFloat(m.Node("Constant", {}, {"f"}), "value_float", 2.5f);
  SetInts(m.Node("Constant", {}, {"i"}), "value_ints", {2, 12});
  m.Node("Mul", {"x", "k"}, {"a"});
  m.Node("Add", {"a", "f"}, {"b"});
  m.Node("Reshape", {"b", "i"}, {"y"});
  auto g = ImportOne(m);
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "Mul Add Reshape");
  EXPECT_THAT(g->ConstantInput(g->nodes[0], 1)->ToF32(), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(g->ConstantInput(g->nodes[1], 1)->ToF32(), ElementsAre(2.5f));
  EXPECT_EQ(g->value(g->outputs[0]).shape, (Shape{2, 12}));
}

TEST(Import, TypedDataIsConverted) {
  TestModel m;
  auto add = [&](const char* name, int type) {
    auto* t = m.graph().add_initializer();
    t->set_name(name);
    t->set_data_type(type);
    t->add_dims(2);
    m.Output(name, {2}, type);
    return t;
  };
  auto* f = add("f", TensorProto::FLOAT);
  auto* d = add("d", TensorProto::DOUBLE);
  auto* h = add("h", TensorProto::FLOAT16);
  auto* s8 = add("s8", TensorProto::INT8);
  auto* s32 = add("s32", TensorProto::INT32);
  auto* s64 = add("s64", TensorProto::INT64);
  auto* u64 = add("u64", TensorProto::UINT64);
  for (int k : {-3, 7}) {
    f->add_float_data(static_cast<float>(k));
    d->add_double_data(k);
    h->add_int32_data(F16FromF32(static_cast<float>(k)));
    s8->add_int32_data(k);
    s32->add_int32_data(k);
    s64->add_int64_data(k);
    u64->add_uint64_data(static_cast<uint64_t>(k + 10));
  }
  m.Input("x", {2}).Node("Relu", {"x"}, {"y"});
  m.Output("y", {2});
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  for (size_t i = 0; i < 6; ++i) {
    const Value& v = g->value(g->outputs[i]);
    ASSERT_TRUE(v.is_constant()) << v.name;
    EXPECT_THAT(v.data->ToF64(), ElementsAre(-3, 7)) << v.name;
  }
  EXPECT_THAT(g->value(g->outputs[6]).data->ToS64(), ElementsAre(7, 17));
}

TEST(Import, RawContentStaysInTheFile) {
  TestModel m = SmallNet();
  auto bytes = ToBuffer(m.proto.SerializeAsString());
  auto g = ImportBytes(bytes, "test.onnx");
  ASSERT_TRUE(g.ok()) << g.status();
  const Tensor* w = g->ConstantInput(*Find(*g, "Conv"), 1);
  EXPECT_GE(w->data(), bytes->data());
  EXPECT_LT(w->data(), bytes->data() + bytes->size_bytes());
  bytes.reset();
  EXPECT_EQ(w->ToF32(), std::vector<float>(36, 0.25f));  // the tensor keeps the file alive
}

// x -> Q -> DQ -> Conv(DQ(w), DQ(b)) -> Relu -> Q -> DQ -> y
TestModel QdqConv(int64_t opset) {
  TestModel m(opset);
  m.Input("x", {1, 2, 4, 4}).Output("y");
  m.F32("sx", {}, {0.5f}).U8("zx", {}, {10});
  m.F32("sw", {2}, {0.25f, 0.125f}).S8("zw", {2}, {0, 0});
  m.S8("wq", {2, 2, 1, 1}, {1, -2, 3, -128});
  m.F32("sb", {2}, {0.125f, 0.0625f}).S32("bq", {2}, {100, -100});
  m.F32("sy", {1}, {0.75f}).U8("zy", {1}, {0});
  m.Node("QuantizeLinear", {"x", "sx", "zx"}, {"xq"});
  m.Node("DequantizeLinear", {"xq", "sx", "zx"}, {"xd"});
  SetInt(m.Node("DequantizeLinear", {"wq", "sw", "zw"}, {"wd"}), "axis", 0);
  SetInt(m.Node("DequantizeLinear", {"bq", "sb"}, {"bd"}), "axis", 0);
  m.Node("Conv", {"xd", "wd", "bd"}, {"c"}, "conv");
  m.Node("Relu", {"c"}, {"r"});
  m.Node("QuantizeLinear", {"r", "sy", "zy"}, {"rq"});
  m.Node("DequantizeLinear", {"rq", "sy", "zy"}, {"y"});
  return m;
}

TEST(Import, QdqBecomesQuantOnValues) {
  auto g = QdqConv(13).Import();
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "Quantize Conv Relu Dequantize");
  const Node& conv = *Find(*g, "Conv");
  const Value& x = g->value(conv.inputs[0]);
  EXPECT_EQ(x.dtype, DType::kU8);
  EXPECT_EQ(x.quant, QuantParams::PerTensor(0.5f, 10));
  const Value& w = g->value(conv.inputs[1]);
  EXPECT_EQ(w.dtype, DType::kS8);
  ASSERT_TRUE(w.quant && w.is_constant());
  EXPECT_THAT(w.quant->scale, ElementsAre(0.25f, 0.125f));
  EXPECT_EQ(w.quant->axis, 0);
  const Value& b = g->value(conv.inputs[2]);
  EXPECT_EQ(b.dtype, DType::kS32);
  ASSERT_TRUE(b.quant && b.is_constant());
  EXPECT_EQ(b.quant->axis, 0);
  const Value& r = g->value(Find(*g, "Relu")->outputs[0]);
  EXPECT_EQ(r.dtype, DType::kU8);
  EXPECT_EQ(r.quant, QuantParams::PerTensor(0.75f, 0));
}

TEST(Import, ParametersBehindIdentitiesAndCastsAreConstants) {
  TestModel m(13);
  m.Input("x", {2, 4}).Output("y");
  m.Init<uint16_t>("s16", {}, TensorProto::FLOAT16, {F16FromF32(0.5f)});
  SetInt(m.Node("Cast", {"s16"}, {"s"}), "to", TensorProto::FLOAT);
  m.U8("z0", {}, {3}).Node("Identity", {"z0"}, {"z"});
  m.Node("QuantizeLinear", {"x", "s", "z"}, {"q"});
  SetInt(m.Node("Cast", {"q"}, {"q2"}), "to", TensorProto::UINT8);
  m.Node("DequantizeLinear", {"q2", "s", "z"}, {"d"});
  m.Node("Relu", {"d"}, {"y"});
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "Quantize Relu");
  EXPECT_EQ(g->value(g->nodes[0].outputs[0]).quant, QuantParams::PerTensor(0.5f, 3));
}

TEST(Import, ComputedScaleBecomesArithmetic) {
  TestModel m(13);
  m.Input("x", {2, 4}).Input("s", {4}).Output("q", {}, TensorProto::UINT8).Output("y");
  m.U8("z", {4}, {1, 2, 3, 4});
  m.Node("QuantizeLinear", {"x", "s", "z"}, {"q"}, "q1");
  SetInt(m.Node("DequantizeLinear", {"q", "s", "z"}, {"y"}, "d1"), "axis", 1);
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "Div Round Cast Add Clip Cast Cast Cast Sub Mul");
}

TEST(Import, BadQuantizationParametersAreRefused) {
  for (float bad : {0.f, -1.f, std::numeric_limits<float>::infinity(),
                    std::numeric_limits<float>::quiet_NaN()}) {
    TestModel m(13);
    m.F32("s", {}, {bad}).Node("QuantizeLinear", {"x", "s"}, {"y"});
    auto g = ImportOne(m);
    EXPECT_EQ(g.status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  TestModel two(13);
  two.F32("s", {2}, {1, 1}).Node("QuantizeLinear", {"x", "s"}, {"y"});  // axis 1 has 3 channels
  EXPECT_THAT(ImportOne(two).status().message(), HasSubstr("expected [3], found shape [2]"));
}

TEST(Import, BlockedFourBitWeightsKeepTheirBlocks) {
  TestModel m(21, 10);
  m.Input("x", {1, 4}).Output("y");
  m.Init<uint8_t>("w", {4, 3}, TensorProto::INT4, {0x21, 0xf3, 0x45, 0x76, 0x98, 0x0f});
  m.F32("s", {2, 3}, {1, 2, 3, 4, 5, 6});
  SetInt(SetInt(m.Node("DequantizeLinear", {"w", "s"}, {"wd"}), "axis", -2), "block_size", 2);
  m.Node("MatMul", {"x", "wd"}, {"y"});
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "MatMul");
  const Value& w = g->value(g->nodes[0].inputs[1]);
  EXPECT_EQ(w.dtype, DType::kS4);
  EXPECT_EQ(w.quant->axis, 0);
  EXPECT_EQ(w.quant->block, 2);
  EXPECT_THAT(w.quant->scale, ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(w.data->ToS64(), ElementsAre(1, 2, 3, -1, 5, 4, 6, 7, -8, -7, -1, 0));
}

TEST(Import, OneConstantMayHaveTwoQuantizations) {
  TestModel m(13);
  m.Input("x", {2, 2}).Output("y");
  m.S8("w", {2, 2}, {1, 2, 3, 4}).F32("s1", {}, {1}).F32("s2", {}, {2});
  m.Node("DequantizeLinear", {"w", "s1"}, {"a"});
  m.Node("DequantizeLinear", {"w", "s2"}, {"b"});
  m.Node("MatMul", {"x", "a"}, {"c"});
  m.Node("MatMul", {"c", "b"}, {"y"});
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  ASSERT_EQ(Operators(*g), "MatMul MatMul");
  EXPECT_EQ(g->value(g->nodes[0].inputs[1]).quant->scale[0], 1);
  EXPECT_EQ(g->value(g->nodes[1].inputs[1]).quant->scale[0], 2);
}

TEST(Import, FloatWeightsBehindQuantizeLinearAreRounded) {
  TestModel m(13);
  m.Input("x", {2, 2}).Output("y");
  // 0.5 and 1.5 are ties (to even), 9 and -9 saturate at scale 0.0625: 144, -144.
  m.F32("w", {2, 2}, {0.03125f, 0.09375f, 9, -9}).F32("s", {}, {0.0625f}).S8("z", {}, {0});
  m.Node("QuantizeLinear", {"w", "s", "z"}, {"wq"});
  m.Node("DequantizeLinear", {"wq", "s", "z"}, {"wd"});
  m.Node("MatMul", {"x", "wd"}, {"y"});
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  ASSERT_EQ(Operators(*g), "MatMul");
  const Value& w = g->value(g->nodes[0].inputs[1]);
  ASSERT_EQ(w.dtype, DType::kS8);
  EXPECT_THAT(w.data->ToS64(), ElementsAre(0, 2, 127, -128));
}

TEST(Import, MovementBetweenQuantizeAndDequantizeCarriesQuant) {
  TestModel m(13);
  m.Input("x", {2, 3}).Output("y");
  m.F32("s", {}, {0.5f}).U8("z", {}, {3});
  m.Node("QuantizeLinear", {"x", "s", "z"}, {"q"});
  SetInts(m.Node("Transpose", {"q"}, {"t"}), "perm", {1, 0});
  m.Node("DequantizeLinear", {"t", "s", "z"}, {"y"});
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "Quantize Transpose Dequantize");
  EXPECT_EQ(g->value(g->nodes[1].outputs[0]).quant, QuantParams::PerTensor(0.5f, 3));
}

TEST(Import, ArithmeticOnStoredIntegersReadsThemAsPlainOnes) {
  TestModel m(13);
  m.Input("x", {2, 3}).Output("y", {}, TensorProto::INT32);
  m.F32("s", {}, {0.5f}).Node("QuantizeLinear", {"x", "s"}, {"q"});
  SetInt(m.Node("Cast", {"q"}, {"y"}, "cast1"), "to", TensorProto::INT32);
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "Quantize Reinterpret Cast");
  EXPECT_FALSE(g->value(g->nodes[1].outputs[0]).quant.has_value());
  EXPECT_EQ(g->value(g->nodes[1].outputs[0]).dtype, DType::kU8);
}

TEST(Import, IntegersReadWithAnotherScaleKeepTheirCodes) {
  TestModel m(13);
  m.Input("x", {2, 3}, TensorProto::UINT8).Output("y");
  m.F32("s", {}, {0.5f}).F32("t", {}, {2.0f});
  m.Node("DequantizeLinear", {"x", "s"}, {"a"});
  m.Node("DequantizeLinear", {"x", "t"}, {"b"});
  m.Node("Add", {"a", "b"}, {"y"});
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "Reinterpret Add");
  EXPECT_EQ(g->value(g->nodes[0].inputs[0]).quant, QuantParams::PerTensor(0.5f, 0));
  EXPECT_EQ(g->value(g->nodes[0].outputs[0]).quant, QuantParams::PerTensor(2.0f, 0));
}

TEST(Import, QOperatorFormEqualsQdqForm) {
  TestModel m(13);
  m.Input("x", {1, 2, 4, 4}).Output("y");
  m.F32("sx", {}, {0.5f}).U8("zx", {}, {10});
  m.F32("sw", {2}, {0.25f, 0.125f}).S8("zw", {2}, {0, 0});
  m.S8("wq", {2, 2, 1, 1}, {1, -2, 3, -128}).S32("bq", {2}, {100, -100});
  m.F32("sy", {}, {0.75f}).U8("zy", {}, {0});
  m.Node("QuantizeLinear", {"x", "sx", "zx"}, {"xq"});
  m.Node("QLinearConv", {"xq", "sx", "zx", "wq", "sw", "zw", "sy", "zy", "bq"}, {"yq"});
  m.Node("DequantizeLinear", {"yq", "sy", "zy"}, {"y"});
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "Quantize Conv Dequantize");
  const Node& conv = *Find(*g, "Conv");
  EXPECT_EQ(g->value(conv.inputs[0]).quant, QuantParams::PerTensor(0.5f, 10));
  EXPECT_EQ(g->value(conv.inputs[1]).quant->axis, 0);
  EXPECT_THAT(g->value(conv.inputs[2]).quant->scale, ElementsAre(0.125f, 0.0625f));
  EXPECT_EQ(g->value(conv.outputs[0]).quant, QuantParams::PerTensor(0.75f, 0));
  EXPECT_EQ(g->value(conv.outputs[0]).dtype, DType::kU8);
}

// One column of 16 codes and another, with a zero point each.
TestModel SmallNBits() {
  TestModel m(17);
  auto* import = m.proto.add_opset_import();
  import->set_domain("com.microsoft");
  import->set_version(1);
  m.Input("x", {3, 16}).Output("y");
  std::vector<uint8_t> codes;
  for (int i = 0; i < 16; ++i) codes.push_back(static_cast<uint8_t>(0x10 * (i % 16) + 15 - i));
  m.U8("b", {2, 1, 8}, codes).F32("s", {2}, {0.5f, -0.25f}).U8("z", {2}, {0x08, 0x03});
  auto* node = m.Node("MatMulNBits", {"x", "b", "s", "z"}, {"y"}, "nbits");
  node->set_domain("com.microsoft");
  SetInt(SetInt(SetInt(SetInt(node, "K", 16), "N", 2), "bits", 4), "block_size", 16);
  return m;
}

TEST(Import, PackedWeightsBecomeABlockedMatrix) {
  auto g = SmallNBits().Import();
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(Operators(*g), "MatMul");
  const Value& w = g->value(g->nodes[0].inputs[1]);
  EXPECT_EQ(w.dtype, DType::kS4);
  EXPECT_EQ(*w.shape, (Shape{16, 2}));
  EXPECT_EQ(w.quant, (QuantParams{{0.5f, -0.25f}, {0, -5}, 0, 16}));
  const std::vector<int64_t> codes = w.data->ToS64();
  // Column 0 starts with byte 0x0f: codes 15 and 0, shifted by 8; column 1 with byte 8, 0x87: codes 7 and 8.
  EXPECT_EQ(codes[0], 7);
  EXPECT_EQ(codes[2], -8);
  EXPECT_EQ(codes[1], -1);
  EXPECT_EQ(codes[3], 0);
}

TEST(Import, PackedWeightsAreChecked) {
  const auto refused = [](const TestModel& m) { return std::string(m.Import().status().message()); };
  TestModel order = SmallNBits();
  order.S32("g", {16}, std::vector<int32_t>(16, 0)).graph().mutable_node(0)->add_input("g");
  EXPECT_THAT(refused(order), HasSubstr("node 'nbits' (MatMulNBits): g_idx"));
  TestModel size = SmallNBits();
  size.graph().mutable_node(0)->mutable_attribute(0)->set_i(48);
  EXPECT_THAT(refused(size), HasSubstr("input 1 of shape [2, 1, 8], expected 48 elements"));
  TestModel bits = SmallNBits();
  bits.graph().mutable_node(0)->mutable_attribute(2)->set_i(3);
  EXPECT_THAT(refused(bits), HasSubstr("bits: expected 4 or 8, found 3"));
  TestModel block = SmallNBits();
  block.graph().mutable_node(0)->mutable_attribute(3)->set_i(24);
  EXPECT_THAT(refused(block), HasSubstr("block_size"));
}

TEST(Import, DynamicRecurrentLayersAreRefusedByName) {
  TestModel m(17);
  m.proto.add_opset_import()->set_domain("com.microsoft");
  m.Input("x", {1, 2, 3}).Output("y");
  m.Node("DynamicQuantizeLSTM", {"x"}, {"y"}, "lstm1")->set_domain("com.microsoft");
  auto g = m.Import();
  EXPECT_EQ(g.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(g.status().message(), HasSubstr("node 'lstm1' (DynamicQuantizeLSTM)"));
  EXPECT_THAT(g.status().message(), HasSubstr("dynamic quantization"));
}

}  // namespace
}  // namespace octet::onnx_io
