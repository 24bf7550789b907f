// Figures, intervals, the guard's decisions, traffic and bounds: pure parts, with times given.
#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/comparison/cpu_allowance.h"
#include "server/comparison/guard.h"
#include "server/comparison/output_agreement.h"
#include "server/comparison/pair.h"
#include "server/comparison/window.h"
#include "server/latency_window.h"
#include "server/traffic.h"
#include "server/uncertainty_window.h"

namespace octet::server {
namespace {

using ::testing::HasSubstr;

const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);

TEST(OutputAgreementTest, SumsOverRows) {
  const std::vector<float> want = {1, 2, 3, 5, 4, 0};
  const std::vector<float> have = {1, 2, 4, 4, 5, 0};
  const OutputAgreement sum = CompareOutput(want, have, {2, 3});
  EXPECT_EQ(sum.rows, 2);
  EXPECT_TRUE(sum.classes);
  EXPECT_EQ(sum.agreeing, 1);  // class 2 and 2; class 0 and 1
  EXPECT_DOUBLE_EQ(sum.signal, 1 + 4 + 9 + 25 + 16);
  EXPECT_DOUBLE_EQ(sum.noise, 1 + 1 + 1);
  EXPECT_NEAR(sum.cosine, 17 / std::sqrt(14.0 * 21) + 40 / std::sqrt(41.0 * 41), 1e-12);
  EXPECT_FALSE(CompareOutput(want, have, {1, 2, 3}).classes);
  EXPECT_FALSE(CompareOutput(want, have, {6, 1}).classes);
}

TEST(OutputAgreementTest, WhatIsNotFiniteDisagrees) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> want = {3, 2, 1, inf}, broken = {3, nan, 1, inf}, same = {3, 2, 1, inf};
  const OutputAgreement bad = CompareOutput(want, broken, {1, 4});
  EXPECT_EQ(bad.agreeing, 0);
  EXPECT_EQ(bad.cosine, 0);
  EXPECT_EQ(Decibels(bad.signal, bad.noise), -kMaxDb);
  const OutputAgreement good = CompareOutput(want, same, {1, 4});
  EXPECT_EQ(good.agreeing, 1);
  EXPECT_EQ(Decibels(good.signal, good.noise), kMaxDb);
}

TEST(WindowTest, WilsonsIntervalIsTheTextbooks) {
  // Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611; 1 of 29 gives 0.0061 to
  // 0.1718.
  Estimate e = WilsonInterval(81, 263);
  EXPECT_NEAR(e.lower, 0.2553, 5e-5);
  EXPECT_NEAR(e.upper, 0.3662, 5e-5);
  e = WilsonInterval(0, 20);
  EXPECT_EQ(e.lower, 0);
  EXPECT_NEAR(e.upper, 0.1611, 5e-5);
  e = WilsonInterval(1, 29);
  EXPECT_NEAR(e.lower, 0.0061, 5e-5);
  EXPECT_NEAR(e.upper, 0.1718, 5e-5);
  EXPECT_EQ(WilsonInterval(20, 20).upper, 1);
}

OutputAgreement Rows(int64_t rows, int64_t agreeing, double signal, double noise) {
  OutputAgreement a;
  a.rows = rows;
  a.classes = true;
  a.agreeing = agreeing;
  a.signal = signal;
  a.noise = noise;
  a.cosine = static_cast<double>(rows) * 0.5;
  return a;
}

TEST(WindowTest, IsBoundedByRowsAndAge) {
  AgreementWindow window({100, absl::Minutes(1)});
  EXPECT_EQ(window.Summary(kStart).comparisons, 0);
  window.Add(Rows(60, 0, 1e30, 1e30), kStart);  // an outlier leaves nothing behind
  window.Add(Rows(40, 40, 100, 1), kStart + absl::Seconds(30));
  EXPECT_EQ(window.Summary(kStart + absl::Seconds(30)).rows, 100);
  WindowSummary summary = window.Summary(kStart + absl::Seconds(61));
  EXPECT_EQ(summary.rows, 40);
  EXPECT_DOUBLE_EQ(summary.sqnr_db.value, 20);
  EXPECT_DOUBLE_EQ(summary.cosine, 0.5);
  window.Add(Rows(60, 60, 100, 1), kStart + absl::Seconds(31));
  summary = window.Summary(kStart + absl::Seconds(31));
  EXPECT_EQ(summary.rows, 100);
  EXPECT_EQ(summary.top1.value, 1);
  EXPECT_DOUBLE_EQ(summary.sqnr_db.value, 20);
  window.Add(Rows(1000, 0, 1, 1), kStart + absl::Seconds(32));  // larger than the window: it is the window
  EXPECT_EQ(window.Summary(kStart + absl::Seconds(32)).rows, 1000);
  window.Reset();
  EXPECT_EQ(window.Summary(kStart + absl::Seconds(32)).comparisons, 0);
}

