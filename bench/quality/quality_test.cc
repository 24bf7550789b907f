// The metrics of bench_quality against cases worked out by hand.
#include <cmath>

#include "bench/quality/detection.h"
#include "bench/quality/metrics.h"
#include "bench/quality/report.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace octet::bench {
namespace {

TEST(Metrics, Top1TakesTheFirstOfEqualElements) {
  const PredictedOutput output{{3}, {0, 2, 1, /**/ 5, 5, 0, /**/ -3, -2, -1, /**/ 1, 0, 0}};
  EXPECT_DOUBLE_EQ(Top1Percent(output, {1, 0, 2, 1}), 75);
}

TEST(Metrics, AgreementCountsEqualArgumentsOfTheMaximum) {
  const PredictedOutput a{{2, 1}, {1, 0, /**/ 0, 1, /**/ 3, 4, /**/ 9, 2}};
  const PredictedOutput b{{2, 1}, {7, 1, /**/ 1, 0, /**/ 0, 1, /**/ 3, 2}};
  EXPECT_DOUBLE_EQ(AgreementPercent(a, a), 100);
  EXPECT_DOUBLE_EQ(AgreementPercent(a, b), 75);
}

TEST(Metrics, SqnrSumsOverAllOutputs) {
  const Predictions a{1, {{{2}, {3, 4}}, {{1}, {5}}}};
  Predictions b = a;
  EXPECT_DOUBLE_EQ(PredictionsSqnrDb(a, b), 200);
  b.outputs[0].values[1] = 4.5f;
  b.outputs[1].values[0] = 4.5f;  // signal 50, noise 0.5
  EXPECT_NEAR(PredictionsSqnrDb(a, b), 20, 1e-9);
  b.outputs[1].values[0] = NAN;
  EXPECT_DOUBLE_EQ(PredictionsSqnrDb(a, b), -200);
}

TEST(Metrics, MaskIouIsCountedOverAllSamples) {
  const PredictedOutput a{{4}, {1, 1, 0, 0, /**/ 0, 0, 0, 0}};
  const PredictedOutput b{{4}, {1, 0, 1, 0, /**/ 0.3f, 0, 0, 0.9f}};
  EXPECT_DOUBLE_EQ(MaskIouPercent(a, b, 0.3f), 25);  // both {0}, either {0, 1, 2, 7}: 0.3 is not above 0.3
  EXPECT_DOUBLE_EQ(MaskIouPercent(a, a, 0.3f), 100);
  EXPECT_DOUBLE_EQ(MaskIouPercent(a, a, 2), 100) << "two empty masks are equal";
}

TEST(Detection, IouOfHalfCoveredDisjointAndEmptyBoxes) {
  EXPECT_NEAR(Iou({0, 0, 2, 2}, {1, 0, 3, 2}), 2.0 / 6, 1e-12);
  EXPECT_EQ(Iou({0, 0, 1, 1}, {2, 2, 3, 3}), 0);
  EXPECT_EQ(Iou({0, 0, 0, 0}, {0, 0, 0, 0}), 0);
  EXPECT_EQ(Iou({2, 2, 1, 1}, {2, 2, 1, 1}), 0) << "a box turned inside out has no area";
}

TEST(Detection, SuppressionKeepsTheBestOfEachLabel) {
  const std::vector<Box> boxes = {
      {0, 0, 10, 10, 0.5f, 0}, {0, 0, 10, 9, 0.9f, 0}, {0, 0, 10, 10, 0.4f, 1}, {20, 0, 30, 10, 0.3f, 0}};
  const std::vector<Box> kept = SuppressNonMaxima(boxes, 0.45);
  ASSERT_EQ(kept.size(), 3u);
  EXPECT_EQ(kept[0].score, 0.9f);
  EXPECT_EQ(kept[1].label, 1);
  EXPECT_EQ(kept[2].x0, 20);
}

TEST(Detection, YoloxDecodesCellStrideAndClass) {
  // 32 x 32 pixels: 4x4 cells of stride 8, 2x2 of 16, 1 of 32; two classes.
  std::vector<float> output(21 * 7, 0.0f);
  const auto set = [&](size_t cell, std::vector<float> row) { std::copy(row.begin(), row.end(), output.begin() + cell * 7); };
  set(6, {0.5f, 0.25f, std::log(2.0f), 0, 0.8f, 0.1f, 0.5f});       // stride 8, x 2, y 1
  set(20, {0, 0, 0, 0, 0.9f, 1, 0});                                // stride 32
  set(17, {0, 0, 0, 0, 0.5f, 0.5f, 0});                             // score 0.25 is not above 0.3
  const std::vector<Box> boxes = DecodeYolox(output, 32, 2, 0.3f);
  ASSERT_EQ(boxes.size(), 2u);
  EXPECT_NEAR(boxes[0].x0, 20 - 8, 1e-5);
  EXPECT_NEAR(boxes[0].x1, 20 + 8, 1e-5);
  EXPECT_NEAR(boxes[0].y0, 10 - 4, 1e-5);
  EXPECT_NEAR(boxes[0].y1, 10 + 4, 1e-5);
  EXPECT_NEAR(boxes[0].score, 0.4, 1e-6);
  EXPECT_EQ(boxes[0].label, 1);
  EXPECT_NEAR(boxes[1].x0, -16, 1e-5);
  EXPECT_EQ(boxes[1].label, 0);
}

TEST(Detection, UltrafaceKeepsFacesAboveTheThreshold) {
  const std::vector<Box> faces = DecodeUltraface({0.9f, 0.1f, 0.2f, 0.8f}, {0, 0, 1, 1, 0.1f, 0.2f, 0.3f, 0.4f}, 0.5f);
  ASSERT_EQ(faces.size(), 1u);
  EXPECT_EQ(faces[0].y1, 0.4f);
  EXPECT_EQ(faces[0].score, 0.8f);
}

TEST(Detection, MatchesUseEachReferenceOnceAndOnlyItsLabel) {
  const std::vector<Box> reference = {{0, 0, 10, 10, 1, 0}, {20, 0, 30, 10, 1, 1}};
  const std::vector<Box> found = {{0, 0, 10, 9, 1, 0}, {0, 0, 10, 10, 1, 0}, {20, 0, 30, 10, 1, 0}, {20, 0, 25, 10, 1, 1}};
  EXPECT_EQ(CountMatches(reference, found, 0.5), 2);  // the second finds its box taken, the third has another label
  EXPECT_EQ(CountMatches(reference, found, 0.6), 1);
  EXPECT_EQ(CountMatches(reference, {}, 0.5), 0);
  EXPECT_DOUBLE_EQ(F1Percent(2, 2, 4), 100.0 * 2 / 3);
  EXPECT_DOUBLE_EQ(F1Percent(0, 0, 0), 100);
  EXPECT_DOUBLE_EQ(F1Percent(0, 0, 3), 0);
}

TEST(Report, ShowsSchemesAsColumnsAndErrorsAsRows) {
  const std::vector<Row> rows = {{"net", "int8", "top-1 %", 91.5, 91.25, 0.2612, "", ""},
                                 {"net", "int4", "", 0, 0, 0, "", "no \"such\" scheme"}};
  EXPECT_EQ(RowsJson(rows),
            "{\"rows\":[\n"
            "  {\"network\":\"net\",\"scheme\":\"int8\",\"metric\":\"top-1 %\",\"float\":91.5000,\"compressed\":91.2500,"
            "\"file_ratio\":0.2612,\"note\":\"\"},\n"
            "  {\"network\":\"net\",\"scheme\":\"int4\",\"error\":\"no \\\"such\\\" scheme\"}\n]}\n");
  EXPECT_EQ(RowsMarkdown(rows),
            "| Network | Metric | float | int8 | int4 |\n|---|---|---|---|---|\n"
            "| net | top-1 % | 91.50 | 91.25 | failed |\n"
            "| net | file, share of the float file | 1 | 0.261 | failed |\n");
}

}  // namespace
}  // namespace octet::bench
