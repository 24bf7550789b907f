// Which graphs may be batched, which may be freed from a batch fixed at 1, and what stands in the
// way.
#include "graph/batching.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/graph_builder.h"
#include "graph/shape_inference.h"

namespace octet::graph {
namespace {

using Ints = std::vector<int64_t>;
using ::testing::HasSubstr;

constexpr int64_t kU = kUnknownDim;

BatchProof Prove(GraphBuilder* b, ValueId y) {
  b->Output(y, "y");
  const absl::Status status = InferShapes(&b->graph);
  EXPECT_TRUE(status.ok()) << status;
  return ProveBatchable(b->graph);
}

BatchProof Free(GraphBuilder* b, ValueId y) {
  b->Output(y, "y");
  const absl::Status status = InferShapes(&b->graph);
  EXPECT_TRUE(status.ok()) << status;
  BatchProof proof = FreeBatch(&b->graph);
  EXPECT_TRUE(b->graph.Validate().ok()) << b->graph.Validate();
  return proof;
}

TEST(ProveBatchableTest, ConvolutionalClassifier) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{kU, 3, 8, 8});
  ValueId y = b.Add("Conv", {x, b.Weights({4, 3, 3, 3})}, {{"pads", Ints{1, 1, 1, 1}}});
  y = b.Add("Add", {b.Add("Relu", {y}), b.Weights({1, 4, 1, 1})});
  y = b.Add("Concat", {y, b.Add("Conv", {x, b.Weights({2, 3, 1, 1})})}, {{"axis", int64_t{1}}});
  y = b.Add("Flatten", {b.Add("GlobalAveragePool", {y})});
  y = b.Add("Softmax", {b.Add("Gemm", {y, b.Weights({6, 10}), b.Weights({10})})});
  const BatchProof proof = Prove(&b, y);
  EXPECT_TRUE(proof.batchable) << proof.obstacle;
  EXPECT_FALSE(proof.freed);
}

TEST(ProveBatchableTest, ReshapeThroughShapeArithmetic) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{kU, 3, kU, 8});
  const ValueId y = b.Add("Relu", {x});
  const ValueId batch = b.Add("Slice", {b.Add("Shape", {x}), b.Ints({0}), b.Ints({1})});
  const ValueId target = b.Add("Concat", {batch, b.Ints({-1})}, {{"axis", int64_t{0}}});
  const BatchProof proof = Prove(&b, b.Add("Reshape", {y, target}));
  EXPECT_TRUE(proof.batchable) << proof.obstacle;
}

TEST(ProveBatchableTest, ResizeToTheSizeOfAnotherInputDimension) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{kU, 3, kU, kU});
  const ValueId shape = b.Add("Shape", {x});
  const ValueId doubled =
      b.Add("Mul", {b.Add("Slice", {shape, b.Ints({2}), b.Ints({4})}), b.Ints({2})});
  const ValueId sizes =
      b.Add("Concat", {b.Add("Slice", {shape, b.Ints({0}), b.Ints({2})}), doubled},
            {{"axis", int64_t{0}}});
  const BatchProof proof = Prove(&b, b.Add("Resize", {x, kNoValue, kNoValue, sizes}));
  EXPECT_TRUE(proof.batchable) << proof.obstacle;
}

TEST(ProveBatchableTest, ClassTokenExpandedToTheBatch) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{kU, 5, 4});
  const ValueId batch = b.Add("Slice", {b.Add("Shape", {x}), b.Ints({0}), b.Ints({1})});
  const ValueId target = b.Add("Concat", {batch, b.Ints({1, 4})}, {{"axis", int64_t{0}}});
  const ValueId token = b.Add("Expand", {b.Weights({1, 1, 4}), target});
  const BatchProof proof = Prove(&b, b.Add("Concat", {token, x}, {{"axis", int64_t{1}}}));
  EXPECT_TRUE(proof.batchable) << proof.obstacle;
}

TEST(ProveBatchableTest, AttentionProducts) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{kU, 6, 8});
  const ValueId q = b.Add("MatMul", {x, b.Weights({8, 8})});
  const ValueId k = b.Add("Transpose", {q}, {{"perm", Ints{0, 2, 1}}});
  const ValueId scores = b.Add("Softmax", {b.Add("MatMul", {q, k})});
  const BatchProof proof = Prove(&b, b.Add("MatMul", {scores, x}));
  EXPECT_TRUE(proof.batchable) << proof.obstacle;
}

