// The compressor on small networks: fidelity, structure of the result, refusals that name the sample.
#include "compress/compress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>
#include <string>

#include "absl/strings/match.h"
#include "compress/layer_fit.h"
#include "compress/memory_samples.h"
#include "engine/test_util.h"

namespace octet::compress {
namespace {

using ::testing::HasSubstr;

std::vector<Tensor> RandomSamples(int count, Shape shape) {
  std::vector<Tensor> out;
  for (int s = 0; s < count; ++s) {
    const CounterRng rng(77, static_cast<uint64_t>(s));
    std::vector<float> values(static_cast<size_t>(NumElements(shape)));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(rng.Uniform(i));
    out.push_back(Tensor::FromF32(shape, values));
  }
  return out;
}

// Conv - BatchNormalization - Relu - MaxPool, a residual block, GlobalAveragePool - Flatten - Gemm.
graph::Graph Network() {
  engine::GraphMaker m;
  const std::vector<std::pair<std::string, graph::Attribute>> same = {
      {"pads", std::vector<int64_t>{1, 1, 1, 1}}, {"kernel_shape", std::vector<int64_t>{3, 3}}};
  auto y = m.Node("Conv", {m.Input("image", {kUnknownDim, 2, 12, 12}), m.Random("w1", {8, 2, 3, 3}, 1)}, "c1", same);
  y = m.Node("BatchNormalization",
             {y, m.Random("s", {8}, 2), m.Random("o", {8}, 3), m.Random("mean", {8}, 4), m.F32("var", {8}, std::vector<float>(8, 0.7f))},
             "bn1");
  y = m.Node("Relu", {y}, "r1");
  y = m.Node("MaxPool", {y}, "p1",
             {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}});
  const auto shortcut = y;
  y = m.Node("Conv", {y, m.Random("w2", {8, 8, 3, 3}, 5), m.Random("b2", {8}, 6)}, "c2", same);
  y = m.Node("Relu", {y}, "r2");
  y = m.Node("Conv", {y, m.Random("w3", {8, 1, 3, 3}, 7), m.Random("b3", {8}, 8)}, "c3",
             {{"pads", std::vector<int64_t>{1, 1, 1, 1}}, {"kernel_shape", std::vector<int64_t>{3, 3}}, {"group", int64_t{8}}});
  y = m.Node("Add", {y, shortcut}, "sum");
  y = m.Node("Relu", {y}, "r3");
  y = m.Node("GlobalAveragePool", {y}, "gap");
  y = m.Node("Flatten", {y}, "flat");
  y = m.Node("Gemm", {y, m.Random("w4", {5, 8}, 9), m.Random("b4", {5}, 10)}, "logits", {{"transB", int64_t{1}}});
  m.Output(y);
  return m.g;
}

// Network behind which a branch doubles or keeps the logits, and a second output selects by data.
graph::Graph BranchingNetwork(bool inside) {
  engine::GraphMaker m;
  if (!inside) m.g = Network();
  const auto x = inside ? m.Input("image", {kUnknownDim, 2, 12, 12}) : m.g.outputs[0];
  m.g.outputs.clear();
  const std::string name = m.g.value(x).name;
  const auto sum = m.Node("ReduceSum", {x}, "total", {{"keepdims", int64_t{0}}});
  const auto c = m.Node("Greater", {sum, m.F32("zero", {}, {0})}, "positive");
  auto branch = [&](float factor) {
    engine::GraphMaker b;
    graph::Value captured;
    captured.name = name;
    const auto v = b.g.AddValue(std::move(captured));
    auto r = b.Node("Mul", {v, b.F32("f", {}, {factor})}, "r");
    if (inside) r = b.Node("Conv", {r, b.Random("w", {4, 2, 3, 3}, 3)}, "conv");
    b.Output(r);
    return std::make_shared<const graph::Graph>(b.g);
  };
  m.Output(m.Node("If", {c}, "y", {{"then_branch", branch(2)}, {"else_branch", branch(1)}}));
  const auto where = m.Node("Relu", {x}, "clipped");
  m.Output(m.Node("Cast", {m.Node("NonZero", {where}, "where")}, "selected", {{"to", int64_t{1}}}));
  return m.g;
}

TEST(CompressTest, QuantizesWhatLiesOutsideSubgraphs) {
  MemorySamples samples(RandomSamples(20, {2, 12, 12}));
  auto result = Compress(BranchingNetwork(false), samples, *MakeRecipe("int8-nearest"), {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GE(result->report.layers.size(), 3u);
  EXPECT_GT(result->report.outputs[0].sqnr_db, 15);
  EXPECT_LT(result->report.weights_bytes, 0.6 * static_cast<double>(result->report.float_weights_bytes));
}

TEST(CompressTest, SaysThatSubgraphsStayFloat) {
  MemorySamples samples(RandomSamples(4, {2, 12, 12}));
  auto result = Compress(BranchingNetwork(true), samples, *MakeRecipe("int8-nearest"), {});
  EXPECT_TRUE(absl::IsInvalidArgument(result.status())) << result.status();
  EXPECT_THAT(result.status().message(), HasSubstr("outside If 'node_y'"));
}

TEST(CompressTest, Int8StaysCloseToFloatAndReportsIt) {
  MemorySamples samples(RandomSamples(40, {2, 12, 12}));
  CompressOptions options;
  std::map<std::string, int64_t> progress;  // last step of each stage
  options.progress = [&](const Progress& p) {
    EXPECT_EQ(p.done, ++progress[p.stage]) << p.stage;
    EXPECT_LE(p.done, p.total) << p.stage;
  };
  auto result = Compress(Network(), samples, *MakeRecipe("int8-nearest"), options);
  ASSERT_TRUE(result.ok()) << result.status();
  const CompressReport& r = result->report;
  EXPECT_EQ(r.calibration_samples, 32);
  EXPECT_EQ(r.held_back_samples, 8);
  EXPECT_EQ(progress["calibrating"], 32);
  EXPECT_EQ(progress["rounding weights"], 4);
  EXPECT_EQ(progress["comparing"], 8);
  ASSERT_EQ(r.layers.size(), 4u);
  for (size_t i = 0; i < r.layers.size(); ++i) {
    EXPECT_GT(r.layers[i].sqnr_db, 20) << r.layers[i].node;
    if (i > 0) {
      EXPECT_GE(r.layers[i].sqnr_db, r.layers[i - 1].sqnr_db) << "worst first";
    }
  }
  ASSERT_EQ(r.outputs.size(), 1u);
  EXPECT_GT(r.outputs[0].sqnr_db, 20);
  EXPECT_LT(r.outputs[0].sqnr_db, 190) << "equal to the last bit: nothing was quantized";
  EXPECT_GT(r.outputs[0].cosine, 0.99);
  EXPECT_LT(r.weights_bytes, 0.45 * static_cast<double>(r.float_weights_bytes));
}

TEST(CompressTest, TheCompiledResultKeepsIntegersFromFirstToLastProduct) {
  MemorySamples samples(RandomSamples(10, {2, 12, 12}));
  auto result = Compress(Network(), samples, *MakeRecipe("int8-nearest"), {});
  ASSERT_TRUE(result.ok()) << result.status();
  auto program = engine::Program::Compile(result->graph);
  ASSERT_TRUE(program.ok()) << program.status();
  auto s = (*program)->Specialise({Shape{4, 2, 12, 12}}, 1);
  ASSERT_TRUE(s.ok()) << s.status();
  int products = 0;
  for (const engine::StepInfo& step : (*s)->Steps()) {
    if (step.op == "Quantize") continue;
    EXPECT_THAT(step.src_types, ::testing::StartsWith("u8")) << step.op << " " << step.node;
    if (step.op.find("Conv") == 0) {
      EXPECT_THAT(step.dst_types, ::testing::StartsWith("u8")) << step.node;
    }
    products += step.multiply_adds > 0 ? 1 : 0;
  }
  EXPECT_EQ(products, 4);
}

// One encoder layer: attention over 2 heads, normalizations behind residual additions, Gelu by Erf.
graph::Graph EncoderLayer() {
  engine::GraphMaker m;
  const int64_t hidden = 16;
  int seed = 1;
  const auto linear = [&](graph::ValueId x, int64_t in, int64_t out, const std::string& name) {
    x = m.Node("MatMul", {x, m.Random(name + "_w", {in, out}, static_cast<uint64_t>(seed++))}, name + "_product");
    return m.Node("Add", {x, m.Random(name + "_b", {out}, static_cast<uint64_t>(seed++))}, name);
  };
  const auto heads = [&](graph::ValueId x, std::vector<int64_t> order, const std::string& name) {
    x = m.Node("Reshape", {x, m.Ints(name + "_shape", {0, 6, 2, 8})}, name + "_split");
    return m.Node("Transpose", {x}, name + "_heads", {{"perm", std::move(order)}});
  };
  const auto constant = [&](float value, const std::string& name) { return m.F32(name, {}, {value}); };
  const auto norm = [&](graph::ValueId x, const std::string& name) {
    return m.Node("LayerNormalization", {x, m.F32(name + "_s", {hidden}, std::vector<float>(hidden, 1.2f))}, name);
  };
  const graph::ValueId input = m.Input("hidden", {kUnknownDim, 6, hidden});
  graph::ValueId x = norm(input, "norm0");
  const auto q = heads(linear(x, hidden, hidden, "q"), {0, 2, 1, 3}, "q");
  const auto k = heads(linear(x, hidden, hidden, "k"), {0, 2, 3, 1}, "k");
  const auto v = heads(linear(x, hidden, hidden, "v"), {0, 2, 1, 3}, "v");
  auto s = m.Node("Div", {m.Node("MatMul", {q, k}, "scores"), constant(2.83f, "root")}, "scaled");
  s = m.Node("MatMul", {m.Node("Softmax", {s}, "p"), v}, "context");
  s = m.Node("Transpose", {s}, "context_t", {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
  s = m.Node("Reshape", {s, m.Ints("joined_shape", {0, 6, hidden})}, "joined");
  x = norm(m.Node("Add", {linear(s, hidden, hidden, "o"), x}, "residual1"), "norm1");
  auto y = linear(x, hidden, 32, "up");
  const auto erf = m.Node("Erf", {m.Node("Div", {y, constant(1.41421356f, "root2")}, "erf_in")}, "erf");
  y = m.Node("Mul", {y, m.Node("Add", {erf, constant(1, "one")}, "erf1")}, "gated");
  y = linear(m.Node("Mul", {y, constant(0.5f, "half")}, "gelu"), 32, hidden, "down");
  m.Output(norm(m.Node("Add", {y, x}, "residual2"), "norm2"));
  return m.g;
}

TEST(CompressTest, AnEncoderRunsOnIntegersWithRealResidualsAndNoConversions) {
  MemorySamples samples(RandomSamples(20, {6, 16}));
  auto result = Compress(EncoderLayer(), samples, *MakeRecipe("int8-nearest"), {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->report.layers.size(), 6u);
  EXPECT_GT(result->report.outputs[0].sqnr_db, 20);
  EXPECT_LT(result->report.outputs[0].sqnr_db, 190);
  for (const graph::Node& n : result->graph.nodes) {
    if (n.op != "MatMul") continue;
    EXPECT_EQ(n.inputs.size(), 2u) << "ONNX's MatMul has two operands";
  }
  auto program = engine::Program::Compile(result->graph);
  ASSERT_TRUE(program.ok()) << program.status();
  auto s = (*program)->Specialise({Shape{2, 6, 16}}, 1);
  ASSERT_TRUE(s.ok()) << s.status();
  std::vector<std::string> steps;
  for (const engine::StepInfo& step : (*s)->Steps()) steps.push_back(step.op);
  EXPECT_THAT(steps, ::testing::ElementsAre("LayerNormalization+Quantize", "MatMul", "MatMul", "MatMul", "FusedAttention",
                                            "MatMul+Add", "LayerNormalization+Quantize", "MatMul+Gelu", "MatMul+Add",
                                            "LayerNormalization"));
  EXPECT_EQ((*s)->Steps()[4].implementation, "int8");
}

TEST(CompressTest, RefusalsNameTheSample) {
  auto tensors = RandomSamples(5, {2, 12, 12});
  std::vector<float> bad = tensors[2].ToF32();
  bad[17] = std::numeric_limits<float>::quiet_NaN();
  tensors[2] = Tensor::FromF32({2, 12, 12}, bad);
  MemorySamples with_nan(tensors);
  auto status = Compress(Network(), with_nan, *MakeRecipe("int8-nearest"), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("memory[2]"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("element 17"));

  tensors[2] = Tensor::FromF32({2, 12, 11}, std::vector<float>(2 * 12 * 11));
  MemorySamples wrong_shape(tensors);
  status = Compress(Network(), wrong_shape, *MakeRecipe("int8-nearest"), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("memory[2]"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("expected f32[?, 2, 12, 12]"));

  MemorySamples empty({});
  EXPECT_EQ(Compress(Network(), empty, *MakeRecipe("int8-nearest"), {}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(MakeRecipe("int99").status().message()), HasSubstr("int99"));
}

TEST(CompressTest, BiasCorrectionRemovesTheMeanShiftOfRounding) {
  // One Gemm on inputs of mean 0.5: the mean of the error with correction is far below that without.
  engine::GraphMaker m;
  const auto x = m.Input("x", {kUnknownDim, 64});
  m.Output(m.Node("Gemm", {x, m.Random("w", {64, 3}, 1), m.Random("b", {3}, 2)}, "y"));
  MemorySamples samples(RandomSamples(50, {64}));
  double mean_error[2];
  for (int on = 0; on < 2; ++on) {
    Recipe recipe = *MakeRecipe("int8-nearest");
    recipe.mutable_ranges()->set_method("minmax");
    recipe.mutable_corrections()->set_bias(on == 1 ? compression::v1::Corrections::ON
                                                   : compression::v1::Corrections::OFF);
    auto result = Compress(m.g, samples, recipe, {});
    ASSERT_TRUE(result.ok()) << result.status();
    // Exaggerated rounding would show more; here the s8 grid's own shift is what is compared.
    auto a = engine::Program::Compile(m.g), b = engine::Program::Compile(result->graph);
    std::vector<double> shift(3, 0.0);
    for (int64_t i = 0; i < 50; ++i) {
      const Tensor t = samples.Read(i)->inputs[0].Reshaped({1, 64});
      const auto ya = (*engine::RunProgram(**a, {t}))[0].ToF32(), yb = (*engine::RunProgram(**b, {t}))[0].ToF32();
      for (size_t c = 0; c < 3; ++c) shift[c] += (yb[c] - ya[c]) / 50;
    }
    mean_error[on] = std::fabs(shift[0]) + std::fabs(shift[1]) + std::fabs(shift[2]);
  }
  EXPECT_LT(mean_error[1], mean_error[0]);
}

TEST(CompressTest, EverySchemeCompressesAndKeepsTheValuesApart) {
  for (const std::string& name : SchemeNames()) {
    MemorySamples samples(RandomSamples(30, {2, 12, 12}));
    const auto result = Compress(Network(), samples, *MakeRecipe(name), {});
    ASSERT_TRUE(result.ok()) << name << ": " << result.status();
    EXPECT_EQ(result->report.layers.size(), 4u) << name;
    EXPECT_GT(result->report.outputs[0].sqnr_db, 3) << name;
    EXPECT_LT(result->report.outputs[0].sqnr_db, 190) << name << ": nothing was compressed";
    EXPECT_EQ(result->recipe.calibration().sha256().size(), 64u);
  }
}

// Conv (bright inputs, large weights of one sign: pairs overflow) - Relu - depthwise Conv whose channels differ.
graph::Graph TrickyNetwork() {
  engine::GraphMaker m;
  const auto image = m.Input("image", {kUnknownDim, 2, 12, 12});
  auto y = m.Node("Conv", {image, m.F32("w1", {8, 2, 1, 1}, std::vector<float>(16, 1))}, "bright");
  y = m.Node("Relu", {y}, "r1");
  std::vector<float> uneven(8 * 9, 0.01f);
  for (size_t i = 0; i < 9; ++i) uneven[i] = 1;
  y = m.Node("Conv", {y, m.F32("w2", {8, 1, 3, 3}, uneven)}, "uneven",
             {{"kernel_shape", std::vector<int64_t>{3, 3}}, {"group", int64_t{8}}});
  m.Output(y);
  return m.g;
}

const LayerReport& LayerOf(const CompressReport& report, const std::string& node) {
  for (const LayerReport& l : report.layers) {
    if (l.node == node) return l;
  }
  ADD_FAILURE() << "no layer " << node;
  return report.layers[0];
}

TEST(CompressTest, OneScaleForUnevenChannelsIsATrap) {
  MemorySamples samples(RandomSamples(8, {2, 12, 12}));
  Recipe recipe = *MakeRecipe("int8-nearest");
  auto result = Compress(TrickyNetwork(), samples, recipe, {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->report.traps.empty()) << result->report.traps[0].text;
  recipe.mutable_layers()->set_group(-1);
  result = Compress(TrickyNetwork(), samples, recipe, {});
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->report.traps.size(), 1u);
  EXPECT_EQ(result->report.traps[0].kind, TrapKind::kPerTensor);
  EXPECT_EQ(result->report.traps[0].where, "node_uneven");
  EXPECT_THAT(result->report.traps[0].text, HasSubstr("88 % of them"));
}

TEST(CompressTest, SevenBitsWhereSumsOfPairsOverflow) {
  MemorySamples samples(RandomSamples(8, {2, 12, 12}));
  Recipe recipe = *MakeRecipe("int8-nearest");
  auto result = Compress(TrickyNetwork(), samples, recipe, {});
  ASSERT_TRUE(result.ok()) << result.status();
  // u + v > 32767 / 127 = 258 for codes that are even over 0..255: a bit less than half of all pairs.
  EXPECT_NEAR(LayerOf(result->report, "node_bright").overflow_share.value(), 0.5, 0.05);
  EXPECT_EQ(LayerOf(result->report, "node_uneven").overflow_share.value(), 0) << "depthwise products stand alone";
  recipe.mutable_corrections()->set_reduced_range(compression::v1::Corrections::WHERE_NEEDED);
  result = Compress(TrickyNetwork(), samples, recipe, {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(LayerOf(result->report, "node_bright").overflow_share.value(), 0);
  EXPECT_THAT(LayerOf(result->report, "node_bright").scheme, HasSubstr("int7"));
  EXPECT_THAT(LayerOf(result->report, "node_uneven").scheme, HasSubstr("int8"));
  // The applied recipe says it by name: with it the same network comes out.
  const std::string applied = RecipeText(result->recipe);
  EXPECT_THAT(applied, HasSubstr("node_bright"));
  auto again = Compress(TrickyNetwork(), samples, *ParseRecipe(applied), {});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(RecipeText(again->recipe), applied);
  EXPECT_EQ(again->report.outputs[0].sqnr_db, result->report.outputs[0].sqnr_db);
}

TEST(CompressTest, BytesOfMatricesAreTheirWeights) {
  engine::GraphMaker m;
  auto y = m.Node("MatMul", {m.Input("x", {kUnknownDim, 16}), m.Random("w", {16, 24}, 1)}, "product");
  m.Output(m.Node("Add", {y, m.Random("b", {24}, 2)}, "y"));
  MemorySamples samples(RandomSamples(8, {16}));
  auto result = Compress(m.g, samples, *MakeRecipe("int8-nearest"), {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->report.layers[0].weights_bytes, 16 * 24 + 24 * 4);
}

TEST(CompressTest, LaterLayersMakeUpForEarlierOnes) {
  // The same grids, each layer alone or behind the compressed ones before it.
  double sqnr[2];
  for (int sequential = 0; sequential < 2; ++sequential) {
    Recipe recipe = *ParseRecipe("layers { grid: 'int2' rounding: ERROR_FEEDBACK_ORDERED weighted: true }");
    recipe.mutable_corrections()->set_sequential(sequential == 1 ? compression::v1::Corrections::ON
                                                                 : compression::v1::Corrections::OFF);
    MemorySamples samples(RandomSamples(60, {2, 12, 12}));
    const auto result = Compress(Network(), samples, recipe, {});
    ASSERT_TRUE(result.ok()) << result.status();
    sqnr[sequential] = result->report.outputs[0].sqnr_db;
  }
  EXPECT_GT(sqnr[1], sqnr[0] + 1);
}

// The second convolution's ReLU is seen; the depthwise one behind it, whose sum goes on to an addition, has none of its own.
TEST(CompressTest, LocalReparameterisationFitsBehindTheActivationAndSaysSo) {
  MemorySamples samples(RandomSamples(60, {2, 12, 12}));
  const char* text = "layers { grid: 'ternary' rounding: LEARNED distribution { samples: 2 local { steps: 200 rows: 2000 } } } "
                     "rules { position: FIRST scheme { grid: 'int8' } } corrections { sequential: ON }";
  auto result = Compress(Network(), samples, *ParseRecipe(text), {});
  ASSERT_TRUE(result.ok()) << result.status();
  int notes = 0;
  for (const std::string& note : result->report.notes) notes += absl::StrContains(note, "local reparameterisation moved") ? 1 : 0;
  EXPECT_EQ(notes, 3);
  int distributions = 0;
  for (const graph::Value& v : result->graph.values) distributions += v.alternatives.has_value() ? 1 : 0;
  EXPECT_EQ(distributions, 3);
  EXPECT_THAT(result->report.layers[0].scheme, HasSubstr("ternary learned local distribution"));
}

TEST(ClampBehindTest, IsTheReluOrClipThatAloneReadsTheResult) {
  engine::GraphMaker m;
  const auto x = m.Input("x", {kUnknownDim, 4});
  const auto relu = m.Node("Gemm", {x, m.Random("w1", {4, 4}, 1)}, "g1");
  auto y = m.Node("Relu", {relu}, "r1");
  y = m.Node("Gemm", {y, m.Random("w2", {4, 4}, 1)}, "g2");
  y = m.Node("Clip", {y, m.F32("low", {}, {-1}), m.F32("high", {}, {6})}, "c2");
  y = m.Node("Gemm", {y, m.Random("w3", {4, 4}, 1)}, "g3");
  y = m.Node("Tanh", {y}, "t3");
  y = m.Node("Gemm", {y, m.Random("w4", {4, 4}, 1)}, "g4");
  m.Output(y);
  const graph::Graph g = *Prepare(m.g);
  const std::vector<Product> products = FindProducts(g);
  ASSERT_EQ(products.size(), 4u);
  std::vector<std::pair<double, double>> found;
  for (const Product& p : products) found.emplace_back(ClampBehind(g, p).low, ClampBehind(g, p).high);
  constexpr double kInf = std::numeric_limits<double>::infinity();
  EXPECT_THAT(found, ::testing::ElementsAre(std::pair(0.0, kInf), std::pair(-1.0, 6.0), std::pair(-kInf, kInf), std::pair(-kInf, kInf)));
}

TEST(CompressTest, RepeatsBitForBitAndRefusesOtherSamples) {
  MemorySamples samples(RandomSamples(20, {2, 12, 12})), others(RandomSamples(21, {2, 12, 12}));
  const auto first = Compress(Network(), samples, *MakeRecipe("ternary"), {});
  ASSERT_TRUE(first.ok()) << first.status();
  const auto again = Compress(Network(), samples, first->recipe, {});
  ASSERT_TRUE(again.ok()) << again.status();
  ASSERT_EQ(first->graph.values.size(), again->graph.values.size());
  for (size_t v = 0; v < first->graph.values.size(); ++v) {
    const graph::Value &a = first->graph.values[v], &b = again->graph.values[v];
    EXPECT_EQ(a.quant, b.quant) << a.name;
    ASSERT_EQ(a.data.has_value(), b.data.has_value());
    if (!a.data) continue;
    EXPECT_EQ(std::memcmp(a.data->data(), b.data->data(), static_cast<size_t>(a.data->size_bytes())), 0) << a.name;
  }
  Recipe changed = first->recipe;
  changed.mutable_calibration()->set_samples(0);
  EXPECT_THAT(std::string(Compress(Network(), others, changed, {}).status().message()), HasSubstr("SHA-256"));
}

TEST(CompressTest, WithoutSamplesBatchNormalizationGivesRanges) {
  // A convolution whose BatchNormalization tells its result's range feeds another; the input's range is given.
  engine::GraphMaker m;
  const std::vector<std::pair<std::string, graph::Attribute>> same = {
      {"pads", std::vector<int64_t>{1, 1, 1, 1}}, {"kernel_shape", std::vector<int64_t>{3, 3}}};
  auto y = m.Node("Conv", {m.Input("image", {kUnknownDim, 2, 12, 12}), m.Random("w1", {8, 2, 3, 3}, 1)}, "c1", same);
  y = m.Node("BatchNormalization",
             {y, m.F32("s", {8}, std::vector<float>(8, 1.0f)), m.F32("o", {8}, std::vector<float>(8, 0.2f)),
              m.F32("mean", {8}, std::vector<float>(8, 0.0f)), m.F32("var", {8}, std::vector<float>(8, 0.9f))},
             "bn1");
  y = m.Node("Relu", {y}, "r1");
  m.Output(m.Node("Conv", {y, m.Random("w2", {4, 8, 3, 3}, 2)}, "c2", same));
  const Recipe recipe = *MakeRecipe("int8-data-free");
  auto compressor = Compressor::CreateDataFree(m.g, recipe, {}, {});
  ASSERT_TRUE(compressor.ok()) << compressor.status();
  auto result = (*compressor)->Run(recipe);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->report.layers.size(), 2u);
  EXPECT_TRUE(result->report.outputs.empty());
  MemorySamples samples(RandomSamples(10, {2, 12, 12}));
  const auto prepared = Prepare(m.g);
  std::vector<int64_t> all(10);
  std::iota(all.begin(), all.end(), 0);
  const auto c = CompareGraphs(*prepared, result->graph, {}, samples, all, 1, {});
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_GT(c->outputs[0].sqnr_db, 20) << "6 sigma cost 3 to 8 dB against measured ranges";
  EXPECT_THAT(std::string(Compressor::CreateDataFree(m.g, *MakeRecipe("int4"), {}, {}).status().message()),
              HasSubstr("samples"));
}

}  // namespace
}  // namespace octet::compress
