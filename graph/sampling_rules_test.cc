// Equations of Einsum, and shape and row rules of sampling, region and signal operators on hostile
// and partly known operands.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/batching.h"
#include "graph/einsum.h"
#include "graph/graph_builder.h"
#include "graph/shape_inference.h"

namespace octet::graph {
namespace {

using Attributes = absl::flat_hash_map<std::string, Attribute>;
using Ints = std::vector<int64_t>;
using ::testing::HasSubstr;

constexpr int64_t kU = kUnknownDim;

TEST(ParseEinsumTest, NamesDimensions) {
  const auto e = ParseEinsum(" bij , bjk -> bik ", {3, 3});
  ASSERT_TRUE(e.ok()) << e.status();
  EXPECT_EQ(e->operands[0], (Einsum::Labels{'b', 'i', 'j'}));
  EXPECT_EQ(e->result, (Einsum::Labels{'b', 'i', 'k'}));
}

TEST(ParseEinsumTest, ImplicitResultsAreWhatOccursOnceInAlphabeticalOrder) {
  const auto e = ParseEinsum("Zb,ba", {2, 2});
  ASSERT_TRUE(e.ok()) << e.status();
  EXPECT_EQ(e->result, (Einsum::Labels{'Z', 'a'}));
  const auto dots = ParseEinsum("...ij", {4});  // what is under the ellipsis comes first
  ASSERT_TRUE(dots.ok()) << dots.status();
  EXPECT_EQ(dots->result.size(), 4u);
  EXPECT_EQ(dots->result[2], 'i');
}

TEST(ParseEinsumTest, RefusesWhatIsNoEquationForTheOperands) {
  for (const char* equation :
       {"", "ij", "i,j,k->i", "i,j->i->j", "i1,j->i", "i,j->ii", "i,j->k", "....,j->j", "..,j->j",
        "...i...,j->j", "abcdefghijklmnop,j->j", "i,-j>"}) {
    EXPECT_FALSE(ParseEinsum(equation, {1, 1}).ok()) << equation;
  }
  EXPECT_FALSE(ParseEinsum("ij,j->i", {3, 1}).ok());
  EXPECT_FALSE(ParseEinsum("...ij,j->i", {1, 1}).ok());
}

struct Operand {
  Operand(Shape s) : shape(std::move(s)) {}  // NOLINT: f32
  Operand(Ints v)
      : shape({static_cast<int64_t>(v.size())}), content(Tensor::FromS64(shape, v)) {}  // NOLINT
  Shape shape;
  std::optional<Tensor> content;
};

absl::StatusOr<std::vector<ResultInfo>> Infer(const std::string& op,
                                              const std::vector<Operand>& operands,
                                              Attributes attributes = {}) {
  Node node;
  node.op = op;
  node.attributes = std::move(attributes);
  node.outputs = {0};
  std::vector<OperandInfo> infos;
  for (const Operand& o : operands) {
    infos.push_back({o.content ? DType::kS64 : DType::kF32, o.shape,
                     o.content ? &*o.content : nullptr, true, nullptr});
  }
  return InferNode(node, infos);
}

std::string Shapes(const std::string& op, const std::vector<Operand>& operands,
                   Attributes attributes = {}) {
  const auto results = Infer(op, operands, std::move(attributes));
  if (!results.ok()) return std::string(results.status().message());
  return (*results)[0].shape.has_value() ? ShapeString(*(*results)[0].shape) : "unknown rank";
}

TEST(SamplingShapesTest, FollowTheOperators) {
  EXPECT_EQ(Shapes("Einsum", {Shape{kU, 3}, Shape{3, 4}}, {{"equation", std::string("ab,bc->ca")}}),
            "[4, ?]");
  EXPECT_EQ(Shapes("GridSample", {Shape{kU, 3, 8, 9}, Shape{2, 5, 6, 2}}), "[2, 3, 5, 6]");
  EXPECT_EQ(Shapes("AffineGrid", {Shape{2, 3, 4}, Ints{2, 1, 5, 6, 7}}), "[2, 5, 6, 7, 3]");
  EXPECT_EQ(Shapes("CenterCropPad", {Shape{kU, 8, 9}, Ints{4, 20}}, {{"axes", Ints{-2, -1}}}),
            "[?, 4, 20]");
  EXPECT_EQ(Shapes("Col2Im", {Shape{1, 5, 5}, Ints{5, 5}, Ints{1, 5}}), "[1, 1, 5, 5]");
  EXPECT_EQ(Shapes("RoiAlign", {Shape{1, 3, 8, 8}, Shape{7, 4}, Shape{kU}},
                   {{"output_height", int64_t{2}}, {"output_width", int64_t{5}}}),
            "[7, 3, 2, 5]");
  EXPECT_EQ(Shapes("MaxUnpool", {Shape{1, 2, 3, 3}, Shape{1, 2, 3, 3}},
                   {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}}),
            "[1, 2, 6, 6]");
  EXPECT_EQ(Shapes("DFT", {Shape{kU, 10, 1}, Ints{16}}, {{"onesided", int64_t{1}}}), "[?, 9, 2]");
  EXPECT_EQ(Shapes("STFT", {Shape{2, 100, 1}, Ints{10}, Shape{16}}), "[2, 9, 9, 2]");
  EXPECT_EQ(Shapes("HannWindow", {Ints{10}}), "[10]");
  EXPECT_EQ(Shapes("TfIdfVectorizer", {Shape{kU, 12}}, {{"ngram_indexes", Ints{0, 6, 2}}}),
            "[?, 7]");
}

TEST(SamplingShapesTest, RefuseWhatDoesNotFit) {
  EXPECT_THAT(
      Shapes("Einsum", {Shape{2, 3}, Shape{4, 4}}, {{"equation", std::string("ab,bc->ac")}}),
      HasSubstr("expected 3"));
  EXPECT_THAT(Shapes("GridSample", {Shape{1, 3, 8, 9}, Shape{1, 5, 6, 3}}),
              HasSubstr("grid of shape"));
  EXPECT_THAT(
      Shapes("GridSample", {Shape{1, 3, 8, 9}, Shape{1, 5, 6, 2}}, {{"mode", std::string("best")}}),
      HasSubstr("best"));
  EXPECT_THAT(Shapes("AffineGrid", {Shape{2, 2, 3}, Ints{2, 1, 5, 6, 7}}), HasSubstr("theta"));
  EXPECT_THAT(Shapes("CenterCropPad", {Shape{8, 9}, Ints{-1, 4}}), HasSubstr("found -1"));
  EXPECT_THAT(Shapes("Col2Im", {Shape{1, 5, 5}, Ints{5, 5}, Ints{0, 5}}), HasSubstr("contains 0"));
  EXPECT_THAT(Shapes("MaxUnpool", {Shape{1, 1, 3}, Shape{1, 1, 3}},
                     {{"kernel_shape", Ints{2}}, {"pads", Ints{9, 9}}}),
              HasSubstr("output size"));
  EXPECT_THAT(Shapes("DFT", {Shape{1, 10, 1}, Ints{0}}), HasSubstr("dft_length is 0"));
  EXPECT_THAT(Shapes("DFT", {Shape{1, 10, 3}}), HasSubstr("1 (real) or 2 (complex)"));
  EXPECT_THAT(Shapes("STFT", {Shape{1, 10, 1}, Ints{0}, Shape{4}}), HasSubstr("frame_step is 0"));
  EXPECT_THAT(Shapes("STFT", {Shape{1, 10, 1}, Ints{1}, Shape{40}}), HasSubstr("frames of 40"));
  EXPECT_THAT(Shapes("HannWindow", {Ints{-4}}), HasSubstr("found -4"));
  EXPECT_THAT(Shapes("TfIdfVectorizer", {Shape{12}}, {{"ngram_indexes", Ints{-1}}}),
              HasSubstr("found -1"));
  EXPECT_THAT(
      Shapes("ScatterND", {Shape{2}, Ints{0}, Shape{1}}, {{"reduction", std::string("avg")}}),
      HasSubstr("avg"));
}

BatchProof Prove(GraphBuilder* b, ValueId y) {
  b->Output(y, "y");
  const absl::Status status = InferShapes(&b->graph);
  EXPECT_TRUE(status.ok()) << status;
  return ProveBatchable(b->graph);
}

BatchProof ProveEinsum(const std::string& equation, std::optional<Shape> weights) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Shape{kU, 3, 3});
  std::vector<ValueId> operands = {x};
  if (weights.has_value()) operands.push_back(b.Weights(*weights));
  return Prove(&b, b.Add("Einsum", operands, {{"equation", equation}}));
}

