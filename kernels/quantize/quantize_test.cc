// Convert: hand-computed values against the reference, every implementation against the reference.
#include "kernels/quantize/quantize.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsSupersetOf;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<double> Reference(const TensorSpec& src, const TensorSpec& dst,
                              const std::vector<double>& values) {
  return ReferenceNumbers(ConvertImplementations(), ConvertParams{src, dst},
                          Operands(MakeOperand(src, values)), dst);
}

std::set<std::string> Compare(const TensorSpec& src, const TensorSpec& dst, double steps,
                              const std::string& what) {
  return CompareImplementations(ConvertImplementations(), ConvertParams{src, dst},
                                Operands(MakeRandom(src, 7)), dst, {steps, 0}, what);
}

TEST(ConvertReferenceTest, QuantizesHalfToEvenAndSaturates) {
  const Shape shape{8};
  EXPECT_THAT(Reference(Spec(DType::kF32, shape), QuantSpec(DType::kU8, shape, 0.5f, 10),
                        {0, 0.25, 0.75, -0.25, -100, 1000, kNan, 1.0}),
              ElementsAre(10, 10, 12, 10, 0, 255, 0, 12));
  EXPECT_THAT(Reference(Spec(DType::kF32, shape), QuantSpec(DType::kS8, shape, 2, -3),
                        {1, 3, 5, -1, -3, kInf, -kInf, 2}),
              ElementsAre(-3, -1, -1, -3, -5, 127, -128, -2));
}

TEST(ConvertReferenceTest, DequantizesPerTensorAxisAndBlock) {
  EXPECT_THAT(
      Reference(QuantSpec(DType::kU8, {3}, 0.5f, 128), Spec(DType::kF32, {3}), {0, 128, 255}),
      ElementsAre(-64, 0, 63.5));
  TensorSpec axis = Spec(DType::kS8, {2, 2});
  axis.quant = QuantParams{{1, 10}, {0, 1}, 0, 0};
  EXPECT_THAT(Reference(axis, Spec(DType::kF32, {2, 2}), {1, 2, 3, 4}), ElementsAre(1, 2, 20, 30));
  axis.quant->axis = 1;
  EXPECT_THAT(Reference(axis, Spec(DType::kF32, {2, 2}), {1, 2, 3, 4}), ElementsAre(1, 10, 3, 30));
  TensorSpec block = Spec(DType::kS4, {3, 2});  // blocks of 2 along axis 0: scale shape [2, 2]
  block.quant = QuantParams{{1, 2, 4, 8}, {}, 0, 2};
  EXPECT_THAT(Reference(block, Spec(DType::kF32, {3, 2}), {-8, 7, 1, 2, 3, -1}),
              ElementsAre(-8, 14, 1, 4, 12, -8));
  EXPECT_THAT(
      Reference(QuantSpec(DType::kS32, {2}, 0.25f, 0), Spec(DType::kF32, {2}), {100000, -1}),
      ElementsAre(25000, -0.25));
  EXPECT_THAT(Reference(QuantSpec(DType::kU4, {3}, 1, 8), Spec(DType::kF32, {3}), {0, 8, 15}),
              ElementsAre(-8, 0, 7));
}

TEST(ConvertReferenceTest, RequantizesAndChangesLayout) {
  EXPECT_THAT(
      Reference(QuantSpec(DType::kU8, {3}, 1, 0), QuantSpec(DType::kS8, {3}, 2, 1), {0, 3, 255}),
      ElementsAre(1, 3, 127));
  // [1, 2, 1, 3]: channels 0 and 1 of three pixels interleave.
  EXPECT_THAT(Reference(Spec(DType::kS64, {1, 2, 1, 3}),
                        Spec(DType::kS64, {1, 2, 1, 3}, Layout::kChannelsLast), {1, 2, 3, 4, 5, 6}),
              ElementsAre(1, 4, 2, 5, 3, 6));
}

