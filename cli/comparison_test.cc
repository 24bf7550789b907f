#include "cli/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cli/json.h"
#include "cli/plot.h"

namespace octet::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

VariantFigures Variant(const std::string& name, double ms, int64_t weights, int64_t agreeing, int64_t rows) {
  VariantFigures v;
  v.name = name;
  v.facts.weights_bytes = weights;
  v.facts.model_bytes = 2 * weights;
  v.single.seconds = {ms / 1e3, ms / 1e3, ms / 1e3};
  v.best = v.single;
  if (rows > 0)
    v.outputs.push_back({.name = "scores", .classes = true, .rows = rows, .agreeing = agreeing, .sqnr_db = 30});
  return v;
}

Comparison ThreeVariants(int64_t rows) {
  Comparison c;
  c.model = "net";
  c.variants = {Variant("f32", 10, 1000000, 0, 0), Variant("int8", 4, 250000, rows, rows),
                Variant("int4", 2, 125000, rows * 95 / 100, rows)};
  return c;
}

TEST(Recommend, TakesTheFastestWhoseIntervalKeepsTheBound) {
  const Recommendation r = Recommend(ThreeVariants(1000), {});
  EXPECT_EQ(r.variant, 1u);
  EXPECT_THAT(r.reason, HasSubstr("2.50x throughput"));
  ASSERT_EQ(r.rejected.size(), 1u);
  EXPECT_THAT(r.rejected[0], HasSubstr("int4: top-1 agreement of output 'scores' is 95.00 %"));
}

TEST(Recommend, FollowsTheGoalAmongThoseThatKeepTheBounds) {
  Comparison c = ThreeVariants(1000);
  c.variants[2].best.seconds = {0.005};
  EXPECT_EQ(Recommend(c, {.min_agreement = 0.9}).variant, 1u);
  EXPECT_EQ(Recommend(c, {.min_agreement = 0.9, .goal = Goal::kBytes}).variant, 2u);
}

TEST(Recommend, SaysWhenSamplesAreTooFew) {
  const Recommendation r = Recommend(ThreeVariants(100), {});
  EXPECT_EQ(r.variant, 0u);
  EXPECT_THAT(r.rejected[0], HasSubstr("100 samples cannot show 99.00 % agreement"));
  EXPECT_THAT(r.rejected[0], HasSubstr("at least 381"));
}

TEST(Recommend, KeepsTheReferenceWhenNothingGainsTenPercent) {
  Comparison c = ThreeVariants(1000);
  c.variants[1].best.seconds = {0.0095};
  const Recommendation r = Recommend(c, {});
  EXPECT_EQ(r.variant, 0u);
  EXPECT_THAT(r.reason, HasSubstr("no variant that keeps the bounds gains 10 % in throughput"));
}

TEST(Recommend, JudgesOutputsWithoutClassesByTheirSqnr) {
  Comparison c = ThreeVariants(1000);
  c.variants[1].outputs.push_back({.name = "mask", .classes = false, .sqnr_db = 19.9});
  EXPECT_THAT(Recommend(c, {}).rejected[0], HasSubstr("SQNR of output 'mask' is 19.9 dB, below 20.0 dB"));
}

TEST(Figures, FramesPerSecondCountsOnlyBatchesThatStayBelow33Ms) {
  VariantFigures v = Variant("f32", 20, 1, 0, 0);
  EXPECT_NEAR(v.FramesPerSecond(), 50, 1e-6);
  v.sweep.push_back({.batch = 4, .seconds = {0.030, 0.030}});
  v.sweep.push_back({.batch = 8, .seconds = {0.030, 0.040}});
  EXPECT_NEAR(v.FramesPerSecond(), 4 / 0.030, 1e-6);
  EXPECT_EQ(Variant("slow", 34, 1, 0, 0).FramesPerSecond(), 0);
}

TEST(Figures, FourGigabytesHoldWhatIsLeftBesideTheProgram) {
  EXPECT_EQ(*Variant("f32", 1, 500000000, 0, 0).FitIn4GB(100000000), 3);
  VariantFigures unknown;
  EXPECT_FALSE(unknown.FitIn4GB(0).has_value());
}

TEST(Json, EscapesTextAndWritesAbsentNumbersAsNull) {
  EXPECT_EQ(Json::Object({{"a\"\\\n", "x\ty"}, {"n", NAN}, {"o", std::optional<double>()}}).text(),
            "{\"a\\\"\\\\\\u000a\":\"x\\u0009y\",\"n\":null,\"o\":null}");
  EXPECT_EQ(Json::Array(std::vector<int64_t>{}).text(), "[]");
  EXPECT_EQ(Json::Array(std::vector<double>{1, 2.5}).text(), "[1,2.5]");
}

TEST(Report, EscapesNamesAndLoadsNothing) {
  Comparison c = ThreeVariants(1000);
  c.model = "<script>alert(1)</script>";
  const std::string html = ComparisonHtml(c, Recommend(c, {}), {});
  EXPECT_THAT(html, Not(HasSubstr("<script>")));
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;"));
  EXPECT_THAT(html, Not(HasSubstr("src=")));
  EXPECT_THAT(html, Not(HasSubstr("href=")));
}

TEST(Plot, LeavesOutWhatALogarithmicAxisCannotShow) {
  Plot plot;
  plot.x_scale = Plot::Scale::kLog;
  plot.series.push_back({"s", PlotSeries::Mark::kPoints, 0, {{0, 1}, {1, 1}, {10, 2}, {NAN, 3}}});
  const std::string svg = Svg(plot);
  size_t circles = 0;
  for (size_t at = svg.find("<circle"); at != std::string::npos; at = svg.find("<circle", at + 1)) ++circles;
  EXPECT_EQ(circles, 2u);
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
}

TEST(Plot, DrawsWithoutPoints) { EXPECT_THAT(Svg({.title = "empty"}), HasSubstr("</svg>")); }

}  // namespace
}  // namespace octet::cli
