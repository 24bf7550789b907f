// Moments of small networks' inputs against plain loops over every output position.
#include "compress/collect_moments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compress/bias.h"
#include "compress/gram_error.h"
#include "compress/memory_samples.h"
#include "compress/weight_matrix.h"
#include "engine/test_util.h"

namespace octet::compress {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ints = std::vector<int64_t>;

std::vector<Tensor> RandomSamples(int count, const Shape& shape) {
  std::vector<Tensor> out;
  for (int s = 0; s < count; ++s) {
    const CounterRng rng(5, static_cast<uint64_t>(s));
    std::vector<float> values(static_cast<size_t>(NumElements(shape)));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(rng.Uniform(i) * 2 - 0.7);
    out.push_back(Tensor::FromF32(shape, values));
  }
  return out;
}

Ints Indices(int64_t n) {
  Ints out;
  for (int64_t i = 0; i < n; ++i) out.push_back(i);
  return out;
}

// All moments at once.
absl::StatusOr<std::vector<Moments>> Collect(const graph::Graph& graph, const std::vector<int>& nodes,
                                             data::SampleReader& samples, const MomentOptions& options) {
  std::vector<Moments> out;
  OCTET_RETURN_IF_ERROR(
      CollectMoments(graph, nodes, samples, Indices(samples.size()), options, [&](size_t i, Moments m) {
        EXPECT_EQ(i, out.size());
        out.push_back(std::move(m));
        return absl::OkStatus();
      }));
  return out;
}

// Sums in f64 over vectors that are added one by one.
struct PlainSums {
  int64_t columns = 0, groups = 1, count = 0;
  std::vector<double> gram, mean;

