// Pooling of regions of interest: RoiAlign and MaxRoiPool.
//
//   RoiAlign    each of the output's bins averages (or takes the largest of) bilinear samples on a
//   grid in it: sampling
//               x sampling points, or as many as the bin has pixels when sampling is 0
//   MaxRoiPool  the largest element of each bin; corners are rounded to pixels; an empty bin gives
//   0
//
// src [N, C, H, W]; regions [R, 4] = x1, y1, x2, y2 in units of 1 / scale (MaxRoiPool: [R, 5], the
// image's number in front); dst [R, C, height, width]. A number outside of [0, N), or a region that
// is not finite or so large that a bin has more than 2^16 samples, fails the run. RoiAlign's
// maximum is over the four weighted corners of each sample, as the reference of ONNX and ONNX
// Runtime have it. Any float type, computed in f32. RoiAlign: src[0] = src, src[1] = regions,
// src[2] = image numbers [R] (s64 or s32). MaxRoiPool: src[0] = src, src[1] = regions. Plain.
// Source: ONNX RoiAlign-22, MaxRoiPool-22.
#ifndef OCTET_KERNELS_PLAIN_REGIONS_H_
#define OCTET_KERNELS_PLAIN_REGIONS_H_

#include <memory>

#include "kernels/kernel.h"

namespace octet::kernels {

struct RoiAlignParams {
  enum class Mode : uint8_t { kAverage, kMax };
  enum class Coordinates : uint8_t { kHalfPixel, kOutputHalfPixel };
  TensorSpec src, regions, images, dst;
  Mode mode = Mode::kAverage;
  Coordinates coordinates = Coordinates::kHalfPixel;
  int64_t sampling = 0;
  float scale = 1;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateRoiAlign(const RoiAlignParams& params,
                                                       const KernelEnv& env);

struct MaxRoiPoolParams {
  TensorSpec src, regions, dst;
  float scale = 1;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateMaxRoiPool(const MaxRoiPoolParams& params,
                                                         const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_REGIONS_H_
