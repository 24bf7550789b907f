// Overflow of pairs against enumeration of all codes.
#include "compress/saturation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/rng.h"

namespace octet::compress {
namespace {

CodeShares Even(int low, int high) {
  CodeShares shares{};
  for (int i = low; i <= high; ++i) shares[static_cast<size_t>(i)] = 1.0 / (high - low + 1);
  return shares;
}

struct Enumerated {
  int64_t pairs = 0, at_risk = 0;
  int worst = 0;
  double share = 0;
};

// Every pair of weights with every pair of codes.
Enumerated Enumerate(const std::vector<int8_t>& weights, int64_t columns, int64_t inputs, const CodeShares& shares) {
  Enumerated e;
  const int64_t rows = static_cast<int64_t>(weights.size()) / columns;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t p = 0; p < columns / inputs; ++p) {
      for (int64_t i = 0; i < inputs; i += 2) {
        const size_t at = static_cast<size_t>(r * columns + p * inputs + i);
        const int a = weights[at], b = i + 1 < inputs ? weights[at + 1] : 0;
        bool risk = false;
        for (int u = 0; u < 256; ++u) {
          for (int v = 0; v < 256; ++v) {
            const double share = shares[static_cast<size_t>(u)] * shares[static_cast<size_t>(v)];
            if (share == 0) continue;
            const int sum = u * a + v * b;
            if (std::abs(sum) > std::abs(e.worst)) e.worst = sum;
            if (sum > 32767 || sum < -32768) {
              risk = true;
              e.share += share;
            }
          }
        }
        e.at_risk += risk ? 1 : 0;
        ++e.pairs;
      }
    }
  }
  e.share /= static_cast<double>(e.pairs);
  return e;
}

TEST(SaturationTest, AgreesWithEnumeration) {
  for (const auto& [low, high] : std::vector<std::pair<int, int>>{{0, 255}, {30, 200}, {255, 255}, {0, 100}}) {
    const CounterRng rng(static_cast<uint64_t>(low * 256 + high));
    std::vector<int8_t> weights(3 * 2 * 5);  // 3 rows, 2 positions, 5 inputs: the last of a position stands alone
    for (size_t i = 0; i < weights.size(); ++i) {
      const double u = rng.Uniform(i) * 2 - 1;
      weights[i] = static_cast<int8_t>(std::copysign(std::sqrt(std::fabs(u)), u) * 127);  // many large ones
    }
    weights[0] = weights[1] = -128;
    const CodeShares shares = Even(low, high);
    const SaturationReport found = CheckSaturation(weights, 10, 5, shares);
    const Enumerated expected = Enumerate(weights, 10, 5, shares);
    EXPECT_EQ(found.pairs, expected.pairs);
    EXPECT_EQ(found.pairs_at_risk, expected.at_risk);
    EXPECT_EQ(std::abs(found.worst_sum), std::abs(expected.worst));
    EXPECT_NEAR(found.expected_share, expected.share, 1e-12);
  }
}

TEST(SaturationTest, SevenBitsNeverOverflow) {
  std::vector<int8_t> weights = {kReducedMaximum, kReducedMaximum, -kReducedMaximum, -kReducedMaximum};
  const SaturationReport seven = CheckSaturation(weights, 2, 2, Even(255, 255));
  EXPECT_EQ(std::abs(seven.worst_sum), 2 * 255 * 63);
  EXPECT_EQ(seven.expected_share, 0);
  const SaturationReport eight = CheckSaturation(std::vector<int8_t>{127, 127}, 2, 2, Even(255, 255));
  EXPECT_EQ(eight.worst_sum, 64770);
  EXPECT_EQ(eight.expected_share, 1);
}

TEST(SaturationTest, OppositeSignsAndLoneWeightsAreSafe) {
  const SaturationReport report = CheckSaturation(std::vector<int8_t>{127, -127, 127}, 3, 3, Even(0, 255));
  EXPECT_EQ(report.pairs, 2);
  EXPECT_EQ(report.pairs_at_risk, 0);
  EXPECT_EQ(std::abs(report.worst_sum), 255 * 127);
}

TEST(SaturationTest, CodesFollowTheHistogram) {
  StreamingHistogram h;
  h.Add({-1, 0, 0, 1, 3});
  const CodeShares shares = CodeSharesOf(h, U8Params({-1, 3}));  // step 4/255, zero point 64
  EXPECT_NEAR(shares[64], 0.4, 1e-12);
  EXPECT_NEAR(shares[0], 0.2, 1e-12);
  EXPECT_NEAR(shares[255], 0.2, 1e-12);
  EXPECT_NEAR(shares[127] + shares[128], 0.2, 1e-12);
}

}  // namespace
}  // namespace octet::compress