TEST(ProveBatchableTest, NamesWhatMixesRows) {
  const auto obstacle = [](auto build) {
    GraphBuilder b;
    const ValueId x = b.Input("x", Shape{kU, 4});
    const BatchProof proof = Prove(&b, build(b, x));
    EXPECT_FALSE(proof.batchable);
    return proof.obstacle;
  };
  EXPECT_THAT(obstacle([](GraphBuilder& b, ValueId x) {
                return b.Add("Softmax", {x}, {{"axis", int64_t{0}}});
              }),
              HasSubstr("Softmax #0 -> 'y' works along axis 0"));
  EXPECT_THAT(obstacle([](GraphBuilder& b, ValueId x) { return b.Add("Transpose", {x}); }),
              HasSubstr("moves axis 0"));
  EXPECT_THAT(
      obstacle([](GraphBuilder& b, ValueId x) { return b.Add("ReduceMean", {x, b.Ints({0, 1})}); }),
      HasSubstr("works along axis 0"));
  EXPECT_THAT(obstacle([](GraphBuilder& b, ValueId x) { return b.Add("ReduceMean", {x}); }),
              HasSubstr("reduces all axes"));
  EXPECT_THAT(
      obstacle([](GraphBuilder& b, ValueId x) { return b.Add("Reshape", {x, b.Ints({-1, 8})}); }),
      HasSubstr("does not keep the batch on axis 0"));
  EXPECT_THAT(
      obstacle([](GraphBuilder& b, ValueId x) { return b.Add("Reshape", {x, b.Ints({-1})}); }),
      HasSubstr("does not keep the batch on axis 0"));
  EXPECT_THAT(obstacle([](GraphBuilder& b, ValueId x) {
                return b.Add("Slice", {x, b.Ints({0}), b.Ints({1}), b.Ints({0})});
              }),
              HasSubstr("does not keep the batch"));
  EXPECT_THAT(obstacle([](GraphBuilder& b, ValueId x) {
                return b.Add("Slice",
                             {x, b.Ints({-1}), b.Ints({INT64_MIN}), b.Ints({0}), b.Ints({-1})});
              }),
              HasSubstr("does not keep the batch"));
  EXPECT_THAT(obstacle([](GraphBuilder& b, ValueId x) {
                return b.Add("Concat", {x, x}, {{"axis", int64_t{-2}}});
              }),
              HasSubstr("works along axis 0"));
  EXPECT_THAT(
      obstacle([](GraphBuilder& b, ValueId x) { return b.Add("Add", {x, b.Weights({5, 1, 4})}); }),
      HasSubstr("along another axis"));
  EXPECT_THAT(
      obstacle([](GraphBuilder& b, ValueId x) { return b.Add("MatMul", {b.Weights({4, 1}), x}); }),
      HasSubstr("sums over axis 0"));
}

TEST(ProveBatchableTest, NamesOtherObstacles) {
  GraphBuilder gram;
  const ValueId x = gram.Input("x", Shape{kU, 4});
  const BatchProof product = Prove(&gram, gram.Add("Gemm", {x, x}, {{"transB", int64_t{1}}}));
  EXPECT_THAT(product.obstacle, HasSubstr("Gemm"));

  GraphBuilder counted;
  const ValueId c = counted.Input("x", Shape{kU, 4});
  const ValueId n =
      counted.Add("Cast", {counted.Add("Gather", {counted.Add("Shape", {c}), counted.Int(0)})},
                  {{"to", int64_t{1}}});
  const BatchProof divided = Prove(&counted, counted.Add("Div", {c, n}));
  EXPECT_THAT(divided.obstacle, HasSubstr("function of the batch size"));

  GraphBuilder constant;
  constant.Input("x", Shape{kU, 4});
  const BatchProof unrelated = Prove(&constant, constant.Add("Relu", {constant.Weights({1, 4})}));
  EXPECT_THAT(unrelated.obstacle, HasSubstr("output 'y'"));

  GraphBuilder fixed;
  const BatchProof eight = Prove(&fixed, fixed.Add("Relu", {fixed.Input("x", Shape{8, 4})}));
  EXPECT_THAT(eight.obstacle, HasSubstr("'x' is fixed at 8"));

  GraphBuilder scalar;
  const BatchProof none = Prove(&scalar, scalar.Add("Relu", {scalar.Input("x", Shape{})}));
  EXPECT_THAT(none.obstacle, HasSubstr("no axis 0"));
}

TEST(ProveBatchableTest, RefusesDimensionsComputedFromTheBatchSize) {
  // Rows of width 2 * batch: their content depends on the batch size although axis 0 is the batch.
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{kU, 1, 4});
  const ValueId batch = b.Add("Slice", {b.Add("Shape", {x}), b.Ints({0}), b.Ints({1})});
  const ValueId sizes = b.Add("Concat", {batch, b.Ints({1}), b.Add("Mul", {batch, b.Ints({2})})},
                              {{"axis", int64_t{0}}});
  const BatchProof resized = Prove(&b, b.Add("Resize", {x, kNoValue, kNoValue, sizes}));
  EXPECT_THAT(resized.obstacle, HasSubstr("works on another axis than 0"));

  GraphBuilder c;
  const ValueId y = c.Input("x", Shape{kU, 9});
  const ValueId count = c.Add("Slice", {c.Add("Shape", {y}), c.Ints({0}), c.Ints({1})});
  const BatchProof cut = Prove(&c, c.Add("Slice", {y, c.Ints({0}), count, c.Ints({1})}));
  EXPECT_THAT(cut.obstacle, HasSubstr("works on another axis than 0"));

  // The same through the shape of a tensor whose size is the batch size squared.
  GraphBuilder d;
  const ValueId z = d.Input("x", Shape{kU, 9});
  const ValueId n = d.Add("Slice", {d.Add("Shape", {z}), d.Ints({0}), d.Ints({1})});
  const ValueId filled =
      d.Add("ConstantOfShape", {d.Add("Mul", {n, n})}, {{"value", Tensor::FromS64({1}, {1})}});
  const BatchProof hidden =
      Prove(&d, d.Add("Slice", {z, d.Ints({0}), d.Add("Shape", {filled}), d.Ints({1})}));
  EXPECT_FALSE(hidden.batchable);
}

