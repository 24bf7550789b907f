// Types of elements, and kernels that fail.
#include "kernels/plain/typed.h"

#include <gtest/gtest.h>

#include "kernels/testing.h"

namespace octet::kernels {
namespace {

TEST(PlainTypedTest, EveryAddressableTypeHasItsSize) {
  for (DType dtype :
       {DType::kF32, DType::kF64, DType::kF16, DType::kBF16, DType::kS8, DType::kU8, DType::kS16,
        DType::kU16, DType::kS32, DType::kU32, DType::kS64, DType::kU64, DType::kBool}) {
    int64_t bytes = 0;
    EXPECT_TRUE(WithType("test", dtype, [&](auto t) {
                  bytes = sizeof(t);
                  return absl::OkStatus();
                }).ok());
    EXPECT_EQ(bytes, BytesOf(dtype)) << NameOf(dtype);
  }
  const absl::Status refused = WithType("test", DType::kS4, [](auto) { return absl::OkStatus(); });
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnimplemented);
}

TEST(PlainTypedTest, SixteenBitFloatsRoundToNearestEven) {
  EXPECT_EQ(F16(1.0f + 1.0f / 2048).bits, F16(1.0f).bits);  // halfway: even
  EXPECT_EQ(float{F16(1.0f + 3.0f / 2048)}, 1.0f + 2.0f / 1024);
  EXPECT_EQ(float{BF16(1.0f + 1.0f / 256)}, 1.0f);
  EXPECT_EQ(float{F16(1.5f)} + F16(0.25f), 1.75f);
}

TEST(PlainTypedTest, CheckedKernelsReturnTheirStatus) {
  const auto kernel = MakeCheckedKernel("loop", 8, [](const BindArgs& args) -> absl::Status {
    if (*static_cast<const float*>(args.src[0]) < 0) return absl::InvalidArgumentError("negative");
    *static_cast<float*>(args.dst[0]) = 7;
    return absl::OkStatus();
  });
  EXPECT_EQ(kernel->scratch_bytes(), 8);
  float good = 1, bad = -1, dst = 0;
  EXPECT_TRUE(RunKernel(*kernel, {&good}, {&dst}).ok());
  EXPECT_EQ(dst, 7);
  EXPECT_EQ(RunKernel(*kernel, {&bad}, {&dst}).message(), "negative");
}

}  // namespace
}  // namespace octet::kernels
