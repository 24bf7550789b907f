// Shape rules on known, unknown and hostile operands, and inference through shape arithmetic.
#include "graph/shape_inference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "graph/graph_builder.h"

namespace octet::graph {
namespace {

using Attributes = absl::flat_hash_map<std::string, Attribute>;
using Ints = std::vector<int64_t>;
using ::testing::HasSubstr;

constexpr int64_t kU = kUnknownDim;

// Infers `op` on operands of these shapes (f32) and constants.
struct Case {
  std::string op;
  std::vector<OperandInfo> operands;
  Attributes attributes = {};
  int outputs = 1;
};

OperandInfo F32(Shape shape) {
  return OperandInfo{DType::kF32, std::move(shape), nullptr, true, nullptr};
}
OperandInfo Of(DType dtype, Shape shape) {
  return OperandInfo{dtype, std::move(shape), nullptr, true, nullptr};
}
OperandInfo Omitted() {
  return OperandInfo{DType::kInvalid, std::nullopt, nullptr, false, nullptr};
}

// Constants live as long as the test.
OperandInfo Const(Tensor tensor) {
  static auto& keep = *new std::vector<std::unique_ptr<Tensor>>();
  keep.push_back(std::make_unique<Tensor>(std::move(tensor)));
  return OperandInfo{keep.back()->dtype(), keep.back()->shape(), keep.back().get(), true, nullptr};
}
OperandInfo Vec(Ints values) {
  const Shape shape = {static_cast<int64_t>(values.size())};
  return Const(Tensor::FromS64(shape, values));
}
OperandInfo Scalar(int64_t value) { return Const(Tensor::FromS64({}, {value})); }

absl::StatusOr<std::vector<ResultInfo>> Infer(const Case& c) {
  Node node;
  node.op = c.op;
  node.attributes = c.attributes;
  for (int i = 0; i < c.outputs; ++i) node.outputs.push_back(i);
  return InferNode(node, c.operands);
}

Shape ShapeOf(const Case& c) {
  const auto results = Infer(c);
  EXPECT_TRUE(results.ok()) << c.op << ": " << results.status();
  if (!results.ok()) return {-100};
  EXPECT_TRUE((*results)[0].shape.has_value()) << c.op;
  return (*results)[0].shape.value_or(Shape{-200});
}

std::string ErrorOf(const Case& c) {
  const auto results = Infer(c);
  EXPECT_FALSE(results.ok()) << c.op << " was accepted";
  EXPECT_EQ(results.status().code(), absl::StatusCode::kInvalidArgument) << results.status();
  return std::string(results.status().message());
}

TEST(WindowRulesTest, ConvolutionFollowsItsFormula) {
  EXPECT_EQ(ShapeOf({"Conv",
                     {F32({1, 3, 224, 224}), F32({64, 3, 7, 7}), F32({64})},
                     {{"strides", Ints{2, 2}}, {"pads", Ints{3, 3, 3, 3}}}}),
            (Shape{1, 64, 112, 112}));
  EXPECT_EQ(ShapeOf({"Conv",
                     {F32({2, 8, 9}), F32({8, 1, 3})},
                     {{"group", int64_t{8}}, {"dilations", Ints{2}}, {"pads", Ints{0, 1}}}}),
            (Shape{2, 8, 6}));
  EXPECT_EQ(ShapeOf({"Conv", {F32({kU, 3, kU, 10}), F32({4, 3, 3, 3})}}), (Shape{kU, 4, kU, 8}));
  EXPECT_EQ(ShapeOf({"Conv", {F32({1, 1, 5, 6, 7}), F32({2, 1, 1, 2, 3})}}),
            (Shape{1, 2, 5, 5, 5}));
}

TEST(WindowRulesTest, AutoPadIgnoresExplicitPads) {
  for (const char* same : {"SAME_UPPER", "SAME_LOWER"}) {
    EXPECT_EQ(ShapeOf({"Conv",
                       {F32({1, 1, 7, 8}), F32({1, 1, 3, 3})},
                       {{"auto_pad", std::string(same)}, {"strides", Ints{2, 2}}}}),
              (Shape{1, 1, 4, 4}));
  }
  EXPECT_EQ(ShapeOf({"Conv",
                     {F32({1, 1, 7, 8}), F32({1, 1, 3, 3})},
                     {{"auto_pad", std::string("VALID")}, {"pads", Ints{1, 1, 1, 1}}}}),
            (Shape{1, 1, 5, 6}));
}

TEST(WindowRulesTest, RefusesHostileConvolutions) {
  const OperandInfo x = F32({1, 3, 8, 8}), w = F32({4, 3, 3, 3});
  EXPECT_THAT(ErrorOf({"Conv", {x, F32({4, 2, 3, 3})}}), HasSubstr("3 channels"));
  EXPECT_THAT(ErrorOf({"Conv", {x, F32({4, 3, 3})}}), HasSubstr("expected rank 4"));
  EXPECT_THAT(ErrorOf({"Conv", {x, F32({4, 3, 9, 3})}}), HasSubstr("does not fit"));
  EXPECT_THAT(ErrorOf({"Conv", {x, w}, {{"strides", Ints{0, 1}}}}), HasSubstr("'strides'"));
  EXPECT_THAT(ErrorOf({"Conv", {x, w}, {{"strides", Ints{1}}}}), HasSubstr("expected 2"));
  EXPECT_THAT(ErrorOf({"Conv", {x, w}, {{"dilations", Ints{1, -3}}}}), HasSubstr("'dilations'"));
  EXPECT_THAT(ErrorOf({"Conv", {x, w}, {{"pads", Ints{-1, 0, 0, 0}}}}), HasSubstr("'pads'"));
  EXPECT_THAT(ErrorOf({"Conv", {x, w}, {{"pads", Ints{int64_t{1} << 62, 0, 0, 0}}}}),
              HasSubstr("'pads'"));
  EXPECT_THAT(ErrorOf({"Conv", {x, w}, {{"group", int64_t{0}}}}), HasSubstr("'group'"));
  EXPECT_THAT(ErrorOf({"Conv", {x, w}, {{"kernel_shape", Ints{5, 3}}}}),
              HasSubstr("'kernel_shape'"));
  EXPECT_THAT(ErrorOf({"Conv", {x, w, F32({5})}}), HasSubstr("bias"));
  EXPECT_THAT(ErrorOf({"Conv", {F32({1, 3}), F32({4, 3})}}), HasSubstr("rank 3"));
  EXPECT_THAT(ErrorOf({"Conv", {x, F32({4, 3, 0, 3})}}), HasSubstr("kernel"));
  EXPECT_THAT(ErrorOf({"Conv", {x}}), HasSubstr("operand 1 is missing"));
  EXPECT_THAT(ErrorOf({"Conv", {Of(DType::kS64, {1, 3, 8, 8}), Of(DType::kS64, {4, 3, 3, 3})}}),
              HasSubstr("float"));
}

TEST(WindowRulesTest, TransposedConvolution) {
  EXPECT_EQ(ShapeOf({"ConvTranspose",
                     {F32({1, 8, 5, 5}), F32({8, 2, 3, 3})},
                     {{"strides", Ints{2, 2}},
                      {"pads", Ints{1, 1, 1, 1}},
                      {"output_padding", Ints{1, 1}},
                      {"group", int64_t{2}}}}),
            (Shape{1, 4, 10, 10}));
  EXPECT_EQ(ShapeOf({"ConvTranspose",
                     {F32({1, 8, 5}), F32({8, 2, 4})},
                     {{"strides", Ints{3}}, {"auto_pad", std::string("SAME_UPPER")}}}),
            (Shape{1, 2, 15}));
  EXPECT_THAT(ErrorOf({"ConvTranspose", {F32({1, 8, 1}), F32({8, 2, 1})}, {{"pads", Ints{4, 4}}}}),
              HasSubstr("size -7"));
}

TEST(WindowRulesTest, PoolingWithCeilModeDropsWindowsInTheEndPadding) {
  const Attributes base = {{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}};
  EXPECT_EQ(ShapeOf({"MaxPool", {F32({1, 2, 8, 8})}, base}), (Shape{1, 2, 3, 3}));
  Attributes ceil = base;
  ceil["ceil_mode"] = int64_t{1};
  EXPECT_EQ(ShapeOf({"MaxPool", {F32({1, 2, 8, 8})}, ceil}), (Shape{1, 2, 4, 4}));
  // 1 + ceil((2 + 1 + 1 - 2) / 3) = 2 windows, but the second would start at 3 >= 2 + 1.
  EXPECT_EQ(ShapeOf({"AveragePool",
                     {F32({1, 1, 2})},
                     {{"kernel_shape", Ints{2}},
                      {"strides", Ints{3}},
                      {"pads", Ints{1, 1}},
                      {"ceil_mode", int64_t{1}}}}),
            (Shape{1, 1, 1}));
  EXPECT_THAT(ErrorOf({"MaxPool", {F32({1, 2, 8, 8})}}), HasSubstr("'kernel_shape'"));
  EXPECT_THAT(
      ErrorOf({"MaxPool", {F32({1, 2, 8})}, {{"kernel_shape", Ints{2}}, {"pads", Ints{2, 0}}}}),
      HasSubstr("without any input"));
  EXPECT_EQ(ShapeOf({"GlobalAveragePool", {F32({kU, 7, 4, kU})}}), (Shape{kU, 7, 1, 1}));
}

TEST(ProductRulesTest, GemmAndMatMul) {
  EXPECT_EQ(ShapeOf({"Gemm", {F32({kU, 5}), F32({7, 5}), F32({7})}, {{"transB", int64_t{1}}}}),
            (Shape{kU, 7}));
  EXPECT_THAT(ErrorOf({"Gemm", {F32({2, 5}), F32({7, 5})}}), HasSubstr("inner sizes 5 and 7"));
  EXPECT_THAT(ErrorOf({"Gemm", {F32({2, 5}), F32({5, 7}), F32({3, 7})}}),
              HasSubstr("do not broadcast"));
  EXPECT_EQ(ShapeOf({"MatMul", {F32({3, 1, 2, 4}), F32({5, 4, 6})}}), (Shape{3, 5, 2, 6}));
  EXPECT_EQ(ShapeOf({"MatMul", {F32({4}), F32({5, 4, 6})}}), (Shape{5, 6}));
  EXPECT_EQ(ShapeOf({"MatMul", {F32({2, 4}), F32({4})}}), (Shape{2}));
  EXPECT_THAT(ErrorOf({"MatMul", {F32({2, 4}), F32({3, 4})}}), HasSubstr("inner sizes 4 and 3"));
  EXPECT_EQ(ShapeOf({"LSTM",
                     {F32({9, kU, 4}), F32({2, 32, 4}), F32({2, 32, 8})},
                     {{"hidden_size", int64_t{8}}, {"direction", std::string("bidirectional")}},
                     3}),
            (Shape{9, 2, kU, 8}));
}

TEST(ElementwiseRulesTest, BroadcastsAndTypes) {
  EXPECT_EQ(ShapeOf({"Add", {F32({kU, 3, 1}), F32({3, 5})}}), (Shape{kU, 3, 5}));
  EXPECT_EQ(ShapeOf({"Max", {F32({2, 1}), F32({3}), F32({})}}), (Shape{2, 3}));
  EXPECT_THAT(ErrorOf({"Mul", {F32({2}), F32({3})}}), HasSubstr("do not broadcast"));
  EXPECT_THAT(ErrorOf({"Mul", {F32({2}), Of(DType::kS64, {2})}}),
              HasSubstr("type s64, expected f32"));
  EXPECT_EQ((*Infer({"Less", {F32({2}), F32({2})}}))[0].dtype, DType::kBool);
  EXPECT_EQ((*Infer({"Cast", {F32({2})}, {{"to", int64_t{7}}}}))[0].dtype, DType::kS64);
  EXPECT_FALSE(Infer({"Cast", {F32({2})}, {{"to", int64_t{8}}}}).ok());
  EXPECT_EQ(ShapeOf({"Where", {Of(DType::kBool, {2, 1}), F32({1, 3}), F32({})}}), (Shape{2, 3}));
  EXPECT_EQ(ShapeOf({"PRelu", {F32({2, 3, 4}), F32({3, 1})}}), (Shape{2, 3, 4}));
  EXPECT_THAT(ErrorOf({"PRelu", {F32({3, 1}), F32({2, 3, 4})}}), HasSubstr("slope"));
  EXPECT_EQ(ShapeOf({"Clip", {F32({2, 3}), F32({}), Omitted()}}), (Shape{2, 3}));
  EXPECT_THAT(ErrorOf({"Relu", {F32({1}), F32({1})}}), HasSubstr("at most 1"));
}

TEST(MovementRulesTest, ConcatSplitTransposePad) {
  EXPECT_EQ(ShapeOf({"Concat", {F32({kU, 2, 3}), F32({4, 5, kU})}, {{"axis", int64_t{-2}}}}),
            (Shape{4, 7, 3}));
  EXPECT_THAT(ErrorOf({"Concat", {F32({1, 2}), F32({2, 2})}, {{"axis", int64_t{1}}}}),
              HasSubstr("dimension 0 of operand 1"));
  EXPECT_THAT(ErrorOf({"Concat", {F32({1}), F32({2})}, {{"axis", int64_t{4}}}}),
              HasSubstr("axis 4"));
  const auto split = Infer({"Split", {F32({2, 7})}, {{"axis", int64_t{1}}}, 3});
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_EQ(*(*split)[0].shape, (Shape{2, 3}));
  EXPECT_EQ(*(*split)[2].shape, (Shape{2, 1}));
  EXPECT_THAT(ErrorOf({"Split", {F32({7}), Vec({3, 3})}, {}, 2}), HasSubstr("add up to 6"));
  EXPECT_EQ(ShapeOf({"Transpose", {F32({1, 2, 3})}}), (Shape{3, 2, 1}));
  EXPECT_EQ(ShapeOf({"Transpose", {F32({1, 2, 3})}, {{"perm", Ints{0, 2, 1}}}}), (Shape{1, 3, 2}));
  EXPECT_THAT(ErrorOf({"Transpose", {F32({1, 2, 3})}, {{"perm", Ints{0, 2, 2}}}}),
              HasSubstr("twice"));
  EXPECT_EQ(ShapeOf({"Pad", {F32({kU, 3}), Vec({0, 2, 0, -1})}}), (Shape{kU, 4}));
  EXPECT_EQ(ShapeOf({"Pad", {F32({5, 3}), Vec({1, 1}), F32({}), Vec({-1})}}), (Shape{5, 5}));
  EXPECT_THAT(ErrorOf({"Pad", {F32({3}), Vec({-2, -2})}}), HasSubstr("padded size: found -1"));
  EXPECT_THAT(ErrorOf({"Pad", {F32({3}), Vec({std::numeric_limits<int64_t>::max(), 1})}}),
              HasSubstr("padding of"));
}

TEST(MovementRulesTest, SliceClampsAsNumpyDoes) {
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  const auto slice = [](int64_t dim, int64_t start, int64_t end, int64_t step) {
    return ShapeOf({"Slice", {F32({2, dim}), Vec({start}), Vec({end}), Vec({1}), Vec({step})}})[1];
  };
  EXPECT_EQ(slice(10, 2, 8, 3), 2);
  EXPECT_EQ(slice(10, -3, kMax, 1), 3);
  EXPECT_EQ(slice(10, kMax, kMin, -1), 10);
  EXPECT_EQ(slice(10, 8, 2, -4), 2);
  EXPECT_EQ(slice(10, -1, -11, -1), 10);
  EXPECT_EQ(slice(10, 9, kMin, kMin), 1);
  EXPECT_EQ(slice(10, 0, 10, kMax), 1);
  EXPECT_EQ(slice(10, 5, 5, 1), 0);
  EXPECT_EQ(slice(0, 0, 5, -1), 0);
  EXPECT_THAT(ErrorOf({"Slice", {F32({2}), Vec({0}), Vec({1}), Vec({0}), Vec({0})}}),
              HasSubstr("step 0"));
  EXPECT_THAT(ErrorOf({"Slice", {F32({2}), Vec({0, 1}), Vec({1, 1})}}), HasSubstr("2 starts"));
  EXPECT_EQ(ShapeOf({"Slice", {F32({kU, 4}), Vec({0}), Vec({kMax}), Vec({0})}}), (Shape{kU, 4}));
  EXPECT_EQ(ShapeOf({"Slice", {F32({5, 4}), Of(DType::kS64, {1}), Vec({9}), Vec({0})}}),
            (Shape{kU, 4}));
}

TEST(MovementRulesTest, ExpandTileBlocks) {
  EXPECT_EQ(ShapeOf({"Expand", {F32({3, 1}), Vec({2, 1, 6})}}), (Shape{2, 3, 6}));
  EXPECT_EQ(ShapeOf({"Tile", {F32({3, 1}), Vec({2, 4})}}), (Shape{6, 4}));
  EXPECT_THAT(ErrorOf({"Tile", {F32({1 << 30}), Vec({1 << 30})}}), HasSubstr("tiled size"));
  EXPECT_EQ(ShapeOf({"DepthToSpace", {F32({1, 8, 2, 3})}, {{"blocksize", int64_t{2}}}}),
            (Shape{1, 2, 4, 6}));
  EXPECT_EQ(ShapeOf({"SpaceToDepth", {F32({1, 2, 4, 6})}, {{"blocksize", int64_t{2}}}}),
            (Shape{1, 8, 2, 3}));
  EXPECT_THAT(ErrorOf({"DepthToSpace", {F32({1, 7, 2, 3})}, {{"blocksize", int64_t{2}}}}),
              HasSubstr("divide"));
}

TEST(IndexingRulesTest, GatherForms) {
  EXPECT_EQ(ShapeOf({"Gather", {F32({5, 6, 7}), Of(DType::kS64, {2, 3})}, {{"axis", int64_t{1}}}}),
            (Shape{5, 2, 3, 7}));
  EXPECT_EQ(ShapeOf({"Gather", {F32({5, 6}), Scalar(0)}}), (Shape{6}));
  EXPECT_THAT(ErrorOf({"Gather", {F32({5, 6}), F32({1})}}), HasSubstr("indices of type f32"));
  EXPECT_EQ(ShapeOf({"GatherElements", {F32({5, 6}), Of(DType::kS64, {2, 6})}}), (Shape{2, 6}));
  EXPECT_EQ(
      ShapeOf(
          {"GatherND", {F32({2, 3, 4}), Of(DType::kS64, {2, 9, 1})}, {{"batch_dims", int64_t{1}}}}),
      (Shape{2, 9, 4}));
  EXPECT_EQ(ShapeOf({"TopK", {F32({2, 9}), Vec({3})}, {}, 2}), (Shape{2, 3}));
  EXPECT_THAT(ErrorOf({"TopK", {F32({2, 9}), Vec({10})}, {}, 2}), HasSubstr("K is 10"));
  EXPECT_EQ(ShapeOf({"OneHot", {Of(DType::kS64, {2, 3}), Scalar(10), F32({2})}}),
            (Shape{2, 3, 10}));
}

TEST(ReshapeRulesTest, TargetsWithZeroAndMinusOne) {
  EXPECT_EQ(ShapeOf({"Reshape", {F32({2, 3, 4}), Vec({0, -1})}}), (Shape{2, 12}));
  EXPECT_EQ(ShapeOf({"Reshape", {F32({kU, 3, 4}), Vec({0, -1})}}), (Shape{kU, 12}));
  EXPECT_EQ(ShapeOf({"Reshape", {F32({kU, 3, 4}), Vec({-1, 12})}}), (Shape{kU, 12}));
  EXPECT_EQ(ShapeOf({"Reshape", {F32({0, 3}), Vec({3, 0})}, {{"allowzero", int64_t{1}}}}),
            (Shape{3, 0}));
  EXPECT_EQ(ShapeOf({"Reshape", {F32({1}), Vec({})}}), (Shape{}));
  EXPECT_THAT(ErrorOf({"Reshape", {F32({2, 3}), Vec({4, -1})}}), HasSubstr("do not divide"));
  EXPECT_THAT(ErrorOf({"Reshape", {F32({2, 3}), Vec({-1, -1})}}),
              HasSubstr("two dimensions of -1"));
  EXPECT_THAT(ErrorOf({"Reshape", {F32({2, 3}), Vec({5})}}), HasSubstr("has 6 elements"));
  EXPECT_THAT(ErrorOf({"Reshape", {F32({2, 3}), Vec({-5})}}), HasSubstr("found -5"));
  EXPECT_THAT(ErrorOf({"Reshape", {F32({2}), Vec({1, 0})}}), HasSubstr("is 0 (copy)"));
  EXPECT_THAT(ErrorOf({"Reshape", {F32({2}), Vec({int64_t{1} << 39, int64_t{1} << 39})}}),
              HasSubstr("2^62"));
  EXPECT_EQ(ShapeOf({"Flatten", {F32({kU, 3, 4})}}), (Shape{kU, 12}));
  EXPECT_EQ(ShapeOf({"Flatten", {F32({2, 3, 4})}, {{"axis", int64_t{0}}}}), (Shape{1, 24}));
  EXPECT_EQ(ShapeOf({"Flatten", {F32({2, 3, 4})}, {{"axis", int64_t{-1}}}}), (Shape{6, 4}));
  EXPECT_EQ(ShapeOf({"Squeeze", {F32({1, 3, 1}), Vec({-1})}}), (Shape{1, 3}));
  EXPECT_EQ(ShapeOf({"Squeeze", {F32({1, 3, 1})}}), (Shape{3}));
  EXPECT_THAT(ErrorOf({"Squeeze", {F32({2, 3}), Vec({0})}}), HasSubstr("expected 1"));
  EXPECT_EQ(ShapeOf({"Unsqueeze", {F32({3}), Vec({0, -1})}}), (Shape{1, 3, 1}));
  EXPECT_THAT(ErrorOf({"Unsqueeze", {F32({3}), Vec({0, 0})}}), HasSubstr("twice"));
  EXPECT_EQ(ShapeOf({"Shape", {F32({2, 3, 4, 5})}, {{"start", int64_t{-3}}, {"end", int64_t{3}}}}),
            (Shape{2}));
}

TEST(ReductionRulesTest, AxesAsOperand) {
  EXPECT_EQ(ShapeOf({"ReduceMean", {F32({2, 3, 4}), Vec({1, -1})}}), (Shape{2, 1, 1}));
  EXPECT_EQ(ShapeOf({"ReduceSum", {F32({2, 3, 4}), Vec({1})}, {{"keepdims", int64_t{0}}}}),
            (Shape{2, 4}));
  EXPECT_EQ(ShapeOf({"ReduceMax", {F32({2, 3})}, {{"keepdims", int64_t{0}}}}), (Shape{}));
  EXPECT_EQ(ShapeOf({"ReduceMax", {F32({2, 3})}, {{"noop_with_empty_axes", int64_t{1}}}}),
            (Shape{2, 3}));
  EXPECT_THAT(ErrorOf({"ReduceMin", {F32({2, 3}), Vec({2})}}), HasSubstr("axis 2"));
  EXPECT_EQ(ShapeOf({"ArgMax", {F32({2, 3})}, {{"axis", int64_t{1}}, {"keepdims", int64_t{0}}}}),
            (Shape{2}));
  EXPECT_THAT(ErrorOf({"ArgMax", {F32({2, 0})}, {{"axis", int64_t{1}}}}), HasSubstr("empty"));
}

TEST(ResizeRulesTest, ScalesSizesAndPolicies) {
  const OperandInfo x = F32({kU, 3, 10, 20});
  EXPECT_EQ(ShapeOf({"Resize", {x, Omitted(), Const(Tensor::FromF32({4}, {1, 1, 2, 0.55f}))}}),
            (Shape{kU, 3, 20, 11}));
  EXPECT_EQ(ShapeOf({"Resize",
                     {x, Omitted(), Const(Tensor::FromF32({0}, {})), Vec({7, 9})},
                     {{"axes", Ints{2, 3}}}}),
            (Shape{kU, 3, 7, 9}));
  EXPECT_EQ(
      ShapeOf({"Resize",
               {x, Omitted(), Omitted(), Vec({20, 30})},
               {{"axes", Ints{2, 3}}, {"keep_aspect_ratio_policy", std::string("not_larger")}}}),
      (Shape{kU, 3, 15, 30}));
  EXPECT_EQ(
      ShapeOf({"Resize",
               {x, Omitted(), Omitted(), Vec({20, 30})},
               {{"axes", Ints{2, 3}}, {"keep_aspect_ratio_policy", std::string("not_smaller")}}}),
      (Shape{kU, 3, 20, 40}));
  EXPECT_THAT(ErrorOf({"Resize", {x}}), HasSubstr("neither"));
  EXPECT_THAT(ErrorOf({"Resize", {x, Omitted(), Const(Tensor::FromF32({4}, {1, 1, -2, 1}))}}),
              HasSubstr("scale -2"));
  EXPECT_THAT(ErrorOf({"Resize", {x, Omitted(), Const(Tensor::FromF32({4}, {1, 1, 1e30f, 1}))}}),
              HasSubstr("scaling"));
}

TEST(GenerationRulesTest, ShapesAndRanges) {
  EXPECT_EQ(ShapeOf({"ConstantOfShape", {Vec({2, 3})}}), (Shape{2, 3}));
  EXPECT_THAT(ErrorOf({"ConstantOfShape", {Vec({2, -3})}}), HasSubstr("found -3"));
  EXPECT_THAT(ErrorOf({"ConstantOfShape", {Vec({int64_t{1} << 40, int64_t{1} << 40})}}),
              HasSubstr("2^62"));
  EXPECT_EQ(ShapeOf({"Range", {Scalar(3), Scalar(10), Scalar(2)}}), (Shape{4}));
  EXPECT_EQ(ShapeOf({"Range", {Scalar(3), Scalar(-3), Scalar(-2)}}), (Shape{3}));
  EXPECT_EQ(ShapeOf({"Range", {Scalar(3), Scalar(10), Scalar(-1)}}), (Shape{0}));
  EXPECT_THAT(ErrorOf({"Range", {Scalar(3), Scalar(10), Scalar(0)}}), HasSubstr("delta"));
  EXPECT_THAT(ErrorOf({"Range",
                       {Scalar(std::numeric_limits<int64_t>::min()),
                        Scalar(std::numeric_limits<int64_t>::max()), Scalar(1)}}),
              HasSubstr("2^40"));
}

TEST(InferNodeTest, RefusesUnknownOperatorsAndRanks) {
  EXPECT_FALSE(HasShapeRule("com.example", "Relu"));
  EXPECT_TRUE(HasShapeRule("", "Relu"));
  const auto unknown = Infer({"Frobnicate", {F32({1})}});
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(ErrorOf({"Relu", {F32(Shape(13, 1))}}), HasSubstr("rank 13"));
  EXPECT_THAT(ErrorOf({"Relu", {F32({int64_t{1} << 41})}}), HasSubstr("2^40"));
  const std::vector<std::string> all = OperatorsWithShapeRule();
  EXPECT_GT(all.size(), 120u);
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
}

TEST(InferShapesTest, FlattensThroughAShapeOfAnotherValue) {
  // torch: y = conv(x).relu(); y.view(x.size(0), -1)
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{kU, 3, 8, 8});
  const ValueId y = b.Add("Relu", {b.Add("Conv", {x, b.Weights({4, 3, 3, 3})})});
  const ValueId batch = b.Add("Gather", {b.Add("Shape", {x}), b.Int(0)}, {{"axis", int64_t{0}}});
  const ValueId target = b.Add("Concat", {b.Add("Unsqueeze", {batch, b.Ints({0})}), b.Ints({-1})},
                               {{"axis", int64_t{0}}});
  const ValueId flat = b.Add("Reshape", {y, target});
  const ValueId z = b.Add("Gemm", {flat, b.Weights({144, 10})});
  b.Output(z, "z");
  const absl::Status status = InferShapes(&b.graph);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(b.shape(flat), (Shape{kU, 144}));
  EXPECT_EQ(b.shape(z), (Shape{kU, 10}));
}

TEST(InferShapesTest, FollowsArithmeticThroughFloats) {
  // Sizes of an upsampling: floor(cast(shape[2:]) * 2) beside the first two dimensions.
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{kU, 3, 5, 7});
  const ValueId shape = b.Add("Shape", {x});
  const ValueId spatial = b.Add("Slice", {shape, b.Ints({2}), b.Ints({4}), b.Ints({0})});
  const ValueId scaled = b.Add(
      "Floor", {b.Add("Mul", {b.Add("Cast", {spatial}, {{"to", int64_t{1}}}), b.Floats({2.0f})})});
  const ValueId sizes = b.Add("Concat",
                              {b.Add("Slice", {shape, b.Ints({0}), b.Ints({2})}),
                               b.Add("Cast", {scaled}, {{"to", int64_t{7}}})},
                              {{"axis", int64_t{0}}});
  const ValueId y = b.Add("Resize", {x, kNoValue, kNoValue, sizes});
  b.Output(y, "y");
  const absl::Status status = InferShapes(&b.graph);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(b.shape(y), (Shape{kU, 3, 10, 14}));
}

