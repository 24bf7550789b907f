// Sampling, deformable convolution, regions and windows against their definitions written out.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/plain/deform_conv.h"
#include "kernels/plain/einsum.h"
#include "kernels/plain/grid_sample.h"
#include "kernels/plain/regions.h"
#include "kernels/plain/windows.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using Made = absl::StatusOr<std::unique_ptr<Kernel>>;

std::vector<double> Apply(const Made& kernel, const std::vector<const Operand*>& src,
                          const TensorSpec& dst_spec) {
  EXPECT_TRUE(kernel.ok()) << kernel.status();
  if (!kernel.ok()) return {};
  Operand dst = MakeRandom(dst_spec, 31);
  std::vector<const void*> pointers;
  for (const Operand* o : src) pointers.push_back(o->data());
  const absl::Status status = RunKernel(**kernel, pointers, {dst.data()});
  EXPECT_TRUE(status.ok()) << status;
  return Numbers(dst);
}

// An image that is linear in its coordinates: every linear interpolation inside must return that
// function.
Operand Ramp(const Shape& shape) {
  Operand image = MakeOperand(Spec(DType::kF32, shape));
  int64_t i = 0;
  ForEachIndex(shape, [&](const Index& at) {
    double value = static_cast<double>(at[1]) * 100;
    for (size_t d = 2; d < shape.size(); ++d)
      value += static_cast<double>(at[d]) * std::pow(3.0, static_cast<double>(d - 2));
    StoreNumber(DType::kF32, image.data(), i++, value);
  });
  return image;
}

TEST(GridSampleTest, ReproducesLinearFunctionsInOneToThreeDimensions) {
  for (const Shape& shape : {Shape{2, 3, 9}, Shape{2, 3, 9, 7}, Shape{1, 2, 8, 9, 7}}) {
    const auto spatial = static_cast<int64_t>(shape.size()) - 2;
    Shape grid_shape = {shape[0]};
    for (int64_t d = 0; d < spatial; ++d) grid_shape.push_back(d == 0 ? 5 : 1);
    Shape dst_shape = {shape[0], shape[1]};
    dst_shape.insert(dst_shape.end(), grid_shape.begin() + 1, grid_shape.end());
    grid_shape.push_back(spatial);
    const Operand image = Ramp(shape),
                  grid = MakeRandom(Spec(DType::kF32, grid_shape), -0.5, 0.5, 7);
    for (GridCorners corners : {GridCorners::kHalfPixel, GridCorners::kAligned}) {
      {
        GridSampleParams p{image.spec,
                           grid.spec,
                           Spec(DType::kF32, dst_shape),
                           GridSampleParams::Mode::kLinear,
                           GridSampleParams::Padding::kZeros,
                           corners};
        const std::vector<double> found = Apply(CreateGridSample(p, {}), {&image, &grid}, p.dst);
        for (int64_t n = 0; n < shape[0]; ++n) {
          for (int64_t c = 0; c < shape[1]; ++c) {
            for (int64_t o = 0; o < 5; ++o) {
              double want = static_cast<double>(c) * 100;
              for (int64_t d = 0; d < spatial; ++d) {
                const double g = grid.number((n * 5 + o) * spatial + spatial - 1 - d),
                             size = static_cast<double>(shape[static_cast<size_t>(d + 2)]);
                const double x = corners == GridCorners::kAligned ? (g + 1) / 2 * (size - 1)
                                                                  : ((g + 1) * size - 1) / 2;
                want += x * std::pow(3.0, static_cast<double>(d));
              }
              EXPECT_NEAR(found[static_cast<size_t>((n * shape[1] + c) * 5 + o)], want, 1e-3);
            }
          }
        }
      }
    }
  }
}

