#include "base/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace octet {
namespace {

TEST(Statistics, QuantileIsTheNearestRank) {
  EXPECT_EQ(Quantile({3, 1, 2, 4}, 0.5), 2);
  EXPECT_EQ(Quantile({3, 1, 2, 4}, 0.51), 3);
  EXPECT_EQ(Quantile({3, 1, 2, 4}, 0), 1);
  EXPECT_EQ(Quantile({3, 1, 2, 4}, 0.99), 4);
  EXPECT_TRUE(std::isnan(Quantile({}, 0.5)));
}

// Reference values: R, binom::binom.wilson.
TEST(Statistics, WilsonIntervalMatchesPublishedValues) {
  const ShareInterval ten = WilsonInterval(5, 10);
  EXPECT_NEAR(ten.low, 0.236593, 1e-5);
  EXPECT_NEAR(ten.high, 0.763407, 1e-5);
  const ShareInterval all = WilsonInterval(100, 100);
  EXPECT_NEAR(all.low, 0.963004, 1e-5);
  EXPECT_EQ(all.high, 1);
  EXPECT_EQ(WilsonInterval(0, 0).low, 0);
}

TEST(Statistics, TrialsForIsTheFirstCountThatReachesTheShare) {
  for (double share : {0.9, 0.98, 0.99, 0.999}) {
    const int64_t n = TrialsFor(share);
    EXPECT_GE(WilsonInterval(n, n).low, share);
    EXPECT_LT(WilsonInterval(n - 1, n - 1).low, share);
  }
}

TEST(Statistics, McNemarMatchesTheExactBinomial) {
  EXPECT_NEAR(McNemarP(1, 5), 2 * 7.0 / 64, 1e-12);
  EXPECT_EQ(McNemarP(4, 4), 1);
  EXPECT_EQ(McNemarP(0, 0), 1);
}

}  // namespace
}  // namespace octet