TEST(InferShapesTest, FollowsExpandAsTorchWritesIt) {
  // expand(-1, 4): Where(Equal(target, -1), ones, target) over constants and a dimension of x.
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{kU, 3});
  const ValueId batch = b.Add("Slice", {b.Add("Shape", {x}), b.Ints({0}), b.Ints({1})});
  const ValueId target = b.Add("Concat", {batch, b.Ints({-1})}, {{"axis", int64_t{0}}});
  const ValueId ones =
      b.Add("ConstantOfShape", {b.Ints({2})}, {{"value", Tensor::FromS64({1}, {1})}});
  const ValueId equal = b.Add("Equal", {target, b.Add("Mul", {ones, b.Ints({-1})})});
  const ValueId y = b.Add("Expand", {b.Weights({1, 9}), b.Add("Where", {equal, ones, target})});
  b.Output(y, "y");
  const absl::Status status = InferShapes(&b.graph);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(b.shape(y), (Shape{kU, 9}));
}

TEST(InferShapesTest, PadsFromTorchMatrixOfPads) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{1, 1, 4, 4});
  const ValueId padded =
      b.Add("Concat",
            {b.Ints({1, 2, 3, 4}),
             b.Add("ConstantOfShape", {b.Ints({4})}, {{"value", Tensor::FromS64({1}, {0})}})},
            {{"axis", int64_t{0}}});
  const ValueId reversed =
      b.Add("Slice", {b.Add("Reshape", {padded, b.Ints({-1, 2})}), b.Ints({-1}),
                      b.Ints({std::numeric_limits<int64_t>::min()}), b.Ints({0}), b.Ints({-1})});
  const ValueId pads =
      b.Add("Reshape", {b.Add("Transpose", {reversed}, {{"perm", Ints{1, 0}}}), b.Ints({-1})});
  const ValueId y = b.Add("Pad", {x, pads});
  b.Output(y, "y");
  const absl::Status status = InferShapes(&b.graph);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(b.shape(y), (Shape{1, 1, 11, 7}));  // rows get 3 + 4, columns 1 + 2
}

TEST(InferShapesTest, KeepsStorageTypesOfQuantizedValues) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{1, 3});
  const ValueId q = b.Quantize(x, QuantParams::PerTensor(0.1f, 3));
  const ValueId y = b.Add("Relu", {q});
  b.Output(y, "y");
  ASSERT_TRUE(InferShapes(&b.graph).ok());
  EXPECT_EQ(b.graph.value(q).dtype, DType::kU8);
  EXPECT_EQ(b.graph.value(y).dtype, DType::kF32);
}

TEST(InferShapesTest, ErrorsNameTheNode) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{1, 3});
  const ValueId y = b.Add("MatMul", {x, b.Weights({4, 5})});
  b.graph.nodes.back().name = "head";
  b.Output(y, "y");
  const absl::Status status = InferShapes(&b.graph);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("MatMul 'head': product of [1, 3] x [4, 5]"));
}

}  // namespace
}  // namespace octet::graph
