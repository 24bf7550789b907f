// Rows of a convolution against the convolution itself.
#include "compress/collect_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "compress/memory_samples.h"
#include "compress/observe.h"
#include "compress/quantize_product.h"
#include "engine/test_util.h"

namespace octet::compress {
namespace {

MemorySamples RandomSamples(int count, const Shape& shape, float last = 0) {
  std::vector<Tensor> out;
  for (int s = 0; s < count; ++s) {
    const CounterRng rng(5, static_cast<uint64_t>(s));
    std::vector<float> values(static_cast<size_t>(NumElements(shape)));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(rng.Uniform(i) * 2 - 0.7);
    if (s + 1 == count && last != 0) values.back() = last;
    out.push_back(Tensor::FromF32(shape, values));
  }
  return MemorySamples(std::move(out));
}

// A grouped convolution with padding and stride; with `scaled` its source is halved before.
graph::Graph Network(bool scaled, Shape sample = {4, 7, 6}) {
  engine::GraphMaker m;
  sample.insert(sample.begin(), kUnknownDim);
  const auto input = m.Input("x", sample);
  const auto x = scaled ? m.Node("Mul", {input, m.F32("half", {}, {0.5f})}, "halved") : input;
  const std::vector<std::pair<std::string, graph::Attribute>> attributes = {
      {"group", int64_t{2}}, {"strides", std::vector<int64_t>{2, 1}}, {"pads", std::vector<int64_t>{1, 0, 1, 2}}};
  m.Output(m.Node("Conv", {x, m.Random("w", {6, 2, 3, 3}, 1), m.Random("b", {6}, 2)}, "y", attributes));
  return m.g;
}

const std::vector<int64_t> kIndices = {0, 1, 2, 3, 4, 5, 6, 7};

TEST(CollectRows, TargetsAreTheReferencesResultsAndSourcesTheChangedInputs) {
  const graph::Graph reference = Network(false), changed = Network(true);
  MemorySamples samples = RandomSamples(8, {4, 7, 6});
  const WeightMatrix w = MatrixOf(reference, reference.nodes[0]);
  const std::vector<float> bias = BiasOf(reference, reference.nodes[0], 6);
  const auto rows = CollectRows(reference, changed, {0, 1}, w, bias, samples, kIndices, {});
  ASSERT_TRUE(rows.ok()) << rows.status();
  const int64_t positions = 4 * 6;  // of one sample
  ASSERT_EQ(rows->count, 8 * positions);
  EXPECT_EQ(rows->held_aside, 2 * positions) << "a quarter of the samples";
  // Samples 3 and 7 are held aside and come last.
  const std::vector<int64_t> order = {0, 1, 2, 4, 5, 6, 3, 7};
  auto observer = *Observer::Create(reference, {}, 1);
  for (size_t s = 0; s < order.size(); ++s) {
    ASSERT_EQ(observer->Run(*samples.Read(order[s])), absl::OkStatus());
    for (int64_t p = 0; p < positions; ++p) {
      const int64_t row = static_cast<int64_t>(s) * positions + p;
      for (int64_t r = 0; r < 6; ++r) {
        const double y = observer->output(0)[static_cast<size_t>(r * positions + p)];
        ASSERT_NEAR(rows->Target(row, r), y, 1e-4) << s << " " << p << " " << r;
        double sum = bias[static_cast<size_t>(r)];
        for (int64_t c = 0; c < w.columns(); ++c) {
          sum += 2 * w.values[static_cast<size_t>(r * w.columns() + c)] * rows->Src(r / 3, row)[c];
        }
        ASSERT_NEAR(sum, y, 1e-4) << "the changed inputs are halves";
      }
    }
  }
}

TEST(CollectRows, MemoryIsBoundedByRowsAndBytes) {
  const graph::Graph graph = Network(false);
  MemorySamples samples = RandomSamples(8, {4, 7, 6});
  const WeightMatrix w = MatrixOf(graph, graph.nodes[0]);
  const std::vector<float> bias(6, 0.0f);
  RowOptions options;
  options.max_rows = 40;
  EXPECT_EQ(CollectRows(graph, graph, {0, 0}, w, bias, samples, kIndices, options)->count, 40);
  options.max_bytes = 16 * (36 + 6) * 4;
  EXPECT_EQ(CollectRows(graph, graph, {0, 0}, w, bias, samples, kIndices, options)->count, 16);
  options.max_rows = 4;  // fewer than samples
  const auto few = CollectRows(graph, graph, {0, 0}, w, bias, samples, kIndices, options);
  EXPECT_EQ(few->count, 4);
  EXPECT_EQ(few->held_aside, 1);
}

TEST(CollectRows, RefusalsNameWhatIsWrong) {
  const graph::Graph graph = Network(false);
  MemorySamples samples = RandomSamples(8, {4, 7, 6}, NAN);
  const WeightMatrix w = MatrixOf(graph, graph.nodes[0]);
  EXPECT_THAT(std::string(CollectRows(graph, graph, {0, 0}, w, std::vector<float>(6), samples, kIndices, {}).status().message()),
              ::testing::HasSubstr("memory[7]"));
  EXPECT_EQ(CollectRows(graph, graph, {0, 0}, w, std::vector<float>(5), samples, kIndices, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CollectRows(graph, graph, {0, 0}, w, std::vector<float>(6), samples, {0}, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace octet::compress