TEST(FreeBatchTest, ClassifierOfTheOldKind) {
  // mnist-12: a Reshape to [1, 256], a product with reshaped constant weights, a bias [1, 10].
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{1, 1, 28, 28});
  ValueId y =
      b.Add("Conv", {x, b.Weights({16, 1, 5, 5})}, {{"auto_pad", std::string("SAME_UPPER")}});
  y = b.Add("Relu", {b.Add("Add", {y, b.Weights({16, 1, 1})})});
  y = b.Add("MaxPool", {y}, {{"kernel_shape", Ints{7, 7}}, {"strides", Ints{7, 7}}});
  const ValueId target = b.Ints({1, 256});
  const ValueId flat = b.Add("Reshape", {y, target});
  const ValueId weights = b.Add("Reshape", {b.Weights({16, 4, 4, 10}), b.Ints({256, 10})});
  y = b.Add("Add", {b.Add("MatMul", {flat, weights}), b.Weights({1, 10})});
  const BatchProof proof = Free(&b, y);
  ASSERT_TRUE(proof.batchable) << proof.obstacle;
  EXPECT_TRUE(proof.freed);
  EXPECT_EQ(b.shape(x), (Shape{kU, 1, 28, 28}));
  EXPECT_EQ(b.shape(flat), (Shape{kU, 256}));
  EXPECT_EQ(b.shape(y), (Shape{kU, 10}));
  EXPECT_EQ(b.graph.value(x).dim_names[0], "batch");
}

TEST(FreeBatchTest, DetectorWithSharedTargetsAndConcat) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{1, 8, 4, 6});
  const ValueId target = b.Ints({1, -1, 2});
  const ValueId left =
      b.Add("Reshape", {b.Add("Transpose", {x}, {{"perm", Ints{0, 2, 3, 1}}}), target});
  const ValueId right = b.Add("Reshape", {x, target});
  const ValueId joined = b.Add("Concat", {left, right}, {{"axis", int64_t{1}}});
  const ValueId anchors = b.Weights({1, 192, 2});
  const ValueId y = b.Add("Mul", {b.Add("Softmax", {joined}, {{"axis", int64_t{2}}}), anchors});
  const BatchProof proof = Free(&b, y);
  ASSERT_TRUE(proof.batchable) << proof.obstacle;
  EXPECT_EQ(b.shape(y), (Shape{kU, 192, 2}));
}

TEST(FreeBatchTest, ResizeWithSizesOfAllAxes) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{1, 3, 4, 6});
  const ValueId y = b.Add("Resize", {x, kNoValue, kNoValue, b.Ints({1, 3, 8, 9})});
  const BatchProof proof = Free(&b, y);
  ASSERT_TRUE(proof.batchable) << proof.obstacle;
  EXPECT_EQ(b.shape(y), (Shape{kU, 3, 8, 9}));
}

TEST(FreeBatchTest, QuantizedGraph) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{1, 3});
  const ValueId q = b.Quantize(x, QuantParams::PerTensor(0.1f, 0));
  const ValueId y = b.Dequantize(q);
  const BatchProof proof = Free(&b, y);
  EXPECT_TRUE(proof.batchable) << proof.obstacle;
  EXPECT_EQ(b.shape(q), (Shape{kU, 3}));
}

TEST(FreeBatchTest, LeavesTheGraphWhenItCannot) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{1, 3, 4});
  const ValueId reshaped = b.Add("Reshape", {x, b.Ints({1, 12})});
  const ValueId y = b.Add("ReduceSum", {reshaped, b.Ints({0})});
  const BatchProof proof = Free(&b, y);
  EXPECT_FALSE(proof.batchable);
  EXPECT_THAT(proof.obstacle, HasSubstr("ReduceSum"));
  EXPECT_EQ(b.shape(x), (Shape{1, 3, 4}));
  EXPECT_EQ(b.graph.ConstantInput(b.graph.nodes[0], 1)->ToS64(), (Ints{1, 12}));
}

TEST(FreeBatchTest, RowsThatWereFlattenedIntoAxisZeroStay) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{1, 6, 2});
  const BatchProof proof = Free(&b, b.Add("Reshape", {x, b.Ints({-1, 2})}));
  EXPECT_FALSE(proof.batchable);
}

TEST(FreeBatchTest, FreeInputsAreOnlyProved) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{kU, 6});
  const BatchProof proof = Free(&b, b.Add("Relu", {x}));
  EXPECT_TRUE(proof.batchable);
  EXPECT_FALSE(proof.freed);
}

}  // namespace
}  // namespace octet::graph