  PlainSums(int64_t c, int64_t g)
      : columns(c), groups(g), gram(static_cast<size_t>(g * c * c)), mean(static_cast<size_t>(g * c)) {}
  void Add(int64_t group, const std::vector<double>& x) {
    if (group == 0) ++count;
    const auto n = static_cast<size_t>(columns), g = static_cast<size_t>(group);
    for (size_t i = 0; i < n; ++i) {
      mean[g * n + i] += x[i];
      for (size_t j = 0; j < n; ++j) gram[(g * n + i) * n + j] += x[i] * x[j];
    }
  }
  void ExpectEqual(const Moments& m) const {
    ASSERT_EQ(m.columns, columns);
    ASSERT_EQ(m.conv_groups, groups);
    ASSERT_EQ(m.count, count);
    ASSERT_EQ(m.gram.size(), gram.size());
    ASSERT_EQ(m.mean.size(), mean.size());
    // f32 sums of at most a few thousand products below 2: 1e-5 is far above their rounding.
    for (size_t i = 0; i < gram.size(); ++i) ASSERT_NEAR(m.gram[i], gram[i] / static_cast<double>(count), 1e-5) << i;
    for (size_t i = 0; i < mean.size(); ++i) ASSERT_NEAR(m.mean[i], mean[i] / static_cast<double>(count), 1e-6) << i;
  }
};

struct ConvCase {
  const char* name;
  Shape src;      // without batch
  Shape weights;  // [O, I / groups, kernel...]
  Ints strides, dilations, pads;
  int64_t groups;
  const char* auto_pad = "NOTSET";
  Ints auto_pads = {};  // what auto_pad comes to
};

graph::Graph ConvGraph(const ConvCase& c) {
  engine::GraphMaker m;
  Shape src = c.src;
  src.insert(src.begin(), kUnknownDim);
  std::vector<std::pair<std::string, graph::Attribute>> attributes = {
      {"strides", c.strides}, {"dilations", c.dilations}, {"group", c.groups}};
  if (c.auto_pads.empty()) {
    attributes.emplace_back("pads", c.pads);
  } else {
    attributes.emplace_back("auto_pad", std::string(c.auto_pad));
  }
  m.Output(m.Node("Conv", {m.Input("x", src), m.Random("w", c.weights, 1)}, "y", attributes));
  return m.g;
}

PlainSums PlainConv(const ConvCase& c, const std::vector<Tensor>& samples) {
  const size_t rank = c.strides.size();
  Ints src(3, 1), kernel(3, 1), stride(3, 1), dilation(3, 1), begin(3, 0), end(3, 0), dst(3, 1);
  const Ints& pads = c.auto_pads.empty() ? c.pads : c.auto_pads;
  for (size_t d = 0; d < rank; ++d) {
    src[d] = c.src[d + 1];
    kernel[d] = c.weights[d + 2];
    stride[d] = c.strides[d];
    dilation[d] = c.dilations[d];
    begin[d] = pads[d];
    end[d] = pads[d + rank];
  }
  for (size_t d = 0; d < 3; ++d) dst[d] = (src[d] + begin[d] + end[d] - dilation[d] * (kernel[d] - 1) - 1) / stride[d] + 1;
  const int64_t inputs = c.weights[1];
  PlainSums sums(inputs * kernel[0] * kernel[1] * kernel[2], c.groups);
  for (const Tensor& sample : samples) {
    const std::vector<float> x = sample.ToF32();
    auto at = [&](int64_t channel, int64_t a, int64_t b, int64_t e) -> double {
      if (a < 0 || b < 0 || e < 0 || a >= src[0] || b >= src[1] || e >= src[2]) return 0;
      return x[static_cast<size_t>(((channel * src[0] + a) * src[1] + b) * src[2] + e)];
    };
    for (int64_t a = 0; a < dst[0]; ++a) {
      for (int64_t b = 0; b < dst[1]; ++b) {
        for (int64_t e = 0; e < dst[2]; ++e) {
          for (int64_t g = 0; g < c.groups; ++g) {
            std::vector<double> column;
            for (int64_t i = 0; i < kernel[0]; ++i) {
              for (int64_t j = 0; j < kernel[1]; ++j) {
                for (int64_t k = 0; k < kernel[2]; ++k) {
                  for (int64_t channel = 0; channel < inputs; ++channel) {
                    column.push_back(at(g * inputs + channel, a * stride[0] - begin[0] + i * dilation[0],
                                        b * stride[1] - begin[1] + j * dilation[1],
                                        e * stride[2] - begin[2] + k * dilation[2]));
                  }
                }
              }
            }
            sums.Add(g, column);
          }
        }
      }
    }
  }
  return sums;
}

class ConvMomentsTest : public ::testing::TestWithParam<ConvCase> {};

TEST_P(ConvMomentsTest, EqualPlainLoops) {
  const std::vector<Tensor> tensors = RandomSamples(3, GetParam().src);
  MemorySamples samples(tensors);
  MomentOptions options;
  options.max_positions_per_sample = 100000;
  options.threads = 2;
  const auto found = Collect(ConvGraph(GetParam()), {0}, samples, options);
  ASSERT_TRUE(found.ok()) << found.status();
  PlainConv(GetParam(), tensors).ExpectEqual((*found)[0]);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, ConvMomentsTest,
    ::testing::Values(ConvCase{"plain3x3", {4, 9, 7}, {5, 4, 3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1},
                      ConvCase{"pointwise", {6, 5, 8}, {3, 6, 1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 1},
                      ConvCase{"strides_and_uneven_pads", {3, 12, 11}, {4, 3, 3, 5}, {2, 3}, {1, 1}, {0, 2, 1, 1}, 1},
                      ConvCase{"dilation", {2, 13, 12}, {4, 2, 3, 2}, {1, 2}, {2, 3}, {2, 1, 0, 3}, 1},
                      ConvCase{"groups", {6, 8, 8}, {4, 3, 3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 2},
                      ConvCase{"depthwise", {5, 8, 7}, {5, 1, 3, 3}, {2, 1}, {1, 1}, {1, 1, 1, 1}, 5},
                      ConvCase{"depthwise_with_multiplier", {3, 6, 6}, {6, 1, 3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 3},
                      ConvCase{"one_dimension", {4, 30}, {3, 4, 5}, {2}, {2}, {3, 1}, 1},
                      ConvCase{"three_dimensions", {2, 5, 6, 4}, {3, 2, 2, 3, 2}, {1, 2, 1}, {1, 1, 2}, {1, 0, 1, 0, 1, 1}, 1},
                      ConvCase{"more_positions_than_a_block", {2, 40, 40}, {3, 2, 3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1},
                      ConvCase{"more_columns_than_a_tile", {40, 6, 6}, {3, 40, 3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1},
                      ConvCase{"same_upper", {3, 8, 8}, {4, 3, 3, 3}, {2, 2}, {1, 1}, {}, 1, "SAME_UPPER", {0, 0, 1, 1}},
                      ConvCase{"same_lower", {3, 8, 8}, {4, 3, 3, 3}, {2, 2}, {1, 1}, {}, 1, "SAME_LOWER", {1, 1, 0, 0}}),
    [](const auto& param) { return param.param.name; });

TEST(MatrixMomentsTest, RowsOfMatMulAndOfTransposedGemm) {
  engine::GraphMaker m;
  const auto x = m.Input("x", {kUnknownDim, 4, 6});
  m.Output(m.Node("MatMul", {x, m.Random("w", {6, 5}, 1)}, "y"));
  const auto flat = m.Node("Reshape", {x, m.Ints("shape", {4, 6})}, "flat");
  m.Output(m.Node("Gemm", {flat, m.Random("w2", {3, 4}, 2)}, "z", {{"transA", int64_t{1}}, {"transB", int64_t{1}}}));
  const std::vector<Tensor> tensors = RandomSamples(7, {4, 6});
  MemorySamples samples(tensors);
  const auto found = Collect(m.g, {0, 2}, samples, {});
  ASSERT_TRUE(found.ok()) << found.status();
  PlainSums rows(6, 1), columns(4, 1);
  for (const Tensor& t : tensors) {
    const std::vector<float> v = t.ToF32();
    for (size_t r = 0; r < 4; ++r) rows.Add(0, std::vector<double>(v.begin() + r * 6, v.begin() + r * 6 + 6));
    for (size_t c = 0; c < 6; ++c) columns.Add(0, {v[c], v[6 + c], v[12 + c], v[18 + c]});
  }
  rows.ExpectEqual((*found)[0]);
  columns.ExpectEqual((*found)[1]);
}

// Convolutions of three kinds behind each other.
graph::Graph Chain() {
  engine::GraphMaker m;
  const std::vector<std::pair<std::string, graph::Attribute>> same = {{"pads", Ints{1, 1, 1, 1}}};
  auto y = m.Node("Conv", {m.Input("x", {kUnknownDim, 3, 20, 20}), m.Random("w1", {8, 3, 3, 3}, 1)}, "a", same);
  y = m.Node("Relu", {y}, "r");
  y = m.Node("Conv", {y, m.Random("w2", {8, 1, 3, 3}, 2)}, "b", {{"pads", Ints{1, 1, 1, 1}}, {"group", int64_t{8}}});
  m.Output(m.Node("Conv", {y, m.Random("w3", {4, 8, 1, 1}, 3)}, "c"));
  return m.g;
}

TEST(CollectMomentsTest, BatchesByBytesGiveTheSameInSeveralPasses) {
  MemorySamples samples(RandomSamples(4, {3, 20, 20}));
  const std::vector<int> nodes = {0, 2, 3};
  const auto once = Collect(Chain(), nodes, samples, {});
  ASSERT_TRUE(once.ok()) << once.status();
  EXPECT_EQ(samples.reads, 4);
  MomentOptions options;
  options.max_bytes = 1;
  std::vector<int64_t> progress;
  options.progress = [&](const Progress& p) {
    progress.push_back(p.done);
    EXPECT_EQ(p.total, 12);
  };
  const auto thrice = Collect(Chain(), nodes, samples, options);
  ASSERT_TRUE(thrice.ok()) << thrice.status();
  EXPECT_EQ(samples.reads, 16);
  EXPECT_EQ(progress.size(), 12u);
  for (size_t i = 0; i < nodes.size(); ++i) {
    EXPECT_EQ((*once)[i].count, 4 * 400);
    // The network's own kernels may differ with what is observed; sums may not.
    for (size_t k = 0; k < (*once)[i].gram.size(); ++k) {
      ASSERT_NEAR((*once)[i].gram[k], (*thrice)[i].gram[k], 1e-5 * (1 + std::fabs((*once)[i].gram[k])));
    }
  }
}

TEST(CollectMomentsTest, DoesNotDependOnThreads) {
  const ConvCase c{"", {40, 16, 16}, {3, 40, 3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1};
  MemorySamples samples(RandomSamples(3, c.src));
  MomentOptions one, three;
  three.threads = 3;
  const auto a = Collect(ConvGraph(c), {0}, samples, one), b = Collect(ConvGraph(c), {0}, samples, three);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ((*a)[0].gram, (*b)[0].gram);
  EXPECT_EQ((*a)[0].mean, (*b)[0].mean);
}

TEST(CollectMomentsTest, SampledPositionsEstimateAllOfThem) {
  const ConvCase c{"", {3, 32, 32}, {3, 3, 3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1};
  const std::vector<Tensor> tensors = RandomSamples(20, c.src);
  MemorySamples samples(tensors);
  MomentOptions options;
  options.max_positions_per_sample = 128;
  const auto found = Collect(ConvGraph(c), {0}, samples, options);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)[0].count, 20 * 128);
  const PlainSums all = PlainConv(c, tensors);
  // 2,560 of 20,480 positions; x^2 has a standard deviation of about 0.4: 0.05 is 6 deviations of the mean.
  for (size_t i = 0; i < all.gram.size(); ++i) {
    ASSERT_NEAR((*found)[0].gram[i], all.gram[i] / static_cast<double>(all.count), 0.05) << i;
  }
  // The border's zeros are seen as often as they occur: columns of the corner tap are smaller than those of the centre.
  EXPECT_LT((*found)[0].gram[0], (*found)[0].gram[12 * 27 + 12]);
}

TEST(CollectMomentsTest, TooManyColumnsGiveTheDiagonal) {
  const ConvCase c{"", {4, 9, 7}, {5, 4, 3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1};
  const std::vector<Tensor> tensors = RandomSamples(3, c.src);
  MemorySamples samples(tensors);
  MomentOptions options;
  options.max_columns = 35;
  const auto found = Collect(ConvGraph(c), {0}, samples, options);
  ASSERT_TRUE(found.ok()) << found.status();
  const Moments& m = (*found)[0];
  const PlainSums all = PlainConv(c, tensors);
  EXPECT_TRUE(m.gram.empty());
  const std::vector<float> importance = Importance(m);
  ASSERT_EQ(importance.size(), 36u);
  for (size_t i = 0; i < 36; ++i) EXPECT_NEAR(importance[i], all.gram[i * 37] / static_cast<double>(all.count), 1e-5);
}

// The definition itself: errors of outputs computed by running the layer with changed weights.
TEST(GramErrorTest, IsTheMeanSquaredErrorOfTheLayersOutput) {
  const ConvCase c{"", {6, 8, 8}, {4, 3, 3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 2};
  const graph::Graph graph = ConvGraph(c);
  const std::vector<Tensor> tensors = RandomSamples(5, c.src);
  MemorySamples samples(tensors);
  const auto found = Collect(graph, {0}, samples, {});
  ASSERT_TRUE(found.ok()) << found.status();
  const WeightMatrix w = MatrixOf(graph, graph.nodes[0]);
  QuantizedMatrix q{*MakeGrid("int4"), {}, w.rows, w.positions, w.inputs, w.conv_groups, {}, {0.2f, 0.1f, 0.15f, 0.3f}, {}};
  for (size_t i = 0; i < w.values.size(); ++i) {
    q.codes.push_back(static_cast<uint8_t>(NearestLevel(q.grid, w.values[i] / double{q.scale[i / 27]})));
  }
  graph::Graph changed = graph;
  const std::vector<float> reals = q.Reals();
  std::vector<float> operand(reals.size());
  for (size_t r = 0; r < 4; ++r) {
    for (size_t p = 0; p < 9; ++p) {
      for (size_t i = 0; i < 3; ++i) operand[(r * 3 + i) * 9 + p] = reals[r * 27 + p * 3 + i];
    }
  }
  changed.value(changed.nodes[0].inputs[1]).data = Tensor::FromF32(c.weights, operand);
  auto before = engine::Program::Compile(graph), after = engine::Program::Compile(changed);
  ASSERT_TRUE(before.ok() && after.ok());
  double error = 0, signal = 0;
  std::vector<double> shift(4);
  for (const Tensor& t : tensors) {
    const Tensor x = t.Reshaped({1, 6, 8, 8});
    const auto a = engine::RunProgram(**before, {x}), b = engine::RunProgram(**after, {x});
    ASSERT_TRUE(a.ok() && b.ok());
    const std::vector<float> ya = (*a)[0].ToF32(), yb = (*b)[0].ToF32();
    for (size_t i = 0; i < ya.size(); ++i) {
      error += std::pow(ya[i] - double{yb[i]}, 2);
      signal += double{ya[i]} * ya[i];
      shift[i / 64] += ya[i] - double{yb[i]};
    }
  }
  EXPECT_NEAR(GramError(w, q, (*found)[0]), error / 320, 1e-4 * error / 320);
  EXPECT_NEAR(GramSignal(w, (*found)[0]), signal / 320, 1e-4 * signal / 320);
  const std::vector<float> bias = MeanShift(w, q, (*found)[0].mean);
  for (size_t r = 0; r < 4; ++r) EXPECT_NEAR(bias[r], shift[r] / 320, 1e-5);
}

TEST(PairedMomentsTest, CrossMomentsAndCorrectedTarget) {
  // The changed graph halves and shifts the convolution's input, so that twice the weights would be exact but for the shift.
  engine::GraphMaker reference, changed;
  const std::vector<std::pair<std::string, graph::Attribute>> groups = {{"group", int64_t{2}}};
  for (engine::GraphMaker* m : {&reference, &changed}) {
    auto x = m->Input("x", {kUnknownDim, 6, 7, 5});
    if (m == &changed) {
      x = m->Node("Mul", {x, m->F32("half", {}, {0.5f})}, "halved");
      x = m->Node("Add", {x, m->F32("shift", {}, {0.25f})}, "shifted");
    }
    m->Output(m->Node("Conv", {x, m->Random("w", {4, 3, 2, 1}, 1)}, "y", groups));
  }
  const Shape shape = {6, 7, 5};
  const std::vector<Tensor> tensors = RandomSamples(30, shape);
  MemorySamples samples(tensors);
  std::vector<PairedMoments> found;
  MomentOptions options;
  options.threads = 2;
  const absl::Status status =
      CollectPairedMoments(reference.g, changed.g, {{0, 2}}, samples, Indices(30), options, [&](size_t, PairedMoments m) {
        found.push_back(std::move(m));
        return absl::OkStatus();
      });
  ASSERT_TRUE(status.ok()) << status;
  const PairedMoments& m = found[0];
  ASSERT_EQ(m.cross.size(), 72u);
  MemorySamples again(tensors);
  const auto plain = Collect(reference.g, {0}, again, options);
  ASSERT_TRUE(plain.ok());
  const Moments& x = (*plain)[0];
  // E[x x'^T] = E[x x^T] / 2 + E[x] / 4 1^T
  for (size_t g = 0; g < 2; ++g) {
    for (size_t i = 0; i < 6; ++i) {
      EXPECT_NEAR(m.reference_mean[g * 6 + i], x.mean[g * 6 + i], 1e-6);
      EXPECT_NEAR(m.changed.mean[g * 6 + i], x.mean[g * 6 + i] / 2 + 0.25, 1e-6);
      for (size_t j = 0; j < 6; ++j) {
        const size_t at = (g * 6 + i) * 6 + j;
        EXPECT_NEAR(m.cross[at], x.gram[at] / 2 + x.mean[g * 6 + i] / 4, 1e-5);
      }
    }
  }
  const WeightMatrix w = MatrixOf(reference.g, reference.g.nodes[0]);
  const auto target = CorrectedTarget(w, m, 1e-6);
  ASSERT_TRUE(target.ok()) << target.status();
  // No other weights are closer: E[(w x - v x')^2] = w' G w - 2 w' C v + v' G' v, for v near the target, and for w and 2 w.
  auto loss = [&](size_t row, const std::vector<double>& v) {
    double sum = 0;
    for (size_t i = 0; i < 6; ++i) {
      for (size_t j = 0; j < 6; ++j) {
        const size_t at = (row / 2 * 6 + i) * 6 + j;
        const double wi = w.values[row * 6 + i], wj = w.values[row * 6 + j];
        sum += wi * x.gram[at] * wj - 2 * wi * m.cross[at] * v[j] + v[i] * m.changed.gram[at] * v[j];
      }
    }
    return sum;
  };
  for (size_t row = 0; row < 4; ++row) {
    const auto from = target->values.begin() + static_cast<std::ptrdiff_t>(row * 6);
    const std::vector<double> best(from, from + 6);
    const double least = loss(row, best);
    std::vector<double> same, twice;
    for (size_t i = 0; i < 6; ++i) {
      same.push_back(w.values[row * 6 + i]);
      twice.push_back(2 * same.back());
      for (double step : {-0.05, 0.05}) {
        std::vector<double> other = best;
        other[i] += step;
        EXPECT_GT(loss(row, other), least);
      }
    }
    EXPECT_GT(loss(row, same), least);
    EXPECT_GT(loss(row, twice), least);
  }
  // With a bias that takes the shift twice the weights are exact; f32 moments and the damping: 1e-3.
  const auto centred = CorrectedTarget(w, m, 1e-6, Means::kCentred);
  ASSERT_TRUE(centred.ok()) << centred.status();
  for (size_t i = 0; i < w.values.size(); ++i) EXPECT_NEAR(centred->values[i], 2 * w.values[i], 1e-3);
}

TEST(CollectMomentsTest, RefusalsNameSampleAndNode) {
  const ConvCase c{"", {2, 4, 4}, {2, 2, 1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 1};
  std::vector<Tensor> tensors = RandomSamples(2, c.src);
  std::vector<float> bad = tensors[1].ToF32();
  bad[7] = std::numeric_limits<float>::quiet_NaN();
  tensors[1] = Tensor::FromF32(c.src, bad);
  MemorySamples samples(tensors), none({});
  const auto nan = Collect(ConvGraph(c), {0}, samples, {});
  EXPECT_TRUE(absl::IsInvalidArgument(nan.status()));
  EXPECT_THAT(nan.status().message(), HasSubstr("memory[1]"));
  EXPECT_THAT(nan.status().message(), HasSubstr("node_y"));
  EXPECT_TRUE(absl::IsInvalidArgument(Collect(ConvGraph(c), {0}, none, {}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Collect(Chain(), {1}, samples, {}).status())) << "Relu";
}

TEST(CollectMomentsTest, StopsWithTheCallersError) {
  MemorySamples samples(RandomSamples(1, {3, 20, 20}));
  int calls = 0;
  const auto status = CollectMoments(Chain(), {0, 2}, samples, {0}, {}, [&](size_t, const Moments&) {
    ++calls;
    return absl::CancelledError("enough");
  });
  EXPECT_TRUE(absl::IsCancelled(status));
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace octet::compress