TEST(ConvertReferenceTest, CastsAsOnnxSays) {
  const Shape s{5};
  EXPECT_THAT(Reference(Spec(DType::kF32, s), Spec(DType::kS32, s), {1.9, -1.9, 1e20, -1e20, kNan}),
              ElementsAre(1, -1, 2147483647, -2147483648.0, 0));
  EXPECT_THAT(Reference(Spec(DType::kF32, s), Spec(DType::kBool, s), {0, -0.0, 0.1, kNan, -7}),
              ElementsAre(0, 0, 1, 1, 1));
  EXPECT_THAT(Reference(Spec(DType::kS32, s), Spec(DType::kU8, s), {-1, 256, 257, 5, 255}),
              ElementsAre(255, 0, 1, 5, 255));
  EXPECT_THAT(Reference(Spec(DType::kBool, s), Spec(DType::kF16, s), {0, 1, 1, 0, 1}),
              ElementsAre(0, 1, 1, 0, 1));
  EXPECT_THAT(
      Reference(Spec(DType::kF32, s), Spec(DType::kBF16, s), {1, 1.00390625, 1.01171875, -2, kInf}),
      ElementsAre(1, 1, 1.015625, -2, kInf));
}

TEST(ConvertTest, EveryCastEqualsTheReference) {
  const std::vector<DType> types = {DType::kF32,  DType::kF64, DType::kF16, DType::kBF16,
                                    DType::kS8,   DType::kU8,  DType::kS16, DType::kU16,
                                    DType::kS32,  DType::kU32, DType::kS64, DType::kU64,
                                    DType::kBool, DType::kS4,  DType::kU4};
  for (DType src : types) {
    for (DType dst : types) {
      const std::string what = absl::StrCat(NameOf(src), " to ", NameOf(dst));
      Compare(Spec(src, {3, 7}), Spec(dst, {3, 7}), 0, what);
      Compare(Spec(src, {2, 3, 4, 5}), Spec(dst, {2, 3, 4, 5}, Layout::kChannelsLast), 0, what);
    }
  }
  EXPECT_THAT(Compare(Spec(DType::kS64, {9}), Spec(DType::kF32, {9}), 0, "s64"), Contains("cast"));
}

TEST(ConvertTest, QuantizesInEveryLayoutAndSize) {
  const std::vector<Shape> shapes = {{1},          {0, 4},        {15},           {17},   {3, 5, 7},
                                     {2, 3, 5, 7}, {1, 64, 9, 9}, {4, 1, 28, 28}, {70001}};
  for (const Shape& shape : shapes) {
    for (DType type : {DType::kU8, DType::kS8}) {
      for (int32_t zero_point : {0, 3, -128, 255}) {
        if (zero_point < 0 && type == DType::kU8) continue;
        if (zero_point > 127 && type == DType::kS8) continue;
        for (Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
          const TensorSpec real = Spec(DType::kF32, shape);
          const TensorSpec stored = QuantSpec(type, shape, 0.0123f, zero_point, layout);
          const std::string what =
              absl::StrCat(ShapeString(shape), NameOf(type), zero_point, NameOf(layout));
          // oneDNN multiplies by the inverse scale: a tie may fall to the other side.
          const double steps = SameMemoryOrder(real, stored) ? 0 : 1;
          Compare(real, stored, steps, what + " quantize");
          Compare(stored, real, steps * 1e-6, what + " dequantize");
          Compare(stored, QuantSpec(DType::kU8, shape, 0.05f, 7), 1, what + " requantize");
        }
      }
    }
  }
}

TEST(ConvertTest, TiesAndExtremesEqualTheReferenceInVectors) {
  std::vector<double> values;
  for (int i = -300; i < 300; ++i) values.push_back(i * 0.5);
  for (double x : {kInf, -kInf, kNan, 3e38, -3e38, 1e-40}) values.push_back(x);
  const Shape shape{static_cast<int64_t>(values.size())};
  const TensorSpec src = Spec(DType::kF32, shape);
  for (DType type : {DType::kU8, DType::kS8}) {
    const TensorSpec dst = QuantSpec(type, shape, 1, 5);
    EXPECT_THAT(CompareImplementations(ConvertImplementations(), ConvertParams{src, dst},
                                       Operands(MakeOperand(src, values)), dst, {0, 0}, "ties"),
                Contains("rows"));
  }
}

