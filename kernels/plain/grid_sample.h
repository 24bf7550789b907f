// Sampling of images at positions given by a grid, and the grid of an affine map.
//
//   GridSample  dst[n, c, o..] = interpolation of src[n, c, ..] at position x(grid[n, o.., :])
//   x of coordinate g in [-1, 1] along an axis of `size`:  (g + 1) / 2 (size - 1)
//   (Corners::kAligned)
//                                                          ((g + 1) size - 1) / 2      (kHalfPixel)
//   AffineGrid  grid[n, o.., :] = theta[n] (x, y[, z], 1) with x, y, z in [-1, 1] at dst's
//   positions
//
// The last dimension of a grid names axes from the innermost outward. Outside of the source: zeros,
// the border's value, or reflected at the corner positions. Cubic: Keys' convolution with -0.75. 1
// to 3 spatial dimensions, any float type, computed in f32. A coordinate that is not finite counts
// as far outside (NaN: as zeros or the first element). GridSample: src[0] = src [N, C, spatial..],
// src[1] = grid [N, out.., spatial]. AffineGrid: src[0] = theta. Plain. Source: ONNX GridSample-22,
// AffineGrid-20.
#ifndef OCTET_KERNELS_PLAIN_GRID_SAMPLE_H_
#define OCTET_KERNELS_PLAIN_GRID_SAMPLE_H_

#include <memory>

#include "kernels/kernel.h"

namespace octet::kernels {

enum class GridCorners : uint8_t { kHalfPixel, kAligned };

struct GridSampleParams {
  enum class Mode : uint8_t { kNearest, kLinear, kCubic };
  enum class Padding : uint8_t { kZeros, kBorder, kReflection };
  TensorSpec src, grid, dst;
  Mode mode = Mode::kLinear;
  Padding padding = Padding::kZeros;
  GridCorners corners = GridCorners::kHalfPixel;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateGridSample(const GridSampleParams& params,
                                                         const KernelEnv& env);

struct AffineGridParams {
  TensorSpec theta, dst;  // [N, r, r + 1], [N, spatial.., r]
  GridCorners corners = GridCorners::kHalfPixel;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateAffineGrid(const AffineGridParams& params,
                                                         const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_GRID_SAMPLE_H_
