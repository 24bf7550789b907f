// Indexing, Einsum, sampling and signal operators as whole programs: lowering, storage of quantized
// values, hostile contents of requests.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "engine/program.h"
#include "engine/test_util.h"

namespace octet::engine {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Ints = std::vector<int64_t>;

Tensor Random(DType dtype, Shape shape, uint64_t seed) {
  const auto n = static_cast<size_t>(NumElements(shape));
  const CounterRng rng(seed);
  if (dtype == DType::kS64) {
    Ints values(n);
    for (size_t i = 0; i < n; ++i) values[i] = static_cast<int64_t>(rng.Bits(i) % 19) - 9;
    return Tensor::FromS64(std::move(shape), values);
  }
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = static_cast<float>(rng.Uniform(i) * 2 - 1);
  return Tensor::FromF32(std::move(shape), values);
}

absl::StatusOr<std::vector<Tensor>> RunOnce(GraphMaker& m, const std::vector<Tensor>& inputs) {
  OCTET_ASSIGN_OR_RETURN(auto program, Program::Compile(std::move(m.g)));
  return RunProgram(*program, inputs, 2);
}

std::vector<std::string> Implementations(Program& program, const std::vector<Shape>& shapes) {
  auto specialisation = program.Specialise(shapes, 2);
  EXPECT_TRUE(specialisation.ok()) << specialisation.status();
  std::vector<std::string> out;
  if (!specialisation.ok()) return out;
  for (const StepInfo& step : (*specialisation)->Steps()) out.push_back(step.implementation);
  return out;
}

// Einsum by its definition: every assignment of the letters of "ab,bc->ac" (no ellipsis) in turn.
std::vector<double> EinsumByLetters(const std::string& equation,
                                    const std::vector<Tensor>& operands) {
  const size_t arrow = equation.find("->");
  std::vector<std::string> terms(1);
  for (char c : equation.substr(0, arrow))
    c == ',' ? void(terms.emplace_back()) : void(terms.back() += c);
  const std::string result = equation.substr(arrow + 2);
  std::map<char, int64_t> size;
  for (size_t k = 0; k < terms.size(); ++k) {
    for (size_t d = 0; d < terms[k].size(); ++d) {
      int64_t& s = size[terms[k][d]];
      s = std::max(s, operands[k].shape()[d]);
    }
  }
  std::string letters = result;
  for (const auto& [letter, s] : size) {
    if (result.find(letter) == std::string::npos) letters += letter;
  }
  int64_t results = 1, all = 1;
  for (char c : result) results *= size[c];
  for (char c : letters) all *= size[c];
  std::vector<std::vector<double>> values;
  for (const Tensor& t : operands) values.push_back(t.ToF64());
  std::vector<double> out(static_cast<size_t>(results), 0);
  for (int64_t i = 0; i < all; ++i) {
    std::map<char, int64_t> at;
    int64_t rest = i;
    for (size_t d = letters.size(); d-- > 0;) {
      at[letters[d]] = rest % size[letters[d]];
      rest /= size[letters[d]];
    }
    double product = 1;
    for (size_t k = 0; k < terms.size(); ++k) {
      int64_t offset = 0;
      for (size_t d = 0; d < terms[k].size(); ++d) {
        const int64_t dim = operands[k].shape()[d];
        offset = offset * dim + (dim == 1 ? 0 : at[terms[k][d]]);
      }
      product *= values[k][static_cast<size_t>(offset)];
    }
    out[static_cast<size_t>(i / (all / results))] += product;
  }
  return out;
}

struct EinsumCase {
  const char* equation;
  std::vector<Shape> shapes;
};

TEST(EinsumTest, EqualsTheDefinitionForEveryKindOfEquation) {
  const std::vector<EinsumCase> cases = {
      {"ij,jk->ik", {{3, 4}, {4, 5}}},
      {"bhid,bhjd->bhij", {{2, 3, 4, 5}, {2, 3, 6, 5}}},
      {"bhij,bhjd->bhid", {{2, 3, 4, 6}, {2, 3, 6, 5}}},
      {"bqhd,bkhd->bhqk", {{2, 4, 3, 5}, {2, 6, 3, 5}}},
      {"bhqk,bkhd->bqhd", {{2, 3, 4, 6}, {2, 6, 3, 5}}},
      {"abc,cde->abde", {{2, 3, 4}, {4, 3, 2}}},
      {"ki,kj->ij", {{4, 3}, {4, 5}}},
      {"i,j->ij", {{3}, {4}}},
      {"i,i->", {{7}, {7}}},
      {"bi,bi->b", {{3, 5}, {3, 5}}},
      {"ijk->kji", {{2, 3, 4}}},
      {"ij->", {{3, 4}}},
      {"ij->j", {{3, 4}}},
      {"ii->i", {{4, 4}}},
      {"ii->", {{4, 4}}},
      {"bii,ik->bk", {{2, 3, 3}, {3, 4}}},
      {"ab,bc,cd->ad", {{2, 3}, {3, 4}, {4, 5}}},
      {"ab,bc,ac->c", {{2, 3}, {3, 4}, {2, 4}}},
      {"abx,bc->ac", {{2, 3, 4}, {3, 5}}},
      {"ab,cd->abcd", {{2, 3}, {4, 2}}},
      {"ab,bc->ac", {{1, 3}, {3, 4}}},
      {"bij,bjk->bik", {{1, 3, 4}, {5, 4, 2}}},
      {"bij,bjk->bik", {{5, 3, 4}, {5, 1, 2}}},
      {"ab,bc->ac", {{2, 0}, {0, 4}}},
      {"ab,bc->ac", {{0, 3}, {3, 4}}},
  };
  for (DType dtype : {DType::kF32, DType::kS64}) {
    for (const EinsumCase& c : cases) {
      GraphMaker m;
      std::vector<graph::ValueId> ids;
      std::vector<Tensor> inputs;
      for (size_t i = 0; i < c.shapes.size(); ++i) {
        ids.push_back(m.Input("x" + std::to_string(i), c.shapes[i], dtype));
        inputs.push_back(Random(dtype, c.shapes[i], i + 1));
      }
      const auto y = m.Node("Einsum", ids, "y", {{"equation", std::string(c.equation)}});
      m.g.value(y).dtype = dtype;
      m.Output(y);
      const auto found = RunOnce(m, inputs);
      ASSERT_TRUE(found.ok()) << c.equation << ": " << found.status();
      const std::vector<double> want = EinsumByLetters(c.equation, inputs), f = (*found)[0].ToF64();
      ASSERT_EQ(f.size(), want.size()) << c.equation;
      for (size_t i = 0; i < want.size(); ++i)
        EXPECT_NEAR(f[i], want[i], 1e-5) << c.equation << " " << i;
    }
  }
}

TEST(EinsumTest, EllipsesBroadcastFromTheRight) {
  GraphMaker m;
  const auto a = m.Input("a", {2, 1, 3, 4}), b = m.Input("b", {5, 4, 6});
  m.Output(m.Node("Einsum", {a, b}, "y", {{"equation", std::string("...ij,...jk->...ik")}}));
  const std::vector<Tensor> inputs = {Random(DType::kF32, {2, 1, 3, 4}, 1),
                                      Random(DType::kF32, {5, 4, 6}, 2)};
  const auto found = RunOnce(m, inputs);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)[0].shape(), (Shape{2, 5, 3, 6}));
  const std::vector<double> want = EinsumByLetters("abij,bjk->abik", inputs),
                            f = (*found)[0].ToF64();
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(f[i], want[i], 1e-5);
}

