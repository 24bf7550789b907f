// Resize: the operator's published examples against the reference, every implementation against the
// reference.
#include "kernels/resize/resize.h"

#include "gmock/gmock.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using ::testing::Contains;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pointwise;
using Border = ResizeParams::Border;
using Coordinates = ResizeParams::Coordinates;
using Mode = ResizeParams::Mode;
using Rounding = ResizeParams::Rounding;

// A [1, 1, h, w] resize to [1, 1, height, width]; scales follow from the sizes unless given.
ResizeParams Image(Mode mode, Shape from, Shape to,
                   Coordinates coordinates = Coordinates::kHalfPixel) {
  ResizeParams p;
  p.mode = mode;
  p.coordinates = coordinates;
  p.src = Spec(DType::kF32, {1, 1, from[0], from[1]});
  p.dst = Spec(DType::kF32, {1, 1, to[0], to[1]});
  for (size_t d = 0; d < 4; ++d) {
    p.scales.push_back(static_cast<float>(p.dst.shape[d]) / static_cast<float>(p.src.shape[d]));
  }
  return p;
}

std::vector<double> Reference(const ResizeParams& p) {
  std::vector<double> values;
  for (int64_t i = 1; i <= NumElements(p.src.shape); ++i) values.push_back(static_cast<double>(i));
  return ReferenceNumbers(ResizeImplementations(), p, Operands(MakeOperand(p.src, values)), p.dst);
}

std::vector<double> FirstRow(const ResizeParams& p) {
  std::vector<double> all = Reference(p);
  all.resize(static_cast<size_t>(p.dst.shape[3]));
  return all;
}

MATCHER_P(IsNear, want, "") {
  return ExplainMatchResult(Pointwise(DoubleNear(2e-6), want), arg, result_listener);
}
using V = std::vector<double>;

TEST(ResizeReferenceTest, LinearExamplesOfOnnx) {
  EXPECT_THAT(
      Reference(Image(Mode::kLinear, {2, 2}, {4, 4})),
      IsNear(V{1, 1.25, 1.75, 2, 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3, 3.25, 3.75, 4}));
  EXPECT_THAT(FirstRow(Image(Mode::kLinear, {2, 2}, {4, 4}, Coordinates::kAlignCorners)),
              IsNear(V{1, 1.33333333, 1.66666667, 2}));
  ResizeParams down = Image(Mode::kLinear, {2, 4}, {1, 2});
  down.scales = {1, 1, 0.6f, 0.6f};
  EXPECT_THAT(Reference(down), IsNear(V{2.6666665, 4.3333331}));
  EXPECT_THAT(Reference(Image(Mode::kLinear, {4, 4}, {3, 1}, Coordinates::kPytorchHalfPixel)),
              IsNear(V{1.6666666, 7, 12.333333}));
  ResizeParams symmetric = Image(Mode::kLinear, {1, 4}, {1, 2}, Coordinates::kHalfPixelSymmetric);
  symmetric.scales = {1, 1, 1, 0.6f};
  EXPECT_THAT(Reference(symmetric), IsNear(V{1.6666667, 3.3333333}));
  symmetric = Image(Mode::kLinear, {2, 2}, {4, 5}, Coordinates::kHalfPixelSymmetric);
  symmetric.scales = {1, 1, 2.3f, 2.94f};
  EXPECT_THAT(FirstRow(symmetric), IsNear(V{1, 1.15986395, 1.5, 1.84013605, 2}));
}

TEST(ResizeReferenceTest, CubicExamplesOfOnnx) {
  ResizeParams p = Image(Mode::kCubic, {4, 4}, {8, 8});
  EXPECT_THAT(FirstRow(p), IsNear(V{0.47265625, 0.76953125, 1.24609375, 1.875, 2.28125, 2.91015625,
                                    3.38671875, 3.68359375}));
  p.coordinates = Coordinates::kAlignCorners;
  EXPECT_THAT(FirstRow(p), IsNear(V{1, 1.34110787, 1.80029155, 2.32944606, 2.67055394, 3.19970845,
                                    3.65889213, 4}));
  p.coordinates = Coordinates::kHalfPixel;
  p.cubic_coefficient = -0.5f;
  p.border = Border::kExcludeOutside;
  EXPECT_THAT(FirstRow(p), IsNear(V{0.55882353, 0.81494204, 1.35698249, 1.89705882, 2.39705882,
                                    2.93713516, 3.47917561, 3.73529412}));
}

