// 16-bit floats: every f16 value survives a round trip; rounding is half to even.
#include "base/float16.h"

#include <gtest/gtest.h>

#include <cmath>

namespace octet {
namespace {

TEST(Float16Test, EveryValueRoundTrips) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = F32FromF16(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(F32FromF16(F16FromF32(value)))) << bits;
    } else {
      EXPECT_EQ(F16FromF32(value), bits);
    }
  }
}

TEST(Float16Test, RoundsHalfToEven) {
  EXPECT_EQ(F16FromF32(1 + 0x1p-11f), F16FromF32(1.0f));                   // tie, even below
  EXPECT_EQ(F16FromF32(1 + 3 * 0x1p-11f), F16FromF32(1 + 0x1p-9f));        // tie, even above
  EXPECT_EQ(F32FromF16(F16FromF32(65519.9f)), 65504.0f);
  EXPECT_TRUE(std::isinf(F32FromF16(F16FromF32(65520.0f))));
  EXPECT_EQ(F16FromF32(0x1p-25f), 0);                                      // tie with zero
  EXPECT_EQ(F16FromF32(1.5f * 0x1p-24f), 2);
  EXPECT_EQ(F32FromBF16(BF16FromF32(1 + 0x1p-8f)), 1.0f);
  EXPECT_EQ(F32FromBF16(BF16FromF32(1 + 3 * 0x1p-8f)), 1 + 0x1p-6f);
}

}  // namespace
}  // namespace octet