TEST(ConvertTest, SixteenBitsEqualTheReferenceInRows) {
  std::vector<double> values;
  for (int i = -70000; i < 70000; i += 7) values.push_back(i * 0.5);
  for (double x : {kInf, -kInf, kNan, 3e38, -3e38, 1e-40, 65534.5, 32766.5, -32768.5}) values.push_back(x);
  const Shape shape{static_cast<int64_t>(values.size())};
  const TensorSpec real = Spec(DType::kF32, shape);
  for (DType type : {DType::kU16, DType::kS16}) {
    for (int32_t zero_point : {0, 5, 30000}) {
      const TensorSpec stored = QuantSpec(type, shape, 1, zero_point);
      EXPECT_THAT(CompareImplementations(ConvertImplementations(), ConvertParams{real, stored},
                                         Operands(MakeOperand(real, values)), stored, {0, 0}, "16 bits"),
                  Contains("rows"));
      EXPECT_THAT(Compare(stored, real, 0, "from 16 bits"), Contains("rows"));
    }
  }
  EXPECT_THAT(Compare(QuantSpec(DType::kS32, shape, 0.5f, -3), real, 0, "from s32"), Contains("rows"));
}

TEST(ConvertTest, OneDnnRoundsTiesToEvenAndSaturates) {
  // Scale 1 leaves no error of the inverse: the reorder must agree exactly.
  std::vector<double> values;
  for (int i = 0; i < 2 * 3 * 200; ++i) values.push_back((i - 600) * 0.5);
  const Shape shape{2, 3, 10, 20};
  const TensorSpec src = Spec(DType::kF32, shape);
  const TensorSpec dst = QuantSpec(DType::kU8, shape, 1, 8, Layout::kChannelsLast);
  EXPECT_THAT(CompareImplementations(ConvertImplementations(), ConvertParams{src, dst},
                                     Operands(MakeOperand(src, values)), dst, {0, 0}, "reorder"),
              IsSupersetOf({"onednn", "tiles"}));
}

TEST(ConvertTest, PerAxisRowsEqualTheReference) {
  for (int axis : {0, 1, 2}) {
    TensorSpec src = Spec(DType::kS8, {3, 4, 11});
    const auto n = static_cast<size_t>(src.shape[static_cast<size_t>(axis)]);
    QuantParams quant{std::vector<float>(n), std::vector<int32_t>(n), axis, 0};
    for (size_t i = 0; i < n; ++i) {
      quant.scale[i] = 0.01f * static_cast<float>(i + 1);
      quant.zero_point[i] = static_cast<int32_t>(i) - 2;
    }
    src.quant = quant;
    const auto accepted =
        Compare(src, Spec(DType::kF32, src.shape), 0, absl::StrCat("axis ", axis));
    EXPECT_EQ(accepted.contains("rows"), axis < 2);
  }
}

TEST(ConvertTest, ChoosesTheExpectedImplementation) {
  const auto chosen = [](const TensorSpec& src, const TensorSpec& dst) {
    KernelEnv env;
    auto kernel = CreateConvert({src, dst}, env);
    return kernel.ok() ? (*kernel)->implementation() : kernel.status().ToString();
  };
  const Shape stem{8, 1, 28, 28};  // one channel: both layouts are the same memory
  EXPECT_EQ(
      chosen(Spec(DType::kF32, stem), QuantSpec(DType::kU8, stem, 1, 0, Layout::kChannelsLast)),
      "rows");
  EXPECT_EQ(chosen(Spec(DType::kS64, {4}), Spec(DType::kS64, {4})), "copy");
  EXPECT_EQ(chosen(QuantSpec(DType::kU8, {4}, 1, 0), QuantSpec(DType::kU8, {4}, 2, 0)), "table");
  EXPECT_EQ(chosen(Spec(DType::kS4, {4}), Spec(DType::kF32, {4})), "reference");
}

TEST(ConvertTest, RefusesWhatContradictsItself) {
  const KernelEnv env;
  EXPECT_EQ(CreateConvert({Spec(DType::kF32, {2}), Spec(DType::kF32, {3})}, env).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CreateConvert({QuantSpec(DType::kF32, {2}, 1, 0), Spec(DType::kF32, {2})}, env)
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
  TensorSpec wrong = Spec(DType::kS8, {2, 3});
  wrong.quant = QuantParams{{1, 1}, {}, 1, 0};
  EXPECT_EQ(CreateConvert({wrong, Spec(DType::kF32, {2, 3})}, env).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace octet::kernels