// A single 1: the result is the kernel itself, Keys' convolution with -0.75, at the distance from
// it.
TEST(GridSampleTest, CubicWeightsAreKeysKernel) {
  const Operand image = MakeOperand(Spec(DType::kF32, {1, 1, 9}), {0, 0, 0, 0, 1, 0, 0, 0, 0});
  const std::vector<double> distances = {0, 0.25, -0.5, 0.75, -1, 1.25, -1.5, 1.75, 2, -2.5};
  std::vector<double> at, want;
  for (double d : distances) {
    at.push_back(d / 4);  // aligned corners: position 4 + 4 g
    const double u = std::fabs(d);
    want.push_back(u <= 1  ? 1.25 * u * u * u - 2.25 * u * u + 1
                   : u < 2 ? -0.75 * (u * u * u - 5 * u * u + 8 * u - 4)
                           : 0);
  }
  const Operand grid = MakeOperand(Spec(DType::kF32, {1, 10, 1}), at);
  const GridSampleParams p{image.spec,
                           grid.spec,
                           Spec(DType::kF32, {1, 1, 10}),
                           GridSampleParams::Mode::kCubic,
                           GridSampleParams::Padding::kZeros,
                           GridCorners::kAligned};
  const std::vector<double> found = Apply(CreateGridSample(p, {}), {&image, &grid}, p.dst);
  for (size_t i = 0; i < 10; ++i) EXPECT_NEAR(found[i], want[i], 1e-6) << distances[i];
}

// Coordinates that hostile requests send: nothing outside of the image may be read, results stay
// defined.
TEST(GridSampleTest, CoordinatesFarOutsideFollowThePadding) {
  const double inf = std::numeric_limits<double>::infinity(),
               nan = std::numeric_limits<double>::quiet_NaN();
  const Operand image = MakeOperand(Spec(DType::kF32, {1, 1, 1, 4}), {1, 2, 3, 4});
  const Operand grid = MakeOperand(Spec(DType::kF32, {1, 1, 6, 2}),
                                   {1e30, 0, -1e30, 0, inf, 0, -inf, 0, nan, 0, 3e9, 0});
  for (auto mode : {GridSampleParams::Mode::kNearest, GridSampleParams::Mode::kLinear,
                    GridSampleParams::Mode::kCubic}) {
    GridSampleParams p{image.spec,
                       grid.spec,
                       Spec(DType::kF32, {1, 1, 1, 6}),
                       mode,
                       GridSampleParams::Padding::kZeros,
                       GridCorners::kAligned};
    EXPECT_EQ(Apply(CreateGridSample(p, {}), {&image, &grid}, p.dst), std::vector<double>(6, 0));
    p.padding = GridSampleParams::Padding::kBorder;
    EXPECT_EQ(Apply(CreateGridSample(p, {}), {&image, &grid}, p.dst),
              (std::vector<double>{4, 1, 4, 1, 1, 4}));
    p.padding = GridSampleParams::Padding::kReflection;
    for (double x : Apply(CreateGridSample(p, {}), {&image, &grid}, p.dst))
      EXPECT_TRUE(x >= 1 && x <= 4) << x;
  }
}

TEST(AffineGridTest, TheIdentityNamesEveryPixelOnce) {
  const Operand theta = MakeOperand(Spec(DType::kF64, {1, 2, 3}), {1, 0, 0, 0, 1, 0});
  const TensorSpec dst = Spec(DType::kF64, {1, 2, 3, 2});
  const std::vector<double> half =
      Apply(CreateAffineGrid({theta.spec, dst, GridCorners::kHalfPixel}, {}), {&theta}, dst);
  const double want_half[] = {-2.0 / 3, -0.5, 0, -0.5, 2.0 / 3, -0.5,
                              -2.0 / 3, 0.5,  0, 0.5,  2.0 / 3, 0.5};
  for (size_t i = 0; i < 12; ++i) EXPECT_NEAR(half[i], want_half[i], 1e-12);
  EXPECT_EQ(Apply(CreateAffineGrid({theta.spec, dst, GridCorners::kAligned}, {}), {&theta}, dst),
            (std::vector<double>{-1, -1, 0, -1, 1, -1, -1, 1, 0, 1, 1, 1}));
  const TensorSpec pixel =
      Spec(DType::kF64, {1, 1, 1, 2});  // one pixel lies in the middle, not at 1 / 0
  EXPECT_EQ(
      Apply(CreateAffineGrid({theta.spec, pixel, GridCorners::kAligned}, {}), {&theta}, pixel),
      (std::vector<double>{0, 0}));
}