TEST(ResizeReferenceTest, AntialiasExamplesOfOnnx) {
  ResizeParams p = Image(Mode::kLinear, {4, 4}, {2, 2});
  p.scales = {1, 1, 0.6f, 0.6f};
  p.antialias = ResizeParams::Antialias::kYes;
  EXPECT_THAT(Reference(p), IsNear(V{2.875, 4.5, 9.375, 11}));
  p.mode = Mode::kCubic;
  // Published from f64; the weights here are f32.
  EXPECT_THAT(Reference(p), Pointwise(DoubleNear(1e-5), V{2.5180721, 4.2858863, 9.589329, 11.357142}));
  // Where nothing shrinks it changes nothing.
  ResizeParams up = Image(Mode::kLinear, {2, 2}, {4, 4});
  const std::vector<double> plain = Reference(up);
  up.antialias = ResizeParams::Antialias::kYes;
  EXPECT_EQ(Reference(up), plain);
}

// ONNX's vectors divide by the length before it is cut to whole elements: 2.4 - 1, not 2 - 1.
TEST(ResizeReferenceTest, AlignedCornersOfAFractionalLength) {
  ResizeParams p = Image(Mode::kLinear, {2, 4}, {1, 2}, Coordinates::kAlignCorners);
  p.scales = {1, 1, 0.6f, 0.6f};
  EXPECT_THAT(Reference(p), IsNear(V{1, 3.142857}));
  p = Image(Mode::kCubic, {4, 4}, {3, 3}, Coordinates::kAlignCorners);
  p.scales = {1, 1, 0.8f, 0.8f};
  EXPECT_THAT(FirstRow(p), IsNear(V{1, 2.39519159, 3.79038317}));
}

TEST(ResizeReferenceTest, NearestExamplesOfOnnx) {
  EXPECT_THAT(Reference(Image(Mode::kNearest, {2, 2}, {4, 6})),
              ElementsAre(1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 3, 3, 3, 4, 4, 4));
  ResizeParams down = Image(Mode::kNearest, {2, 4}, {1, 2});
  down.scales = {1, 1, 0.6f, 0.6f};
  EXPECT_THAT(Reference(down), ElementsAre(1, 3));
  ResizeParams p = Image(Mode::kNearest, {4, 4}, {8, 8});
  p.rounding = Rounding::kCeil;
  EXPECT_THAT(FirstRow(p), ElementsAre(1, 2, 2, 3, 3, 4, 4, 4));
  p.rounding = Rounding::kFloor;
  p.coordinates = Coordinates::kAlignCorners;
  EXPECT_THAT(FirstRow(p), ElementsAre(1, 1, 1, 2, 2, 3, 3, 4));
  p.rounding = Rounding::kRoundPreferCeil;
  p.coordinates = Coordinates::kAsymmetric;
  EXPECT_THAT(FirstRow(p), ElementsAre(1, 2, 2, 3, 3, 4, 4, 4));
  p.rounding = Rounding::kRoundPreferFloor;
  EXPECT_THAT(FirstRow(p), ElementsAre(1, 1, 2, 2, 3, 3, 4, 4));
}

TEST(ResizeReferenceTest, CropExamplesOfOnnx) {
  ResizeParams p = Image(Mode::kLinear, {4, 4}, {3, 3}, Coordinates::kTfCropAndResize);
  p.roi = {0, 0, 0.4f, 0.6f, 1, 1, 0.6f, 0.8f};
  EXPECT_THAT(Reference(p), IsNear(V{7.6, 7.9, 8.2, 8.8, 9.1, 9.4, 10, 10.3, 10.6}));
  p.roi = {0, 0, 0.4f, 0.6f, 1, 1, 1.2f, 1.7f};
  p.extrapolation_value = 10;
  EXPECT_THAT(Reference(p), IsNear(V{7.6, 10, 10, 12.4, 10, 10, 10, 10, 10}));
}

