// Products that share weights give what they give one by one, and run once.
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/test_util.h"

namespace octet::engine {
namespace {

using graph::ValueId;

std::vector<float> Numbers(size_t n, uint64_t seed) {
  std::vector<float> x(n);
  const CounterRng rng(seed);
  for (size_t i = 0; i < n; ++i) x[i] = static_cast<float>(rng.Uniform(i) * 2 - 1);
  return x;
}

int64_t Stacked(const Program& program) {
  const std::vector<PassNote> notes = program.PassNotes();
  return std::count_if(notes.begin(), notes.end(), [](const PassNote& n) { return n.pass == "stack-siblings"; });
}

std::vector<float> Result(const GraphMaker& m, const std::vector<Tensor>& inputs, int64_t* stacked) {
  auto program = Program::Compile(m.g);
  EXPECT_TRUE(program.ok()) << program.status();
  *stacked = Stacked(**program);
  EXPECT_TRUE((*program)->batch_proof().batchable) << (*program)->batch_proof().obstacle;
  const auto out = RunProgram(**program, inputs);
  EXPECT_TRUE(out.ok()) << out.status();
  return (*out)[0].ToF32();
}

// A branch of convolutions, a residual sum, pooling and a product; the same weights in every branch of one graph.
class Branches {
 public:
  ValueId Add(ValueId x, const std::string& name) {
    const auto n = [&](const char* stem) { return absl::StrCat(stem, name); };
    const std::vector<std::pair<std::string, graph::Attribute>> same = {{"pads", std::vector<int64_t>{1, 1, 1, 1}}};
    const ValueId a = m_.Node("Relu", {m_.Node("Conv", {x, w0_, b0_}, n("c0"), same)}, n("a"));
    const ValueId b = m_.Node("Conv", {a, w1_}, n("c1"), same);
    const ValueId sum = m_.Node("Add", {m_.Node("Mul", {b, half_}, n("h")), a}, n("s"));
    const ValueId pooled = m_.Node("MaxPool", {sum}, n("p"), {{"kernel_shape", std::vector<int64_t>{2, 2}}});
    const ValueId flat = m_.Node("Flatten", {m_.Node("GlobalAveragePool", {pooled}, n("g"))}, n("f"));
    return m_.Node("Gemm", {flat, w2_, b2_}, n("y"));
  }
  GraphMaker& maker() { return m_; }

 private:
  GraphMaker m_;
  ValueId w0_ = m_.Random("w0", {4, 2, 3, 3}, 1), b0_ = m_.Random("b0", {4}, 2), w1_ = m_.Random("w1", {4, 4, 3, 3}, 3);
  ValueId half_ = m_.F32("half", {}, {0.5f}), w2_ = m_.Random("w2", {4, 5}, 4), b2_ = m_.Random("b2", {5}, 5);
};

// Rows, three of each input, must come back in their order. Tolerance: sums of some 40 f32 products in another order.
TEST(StackSiblings, SharedWeightsGiveWhatEachBranchGivesAlone) {
  const Shape shape = {3, 2, 6, 6}, free = {kUnknownDim, 2, 6, 6};
  std::vector<Tensor> inputs;
  std::vector<float> expected;
  int64_t stacked = 0;
  for (uint64_t t = 0; t < 3; ++t) {
    inputs.push_back(Tensor::FromF32(shape, Numbers(3 * 2 * 36, 10 + t)));
    Branches alone;
    alone.maker().Output(alone.Add(alone.maker().Input("x", free), "1"));
    const std::vector<float> y = Result(alone.maker(), {inputs.back()}, &stacked);
    EXPECT_EQ(stacked, 0);
    expected.insert(expected.end(), y.begin(), y.end());
  }
  Branches together;
  GraphMaker& m = together.maker();
  std::vector<ValueId> xs, ys;
  for (int t = 0; t < 3; ++t) xs.push_back(m.Input(absl::StrCat("x", t), free));
  for (int t = 0; t < 3; ++t) ys.push_back(together.Add(xs[static_cast<size_t>(t)], absl::StrCat(t)));
  m.Output(m.Node("Concat", ys, "all", {{"axis", int64_t{1}}}));
  const std::vector<float> found = Result(m, inputs, &stacked);
  EXPECT_GE(stacked, 8) << "both convolutions, the product, and all between them";
  for (size_t t = 0; t < 3; ++t) {
    for (size_t row = 0; row < 3; ++row) {
      for (size_t c = 0; c < 5; ++c) {
        EXPECT_NEAR(found[row * 15 + t * 5 + c], expected[t * 15 + row * 5 + c], 1e-5) << t << " " << row << " " << c;
      }
    }
  }
}

// y = relu(relu(x W) W): the second product waits for the first.
TEST(StackSiblings, LeavesProductsThatDependOnEachOther) {
  GraphMaker m, first, second;
  const ValueId w = m.Random("w", {6, 6}, 1);
  const ValueId a = m.Node("Relu", {m.Node("MatMul", {m.Input("x", {kUnknownDim, 6}), w}, "a")}, "ra");
  m.Output(m.Node("Relu", {m.Node("MatMul", {a, w}, "b")}, "y"));
  for (GraphMaker* half : {&first, &second}) {
    half->Output(half->Node("Relu", {half->Node("MatMul", {half->Input("x", {kUnknownDim, 6}), half->Random("w", {6, 6}, 1)}, "a")}, "y"));
  }
  const Tensor x = Tensor::FromF32({4, 6}, Numbers(24, 7));
  int64_t stacked = 0;
  const std::vector<float> found = Result(m, {x}, &stacked);
  EXPECT_EQ(stacked, 0);
  const Tensor between = Tensor::FromF32({4, 6}, Result(first, {x}, &stacked));
  const std::vector<float> expected = Result(second, {between}, &stacked);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-5);
}

TEST(StackSiblings, LeavesSourcesOfDifferentShapesAndWorkAlongRows) {
  GraphMaker shapes;
  const ValueId w = shapes.Random("w", {4, 2, 1, 1}, 1);
  std::vector<ValueId> pooled;
  for (int64_t side : {4, 6}) {
    const ValueId x = shapes.Input(absl::StrCat("x", side), {kUnknownDim, 2, side, side});
    pooled.push_back(shapes.Node("GlobalAveragePool", {shapes.Node("Conv", {x, w}, absl::StrCat("c", side))}, absl::StrCat("p", side)));
  }
  shapes.Output(shapes.Node("Add", pooled, "y"));
  int64_t stacked = 0;
  Result(shapes, {Tensor::FromF32({1, 2, 4, 4}, Numbers(32, 1)), Tensor::FromF32({1, 2, 6, 6}, Numbers(72, 2))}, &stacked);
  EXPECT_EQ(stacked, 0);

  // Softmax along axis 0 has no batch: without the proof nothing is stacked.
  GraphMaker rows;
  const ValueId v = rows.Random("w", {6, 6}, 1);
  std::vector<ValueId> y;
  for (int t = 0; t < 2; ++t) {
    const ValueId x = rows.Input(absl::StrCat("x", t), {kUnknownDim, 6});
    y.push_back(rows.Node("Softmax", {rows.Node("MatMul", {x, v}, absl::StrCat("a", t))}, absl::StrCat("s", t), {{"axis", int64_t{0}}}));
  }
  rows.Output(rows.Node("Add", y, "y"));
  auto program = Program::Compile(rows.g);
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_EQ(Stacked(**program), 0);
}

}  // namespace
}  // namespace octet::engine
