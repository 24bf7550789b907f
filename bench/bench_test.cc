// The benchmark's own parts: list, statistics, JSON, generated files; and that ONNX Runtime fuses what we export.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "bench/engine/graph_counts.h"
#include "bench/engine/inputs.h"
#include "bench/engine/measure.h"
#include "bench/engine/network_list.h"
#include "bench/engine/onnxruntime_peer.h"
#include "bench/engine/report.h"
#include "bench/generate/files.h"
#include "bench/generate/networks.h"
#include "onnx/import.h"

namespace octet::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(NetworkList, ReadsEveryField) {
  const auto list = ParseNetworkList("# comment\n\nnet shared f32,int8 1,8 1x3x4;1x2 # tail\n");
  ASSERT_TRUE(list.ok()) << list.status();
  ASSERT_EQ(list->size(), 1u);
  EXPECT_EQ((*list)[0].name, "net");
  EXPECT_THAT((*list)[0].forms, ElementsAre("f32", "int8"));
  EXPECT_THAT((*list)[0].batches, ElementsAre(1, 8));
  EXPECT_THAT((*list)[0].shapes, ElementsAre(Shape{1, 3, 4}, Shape{1, 2}));
}

TEST(NetworkList, NamesTheBadLine) {
  for (const char* bad : {"net shared f32", "net elsewhere f32 1", "net shared f64 1", "net shared f32 0",
                          "net shared f32 1 1xa"}) {
    const auto list = ParseNetworkList(absl::StrCat("ok shared f32 1\n", bad));
    EXPECT_EQ(list.status().code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(list.status().message()), HasSubstr("line 2")) << bad;
  }
}

TEST(Measure, QuantilesOfKnownTimes) {
  const std::vector<double> times = {5, 1, 4, 2, 3};
  EXPECT_EQ(Quantile(times, 0), 1);
  EXPECT_EQ(Quantile(times, 0.5), 3);
  EXPECT_EQ(Quantile(times, 1), 5);
  EXPECT_EQ(Quantile({}, 0.5), 0);
}

TEST(Measure, SqnrSeesAWrongOutput) {
  EXPECT_EQ(*OutputSqnrDb({{1, 2}}, {{1, 2}}), 200);
  EXPECT_NEAR(*OutputSqnrDb({{10, 0}}, {{10, 1}}), 20, 1e-9);
  EXPECT_FALSE(OutputSqnrDb({{1, 2}}, {{1}}).ok());
  EXPECT_FALSE(OutputSqnrDb({{1}}, {{std::numeric_limits<float>::quiet_NaN()}}).ok());
}

class CountingRunner final : public Runner {
 public:
  explicit CountingRunner(std::vector<int>* order, int id) : order_(order), id_(id) {}
  const std::string& engine() const override { return engine_; }
  absl::Status Prepare() override { return absl::OkStatus(); }
  absl::Status Run() override {
    order_->push_back(id_);
    return order_->size() > 1000000 ? absl::InternalError("too many") : absl::OkStatus();
  }
  absl::StatusOr<std::vector<std::vector<float>>> Outputs() override { return std::vector<std::vector<float>>(); }

 private:
  std::vector<int>* order_;
  int id_;
  std::string engine_ = "counting";
};

TEST(Measure, AlternatesAndSwapsTheOrder) {
  std::vector<int> order;
  CountingRunner a(&order, 0), b(&order, 1);
  MeasureOptions options;
  options.time = options.settle = absl::ZeroDuration();
  options.rounds = 2;
  options.idle_runs = 0;
  const auto timings = Alternate({{&a, &b}}, options);
  ASSERT_TRUE(timings.ok()) << timings.status();
  // Two settling runs and one counted run per block.
  EXPECT_THAT(order, ElementsAre(0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0));
  EXPECT_EQ((*timings)[0].runs, 2);
}

TEST(Report, JsonQuotesNames) {
  Result r;
  r.network = "a\"b";
  r.variant = "f32";
  r.octet.median_ms = 2;
  r.peer.median_ms = 3;
  const std::string json = ToJson({r}, {{"cpu", "x"}});
  EXPECT_THAT(json, HasSubstr("\"network\":\"a\\\"b\""));
  EXPECT_THAT(json, HasSubstr("\"ratio\":1.5000"));
}

TEST(Generate, EveryNetworkIsDeterministicAndValid) {
  for (const std::string name : {"tiny", "lstm", "mobilenetv2"}) {
    const auto a = MakeNetwork(name), b = MakeNetwork(name);
    ASSERT_TRUE(a.ok()) << a.status();
    EXPECT_TRUE(a->Validate().ok()) << name << ": " << a->Validate();
    for (size_t i = 0; i < a->values.size(); ++i) {
      if (!a->values[i].is_constant() || a->values[i].dtype != DType::kF32) continue;
      ASSERT_EQ(a->values[i].data->ToF32(), b->values[i].data->ToF32()) << name;
    }
  }
  EXPECT_EQ(MakeNetwork("none").status().code(), absl::StatusCode::kNotFound);
}

TEST(Fusion, OnnxRuntimeRunsOurFilesAsIntegerOperators) {
  const auto peer = OnnxRuntime::Load(OCTET_ONNXRUNTIME_SONAME);
  if (!peer.ok()) GTEST_SKIP() << peer.status();
  const auto f32 = GeneratedFile("tiny", true);
  ASSERT_TRUE(f32.ok()) << f32.status();
  const auto graph = onnx_io::ImportFile(*f32);
  ASSERT_TRUE(graph.ok()) << graph.status();
  const auto program = engine::Program::Compile(*graph);
  ASSERT_TRUE(program.ok()) << program.status();
  const auto inputs = MakeInputs((*program)->inputs(), {}, 1, "");
  ASSERT_TRUE(inputs.ok()) << inputs.status();
  const auto int8 = CompressedFile("tiny", *f32, *inputs, 1, true);
  ASSERT_TRUE(int8.ok()) << int8.status();
  const std::string optimised = *CacheFolder() + "/fusion_test.onnx";
  const auto runner = (*peer)->Open(*int8, {{(*program)->inputs()[0].name, (*inputs)[0]}}, 1, optimised);
  ASSERT_TRUE(runner.ok()) << runner.status();
  EXPECT_TRUE((*runner)->Run().ok());
  auto counts = CountOperators(optimised);
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_EQ((*counts)["QLinearConv"], 2);
  EXPECT_EQ((*counts)["QLinearAdd"], 1);
  EXPECT_EQ((*counts)["QLinearGlobalAveragePool"], 1);
  EXPECT_EQ((*counts)["QGemm"], 1);
  EXPECT_EQ((*counts)["QuantizeLinear"], 1);  // of the input
  EXPECT_EQ((*counts)["Conv"] + (*counts)["Gemm"] + (*counts)["DequantizeLinear"], 0);
}

}  // namespace
}  // namespace octet::bench
