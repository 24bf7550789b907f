// Canonical form: identities go, Quantize/Dequantize pairs become quant on values.
#include "graph/rewrites.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "graph/constant_quantization.h"
#include "graph/graph_builder.h"
#include "graph/shape_inference.h"

namespace octet::graph {
namespace {

using Ints = std::vector<int64_t>;
using ::testing::ElementsAre;

const QuantParams kA = QuantParams::PerTensor(0.5f, 3);
const QuantParams kB = QuantParams::PerTensor(0.25f, 0);

std::vector<std::string> Ops(const Graph& graph) {
  std::vector<std::string> out;
  for (const Node& node : graph.nodes) out.push_back(node.op);
  return out;
}

const Node& Find(const Graph& graph, const char* op) {
  for (const Node& node : graph.nodes) {
    if (node.op == op) return node;
  }
  ADD_FAILURE() << "no node " << op;
  return graph.nodes[0];
}

ValueId S8Constant(GraphBuilder* b, Shape shape, QuantParams quant) {
  const std::vector<int8_t> values(static_cast<size_t>(NumElements(shape)), int8_t{2});
  const ValueId id =
      b->graph.AddConstant("w" + std::to_string(b->graph.values.size()),
                           Tensor::FromValues<int8_t>(DType::kS8, std::move(shape), values));
  b->graph.value(id).quant = std::move(quant);
  return id;
}

ValueId S32Constant(GraphBuilder* b, std::vector<int32_t> values, QuantParams quant) {
  const Shape shape = {static_cast<int64_t>(values.size())};
  const ValueId id = b->graph.AddConstant("bias" + std::to_string(b->graph.values.size()),
                                          Tensor::FromValues<int32_t>(DType::kS32, shape, values));
  b->graph.value(id).quant = std::move(quant);
  return id;
}

// Absorbs and checks that the result is valid and infers.
void Absorb(Graph* graph) {
  ASSERT_TRUE(InferShapes(graph).ok()) << InferShapes(graph);
  AbsorbQuantization(graph);
  ASSERT_TRUE(graph->Validate().ok()) << graph->Validate();
  ASSERT_TRUE(InferShapes(graph).ok()) << InferShapes(graph);
}

TEST(RemoveIdentitiesTest, KeepsNamesOfOutputs) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{2});
  const ValueId relu = b.Add("Relu", {b.Add("Identity", {x})});
  const ValueId y = b.Add("Identity", {b.AddMany("Dropout", {relu}, 2)[0]});
  b.Output(y, "y");
  b.Output(b.Add("Tanh", {relu}), "t");
  RemoveIdentities(&b.graph);
  EXPECT_TRUE(b.graph.Validate().ok()) << b.graph.Validate();
  EXPECT_THAT(Ops(b.graph), ElementsAre("Relu", "Tanh"));
  EXPECT_EQ(b.graph.outputs[0], y);
  EXPECT_EQ(b.graph.value(y).name, "y");
  EXPECT_EQ(b.graph.nodes[0].outputs[0], y);
  EXPECT_EQ(b.graph.nodes[1].inputs[0], y);
}

TEST(RemoveIdentitiesTest, KeepsWhatNamesAnInputOrTwoOutputs) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{2});
  b.Output(b.Add("Identity", {x}), "same_as_input");
  const ValueId relu = b.Add("Relu", {x});
  b.Output(relu, "one");
  b.Output(b.Add("Identity", {relu}), "two");
  RemoveIdentities(&b.graph);
  EXPECT_TRUE(b.graph.Validate().ok()) << b.graph.Validate();
  EXPECT_THAT(Ops(b.graph), ElementsAre("Identity", "Relu", "Identity"));
}

TEST(RemoveIdentitiesTest, KeepsTrainingDropoutAndReadMasks) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{2});
  const ValueId training = b.Input("training", Shape{}, DType::kBool);
  const ValueId a = b.Add("Dropout", {x, kNoValue, training});
  const std::vector<ValueId> masked = b.AddMany("Dropout", {a}, 2);
  b.Output(b.Add("Not", {masked[1]}), "mask");
  b.Output(masked[0], "y");
  RemoveIdentities(&b.graph);
  EXPECT_THAT(Ops(b.graph), ElementsAre("Dropout", "Dropout", "Not"));
}