// Attention's scores need no copies: one product, the second operand transposed as it lies.
TEST(EinsumTest, AttentionScoresAreOneMatrixProduct) {
  GraphMaker m;
  const Shape q = {2, 3, 64, 32}, k = {2, 3, 48, 32};
  m.Output(m.Node("Einsum", {m.Input("q", q), m.Input("k", k)}, "y",
                  {{"equation", std::string("bhid,bhjd->bhij")}}));
  auto program = Program::Compile(std::move(m.g));
  ASSERT_TRUE(program.ok()) << program.status();
  const std::vector<std::string> steps = Implementations(**program, {q, k});
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_THAT(steps[0], StartsWith("onednn"));
}

// ---- hostile contents: the message names node, index and bound

absl::Status RunWithIndices(const std::string& op, Shape data, Shape indices,
                            std::vector<int64_t> values, std::optional<Shape> updates) {
  GraphMaker m;
  std::vector<graph::ValueId> ids = {m.Input("data", data),
                                     m.Input("indices", indices, DType::kS64)};
  std::vector<Tensor> inputs = {Random(DType::kF32, data, 1), Tensor::FromS64(indices, values)};
  if (updates.has_value()) {
    ids.push_back(m.Input("updates", *updates));
    inputs.push_back(Random(DType::kF32, *updates, 2));
  }
  m.Output(m.Node(op, ids, "y"));
  return RunOnce(m, inputs).status();
}

