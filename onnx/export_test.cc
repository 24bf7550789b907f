// Export: what comes back from the file is the graph that went in.
#include "onnx/export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "onnx/import.h"
#include "onnx/test_model.h"

namespace octet::onnx_io {
namespace {

using graph::Graph;
using graph::Node;
using graph::Value;
using graph::ValueId;
using ::onnx::ModelProto;
using ::onnx::TensorProto;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Structure(const Graph& g);

std::string AttributeText(const graph::Attribute& a) {
  if (const auto* g = std::get_if<std::shared_ptr<const Graph>>(&a)) return absl::StrCat("(", Structure(**g), ")");
  if (const auto* i = std::get_if<int64_t>(&a)) return absl::StrCat(*i);
  if (const auto* f = std::get_if<float>(&a)) return absl::StrCat(*f, "f");
  if (const auto* s = std::get_if<std::string>(&a)) return *s;
  if (const auto* v = std::get_if<std::vector<int64_t>>(&a)) return absl::StrJoin(*v, ",");
  if (const auto* v = std::get_if<std::vector<float>>(&a)) return absl::StrJoin(*v, ",");
  if (const auto* t = std::get_if<Tensor>(&a)) {
    return absl::StrCat(std::string(NameOf(t->dtype())), absl::StrJoin(t->ToF64(), ","));
  }
  return "other";
}

// A text that is equal for graphs of equal structure, whatever their inner names: operators,
// attributes, wiring by order of first use, types, shapes, quant, content, and the names that
// callers use.
std::string Structure(const Graph& g) {
  absl::flat_hash_map<ValueId, int> numbers;
  std::string out;
  const auto number = [&](ValueId id) {
    if (id == graph::kNoValue) return std::string("-");
    const auto [it, is_new] = numbers.emplace(id, static_cast<int>(numbers.size()));
    std::string text = absl::StrCat("%", it->second);
    if (!is_new) return text;
    const Value& v = g.value(id);
    absl::StrAppend(&text, ":", std::string(NameOf(v.dtype)),
                    v.shape.has_value() ? ShapeString(*v.shape) : "[...]");
    if (v.quant.has_value()) {
      absl::StrAppend(&text, " q(", absl::StrJoin(v.quant->scale, ","), " z ",
                      absl::StrJoin(v.quant->zero_point, ","), " axis ", v.quant->axis, " block ",
                      v.quant->block, ")");
    }
    if (v.is_constant()) {
      absl::StrAppend(
          &text, " = ",
          std::hash<std::string>()(std::string(reinterpret_cast<const char*>(v.data->data()),
                                               static_cast<size_t>(v.data->size_bytes()))));
    }
    return text;
  };
  for (ValueId id : g.inputs) {
    absl::StrAppend(&out, "in ", g.value(id).name, " ", number(id));
    for (size_t i = 0; i < g.value(id).dim_names.size(); ++i) {
      const std::string& name = g.value(id).dim_names[i];
      if (!name.empty()) absl::StrAppend(&out, " ", i, "=", name);
    }
    out += "\n";
  }
  for (const Node& node : g.nodes) {
    out += node.op;  // names of nodes: export gives every node one
    std::vector<std::string> attributes;
    for (const auto& [key, a] : node.attributes) attributes.push_back(key + "=" + AttributeText(a));
    std::sort(attributes.begin(), attributes.end());
    absl::StrAppend(&out, " {", absl::StrJoin(attributes, " "), "}");
    for (ValueId id : node.inputs) absl::StrAppend(&out, " ", number(id));
    absl::StrAppend(&out, " ->");
    for (ValueId id : node.outputs) absl::StrAppend(&out, " ", number(id));
    absl::StrAppend(&out, "\n");
  }
  for (ValueId id : g.outputs)
    absl::StrAppend(&out, "out ", g.value(id).name, " ", number(id), "\n");
  std::vector<std::string> metadata;
  for (const auto& [key, value] : g.metadata) metadata.push_back(key + "=" + value);
  std::sort(metadata.begin(), metadata.end());
  return absl::StrCat(out, absl::StrJoin(metadata, "\n"));
}

// Exports, imports again, compares; gives the file.
ModelProto RoundTrip(const Graph& g) {
  ModelProto model;
  auto bytes = ExportModel(g);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  if (!bytes.ok()) return model;
  EXPECT_TRUE(model.ParseFromString(*bytes));
  auto again = ImportBytes(ToBuffer(*bytes), "exported.onnx");
  EXPECT_TRUE(again.ok()) << again.status();
  if (again.ok()) {
    EXPECT_EQ(Structure(*again), Structure(g));
  }
  auto twice = ExportModel(g);
  EXPECT_EQ(*twice, *bytes) << "export is not deterministic";
  return model;
}

std::vector<std::string> Ops(const ModelProto& model) {
  std::vector<std::string> ops;
  for (const auto& node : model.graph().node()) ops.push_back(node.op_type());
  return ops;
}

TEST(Export, FloatModelRoundTrips) {
  TestModel m = SmallNet();
  auto* meta = m.proto.add_metadata_props();
  meta->set_key("ai.octet.format");
  meta->set_value("1");
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  const ModelProto out = RoundTrip(*g);
  EXPECT_EQ(out.ir_version(), 8);
  EXPECT_EQ(out.opset_import(0).version(), 17);
  EXPECT_EQ(out.graph().node(0).name(), "conv1");
  EXPECT_THAT(Ops(out), ElementsAre("Conv", "Relu", "Add", "GlobalAveragePool", "Reshape", "Gemm",
                                    "Softmax"));
}

TEST(Export, AttributesAreSortedAndComplete) {
  TestModel m(9);
  m.Input("x", {1, 1, 6, 6}).Output("y");
  auto* pool = m.Node("AveragePool", {"x"}, {"p"});
  SetInts(SetInt(SetInts(pool, "strides", {2, 2}), "count_include_pad", 1), "kernel_shape", {2, 2});
  SetInt(m.Node("Softmax", {"p"}, {"s"}), "axis", 3);
  SetFloat(m.Node("LeakyRelu", {"s"}, {"y"}), "alpha", 0.25f);
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  const ModelProto out = RoundTrip(*g);
  const auto& attributes = out.graph().node(0).attribute();
  ASSERT_EQ(attributes.size(), 3);
  EXPECT_EQ(attributes[0].name(), "count_include_pad");
  EXPECT_EQ(attributes[2].name(), "strides");
}

// u8 x s8 convolution with per-channel weights and s32 bias, built as the compressor builds it.
Graph QuantizedConv() {
  Graph g;
  g.name = "q";
  const auto value = [&](const char* name, DType dtype, Shape shape) {
    Value v;
    v.name = name;
    v.dtype = dtype;
    v.shape = std::move(shape);
    return g.AddValue(std::move(v));
  };
  const ValueId x = value("x", DType::kF32, {1, 2, 3, 3});
  const ValueId xq = value("xq", DType::kU8, {1, 2, 3, 3});
  g.value(xq).quant = QuantParams::PerTensor(0.5f, 10);
  const ValueId w =
      g.AddConstant("w", Tensor::FromValues<int8_t>(DType::kS8, {2, 2, 1, 1}, {1, -2, 3, -128}));
  g.value(w).quant = QuantParams{{0.25f, 0.125f}, {}, 0, 0};
  const ValueId b = g.AddConstant("b", Tensor::FromValues<int32_t>(DType::kS32, {2}, {100, -100}));
  g.value(b).quant = QuantParams{{0.125f, 0.0625f}, {}, 0, 0};
  const ValueId c = value("c", DType::kU8, {1, 2, 3, 3});
  g.value(c).quant = QuantParams::PerTensor(0.75f, 4);
  const ValueId s = value("s", DType::kU8, {1, 2, 3, 3});
  g.value(s).quant = QuantParams::PerTensor(1.25f, 0);
  const ValueId y = value("y", DType::kF32, {1, 2, 3, 3});
  g.inputs = {x};
  g.outputs = {y};
  g.nodes.push_back({"Quantize", "", "", {x}, {xq}, {}});
  Node conv{"Conv", "", "conv", {xq, w, b}, {c}, {}};
  conv.attributes["kernel_shape"] = std::vector<int64_t>{1, 1};
  g.nodes.push_back(conv);
  g.nodes.push_back({"Add", "", "add", {c, xq}, {s}, {}});
  g.nodes.push_back({"Dequantize", "", "", {s}, {y}, {}});
  g.metadata["ai.octet.recipe"] = "int8";
  return g;
}

TEST(Export, QuantBecomesQdqPairsWhereOnnxRuntimeFusesThem) {
  const ModelProto out = RoundTrip(QuantizedConv());
  // Each reader has its own DequantizeLinear; the integer constants are initializers.
  EXPECT_THAT(Ops(out),
              ElementsAre("QuantizeLinear", "DequantizeLinear", "DequantizeLinear",
                          "DequantizeLinear", "Conv", "QuantizeLinear", "DequantizeLinear",
                          "DequantizeLinear", "Add", "QuantizeLinear", "DequantizeLinear"));
  int s8 = 0, s32 = 0;
  for (const auto& t : out.graph().initializer()) {
    s8 += t.data_type() == TensorProto::INT8 && t.name() == "w";
    s32 += t.data_type() == TensorProto::INT32 && t.name() == "b";
    if (t.data_type() == TensorProto::FLOAT) {
      EXPECT_THAT(t.name(), HasSubstr("_scale"));
    }
  }
  EXPECT_EQ(s8, 1);
  EXPECT_EQ(s32, 1);
}

TEST(Export, BlockedFourBitWeightsUseOpset21) {
  Graph g;
  Value x;
  x.name = "x";
  x.dtype = DType::kF32;
  x.shape = Shape{kUnknownDim, 4};
  x.dim_names = {"batch", ""};
  const ValueId in = g.AddValue(x);
  const ValueId w = g.AddConstant(
      "w", Tensor::FromValues<uint8_t>(DType::kU8, {6}, {0x21, 0xf3, 0x45, 0x76, 0x98, 0x0f}));
  Value& weights = g.value(w);
  weights.data =
      Tensor(DType::kU4, {4, 3}, weights.data->data(), std::make_shared<Tensor>(*weights.data));
  weights.dtype = DType::kU4;
  weights.shape = Shape{4, 3};
  weights.quant = QuantParams{{1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 5, 15}, 0, 2};
  x.name = "y";
  x.shape = Shape{kUnknownDim, 3};
  x.dim_names = {"batch", ""};
  const ValueId y = g.AddValue(x);
  g.inputs = {in};
  g.outputs = {y};
  g.nodes.push_back({"MatMul", "", "mm", {in, w}, {y}, {}});
  g.name = "q4";
  const ModelProto out = RoundTrip(g);
  EXPECT_EQ(out.opset_import(0).version(), 21);
  EXPECT_EQ(out.ir_version(), 10);
}

TEST(Export, NewFormsAreSaidInOpset17) {
  TestModel m(18);
  m.Input("x", {2, 4, 6}).Output("y").Output("z");
  m.S64("axes", {1}, {2});
  m.Node("ReduceMean", {"x", "axes"}, {"r"});
  SetInt(SetInt(m.Node("Split", {"r"}, {"y", "z"}), "axis", 1), "num_outputs", 2);
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  const ModelProto out = RoundTrip(*g);
  EXPECT_EQ(out.opset_import(0).version(), 17);
  EXPECT_EQ(out.graph().node(0).input_size(), 1);
  EXPECT_EQ(out.graph().node(0).attribute(0).name(), "axes");
  EXPECT_EQ(out.graph().initializer_size(), 0);
}

TEST(Export, NodeNamesAreUniqueAndNeverEmpty) {
  TestModel m(9);
  m.Input("x", {2, 3, 4}).Output("y");
  m.Node("Softmax", {"x"}, {"s"}, "soft");  // becomes three nodes
  m.Node("Relu", {"s"}, {"y"});
  auto g = m.Import();
  ASSERT_TRUE(g.ok()) << g.status();
  const ModelProto out = RoundTrip(*g);
  std::vector<std::string> names;
  for (const auto& node : out.graph().node()) names.push_back(node.name());
  EXPECT_THAT(names, ElementsAre("soft", "soft_1", "soft_2", "y_node"));
}

TEST(Export, WhatOnnxCannotSayIsRefused) {
  Graph g = QuantizedConv();
  g.outputs.push_back(g.outputs[0]);
  EXPECT_EQ(ExportModel(g).status().code(), absl::StatusCode::kUnimplemented);
  g = QuantizedConv();
  auto body = std::make_shared<Graph>(QuantizedConv());
  body->outputs = {body->nodes[0].outputs[0]};
  body->value(body->outputs[0]).quant = QuantParams{{0.5f}, {}, -1, 0};
  g.nodes[1].attributes["body"] = std::shared_ptr<const Graph>(body);
  EXPECT_EQ(ExportModel(g).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(ExportModel(g).status().message(), HasSubstr("Conv 'conv'"));
}

TEST(Export, RealModelsRoundTrip) {
  for (const char* name : {"mnist-12", "mnist-burn", "resnet20-cifar10", "mobilenetv2-qdq-torch",
                           "ultraface-rfb-320", "super-resolution-10", "micro-kws-qdq"}) {
    const std::string path = absl::StrCat(OCTET_SHARED, "/models/", name, "/model.onnx");
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
    SCOPED_TRACE(name);
    auto g = ImportFile(path);
    ASSERT_TRUE(g.ok()) << g.status();
    RoundTrip(*g);
  }
}

}  // namespace
}  // namespace octet::onnx_io