TEST(RemoveIdentitiesTest, FollowsConstants) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{2});
  const ValueId w = b.Weights({2});
  b.Output(b.Add("Add", {x, b.Add("Identity", {b.Add("Identity", {w})})}), "y");
  RemoveIdentities(&b.graph);
  EXPECT_THAT(Ops(b.graph), ElementsAre("Add"));
  EXPECT_EQ(b.graph.nodes[0].inputs[1], w);
}

TEST(AbsorbQuantizationTest, ConvolutionAndActivationBetweenQuantizedValues) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{1, 3, 8, 8});
  const ValueId xq = b.Quantize(x, kA);
  const ValueId w = S8Constant(&b, {4, 3, 3, 3}, QuantParams{{0.1f, 0.2f, 0.3f, 0.4f}, {}, 0, 0});
  const ValueId bias =
      S32Constant(&b, {1, 2, 3, 4}, QuantParams{{0.05f, 0.1f, 0.15f, 0.2f}, {}, 0, 0});
  const ValueId conv = b.Add("Conv", {b.Dequantize(xq), b.Dequantize(w), b.Dequantize(bias)});
  const ValueId yq = b.Quantize(b.Add("Relu", {conv}), kB);
  b.Output(b.Dequantize(yq), "y");
  Absorb(&b.graph);
  EXPECT_THAT(Ops(b.graph), ElementsAre("Quantize", "Conv", "Relu", "Dequantize"));
  const Node& node = Find(b.graph, "Conv");
  EXPECT_THAT(node.inputs, ElementsAre(xq, w, bias));
  EXPECT_FALSE(b.graph.value(node.outputs[0]).quant.has_value());
  EXPECT_EQ(b.graph.value(node.outputs[0]).dtype, DType::kF32);
  EXPECT_EQ(Find(b.graph, "Relu").outputs[0], yq);
  EXPECT_EQ(b.graph.value(yq).quant, kB);
  EXPECT_EQ(b.graph.value(yq).dtype, DType::kU8);
}

TEST(AbsorbQuantizationTest, ResidualAddReadsTwoGridsAndWritesAThird) {
  GraphBuilder b;
  const ValueId aq = b.Quantize(b.Input("a", Shape{1, 4}), kA);
  const ValueId bq = b.Quantize(b.Input("b", Shape{1, 4}), kB);
  const ValueId sum = b.Add("Add", {b.Dequantize(aq), b.Dequantize(bq)});
  const ValueId yq = b.Quantize(sum, QuantParams::PerTensor(1.0f, 7));
  b.Output(b.Dequantize(yq), "y");
  Absorb(&b.graph);
  const Node& add = Find(b.graph, "Add");
  EXPECT_THAT(add.inputs, ElementsAre(aq, bq));
  EXPECT_THAT(add.outputs, ElementsAre(yq));
}

TEST(AbsorbQuantizationTest, ValueReadAsFloatAndQuantizedStaysFloat) {
  GraphBuilder b;
  const ValueId y = b.Add("Relu", {b.Input("x", Shape{1, 4})});
  const ValueId yq = b.Quantize(y, kA);
  b.Output(b.Add("Sigmoid", {y}), "float_reader");
  b.Output(b.Add("Tanh", {b.Dequantize(yq)}), "quantized_reader");
  Absorb(&b.graph);
  EXPECT_THAT(Ops(b.graph), ElementsAre("Relu", "Quantize", "Sigmoid", "Tanh"));
  EXPECT_FALSE(b.graph.value(y).quant.has_value());
  EXPECT_THAT(Find(b.graph, "Tanh").inputs, ElementsAre(yq));
  EXPECT_THAT(Find(b.graph, "Sigmoid").inputs, ElementsAre(y));
}