// The interval covers the true value about as often as it says: 95 % of 400 experiments, standard error 1.1 %.
TEST(WindowTest, SqnrIntervalCovers) {
  uint64_t state = 7;
  const auto uniform = [&] {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state >> 11) * 0x1p-53;
  };
  int covered = 0;
  for (int experiment = 0; experiment < 400; ++experiment) {
    AgreementWindow window({1000, absl::Hours(1)});
    for (int i = 0; i < 200; ++i) {
      const double signal = 0.5 + uniform();                              // mean 1
      window.Add(Rows(1, 1, signal, 0.02 * uniform() * signal), kStart);  // ratio 0.01: 20 dB
    }
    const Estimate sqnr = window.Summary(kStart).sqnr_db;
    EXPECT_LT(sqnr.lower, sqnr.value);
    EXPECT_GT(sqnr.upper, sqnr.value);
    if (sqnr.lower <= 20 && 20 <= sqnr.upper) ++covered;
  }
  EXPECT_NEAR(covered / 400.0, 0.95, 0.04);
}

OutputSummaries Summaries(int64_t rows, int64_t agreeing, Estimate sqnr = {30, 29, 31}) {
  WindowSummary summary;
  summary.comparisons = summary.rows = rows;
  summary.classes = true;
  summary.top1 = WilsonInterval(agreeing, rows);
  summary.sqnr_db = sqnr;
  return {{"logits", summary}};
}

TEST(GuardTest, TripsOnlyWhenTheWholeIntervalIsBelow) {
  GuardSettings settings;
  settings.min_top1_agreement = 0.9;
  settings.min_comparisons = 20;
  EXPECT_EQ(DecideGuard(settings, false, {}).action, GuardAction::kStay);
  EXPECT_EQ(DecideGuard(settings, false, Summaries(19, 0)).action, GuardAction::kStay);   // too few
  EXPECT_EQ(DecideGuard(settings, false, Summaries(20, 17)).action, GuardAction::kStay);  // 0.85, upper 0.95
  const GuardDecision trip = DecideGuard(settings, false, Summaries(200, 170));           // 0.85, upper 0.893
  EXPECT_EQ(trip.action, GuardAction::kTrip);
  EXPECT_THAT(trip.reason, HasSubstr("output 'logits': top-1 agreement 0.85"));
  EXPECT_THAT(trip.reason, HasSubstr("below 0.9"));
}

TEST(GuardTest, RecoversOnlyWhenTheWholeIntervalIsAbove) {
  GuardSettings settings;
  settings.min_top1_agreement = 0.9;
  EXPECT_EQ(DecideGuard(settings, true, Summaries(200, 182)).action, GuardAction::kStay);     // 0.91, lower 0.862
  EXPECT_EQ(DecideGuard(settings, true, Summaries(200, 196)).action, GuardAction::kRecover);  // 0.98, lower 0.95
  EXPECT_EQ(DecideGuard(settings, true, Summaries(29, 29)).action, GuardAction::kStay);       // too few
  settings.recovery = GuardSettings::Recovery::kManual;
  EXPECT_EQ(DecideGuard(settings, true, Summaries(200, 200)).action, GuardAction::kStay);
  settings.recovery = GuardSettings::Recovery::kAutomatic;
  settings.min_top1_agreement = 1;  // no interval lies above it: perfect agreement must do
  EXPECT_EQ(DecideGuard(settings, true, Summaries(200, 200)).action, GuardAction::kRecover);
}

