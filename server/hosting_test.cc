// Settings, metrics and logs: what files say and what operators read.
#include <string>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/http_server.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/model_settings.h"

namespace octet::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(ModelSettingsTest, ReadsTritonsConfigAndOurParameters) {
  auto settings = ParseModelSettings(R"(
      name: "resnet" max_batch_size: 8
      dynamic_batching { max_queue_delay_microseconds: 500 }
      version_policy { latest { num_versions: 2 } }
      parameters { key: "octet.variants" value { string_value: "f32, int8" } }
      parameters { key: "octet.primary" value { string_value: "int8" } }
      parameters { key: "someone.else" value { string_value: "x" } }
      flux_capacitor { gigawatts: 1.21 }
  )",
                                     "resnet");
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->config.max_batch_size(), 8);
  EXPECT_EQ(settings->config.dynamic_batching().max_queue_delay_microseconds(), 500u);
  EXPECT_THAT(settings->variants, ElementsAre("f32", "int8"));
  EXPECT_EQ(settings->primary, "int8");
  ASSERT_FALSE(settings->warnings.empty());
  EXPECT_THAT(settings->warnings[0], HasSubstr("flux_capacitor"));
}

void ExpectRefused(const std::string& text, const std::string& message) {
  auto settings = ParseModelSettings(text, "m");
  ASSERT_FALSE(settings.ok()) << text;
  EXPECT_THAT(std::string(settings.status().message()), HasSubstr(message));
}

TEST(ModelSettingsTest, RefusalsNameTheField) {
  ExpectRefused("max_batch_size: eight", "line 1");
  ExpectRefused("name: \"other\"", "'other' in the folder of model 'm'");
  ExpectRefused("max_batch_size: -1", "max_batch_size: -1");
  ExpectRefused("ensemble_scheduling { }", "ensemble_scheduling");
  ExpectRefused("parameters { key: \"octet.primray\" value { string_value: \"int8\" } }",
                "octet.primray");
  ExpectRefused("parameters { key: \"octet.primary\" value { string_value: \"INT8\" } }",
                "'INT8' is no variant name");
  ExpectRefused("default_model_filename: \"../../etc/passwd\"", "default_model_filename");
}

std::string Octet(const std::string& key, const std::string& value) {
  return "parameters { key: \"octet." + key + "\" value { string_value: \"" + value + "\" } }\n";
}

TEST(ModelSettingsTest, ReadsComparisonGuardAndTraffic) {
  auto settings =
      ParseModelSettings(Octet("compare.fraction", "0.05") + Octet("compare.max_cpu_share", "0.2") +
                             Octet("compare.window_rows", "500") + Octet("compare.window_seconds", "60") +
                             Octet("guard.min_top1_agreement", "0.98") + Octet("guard.recovery", "manual") +
                             Octet("reference.residency", "sampled") + Octet("weights", "int8:0.9,f32:0.1") +
                             Octet("sticky_parameter", "user") + Octet("memory.limit_bytes", "1000000"),
                         "m");
  ASSERT_TRUE(settings.ok()) << settings.status();
  const ComparisonSettings& compare = settings->comparison;
  EXPECT_EQ(compare.fraction, 0.05);
  EXPECT_EQ(compare.max_cpu_share, 0.2);
  EXPECT_EQ(compare.window.max_rows, 500);
  EXPECT_EQ(compare.window.max_age, absl::Minutes(1));
  EXPECT_EQ(compare.guard.min_top1_agreement, 0.98);
  EXPECT_FALSE(compare.guard.min_sqnr_db.has_value());
  EXPECT_EQ(compare.guard.recovery, GuardSettings::Recovery::kManual);
  EXPECT_EQ(compare.residency, ComparisonSettings::Residency::kSampled);
  EXPECT_EQ(settings->traffic.weights.at("int8"), 0.9);
  EXPECT_EQ(settings->traffic.sticky_parameter, "user");
  EXPECT_EQ(settings->memory_limit_bytes, 1'000'000);
  ExpectRefused(Octet("compare.fraction", "1.5"), "octet.compare.fraction: expected a number in [0, 1], found '1.5'");
  ExpectRefused(Octet("compare.fraction", "nan"), "found 'nan'");
  ExpectRefused(Octet("guard.recovery", "soon"), "expected one of automatic, manual, found 'soon'");
  ExpectRefused(Octet("weights", "int8:0.9"), "octet.weights: shares must sum to 1");
  ExpectRefused(Octet("compare.window_rows", "many"), "expected a whole number");
}