// Whole offsets read shifted elements: an ordinary convolution written out, with groups, mask and
// bias.
TEST(DeformConvTest, WholeOffsetsShiftTheTaps) {
  const Operand src = MakeRandom(Spec(DType::kF32, {2, 4, 5, 6}), -1, 1, 1),
                w = MakeRandom(Spec(DType::kF32, {6, 2, 2, 2}), -1, 1, 2);
  DeformConvParams p;
  p.src = src.spec;
  p.weights = w.spec;
  p.offset = Spec(DType::kF32, {2, 16, 3, 3});
  p.mask = Spec(DType::kF32, {2, 8, 3, 3});
  p.bias = Spec(DType::kF32, {6});
  p.dst = Spec(DType::kF32, {2, 6, 3, 3});
  p.groups = p.offset_groups = 2;
  p.strides[0] = p.strides[1] = 2;
  p.pads_begin[0] = p.pads_begin[1] = 1;
  Operand offset = MakeOperand(p.offset);
  for (int64_t i = 0; i < NumElements(p.offset.shape); ++i)
    StoreNumber(DType::kF32, offset.data(), i, static_cast<double>(i * 7 % 5 - 2));
  const Operand mask = MakeRandom(*p.mask, 0, 1, 4), bias = MakeRandom(*p.bias, -1, 1, 5);
  const std::vector<double> found =
      Apply(CreateDeformConv(p, {}), {&src, &w, &offset, &bias, &mask}, p.dst);
  size_t at = 0;
  ForEachIndex(p.dst.shape, [&](const Index& o) {
    double want = bias.number(o[1]);
    for (int64_t c = 0; c < 2; ++c) {
      for (int64_t i = 0; i < 2; ++i) {
        for (int64_t j = 0; j < 2; ++j) {
          const int64_t group = o[1] / 3,
                        k = group * 4 + i * 2 + j;  // as many offset groups as groups
          const auto shift = [&](int64_t axis) {
            return static_cast<int64_t>(
                offset.number(((o[0] * 16 + k * 2 + axis) * 3 + o[2]) * 3 + o[3]));
          };
          const int64_t y = o[2] * 2 - 1 + i + shift(0), x = o[3] * 2 - 1 + j + shift(1);
          if (y < 0 || y >= 5 || x < 0 || x >= 6) continue;
          want += w.number(((o[1] * 2 + c) * 2 + i) * 2 + j) *
                  mask.number(((o[0] * 8 + k) * 3 + o[2]) * 3 + o[3]) *
                  src.number(((o[0] * 4 + group * 2 + c) * 5 + y) * 6 + x);
        }
      }
    }
    EXPECT_NEAR(found[at++], want, 1e-5);
  });
}

TEST(DeformConvTest, FractionsInterpolateAndBadOffsetsReadNothing) {
  const Operand src = MakeOperand(Spec(DType::kF32, {1, 1, 2, 2}), {1, 2, 3, 4}),
                w = MakeOperand(Spec(DType::kF32, {1, 1, 1, 1}), {2});
  DeformConvParams p;
  p.src = src.spec;
  p.weights = w.spec;
  p.offset = Spec(DType::kF32, {1, 2, 2, 2});
  p.dst = Spec(DType::kF32, {1, 1, 2, 2});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Operand offset = MakeOperand(p.offset, {0.5, nan, 1e30, -0.5, 0.5, 0, 0, 0});
  // (0.5, 0.5): the mean of all; NaN and far away: 0; row 1 - 0.5: the mean of 2 and 4.
  EXPECT_EQ(Apply(CreateDeformConv(p, {}), {&src, &w, &offset}, p.dst),
            (std::vector<double>{5, 0, 0, 6}));
}