TEST(GuardTest, AnOutputThatIsSeldomAskedForNeitherBlocksATripNorCountsAsGood) {
  GuardSettings settings;
  settings.min_top1_agreement = 0.9;
  OutputSummaries outputs = Summaries(200, 100);
  outputs["seldom"] = Summaries(2, 2).at("logits");
  EXPECT_EQ(DecideGuard(settings, false, outputs).action, GuardAction::kTrip);
  outputs["logits"] = Summaries(200, 200).at("logits");
  EXPECT_EQ(DecideGuard(settings, true, outputs).action, GuardAction::kStay);
  outputs["seldom"] = Summaries(60, 60).at("logits");
  EXPECT_EQ(DecideGuard(settings, true, outputs).action, GuardAction::kRecover);
}

TEST(GuardTest, SqnrIsJudgedForOutputsWithoutClasses) {
  GuardSettings settings;
  settings.min_sqnr_db = 25;
  OutputSummaries outputs = Summaries(100, 0);
  outputs.at("logits").classes = false;
  EXPECT_EQ(DecideGuard(settings, false, outputs).action, GuardAction::kStay);
  outputs.at("logits").sqnr_db = {20, 18, 26};
  EXPECT_EQ(DecideGuard(settings, false, outputs).action, GuardAction::kStay);
  outputs.at("logits").sqnr_db = {20, 18, 24};
  EXPECT_EQ(DecideGuard(settings, false, outputs).action, GuardAction::kTrip);
  settings.min_sqnr_db.reset();
  settings.min_top1_agreement = 0.9;  // nothing to judge by
  EXPECT_EQ(DecideGuard(settings, false, outputs).action, GuardAction::kStay);
  EXPECT_EQ(DecideGuard(settings, true, outputs).action, GuardAction::kStay);
}

TEST(PairTest, TripsAndRecoversOnFreshComparisons) {
  GuardSettings guard;
  guard.min_top1_agreement = 0.9;
  guard.min_comparisons = 10;
  Pair pair({"m", "1", "int8", "f32"}, {1000, absl::Minutes(10)}, guard);
  for (int i = 0; i < 10; ++i) pair.Record({{"y", Rows(1, 0, 1, 1)}}, absl::Milliseconds(1), kStart);
  EXPECT_TRUE(pair.tripped());
  PairSummary summary = pair.Summary(kStart);
  EXPECT_EQ(summary.guard.trips, 1);
  EXPECT_EQ(summary.guard.since, kStart);
  EXPECT_TRUE(summary.outputs.empty());  // the next decision rests on what comes after
  EXPECT_EQ(summary.compared, 10);
  EXPECT_EQ(summary.cpu, absl::Milliseconds(10));
  for (int i = 0; i < 60; ++i) pair.Record({{"y", Rows(1, 1, 1, 0)}}, absl::ZeroDuration(), kStart);
  EXPECT_FALSE(pair.tripped());
  EXPECT_EQ(pair.Summary(kStart).guard.recoveries, 1);
  EXPECT_FALSE(pair.Recover(kStart));
}

TEST(PairTest, LatencyRatioIsOfTimedPairs) {
  Pair pair({"m", "1", "int8", "f32"}, {}, {});
  EXPECT_FALSE(pair.Summary(kStart).latency_ratio.has_value());
  for (int i = 0; i < 200; ++i) pair.RecordTimes(absl::Milliseconds(1), absl::Milliseconds(4));
  EXPECT_DOUBLE_EQ(*pair.Summary(kStart).latency_ratio, 0.25);
}

TEST(CpuAllowanceTest, SpendsItsShareOfAnyTimeSpan) {
  CpuAllowance allowance(0.2, kStart);
  absl::Time now = kStart;
  absl::Duration spent;
  for (int i = 0; i < 10'000; ++i) {
    now += absl::Milliseconds(10);
    if (!allowance.Affords(now)) continue;
    allowance.Spend(absl::Milliseconds(50));
    spent += absl::Milliseconds(50);
  }
  EXPECT_LE(spent, 0.2 * absl::Seconds(100) + CpuAllowance::kBurst + absl::Milliseconds(50));
  EXPECT_GE(spent, 0.2 * absl::Seconds(100));
}