TEST(AbsorbQuantizationTest, MovementAndPoolingKeepTheirNodes) {
  GraphBuilder b;
  const ValueId xq = b.Quantize(b.Input("x", Shape{1, 4, 8, 8}), kA);
  const ValueId pool = b.Quantize(
      b.Add("MaxPool", {b.Dequantize(xq)}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}}),
      kA);
  const ValueId reshaped = b.Quantize(b.Add("Reshape", {b.Dequantize(pool), b.Ints({1, -1})}), kA);
  const ValueId joined = b.Quantize(
      b.Add("Concat", {b.Dequantize(reshaped), b.Dequantize(reshaped)}, {{"axis", int64_t{1}}}),
      kB);
  b.Output(b.Dequantize(joined), "y");
  Absorb(&b.graph);
  EXPECT_THAT(Ops(b.graph), ElementsAre("Quantize", "MaxPool", "Reshape", "Concat", "Dequantize"));
  EXPECT_THAT(Find(b.graph, "MaxPool").outputs, ElementsAre(pool));
  EXPECT_EQ(Find(b.graph, "Reshape").inputs[0], pool);
  EXPECT_THAT(Find(b.graph, "Concat").inputs, ElementsAre(reshaped, reshaped));
}

TEST(AbsorbQuantizationTest, MergesEqualQuantizeNodes) {
  GraphBuilder b;
  const ValueId y = b.Add("Relu", {b.Input("x", Shape{1, 4})});
  const ValueId one = b.Quantize(y, kA), two = b.Quantize(y, kA);
  b.Output(b.Add("Sigmoid", {b.Dequantize(one)}), "s");
  b.Output(b.Add("Tanh", {b.Dequantize(two)}), "t");
  Absorb(&b.graph);
  EXPECT_THAT(Ops(b.graph), ElementsAre("Relu", "Sigmoid", "Tanh"));
  EXPECT_THAT(Find(b.graph, "Relu").outputs, ElementsAre(one));
  EXPECT_THAT(Find(b.graph, "Tanh").inputs, ElementsAre(one));
}

TEST(AbsorbQuantizationTest, CancelsRoundTripsAndKeepsRequantization) {
  GraphBuilder b;
  const ValueId xq = b.Quantize(b.Input("x", Shape{1, 4}), kA);
  const ValueId same = b.Quantize(b.Dequantize(xq), kA);
  const ValueId other = b.Quantize(b.Dequantize(same), kB);
  b.Output(b.Add("Relu", {b.Dequantize(other)}), "y");
  Absorb(&b.graph);
  EXPECT_THAT(Ops(b.graph), ElementsAre("Quantize", "Quantize", "Relu"));
  EXPECT_THAT(b.graph.nodes[1].inputs, ElementsAre(xq));
  EXPECT_EQ(b.graph.value(b.graph.nodes[1].outputs[0]).quant, kB);
}

TEST(AbsorbQuantizationTest, FoldsQuantizedFloatConstants) {
  GraphBuilder b;
  const ValueId xq = b.Quantize(b.Input("x", Shape{1, 6}), kA);
  const ValueId w = b.graph.AddConstant(
      "w", Tensor::FromF32({6, 1}, {0.0f, 0.25f, 0.75f, -0.25f, 1000.0f, -1000.0f}));
  const ValueId wq = b.Quantize(w, QuantParams::PerTensor(0.5f, 0), DType::kS8);
  b.Output(b.Add("MatMul", {b.Dequantize(xq), b.Dequantize(wq)}), "y");
  Absorb(&b.graph);
  EXPECT_THAT(Ops(b.graph), ElementsAre("Quantize", "MatMul"));
  EXPECT_EQ(b.graph.nodes[1].inputs[1], wq);
  // Half to even: 0.5 -> 0, 1.5 -> 2, -0.5 -> 0; then saturation.
  EXPECT_THAT(b.graph.value(wq).data->ToS64(), ElementsAre(0, 0, 2, 0, 127, -128));
  EXPECT_FALSE(b.graph.value(w).is_constant()) << "the float copy is kept";
}

TEST(AbsorbQuantizationTest, LeavesReadersOfStorageAlone) {
  GraphBuilder b;
  const ValueId xq = b.Quantize(b.Input("x", Shape{1, 4}), kA);
  const ValueId x = b.Dequantize(xq);
  b.Output(b.Add("Cast", {x}, {{"to", int64_t{7}}}), "cast");
  const ValueId shape = b.Add("Shape", {x});
  b.Output(shape, "shape");
  Absorb(&b.graph);
  EXPECT_THAT(Ops(b.graph), ElementsAre("Quantize", "Dequantize", "Cast", "Shape"));
  EXPECT_THAT(Find(b.graph, "Cast").inputs, ElementsAre(x));
  EXPECT_THAT(Find(b.graph, "Shape").inputs, ElementsAre(xq));
}

