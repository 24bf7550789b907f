// Concat: hand-written expectations for the reference, every implementation against the reference.
#include "kernels/concat/concat.h"

#include "gmock/gmock.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;

TEST(ConcatReferenceTest, JoinsAlongAnyAxisAndLayout) {
  const auto reference = [](const ConcatParams& p, const std::vector<double>& a,
                            const std::vector<double>& b) {
    return ReferenceNumbers(ConcatImplementations(), p,
                            Operands(MakeOperand(p.parts[0], a), MakeOperand(p.parts[1], b)),
                            p.dst);
  };
  const TensorSpec a = Spec(DType::kS64, {2, 1}), b = Spec(DType::kS64, {2, 2});
  EXPECT_THAT(reference({{a, b}, Spec(DType::kS64, {2, 3}), 1}, {1, 2}, {3, 4, 5, 6}),
              ElementsAre(1, 3, 4, 2, 5, 6));
  const TensorSpec c = Spec(DType::kU8, {1, 1, 1, 2}, Layout::kChannelsLast);
  EXPECT_THAT(
      reference({{c, c}, Spec(DType::kU8, {1, 2, 1, 2}, Layout::kChannelsLast), 1}, {1, 2}, {3, 4}),
      ElementsAre(1, 3, 2, 4));
  // 10 * 0.5 = 5 -> 5 / 0.25 + 3 = 23; the second part has dst's grid.
  EXPECT_THAT(
      reference({{QuantSpec(DType::kU8, {2}, 0.5f, 0), QuantSpec(DType::kU8, {1}, 0.25f, 3)},
                 QuantSpec(DType::kU8, {3}, 0.25f, 3),
                 0},
                {10, 200}, {77}),
      ElementsAre(23, 255, 77));
}

TEST(ConcatTest, EveryTypeAxisAndLayoutEqualsTheReference) {
  for (DType type : {DType::kU8, DType::kF16, DType::kF32, DType::kS64, DType::kS4}) {
    for (Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
      for (size_t axis = 0; axis < 4; ++axis) {
        ConcatParams params{{}, Spec(type, {2, 3, 5, 7}, layout), static_cast<int>(axis)};
        params.dst.shape[axis] = 0;
        std::vector<Operand> sources;
        for (int64_t size : {1, 0, 4, 9}) {
          TensorSpec part = params.dst;
          part.shape[axis] = size;
          params.dst.shape[axis] += size;
          sources.push_back(MakeRandom(part, static_cast<uint64_t>(size)));
          params.parts.push_back(part);
        }
        const auto accepted =
            CompareImplementations(ConcatImplementations(), params, sources, params.dst, {},
                                   absl::StrCat(NameOf(type), axis));
        EXPECT_EQ(accepted.contains("runs"), type != DType::kS4);
      }
    }
  }
}

TEST(ConcatTest, RequantizesPartsAcrossThreads) {
  for (Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
    for (const Shape& shape : {Shape{1, 24, 60, 61}, Shape{4, 24, 30, 31}}) {
      ConcatParams params;
      params.axis = 1;
      params.dst =
          QuantSpec(DType::kU8, {shape[0], 3 * shape[1], shape[2], shape[3]}, 0.05f, 20, layout);
      std::vector<Operand> sources;
      for (int i = 0; i < 3; ++i) {
        params.parts.push_back(
            QuantSpec(DType::kU8, shape, 0.03f + 0.01f * static_cast<float>(i), 10 * i, layout));
        sources.push_back(MakeRandom(params.parts.back(), static_cast<uint64_t>(i)));
      }
      params.parts[2].quant = params.dst.quant;
      sources[2].spec = params.parts[2];
      EXPECT_THAT(CompareImplementations(ConcatImplementations(), params, sources, params.dst, {},
                                         "requantize"),
                  Contains("runs"));
    }
  }
}

TEST(ConcatTest, RefusesWhatContradictsItself) {
  const auto code = [](const ConcatParams& p) {
    return CreateConcat(p, KernelEnv{}).status().code();
  };
  const TensorSpec a = Spec(DType::kF32, {2, 3}), b = Spec(DType::kF32, {3, 3});
  EXPECT_TRUE(CreateConcat({{a, b}, Spec(DType::kF32, {5, 3}), 0}, KernelEnv{}).ok());
  EXPECT_EQ(code({{a, b}, Spec(DType::kF32, {6, 3}), 0}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{a, b}, Spec(DType::kF32, {2, 6}), 1}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{a, b}, Spec(DType::kF32, {5, 3}), 2}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{a, Spec(DType::kS32, {3, 3})}, Spec(DType::kF32, {5, 3}), 0}),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace octet::kernels
