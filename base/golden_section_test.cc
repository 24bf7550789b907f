// Minima that are known, inside and at both ends.
#include "base/golden_section.h"

#include "gtest/gtest.h"

namespace octet {
namespace {

TEST(GoldenSectionTest, FindsMinimaInsideAndAtTheEnds) {
  EXPECT_NEAR(LeastByGoldenSection([](double x) { return (x - 0.3) * (x - 0.3); }, -2, 5, 1e-6), 0.3, 1e-6);
  EXPECT_NEAR(LeastByGoldenSection([](double x) { return std::abs(x - 4.9); }, -2, 5, 1e-6), 4.9, 1e-6);
  EXPECT_NEAR(LeastByGoldenSection([](double x) { return x; }, -2, 5, 1e-6), -2, 1e-6);
  EXPECT_NEAR(LeastByGoldenSection([](double x) { return -x; }, -2, 5, 1e-6), 5, 1e-6);
}

TEST(GoldenSectionTest, AsksOncePerStep) {
  int calls = 0;
  (void)LeastByGoldenSection([&](double x) { ++calls; return x * x; }, -1, 1, 1e-3);
  EXPECT_LE(calls, 2 + 16);  // 2 * 0.618^16 < 1e-3
}

}  // namespace
}  // namespace octet