// ---- implementations

TEST(ResizeTest, EqualsTheReferenceForAllModesLayoutsAndSizes) {
  struct Case {
    Shape src, dst;
  };
  const std::vector<Case> cases = {{{2, 3, 5, 7}, {2, 3, 10, 14}},   {{1, 19, 8, 9}, {1, 19, 5, 4}},
                                   {{1, 4, 30, 31}, {1, 4, 61, 77}}, {{2, 3, 5, 7}, {2, 3, 5, 7}},
                                   {{2, 3, 5, 7}, {4, 5, 3, 7}},     {{1, 2, 1, 1}, {1, 2, 3, 4}}};
  for (const Case& c : cases) {
    for (Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
      for (Mode mode : {Mode::kNearest, Mode::kLinear, Mode::kCubic}) {
        for (int coordinates = 0; coordinates < 6; ++coordinates) {
          ResizeParams p;
          p.mode = mode;
          p.coordinates = static_cast<Coordinates>(coordinates);
          p.border = coordinates % 2 == 0 ? Border::kKeep : Border::kExcludeOutside;
          if (coordinates < 3) p.antialias = ResizeParams::Antialias::kYes;
          p.rounding = static_cast<Rounding>(coordinates % 4);
          p.src = Spec(DType::kF32, c.src, layout);
          p.dst = Spec(DType::kF32, c.dst, layout);
          for (size_t d = 0; d < 4; ++d) {
            p.scales.push_back(static_cast<float>(c.dst[d]) / static_cast<float>(c.src[d]));
          }
          p.roi = {0, 0, 0.25f, 0.125f, 1, 1, 0.75f, 1};
          const auto accepted = CompareImplementations(
              ResizeImplementations(), p, Operands(MakeRandom(p.src, 1)), p.dst, {2e-5, 1e-5},
              absl::StrCat(ShapeString(c.src), " mode ", static_cast<int>(mode), " coordinates ",
                           coordinates, " ", NameOf(layout)));
          if (mode == Mode::kNearest) {
            EXPECT_THAT(accepted, Contains("nearest"));
          } else if (c.src != c.dst) {
            EXPECT_THAT(accepted, Contains("separable"));
          }
        }
      }
    }
  }
}

TEST(ResizeTest, NearestMovesElementsOfAnySize) {
  for (DType type : {DType::kU8, DType::kF16, DType::kF32, DType::kS64}) {
    for (Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
      ResizeParams p;
      p.src = Spec(type, {2, 5, 9, 11}, layout);
      p.dst = Spec(type, {2, 5, 40, 60}, layout);
      p.scales = {1, 1, 40.0f / 9, 60.0f / 11};
      if (type == DType::kU8) p.src.quant = p.dst.quant = QuantParams::PerTensor(0.1f, 3);
      EXPECT_THAT(CompareImplementations(ResizeImplementations(), p, Operands(MakeRandom(p.src, 1)),
                                         p.dst, {}, std::string(NameOf(type))),
                  Contains("nearest"));
    }
  }
}

TEST(ResizeTest, RefusesWhatContradictsItself) {
  const auto code = [](const ResizeParams& p) {
    return CreateResize(p, KernelEnv{}).status().code();
  };
  ResizeParams p = Image(Mode::kLinear, {2, 2}, {4, 4});
  EXPECT_TRUE(CreateResize(p, KernelEnv{}).ok());
  p.scales = {1, 1};
  EXPECT_EQ(code(p), absl::StatusCode::kInvalidArgument);
  p = Image(Mode::kLinear, {2, 2}, {4, 4}, Coordinates::kTfCropAndResize);
  EXPECT_EQ(code(p), absl::StatusCode::kInvalidArgument);
  p = Image(Mode::kNearest, {2, 2}, {4, 4});
  p.src.shape[2] = 0;
  EXPECT_EQ(code(p), absl::StatusCode::kInvalidArgument);
  p = Image(Mode::kLinear, {2, 2}, {4, 4});
  p.src.dtype = p.dst.dtype = DType::kU8;
  EXPECT_EQ(code(p), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace octet::kernels