TEST(TrafficTest, WeightsAreReadAndChecked) {
  const absl::StatusOr<TrafficWeights> weights = ParseWeights("int8:0.9, f32:0.1");
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(weights->at("f32"), 0.1);
  for (const char* bad : {"", "int8", "int8:x", "int8:0.5", "int8:1.5,f32:-0.5", "int8:0.5,int8:0.5", "INT8:1"}) {
    EXPECT_FALSE(ParseWeights(bad).ok()) << bad;
  }
  EXPECT_THAT(std::string(ParseWeights("int8:0.5").status().message()), HasSubstr("sum to 1, found 0.5"));
}

TEST(TrafficTest, SharesHoldAndKeysStick) {
  const TrafficWeights weights = {{"f32", 0.1}, {"int8", 0.9}};
  PointSequence points;
  int f32 = 0, f32_by_key = 0;
  for (int i = 0; i < 20'000; ++i) {
    f32 += ChooseVariant(weights, points.Next()) == "f32";
    f32_by_key += ChooseVariant(weights, PointOf(absl::StrCat("user-", i))) == "f32";
  }
  EXPECT_NEAR(f32 / 20'000.0, 0.1, 0.01);  // 4.7 standard errors
  EXPECT_NEAR(f32_by_key / 20'000.0, 0.1, 0.01);
  EXPECT_EQ(PointOf("user-1"), PointOf("user-1"));
  EXPECT_EQ(ChooseVariant({{"a", 0}, {"b", 1}}, 0), "b");
  EXPECT_EQ(ChooseVariant({{"a", 1}, {"b", 0}}, 0.9999999), "a");
}

TEST(UncertaintyWindowTest, MeansShareAndRatio) {
  UncertaintyWindow window({3, absl::Minutes(1), 0.5});
  EXPECT_EQ(window.Summary(kStart).answers, 0);
  window.Add(9, 9, kStart);  // leaves when the fourth comes
  window.Add(0.2, 0.1, kStart);
  window.Add(0.6, 0.1, kStart);
  window.Add(1.0, 0.7, kStart + absl::Seconds(30));
  window.Add(std::nan(""), 0, kStart);  // not counted
  UncertaintySummary summary = window.Summary(kStart + absl::Seconds(30));
  EXPECT_EQ(summary.answers, 3);
  EXPECT_NEAR(summary.entropy_nats, 0.6, 1e-12);
  EXPECT_NEAR(summary.epistemic_share, 0.5, 1e-12);
  EXPECT_NEAR(summary.uncertain_ratio, 2.0 / 3, 1e-12);
  summary = window.Summary(kStart + absl::Seconds(61));
  EXPECT_EQ(summary.answers, 1);
  EXPECT_NEAR(summary.epistemic_share, 0.7, 1e-12);
  window.Reset();
  EXPECT_EQ(window.Summary(kStart).answers, 0);
}

TEST(LatencyWindowTest, PercentilesOfTheLastMinute) {
  LatencyWindow window;
  for (int i = 1; i <= 1000; ++i) window.Add(absl::Milliseconds(i), kStart);
  LatencySummary summary = window.Summary(kStart + absl::Seconds(10));
  EXPECT_EQ(summary.count, 1000u);
  EXPECT_EQ(summary.span, absl::Seconds(10));
  EXPECT_NEAR(summary.mean_seconds, 0.5005, 1e-9);
  EXPECT_NEAR(summary.Percentile(0.5), 0.5, 0.045);
  EXPECT_NEAR(summary.Percentile(0.99), 0.99, 0.09);
  EXPECT_DOUBLE_EQ(summary.Percentile(1), 1);
  uint64_t in_buckets = 0;
  for (const LatencySummary::Bucket& bucket : summary.buckets) in_buckets += bucket.count;
  EXPECT_EQ(in_buckets, 1000u);
  EXPECT_EQ(window.Summary(kStart + absl::Seconds(70)).count, 0u);
  window.Add(absl::ZeroDuration(), kStart + absl::Minutes(2));
  window.Add(absl::Hours(1), kStart + absl::Minutes(2));
  summary = window.Summary(kStart + absl::Minutes(2));
  EXPECT_EQ(summary.count, 2u);
  EXPECT_DOUBLE_EQ(summary.max_seconds, 3600);
}

}  // namespace
}  // namespace octet::server