TEST(HostileIndicesTest, FailTheRunNamingNodeIndexAndBound) {
  const int64_t far = std::numeric_limits<int64_t>::min();
  for (const absl::Status& s :
       {RunWithIndices("Gather", {3, 2}, {2}, {0, 3}, {}),
        RunWithIndices("GatherElements", {3, 2}, {1, 2}, {0, 3}, {}),
        RunWithIndices("GatherND", {3, 2}, {2, 1}, {0, 3}, {}),
        RunWithIndices("ScatterElements", {3, 2}, {1, 2}, {0, 3}, Shape{1, 2}),
        RunWithIndices("ScatterND", {3, 2}, {2, 1}, {0, 3}, Shape{2, 2})}) {
    EXPECT_EQ(s.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(s.message()), HasSubstr("node_y"));
    EXPECT_THAT(std::string(s.message()), HasSubstr("index 3 (element 1) is outside [-3, 3)"));
  }
  EXPECT_FALSE(RunWithIndices("Gather", {3, 2}, {1}, {far}, {}).ok());
  EXPECT_FALSE(RunWithIndices("ScatterND", {3, 2}, {1, 1}, {far}, Shape{1, 2}).ok());
  EXPECT_TRUE(RunWithIndices("Gather", {3, 2}, {1}, {-3}, {}).ok());
  EXPECT_TRUE(RunWithIndices("ScatterND", {3, 2}, {1, 1}, {-3}, Shape{1, 2}).ok());
}

// ---- storage

// u8 values through operators that only move or rank them: no step computes on reals before the
// last conversion.
TEST(QuantizedMovesTest, GathersAndRanksStayInIntegers) {
  const QuantParams quant = QuantParams::PerTensor(0.5f, 10);
  GraphMaker m;
  const auto x = m.Input("x", {2, 8});
  auto y = m.Node("Quantize", {x}, "q", {}, quant);
  y = m.Node("GatherElements",
             {y, m.g.AddConstant("at", Tensor::FromS64({2, 4}, {7, 0, 3, 3, 1, 2, 5, -1}))}, "g",
             {{"axis", int64_t{1}}}, quant);
  y = m.Node("ReverseSequence", {y, m.Ints("lengths", {4, 2})}, "r",
             {{"batch_axis", int64_t{0}}, {"time_axis", int64_t{1}}}, quant);
  y = m.Node("CenterCropPad", {y, m.Ints("size", {2, 6})}, "c", {}, quant);
  m.Output(m.Node("Dequantize", {y}, "y"));
  auto program = Program::Compile(std::move(m.g));
  ASSERT_TRUE(program.ok()) << program.status();
  const Tensor input =
      Tensor::FromF32({2, 8}, {0, 1, 2, 3, 4, 5, 6, 7, -1, -2, -3, -4, 8, 9, 10, 11});
  const auto found = RunProgram(**program, {input}, 1);
  ASSERT_TRUE(found.ok()) << found.status();
  // Rows: [7 0 3 3] reversed; [-2 -3 9 11] with its first two exchanged; one zero on either side.
  EXPECT_EQ((*found)[0].ToF32(), (std::vector<float>{0, 3, 3, 0, 7, 0, 0, -3, -2, 9, 11, 0}));
  auto specialisation = (*program)->Specialise(std::vector<Shape>{{2, 8}}, 1);
  ASSERT_TRUE(specialisation.ok());
  for (const StepInfo& step : (*specialisation)->Steps()) {
    if (step.op != "Quantize" && step.op != "Dequantize" && step.op != "Convert") {
      EXPECT_THAT(step.src_types, StartsWith("u8")) << step.op;
      EXPECT_THAT(step.dst_types, StartsWith("u8")) << step.op;
    }
  }
}