TEST(SamplingRowsTest, EinsumKeepsRowsWhoseLabelLeads) {
  EXPECT_TRUE(ProveEinsum("bij,jk->bik", Shape{3, 4}).batchable);
  EXPECT_TRUE(ProveEinsum("bii->b", std::nullopt).batchable);
  EXPECT_FALSE(ProveEinsum("bij,jk->ibk", Shape{3, 4}).batchable);  // rows move to axis 1
  EXPECT_FALSE(ProveEinsum("bij,jk->ik", Shape{3, 4}).batchable);   // rows are summed
  EXPECT_FALSE(ProveEinsum("bij->ij", std::nullopt).batchable);
}

TEST(SamplingRowsTest, OperatorsThatWalkTheirBatchesTogether) {
  {
    GraphBuilder b;
    const ValueId x = b.Input("x", Shape{kU, 2, 5, 5}), grid = b.Input("grid", Shape{kU, 3, 3, 2});
    EXPECT_TRUE(Prove(&b, b.Add("GridSample", {x, grid})).batchable);
  }
  {
    GraphBuilder b;
    const ValueId x = b.Input("x", Shape{kU, 8, 1});
    EXPECT_TRUE(Prove(&b, b.Add("DFT", {x})).batchable);
  }
  {
    GraphBuilder b;
    const ValueId x = b.Input("x", Shape{kU, 8, 1});
    EXPECT_FALSE(Prove(&b, b.Add("DFT", {x, kNoValue, b.Int(0)})).batchable);
  }
  {
    GraphBuilder b;
    const ValueId x = b.Input("x", Shape{kU, 8}), at = b.Input("at", Shape{kU, 2}, DType::kS64),
                  u = b.Input("u", Shape{kU, 2});
    EXPECT_TRUE(Prove(&b, b.Add("ScatterElements", {x, at, u}, {{"axis", int64_t{1}}})).batchable);
  }
  {
    GraphBuilder b;
    const ValueId x = b.Input("x", Shape{kU, 8}), at = b.Input("at", Shape{kU, 1}, DType::kS64),
                  u = b.Input("u", Shape{kU, 8});
    EXPECT_FALSE(Prove(&b, b.Add("ScatterND", {x, at, u})).batchable);  // its indices name rows
  }
}

}  // namespace
}  // namespace octet::graph