TEST(RoiAlignTest, AveragesALinearImageToItsBinCenters) {
  const Operand image = Ramp({2, 2, 10, 12});  // 100 c + y + 3 x
  const Operand regions = MakeOperand(Spec(DType::kF32, {2, 4}), {2, 2, 8, 6, 1, 3, 9, 7});
  const Operand images = MakeOperand(Spec(DType::kS64, {2}), {1, 0});
  RoiAlignParams p{image.spec,  regions.spec,
                   images.spec, Spec(DType::kF32, {2, 2, 2, 3}),
                   {},          RoiAlignParams::Coordinates::kOutputHalfPixel,
                   2,           1};
  const std::vector<double> found =
      Apply(CreateRoiAlign(p, {}), {&image, &regions, &images}, p.dst);
  size_t at = 0;
  ForEachIndex(p.dst.shape, [&](const Index& o) {
    const double x1 = regions.number(o[0] * 4), y1 = regions.number(o[0] * 4 + 1),
                 x2 = regions.number(o[0] * 4 + 2), y2 = regions.number(o[0] * 4 + 3);
    const double y = y1 + (static_cast<double>(o[2]) + 0.5) * (y2 - y1) / 2,
                 x = x1 + (static_cast<double>(o[3]) + 0.5) * (x2 - x1) / 3;
    EXPECT_NEAR(found[at++], 100 * static_cast<double>(o[1]) + y + 3 * x, 1e-3);
  });
}

TEST(RoiAlignTest, HostileRegionsFailTheRun) {
  const Operand image = Ramp({1, 1, 4, 4});
  const auto status = [&](std::vector<double> corners, double number) {
    const Operand regions = MakeOperand(Spec(DType::kF32, {1, 4}), corners),
                  images = MakeOperand(Spec(DType::kS64, {1}), {number});
    RoiAlignParams p{image.spec, regions.spec, images.spec, Spec(DType::kF32, {1, 1, 2, 2}),
                     {},         {},           0,           1};
    const Made kernel = CreateRoiAlign(p, {});
    Operand dst = MakeOperand(p.dst);
    return RunKernel(**kernel, {image.data(), regions.data(), images.data()}, {dst.data()});
  };
  EXPECT_TRUE(status({0, 0, 3, 3}, 0).ok());
  EXPECT_NE(status({0, 0, 3, 3}, 1).message().find("region 0 is of image 1, there are 1"),
            std::string::npos);
  EXPECT_FALSE(status({0, 0, 3, 3}, -1).ok());
  EXPECT_FALSE(status({0, 0, 1e30, 3}, 0).ok());
  EXPECT_FALSE(status({std::numeric_limits<double>::quiet_NaN(), 0, 3, 3}, 0).ok());
  EXPECT_FALSE(status({0, 0, 1e6, 1e6}, 0).ok());  // 250 billion samples
}

TEST(MaxRoiPoolTest, TakesTheLargestOfEachBin) {
  const Operand image = Ramp({2, 1, 6, 6});  // y + 3 x
  const Operand regions = MakeOperand(Spec(DType::kF32, {2, 5}), {1, 0, 0, 3, 3, 0, 4, 4, 20, 20});
  const MaxRoiPoolParams p{image.spec, regions.spec, Spec(DType::kF32, {2, 1, 2, 2}), 1};
  // The first: 4 x 4 pixels in bins of 2 x 2. The second: 17 x 17 pixels of which only rows and
  // columns 4, 5 exist.
  EXPECT_EQ(Apply(CreateMaxRoiPool(p, {}), {&image, &regions}, p.dst),
            (std::vector<double>{4, 10, 6, 12, 20, 0, 0, 0}));
  const Operand bad = MakeOperand(regions.spec, {2, 0, 0, 3, 3, 0, 0, 0, 1, 1});
  Operand dst = MakeOperand(p.dst);
  EXPECT_EQ(RunKernel(**CreateMaxRoiPool(p, {}), {image.data(), bad.data()}, {dst.data()}).code(),
            absl::StatusCode::kInvalidArgument);
}

