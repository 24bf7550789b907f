// The search on a small network: targets are met where they can be, the best miss is returned where not, measurements are
// reused, and a stop keeps what there is.
#include "compress/search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "engine/test_util.h"

namespace octet::compress {
namespace {

using ::testing::HasSubstr;

class MemorySamples final : public data::SampleReader {
 public:
  int64_t size() const override { return 30; }
  absl::StatusOr<data::Sample> Read(int64_t i) override {
    const CounterRng rng(5, static_cast<uint64_t>(i));
    std::vector<float> values(3 * 8 * 8);
    for (size_t k = 0; k < values.size(); ++k) values[k] = static_cast<float>(rng.Uniform(k));
    return data::Sample{absl::StrCat("memory[", i, "]"), {Tensor::FromF32({3, 8, 8}, values)}};
  }
};

// Two wide convolutions between a narrow stem and a classifier.
graph::Graph Network() {
  engine::GraphMaker m;
  const std::vector<std::pair<std::string, graph::Attribute>> same = {
      {"pads", std::vector<int64_t>{1, 1, 1, 1}}, {"kernel_shape", std::vector<int64_t>{3, 3}}};
  auto y = m.Node("Conv", {m.Input("image", {kUnknownDim, 3, 8, 8}), m.Random("w1", {32, 3, 3, 3}, 1)}, "stem", same);
  y = m.Node("Relu", {y}, "r1");
  y = m.Node("Conv", {y, m.Random("w2", {32, 32, 3, 3}, 2)}, "wide1", same);
  y = m.Node("Relu", {y}, "r2");
  y = m.Node("Conv", {y, m.Random("w3", {32, 32, 3, 3}, 3)}, "wide2", same);
  y = m.Node("Relu", {y}, "r3");
  y = m.Node("Flatten", {m.Node("GlobalAveragePool", {y}, "gap")}, "flat");
  m.Output(m.Node("Gemm", {y, m.Random("w4", {10, 32}, 4)}, "logits", {{"transB", int64_t{1}}}));
  return m.g;
}

absl::StatusOr<SearchResult> Find(const SearchOptions& options, Measurements measured = {},
                                 const CompressOptions& compress = {}) {
  MemorySamples samples;
  Recipe base;
  base.set_name("auto");
  return Search(Network(), samples, base, compress, options, std::move(measured));
}

TEST(Search, MeetsALimitOnBytesThatInt8WouldMiss) {
  SearchOptions options;
  options.target.max_bytes = 15000;  // 19 thousand weights: less than 8 bits each
  int kept = 0;
  options.keep = [&](const CompressResult&, const Trial&) {
    ++kept;
    return absl::OkStatus();
  };
  const absl::StatusOr<SearchResult> found = Find(options);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_TRUE(found->trial.meets);
  EXPECT_LE(found->trial.bytes, 15000);
  EXPECT_GE(kept, 1);
  double int8_bytes = 0;
  for (const Trial& t : found->trials) {
    if (t.label == "int8") int8_bytes = t.bytes;
  }
  EXPECT_GT(int8_bytes, 15000);
  ASSERT_EQ(found->layers.size(), 4u);
  EXPECT_THAT(found->layers[0].scheme, ::testing::AnyOf("int8", "f32")) << "three input channels take no groups";
  for (const LayerChoice& l : found->layers) EXPECT_THAT(l.reason, HasSubstr("ms"));
  // Its recipe repeats it bit for bit.
  MemorySamples samples;
  const auto again = Compress(Network(), samples, found->best.recipe, {});
  ASSERT_TRUE(again.ok()) << again.status();
  for (size_t v = 0; v < again->graph.values.size(); ++v) {
    const graph::Value &a = again->graph.values[v], &b = found->best.graph.values[v];
    EXPECT_EQ(a.quant, b.quant) << a.name;
    ASSERT_EQ(a.data.has_value(), b.data.has_value()) << a.name;
    if (!a.data) continue;
    EXPECT_EQ(std::memcmp(a.data->data(), b.data->data(), static_cast<size_t>(a.data->size_bytes())), 0) << a.name;
  }
}

TEST(Search, TellsTheNearestMissWhenNothingMeetsTheTarget) {
  SearchOptions options;
  options.target.max_bytes = 100;
  options.candidates = {"int8"};
  const absl::StatusOr<SearchResult> found = Find(options);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_FALSE(found->trial.meets);
  EXPECT_GT(found->trial.bytes, 100);
}

TEST(Search, GoesOnFromMeasurements) {
  SearchOptions options;
  options.target.max_bytes = 15000;
  Measurements measured;
  int saves = 0;
  options.save = [&](const Measurements& m) {
    measured = m;
    ++saves;
    return absl::OkStatus();
  };
  ASSERT_TRUE(Find(options).ok());
  EXPECT_EQ(saves, measured.layers_size());
  EXPECT_GE(saves, 8);
  saves = 0;
  ASSERT_TRUE(Find(options, measured).ok());
  EXPECT_EQ(saves, 0) << "nothing was measured twice";
  measured.set_source("of other samples");
  ASSERT_TRUE(Find(options, measured).ok());
  EXPECT_GE(saves, 8);
}

TEST(Search, StoppedKeepsTheFirstResultAndBeforeItFails) {
  SearchOptions options;
  options.target.max_bytes = 15000;
  bool stop = false;
  CompressOptions compress;
  compress.stop = [&] { return stop; };
  options.keep = [&](const CompressResult&, const Trial&) {
    stop = true;
    return absl::OkStatus();
  };
  const absl::StatusOr<SearchResult> found = Find(options, {}, compress);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->trials.size(), 1u);
  EXPECT_FALSE(found->best.graph.nodes.empty());
  stop = true;
  EXPECT_TRUE(absl::IsCancelled(Find(options, {}, compress).status()));
}

TEST(Search, RefusesUnknownCandidates) {
  SearchOptions options;
  options.candidates = {"int9"};
  EXPECT_THAT(std::string(Find(options).status().message()), HasSubstr("int9"));
}

}  // namespace
}  // namespace octet::compress