TEST(AbsorbQuantizationTest, ParametersBecomeFloatConstants) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{1, 4});
  const ValueId limit = S8Constant(&b, {}, QuantParams::PerTensor(0.5f, 0));
  b.Output(b.Add("Clip", {x, kNoValue, b.Dequantize(limit)}), "y");
  Absorb(&b.graph);
  EXPECT_THAT(Ops(b.graph), ElementsAre("Clip"));
  const Tensor* max = b.graph.ConstantInput(b.graph.nodes[0], 2);
  ASSERT_NE(max, nullptr);
  EXPECT_THAT(max->ToVector<float>(), ElementsAre(1.0f));
}

TEST(AbsorbQuantizationTest, OutputsKeepNamesAndTypes) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{1, 4});
  const ValueId y = b.Add("Relu", {x});
  b.Output(y, "float_output");
  const ValueId yq = b.Quantize(y, kA);
  b.Output(yq, "integer_output");
  const ValueId again = b.Quantize(y, kA);
  b.Output(again, "again");
  Absorb(&b.graph);
  EXPECT_THAT(b.graph.outputs, ElementsAre(y, yq, again));
  EXPECT_EQ(b.graph.value(y).dtype, DType::kF32);
  EXPECT_THAT(Ops(b.graph), ElementsAre("Relu", "Quantize", "Quantize"));
}

TEST(AbsorbQuantizationTest, WideActivationsKeepTheirNodes) {
  GraphBuilder b;
  const ValueId xq = b.Quantize(b.Input("x", Shape{1, 4}), kA, DType::kU16);
  const ValueId yq = b.Quantize(b.Add("Relu", {b.Dequantize(xq)}), kA, DType::kU16);
  b.Output(b.Dequantize(yq), "y");
  Absorb(&b.graph);
  EXPECT_THAT(Ops(b.graph),
              ElementsAre("Quantize", "Dequantize", "Relu", "Quantize", "Dequantize"));
}

TEST(AbsorbQuantizationTest, KeepsWhatASubgraphCaptures) {
  GraphBuilder b;
  const ValueId xq = b.Quantize(b.Input("x", Shape{1, 4}), kA);
  const ValueId x = b.Dequantize(xq);
  b.graph.value(x).name = "captured";
  auto branch = std::make_shared<Graph>();
  Value inner;
  inner.name = "captured";
  inner.dtype = DType::kF32;
  branch->outputs = {branch->AddValue(inner)};
  const ValueId y =
      b.Add("If", {b.Int(1)}, {{"then_branch", std::shared_ptr<const Graph>(branch)}});
  b.Output(y, "y");
  AbsorbQuantization(&b.graph);
  EXPECT_THAT(Ops(b.graph), ElementsAre("Quantize", "Dequantize", "If"));
  EXPECT_TRUE(b.graph.Validate().ok()) << b.graph.Validate();
}

TEST(ConstantQuantizationTest, PerAxisAndBlocked) {
  const Tensor reals = Tensor::FromF32({2, 3}, {1, 2, 3, 1, 2, 3});
  const QuantParams per_axis{{1.0f, 0.5f}, {0, 1}, 0, 0};
  EXPECT_THAT(QuantizeTensor(reals, DType::kS8, per_axis)->ToS64(), ElementsAre(1, 2, 3, 3, 5, 7));
  // Blocks of two along axis 1: scales [2, 2].
  const QuantParams blocked{{1.0f, 0.5f, 0.25f, 1.0f}, {}, 1, 2};
  const std::optional<Tensor> stored = QuantizeTensor(reals, DType::kS8, blocked);
  EXPECT_THAT(stored->ToS64(), ElementsAre(1, 2, 6, 4, 8, 3));
  EXPECT_THAT(DequantizeTensor(*stored, blocked)->ToVector<float>(), ElementsAre(1, 2, 3, 1, 2, 3));
  const std::optional<Tensor> nibbles =
      QuantizeTensor(reals, DType::kU4, QuantParams::PerTensor(0.1f, 2));
  EXPECT_THAT(nibbles->ToS64(), ElementsAre(12, 15, 15, 12, 15, 15));
  EXPECT_FALSE(QuantizeTensor(reals, DType::kS8, QuantParams{{1.0f}, {}, 1, 0}).has_value());
}