SlidingWindow Window2(int64_t kernel, int64_t stride, int64_t dilation, int64_t pad) {
  return {{kernel, kernel}, {stride, stride}, {dilation, dilation}, {pad, pad}};
}

TEST(LpPoolTest, IsTheNormOfTheWindow) {
  const Operand src = MakeOperand(Spec(DType::kF32, {1, 1, 2, 2}), {3, -4, 1, 2});
  for (const auto& [p, want] :
       {std::pair<int64_t, double>{1, 10}, {2, std::sqrt(30.0)}, {3, std::cbrt(100.0)}}) {
    const LpPoolParams params{src.spec, Spec(DType::kF32, {1, 1, 1, 1}), Window2(2, 1, 1, 0), p};
    EXPECT_NEAR(Apply(CreateLpPool(params, {}), {&src}, params.dst)[0], want, 1e-5) << p;
  }
  const LpPoolParams padded{src.spec, Spec(DType::kF32, {1, 1, 2, 2}), Window2(2, 2, 1, 1), 1};
  EXPECT_EQ(Apply(CreateLpPool(padded, {}), {&src}, padded.dst), (std::vector<double>{3, 4, 1, 2}));
}

// Places count over the whole tensor, planes included; MaxUnpool brings the elements back there.
TEST(MaxPoolIndexTest, PlacesBringTheElementsBack) {
  for (DType dtype : {DType::kF32, DType::kS8, DType::kU8, DType::kF64}) {
    const Operand src = MakeRandom(Spec(dtype, {2, 3, 6, 8}), 5);
    MaxPoolIndexParams p{src.spec, Spec(dtype, {2, 3, 3, 4}), Window2(2, 2, 1, 0),
                         MaxPoolIndexParams::Order::kRowMajor};
    const Made kernel = CreateMaxPoolIndex(p, {});
    ASSERT_TRUE(kernel.ok()) << kernel.status();
    Operand dst = MakeOperand(p.dst), places = MakeOperand(Spec(DType::kS64, p.dst.shape));
    ASSERT_TRUE(RunKernel(**kernel, {src.data()}, {dst.data(), places.data()}).ok());
    int64_t i = 0;
    ForEachIndex(p.dst.shape, [&](const Index& o) {
      const int64_t base = (o[0] * 3 + o[1]) * 48 + o[2] * 16 + o[3] * 2;
      int64_t best = base;
      for (int64_t at : {base + 1, base + 8, base + 9})
        best = src.number(at) > src.number(best) ? at : best;
      EXPECT_EQ(static_cast<int64_t>(places.number(i)), best);
      EXPECT_EQ(dst.number(i++), src.number(best));
    });
    const MaxUnpoolParams back{p.dst, places.spec, src.spec, src.spec.shape};
    const std::vector<double> full = Apply(CreateMaxUnpool(back, {}), {&dst, &places}, src.spec);
    double sum = 0;
    for (size_t k = 0; k < full.size(); ++k) {
      EXPECT_TRUE(full[k] == 0 || full[k] == src.number(static_cast<int64_t>(k)));
      sum += full[k];
    }
    double want = 0;
    for (double x : Numbers(dst)) want += x;
    EXPECT_NEAR(sum, want, 1e-9);
    // Column-major places exchange rows and columns of a plane.
    p.order = MaxPoolIndexParams::Order::kColumnMajor;
    Operand columns = MakeOperand(places.spec);
    ASSERT_TRUE(
        RunKernel(**CreateMaxPoolIndex(p, {}), {src.data()}, {dst.data(), columns.data()}).ok());
    for (int64_t k = 0; k < NumElements(p.dst.shape); ++k) {
      const auto row_major = static_cast<int64_t>(places.number(k));
      EXPECT_EQ(columns.number(k),
                static_cast<double>(row_major / 48 * 48 + row_major % 8 * 6 + row_major / 8 % 6));
    }
  }
}

