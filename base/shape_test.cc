// Shape arithmetic and tensors.
#include "base/shape.h"

#include <gtest/gtest.h>

#include "base/tensor.h"

namespace octet {
namespace {

TEST(ShapeTest, CountsElementsAndRefusesOverflow) {
  EXPECT_EQ(*CheckedNumElements({}), 1);
  EXPECT_EQ(*CheckedNumElements({2, 3, 4}), 24);
  EXPECT_EQ(*CheckedNumElements({int64_t{1} << 40, 0, 7}), 0);
  EXPECT_FALSE(CheckedNumElements({int64_t{1} << 40, int64_t{1} << 40}).ok());
  EXPECT_FALSE(CheckedNumElements({3, -2}).ok());
  EXPECT_FALSE(CheckedByteSize(DType::kF32, {int64_t{1} << 61}).ok());
}

TEST(ShapeTest, FourBitTypesRoundUpToBytes) {
  EXPECT_EQ(*CheckedByteSize(DType::kS4, {3}), 2);
  EXPECT_EQ(ByteSize(DType::kU4, Shape{4}), 2);
}

TEST(ShapeTest, BroadcastsAsNumpyDoes) {
  EXPECT_EQ(*BroadcastShapes({2, 1, 4}, {3, 1}), (Shape{2, 3, 4}));
  EXPECT_EQ(*BroadcastShapes({}, {5}), (Shape{5}));
  EXPECT_EQ(*BroadcastShapes({kUnknownDim, 3}, {1, 3}), (Shape{kUnknownDim, 3}));
  const auto bad = BroadcastShapes({2, 3}, {4, 3});
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.status().message().find("[2, 3]"), std::string::npos);
}

TEST(TensorTest, UnpacksSignedNibblesLowFirst) {
  const std::vector<uint8_t> bytes = {0x8F, 0x07};  // -1, -8, 7
  const Tensor raw = Tensor::FromValues<uint8_t>(DType::kU8, {2}, bytes);
  const Tensor nibbles(DType::kS4, {3}, raw.data(), std::make_shared<Tensor>(raw));
  EXPECT_EQ(nibbles.ToS64(), (std::vector<int64_t>{-1, -8, 7}));
}

TEST(TensorTest, ReadsUnalignedFloats) {
  std::vector<std::byte> bytes(9);
  const float value = 1.5f;
  std::memcpy(bytes.data() + 1, &value, 4);
  auto owner = std::make_shared<std::vector<std::byte>>(bytes);
  const Tensor tensor(DType::kF32, {1}, owner->data() + 1, owner);
  EXPECT_EQ(tensor.ToF32()[0], 1.5f);
}

TEST(BufferTest, LargeBlocksAreAlignedAndZero) {
  auto buffer = Buffer::Allocate(Buffer::kMapThreshold + 1);
  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
  EXPECT_EQ(buffer->data()[Buffer::kMapThreshold], std::byte{0});
  EXPECT_FALSE(Buffer::Allocate(int64_t{1} << 60).ok());
}

}  // namespace
}  // namespace octet