TEST(ModelSettingsTest, TheReferenceStaysWhereItIsNeeded) {
  using Residency = ComparisonSettings::Residency;
  const auto residency = [](const std::string& text, const char* primary) {
    return ResidencyOf(*ParseModelSettings(text, "m"), primary, "f32");
  };
  EXPECT_EQ(residency("", "f32"), Residency::kAlways);
  EXPECT_EQ(residency("", "int8"), Residency::kNever);
  EXPECT_EQ(residency(Octet("variants", "f32,int8"), "int8"), Residency::kAlways);
  EXPECT_EQ(residency(Octet("weights", "int8:0.9,f32:0.1"), "int8"), Residency::kAlways);
  EXPECT_EQ(residency(Octet("compare.fraction", "0.1"), "int8"), Residency::kAlways);
  EXPECT_EQ(residency(Octet("compare.fraction", "0.1") + Octet("reference.residency", "sampled"), "int8"),
            Residency::kSampled);
  const auto error = [](const std::string& text, const char* primary, const char* reference) {
    return std::string(CheckRoles(*ParseModelSettings(text, "m"), primary, reference).message());
  };
  const std::string guard = Octet("guard.min_sqnr_db", "20"), fraction = Octet("compare.fraction", "0.1");
  const std::string never = Octet("reference.residency", "never");
  EXPECT_EQ(error(guard + fraction, "int8", "f32"), "");
  EXPECT_THAT(error(guard + fraction + never, "int8", "f32"), HasSubstr("octet.reference.residency is 'never'"));
  EXPECT_THAT(error(guard, "int8", "f32"), HasSubstr("octet.compare.fraction must be above 0"));
  EXPECT_THAT(error(fraction, "int8", ""), HasSubstr("no reference"));
  EXPECT_THAT(error(never, "f32", "f32"), HasSubstr("is the primary"));
  EXPECT_THAT(error(never + Octet("weights", "int8:0.9,f32:0.1"), "int8", "f32"), HasSubstr("must be 'always'"));
  EXPECT_EQ(error(never, "int8", "f32"), "");
}

TEST(ModelSettingsTest, VersionPolicyChoosesAmongThoseOnDisk) {
  inference::ModelVersionPolicy policy;
  EXPECT_THAT(VersionsToLoad(policy, {3, 10, 2}), ElementsAre(10));
  policy.mutable_latest()->set_num_versions(2);
  EXPECT_THAT(VersionsToLoad(policy, {3, 10, 2}), ElementsAre(3, 10));
  policy.mutable_specific()->add_versions(2);
  policy.mutable_specific()->add_versions(7);
  EXPECT_THAT(VersionsToLoad(policy, {3, 10, 2}), ElementsAre(2));
  policy.mutable_all();
  EXPECT_THAT(VersionsToLoad(policy, {3, 10, 2}), ElementsAre(2, 3, 10));
}

