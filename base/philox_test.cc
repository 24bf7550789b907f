#include "base/philox.h"

#include <gtest/gtest.h>

#include <cmath>

namespace octet {
namespace {

// kat_vectors of the Random123 distribution, philox4x32 with 10 rounds.
TEST(Philox, GivesThePublishedVectors) {
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (PhiloxBlock{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  EXPECT_EQ(Philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (PhiloxBlock{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  EXPECT_EQ(Philox({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, {0xa4093822u, 0x299f31d0u}),
            (PhiloxBlock{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}));
}

TEST(ElementRandom, AnOrderOfReadsDoesNotMatter) {
  ElementRandom forward(7, 3, 1), backward(7, 3, 1);
  std::vector<uint32_t> bits(1000);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = forward.Bits(i);
  for (size_t i = bits.size(); i-- > 0;) EXPECT_EQ(backward.Bits(i), bits[i]);
}

TEST(ElementRandom, SeedStreamAndDrawGiveOtherNumbers) {
  const uint32_t here = ElementRandom(1, 2, 3).Bits(5);
  EXPECT_NE(here, ElementRandom(2, 2, 3).Bits(5));
  EXPECT_NE(here, ElementRandom(uint64_t{1} << 32 | 1, 2, 3).Bits(5));
  EXPECT_NE(here, ElementRandom(1, 3, 3).Bits(5));
  EXPECT_NE(here, ElementRandom(1, 2, 4).Bits(5));
  EXPECT_NE(ElementRandom(1, 2, 3).Bits(4), ElementRandom(1, 2, 3).Bits((uint64_t{1} << 34) + 4));
}

// Mean and variance of 2^20 uniform numbers, and the correlation of neighbours: within 5 standard errors, which a fair
// generator leaves once in a million runs; the seed is fixed, so this test does not vary.
TEST(ElementRandom, IsUniform) {
  ElementRandom random(42, 0, 0);
  constexpr int kCount = 1 << 20;
  double sum = 0, squares = 0, products = 0, last = 0.5;
  for (int i = 0; i < kCount; ++i) {
    const double u = random.Uniform(static_cast<uint64_t>(i)) - 0.5;
    sum += u;
    squares += u * u;
    products += u * last;
    last = u;
  }
  const double root = std::sqrt(double{kCount});
  EXPECT_NEAR(sum / kCount, 0, 5 * std::sqrt(1.0 / 12) / root);
  EXPECT_NEAR(squares / kCount, 1.0 / 12, 5 * std::sqrt(1.0 / 180) / root);
  EXPECT_NEAR(products / kCount, 0, 5 * (1.0 / 12) / root);
}

}  // namespace
}  // namespace octet