TEST(SignsTest, UnsignedWeightsKeepTheirReals) {
  GraphBuilder b;
  const std::vector<uint8_t> codes = {0, 127, 128, 255, 3, 200};
  const ValueId w = b.graph.AddConstant("w", Tensor::FromValues<uint8_t>(DType::kU8, {2, 3}, codes));
  b.graph.value(w).quant = QuantParams{{0.5f, 0.25f, 1.0f}, {128, 128, 0}, 1, 0};
  const std::vector<float> before =
      DequantizeTensor(*b.graph.value(w).data, *b.graph.value(w).quant)->ToVector<float>();
  b.Output(b.Add("MatMul", {b.Input("x", Shape{4, 2}), w}), "y");
  SignWeights(&b.graph);
  const Value& after = b.graph.value(w);
  EXPECT_EQ(after.dtype, DType::kS8);
  EXPECT_EQ(after.quant->zero_point, (std::vector<int32_t>{0, 0, -128}));
  EXPECT_EQ(DequantizeTensor(*after.data, *after.quant)->ToVector<float>(), before);
}

TEST(SignsTest, ActivationsBecomeUnsignedWhereNobodySeesThem) {
  GraphBuilder b;
  const QuantParams quant = QuantParams::PerTensor(0.5f, -3);
  const auto s8 = [&](ValueId id) {
    b.graph.value(id).dtype = DType::kS8;
    b.graph.value(id).quant = quant;
    return id;
  };
  const ValueId x = s8(b.Input("x", Shape{4, 2}));
  const ValueId inner = s8(b.Add("Relu", {x}));
  const ValueId right = s8(b.Add("Relu", {x}));
  const ValueId y = s8(b.Add("MatMul", {inner, right}));
  b.Output(y, "y");
  UnsignActivations(&b.graph);
  EXPECT_EQ(b.graph.value(x).dtype, DType::kS8);
  EXPECT_EQ(b.graph.value(inner).dtype, DType::kU8);
  EXPECT_EQ(b.graph.value(inner).quant, QuantParams::PerTensor(0.5f, 125));
  EXPECT_EQ(b.graph.value(right).dtype, DType::kS8);
}

TEST(TransposeQuantizedConstantsTest, ScalesMoveWithTheirBlocks) {
  for (DType dtype : {DType::kS8, DType::kS4}) {
    GraphBuilder b;
    std::vector<float> reals;
    for (int i = 0; i < 15; ++i) reals.push_back(static_cast<float>(i % 7) - 3);
    QuantParams quant{{}, {}, 1, 2};  // [3, 5] in blocks of 2 along axis 1: scales [3, 3]
    for (int i = 0; i < 9; ++i) quant.scale.push_back(0.5f + static_cast<float>(i));
    quant.zero_point = {0, 1, -1, 2, 0, 0, 1, 0, -2};
    const Tensor stored = *QuantizeTensor(Tensor::FromF32({3, 5}, reals), dtype, quant);
    const std::vector<float> expected = DequantizeTensor(stored, quant)->ToVector<float>();
    const ValueId w = b.graph.AddConstant("w", stored);
    b.graph.value(w).quant = quant;
    const ValueId t = b.Add("Transpose", {w}, {{"perm", Ints{1, 0}}});
    b.Output(b.Add("MatMul", {b.Input("x", Shape{4, 5}), t}), "y");
    TransposeQuantizedConstants(&b.graph);
    EXPECT_THAT(Ops(b.graph), ElementsAre("MatMul"));
    const Value& moved = b.graph.value(b.graph.nodes[0].inputs[1]);
    EXPECT_EQ(moved.dtype, dtype);
    EXPECT_EQ(moved.quant->axis, 0);
    const std::vector<float> found = DequantizeTensor(*moved.data, *moved.quant)->ToVector<float>();
    for (size_t r = 0; r < 3; ++r) {
      for (size_t c = 0; c < 5; ++c) EXPECT_EQ(found[c * 3 + r], expected[r * 5 + c]);
    }
    EXPECT_TRUE(b.graph.Validate().ok()) << b.graph.Validate();
  }
}

}  // namespace
}  // namespace octet::graph