TEST(MaxUnpoolTest, PlacesOutsideFailTheRunAndLargerResultsHoldTheCorner) {
  const Operand src = MakeOperand(Spec(DType::kF32, {1, 1, 1, 2}), {5, 6}),
                places = MakeOperand(Spec(DType::kS64, {1, 1, 1, 2}), {1, 7});
  const MaxUnpoolParams p{src.spec, places.spec, Spec(DType::kF32, {1, 1, 3, 5}), {1, 1, 2, 4}};
  EXPECT_EQ(Apply(CreateMaxUnpool(p, {}), {&src, &places}, p.dst),
            (std::vector<double>{0, 5, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0}));
  for (double place : {8.0, -1.0}) {
    const Operand bad = MakeOperand(places.spec, {1, place});
    Operand dst = MakeOperand(p.dst);
    const absl::Status s =
        RunKernel(**CreateMaxUnpool(p, {}), {src.data(), bad.data()}, {dst.data()});
    EXPECT_NE(s.message().find(absl::StrCat("place ", static_cast<int64_t>(place),
                                            " (element 1) is outside [0, 8)")),
              std::string::npos)
        << s;
  }
}

// Each element of the image sums what the blocks that cover it hold for it.
TEST(Col2ImTest, SumsOverlappingBlocks) {
  Col2ImParams p;
  p.dst = Spec(DType::kF32, {2, 3, 5, 6});
  p.window = {{2, 3}, {2, 1}, {1, 2}, {1, 0}};
  p.pads_end = {0, 1};
  const int64_t rows = (5 + 1 - 1 - 1) / 2 + 1, columns = 6 + 1 - 4 - 1 + 1;
  const Operand src = MakeRandom(Spec(DType::kF32, {2, 18, rows * columns}), -1, 1, 6);
  p.src = src.spec;
  std::vector<double> want(2 * 3 * 5 * 6, 0);
  ForEachIndex(Shape{6, 2, 3, rows, columns}, [&](const Index& i) {
    const int64_t y = i[3] * 2 - 1 + i[1], x = i[4] + i[2] * 2;
    if (y < 0 || y >= 5 || x < 0 || x >= 6) return;
    want[static_cast<size_t>((i[0] * 5 + y) * 6 + x)] +=
        src.number((i[0] * 6 + i[1] * 3 + i[2]) * rows * columns + i[3] * columns + i[4]);
  });
  const std::vector<double> found = Apply(CreateCol2Im(p, {}), {&src}, p.dst);
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(found[i], want[i], 1e-5) << i;
  p.src.shape[2] += 1;
  EXPECT_FALSE(CreateCol2Im(p, {}).ok());
}

TEST(EinsumKernelTest, WalksDiagonalsBroadcastsAndSums) {
  const Operand a = MakeRandom(Spec(DType::kS64, {3, 3}), -9, 9, 1),
                b = MakeRandom(Spec(DType::kS64, {4}), -9, 9, 2);
  // "ii,j->j": the trace times each element of b.
  EinsumParams p{DType::kS64, {4}, {3}, {{0, 4}, {1, 0}}};
  const double trace = a.number(0) + a.number(4) + a.number(8);
  std::vector<double> want;
  for (int64_t j = 0; j < 4; ++j) want.push_back(trace * b.number(j));
  EXPECT_EQ(Apply(CreateEinsum(p, {}), {&a, &b}, Spec(DType::kS64, {4})), want);
  p.summed = {0};  // a sum over nothing
  EXPECT_EQ(Apply(CreateEinsum(p, {}), {&a, &b}, Spec(DType::kS64, {4})),
            std::vector<double>(4, 0));
}

}  // namespace
}  // namespace octet::kernels