TEST(QuantizedMovesTest, SumsOfAScatterAreReals) {
  const QuantParams quant = QuantParams::PerTensor(0.5f, 10);
  GraphMaker m;
  const auto q = m.Node("Quantize", {m.Input("x", {4})}, "q", {}, quant);
  const auto u =
      m.Node("Quantize", {m.Input("u", {2})}, "uq", {}, QuantParams::PerTensor(0.25f, 0));
  const auto at = m.g.AddConstant("at", Tensor::FromS64({2, 1}, {1, 1}));
  m.Output(m.Node("ScatterND", {q, at, u}, "y", {{"reduction", std::string("add")}}));
  const auto found =
      RunOnce(m, {Tensor::FromF32({4}, {1, 2, 3, 4}), Tensor::FromF32({2}, {0.25f, 5.5f})});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)[0].ToF32(), (std::vector<float>{1, 7.75f, 3, 4}));
}

// Constant index tuples of a slice assignment, as PyTorch writes them, are found to be one run.
TEST(ScatterTest, ConstantTuplesBecomeRuns) {
  GraphMaker m;
  Ints tuples;
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t j = 0; j < 4; ++j) tuples.insert(tuples.end(), {i + 1, j});
  }
  const auto at = m.g.AddConstant("at", Tensor::FromS64({3, 4, 2}, tuples));
  m.Output(m.Node("ScatterND", {m.Input("x", {5, 4}), at, m.Input("u", {3, 4})}, "y"));
  auto program = Program::Compile(std::move(m.g));
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_THAT(Implementations(**program, {{5, 4}, {3, 4}}), Contains("runs"));
  const Tensor x = Random(DType::kF32, {5, 4}, 1), u = Random(DType::kF32, {3, 4}, 2);
  const auto found = RunProgram(**program, {x, u}, 2);
  ASSERT_TRUE(found.ok()) << found.status();
  std::vector<float> want = x.ToF32();
  const std::vector<float> updates = u.ToF32();
  std::copy(updates.begin(), updates.end(), want.begin() + 4);
  EXPECT_EQ((*found)[0].ToF32(), want);
}

TEST(TopKTest, BothOutputsOrOneOfThem) {
  for (int read = 0; read < 3; ++read) {
    GraphMaker m;
    const auto x = m.Input("x", {5});
    m.Node("TopK", {x, m.Ints("k", {2})}, "values");
    graph::Value positions;
    positions.name = "positions";
    positions.dtype = DType::kS64;
    const graph::ValueId second = m.g.AddValue(std::move(positions));
    const graph::ValueId first = m.g.nodes.back().outputs[0];
    m.g.nodes.back().outputs = {read == 2 ? graph::kNoValue : first,
                                read == 1 ? graph::kNoValue : second};
    if (read != 2) m.Output(first);
    if (read != 1) m.Output(second);
    const auto found = RunOnce(m, {Tensor::FromF32({5}, {3, 9, 1, 9, 4})});
    ASSERT_TRUE(found.ok()) << found.status();
    if (read != 2) {
      EXPECT_EQ((*found)[0].ToF64(), (std::vector<double>{9, 9}));
    }
    if (read != 1) {
      EXPECT_EQ(found->back().ToF64(), (std::vector<double>{1, 3}));
    }
  }
}

// ---- leftovers of common operators

TEST(PadTest, TheFillValueMayBeComputed) {
  GraphMaker m;
  const auto x = m.Input("x", {3}), fill = m.Input("fill", {});
  m.Output(m.Node("Pad", {x, m.Ints("pads", {1, 2}), m.Node("Neg", {fill}, "minus")}, "y"));
  const auto found = RunOnce(m, {Tensor::FromF32({3}, {1, 2, 3}), Tensor::FromF32({}, {7})});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)[0].ToF32(), (std::vector<float>{-7, 1, 2, 3, -7, -7}));
}