TEST(MetricsTest, SeriesAppearWithAVariantAndVanishWithIt) {
  Metrics metrics({"1.2.3", "avx512_vnni", "3.7.2", 2, 1});
  const VariantLabels labels{"m", "1", "int8"};
  auto series = metrics.ForVariant(labels);
  EXPECT_EQ(series, metrics.ForVariant(labels));
  RequestRecord ok;
  ok.rows = 3;
  ok.total = absl::Milliseconds(2);
  series->Add(ok);
  RequestRecord full;
  full.status = WithReason(absl::ResourceExhaustedError("x"), "queue_full");
  series->Add(full);
  series->Add(
      BatchRecord{3, 4, {absl::ZeroDuration(), absl::Milliseconds(1), absl::ZeroDuration()}});
  const std::string text = metrics.Text();
  EXPECT_THAT(
      text,
      HasSubstr(R"(octet_requests_total{model="m",outcome="ok",variant="int8",version="1"} 1)"));
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(octet_requests_total{model="m",outcome="queue_full",variant="int8",version="1"} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(octet_inferences_total{model="m",variant="int8",version="1"} 3)"));
  EXPECT_THAT(
      text, HasSubstr(R"(octet_batch_size_bucket{model="m",variant="int8",version="1",le="2"} 0)"));
  EXPECT_THAT(
      text, HasSubstr(R"(octet_batch_size_bucket{model="m",variant="int8",version="1",le="4"} 1)"));
  EXPECT_THAT(text,
              HasSubstr(R"(octet_build_info{isa="avx512_vnni",onednn="3.7.2",version="1.2.3"} 1)"));
  series.reset();
  EXPECT_THAT(metrics.Text(), Not(HasSubstr("model=\"m\"")));
}

TEST(MetricsTest, GaugesAreSampledAtEveryScrape) {
  Metrics metrics({"1", "avx2", "3", 1, 1});
  int64_t weights = 1000;
  metrics.SetSampler([&] {
    MetricsSample sample;
    engine::MemoryReport memory;
    memory.weights = weights;
    engine::CacheReport cache;
    cache.specialisations = 3;
    cache.max_specialisations = 32;
    sample.variants.push_back(
        {{"m", "1", "f32"}, memory, cache, 77, absl::Milliseconds(1500), 4, false, 0, std::nullopt});
    sample.baseline_bytes = 5;
    return sample;
  });
  weights = 2000;
  const std::string text = metrics.Text();
  EXPECT_THAT(
      text,
      HasSubstr(R"(octet_memory_bytes{kind="weights",model="m",variant="f32",version="1"} 2000)"));
  EXPECT_THAT(
      text, HasSubstr(R"(octet_memory_bytes{kind="file",model="m",variant="f32",version="1"} 77)"));
  EXPECT_THAT(text, HasSubstr(R"(octet_specialisations{model="m",variant="f32",version="1"} 3)"));
  EXPECT_THAT(text, HasSubstr(R"(octet_specialisations_limit{model="m",variant="f32",version="1"} 32)"));
  EXPECT_THAT(text, HasSubstr(R"(octet_load_seconds{model="m",variant="f32",version="1"} 1.5)"));
  EXPECT_THAT(text, HasSubstr(R"(octet_queue_depth{model="m",variant="f32",version="1"} 4)"));
  EXPECT_THAT(text, HasSubstr("octet_baseline_bytes 5"));
}

TEST(MetricsTest, PairsAndUncertaintyAppearOnlyWhereMeasured) {
  Metrics metrics({"1", "avx2", "3", 1, 1});
  MetricsSample sample;
  MetricsSample::Variant& variant = sample.variants.emplace_back();
  variant.labels = {"m", "1", "int8"};
  MetricsSample::ComparedPair& pair = sample.pairs.emplace_back();
  pair.summary.labels = {"m", "1", "int8", "f32"};
  pair.recorded = {{"y", std::nullopt, 31.5, 0.99}};
  metrics.SetSampler([&] { return sample; });
  std::string text = metrics.Text();
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(octet_sqnr_db{model="m",reference="f32",variant="int8",version="1",output="y",source="recorded"} 31.5)"));
  for (const char* absent : {"octet_top1_agreement_ratio", "source=\"live\"", "octet_latency_ratio",
                             "octet_memory_ratio", "octet_guard_", "octet_predictive_entropy_nats"}) {
    EXPECT_THAT(text, Not(HasSubstr(absent)));
  }
  variant.uncertainty = UncertaintySummary{10, 0.5, 0.25, 0.1};
  pair.summary.guard.settings.min_top1_agreement = 0.97;
  pair.summary.guard.tripped = true;
  WindowSummary& window = pair.summary.outputs["y"];
  window.comparisons = window.rows = 40;
  window.classes = true;
  window.top1 = {0.9, 0.8, 0.95};
  pair.summary.latency_ratio = 0.3;
  text = metrics.Text();
  for (
      const char* line :
      {R"(octet_predictive_entropy_nats{model="m",variant="int8",version="1"} 0.5)",
       R"(octet_epistemic_share{model="m",variant="int8",version="1"} 0.25)",
       R"(octet_uncertain_answers_ratio{model="m",variant="int8",version="1"} 0.1)",
       R"(octet_guard_tripped{model="m",reference="f32",variant="int8",version="1"} 1)",
       R"(octet_guard_threshold{model="m",reference="f32",variant="int8",version="1",kind="top1_agreement"} 0.97)",
       R"(octet_top1_agreement_lower_ratio{model="m",reference="f32",variant="int8",version="1",output="y",source="live"} 0.8)",
       R"(octet_latency_ratio{model="m",reference="f32",variant="int8",version="1",source="live"} 0.3)"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(MetricsTest, RefusedRequestsCarryNoClientText) {
  Metrics metrics({"1", "avx2", "3", 1, 1});
  metrics.CountRefused(absl::NotFoundError("unknown model 'anything a client likes'"));
  EXPECT_THAT(
      metrics.Text(),
      HasSubstr(R"(octet_requests_total{model="",outcome="not_found",variant="",version=""} 1)"));
}

TEST(LogTest, LinesAreJson) {
  EXPECT_EQ(
      FormatLog("T", Severity::kWarning, "a \"b\"", {{"n", 3}, {"path", "x\\y\n"}, {"s", 0.5}}),
      R"({"time":"T","severity":"warning","message":"a \"b\"","n":3,"path":"x\\y\u000a","s":0.5})");
}

TEST(HttpServerTest, TakesAFreePort) {
  auto handler = [](absl::string_view) { return HttpResponse{}; };
  auto first = HttpServer::Start("127.0.0.1", 0, handler);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_GT((*first)->port(), 0);
  auto second = HttpServer::Start("127.0.0.1", (*first)->port(), handler);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace octet::server