TEST(SliceTest, StepsBackwardAndOfAnySize) {
  const int64_t lowest = std::numeric_limits<int64_t>::min(),
                most = std::numeric_limits<int64_t>::max();
  const auto slice = [](Ints starts, Ints ends, Ints steps) {
    GraphMaker m;
    const auto x = m.Input("x", {5});
    m.Output(m.Node(
        "Slice", {x, m.Ints("s", starts), m.Ints("e", ends), m.Ints("a", {-1}), m.Ints("t", steps)},
        "y"));
    const auto found = RunOnce(m, {Tensor::FromF32({5}, {0, 1, 2, 3, 4})});
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() ? (*found)[0].ToF32() : std::vector<float>();
  };
  using V = std::vector<float>;
  EXPECT_EQ(slice({-1}, {lowest}, {-2}), (V{4, 2, 0}));
  EXPECT_EQ(slice({most}, {0}, {-1}), (V{4, 3, 2, 1}));
  EXPECT_EQ(slice({1}, {most}, {most}), (V{1}));
  EXPECT_EQ(slice({3}, {lowest}, {lowest}), (V{3}));
  EXPECT_EQ(slice({3}, {1}, {1}), (V{}));
  EXPECT_EQ(slice({most}, {most}, {1}), (V{}));
}

TEST(WindowTest, AFileMayNotAskForATableOfAnySize) {
  GraphMaker m;
  m.Output(
      m.Node("HannWindow", {m.g.AddConstant("n", Tensor::FromS64({}, {int64_t{1} << 39}))}, "y"));
  const absl::Status s = RunOnce(m, {}).status();
  EXPECT_EQ(s.code(), absl::StatusCode::kResourceExhausted) << s;
}

TEST(ResizeTest, NearestKeepsIntegersThatNoFloatHolds) {
  GraphMaker m;
  const auto x = m.Input("x", {1, 1, 1, 2}, DType::kS64);
  const auto y = m.Node("Resize", {x, graph::kNoValue, m.F32("scales", {4}, {1, 1, 1, 2})}, "y");
  m.g.value(y).dtype = DType::kS64;
  m.Output(y);
  const int64_t big = (int64_t{1} << 53) + 1;
  const auto found = RunOnce(m, {Tensor::FromS64({1, 1, 1, 2}, {big, -big})});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)[0].ToS64(), (Ints{big, big, -big, -big}));
}

// A batch decided by a request: rows of these operators do not mix.
TEST(RareOperatorsTest, BatchesOfSamplingModelsMayBeMerged) {
  GraphMaker m;
  const auto x = m.Input("x", {kUnknownDim, 2, 6, 6}),
             grid = m.Input("grid", {kUnknownDim, 3, 3, 2});
  auto y = m.Node("GridSample", {x, grid}, "s");
  y = m.Node("Einsum", {y, m.Random("w", {2, 4}, 3)}, "e",
             {{"equation", std::string("bchw,cd->bdhw")}});
  m.Output(m.Node("GlobalLpPool", {y}, "y"));
  auto program = Program::Compile(std::move(m.g));
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_TRUE((*program)->batch_proof().batchable) << (*program)->batch_proof().obstacle;
  const Tensor a = Random(DType::kF32, {3, 2, 6, 6}, 1), g = Random(DType::kF32, {3, 3, 3, 2}, 2);
  const auto all = RunProgram(**program, {a, g}, 2);
  ASSERT_TRUE(all.ok()) << all.status();
  const std::vector<float> av = a.ToF32(), gv = g.ToF32(), joint = (*all)[0].ToF32();
  for (size_t row = 0; row < 3; ++row) {
    const auto alone =
        RunProgram(**program,
                   {Tensor::FromF32({1, 2, 6, 6}, absl::MakeConstSpan(av).subspan(row * 72, 72)),
                    Tensor::FromF32({1, 3, 3, 2}, absl::MakeConstSpan(gv).subspan(row * 18, 18))},
                   2);
    ASSERT_TRUE(alone.ok()) << alone.status();
    for (size_t c = 0; c < 4; ++c) EXPECT_NEAR((*alone)[0].ToF32()[c], joint[row * 4 + c], 1e-5f);
  }
}

}  // namespace
}  // namespace octet::engine
