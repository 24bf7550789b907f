// Resize: nearest, linear and cubic interpolation in any dimension, f32 and (nearest only) u8/s8 with unchanged quant.
//
// Operands of Bind: src[0], dst[0]; one layout. Source: ONNX Resize-19.
#ifndef OCTET_KERNELS_RESIZE_RESIZE_H_
#define OCTET_KERNELS_RESIZE_RESIZE_H_

#include <memory>
#include <vector>

#include "kernels/kernel.h"

namespace octet::kernels {

struct ResizeParams {
  enum class Mode : uint8_t { kNearest, kLinear, kCubic };
  enum class Coordinates : uint8_t {
    kHalfPixel, kHalfPixelSymmetric, kPytorchHalfPixel, kAlignCorners, kAsymmetric, kTfCropAndResize
  };
  enum class Rounding : uint8_t { kRoundPreferFloor, kRoundPreferCeil, kFloor, kCeil };  // nearest
  enum class Border : uint8_t { kKeep, kExcludeOutside };                                // cubic, linear
  // kYes: where a dimension shrinks, linear and cubic kernels widen by 1/scale so that every source element counts.
  enum class Antialias : uint8_t { kNo, kYes };
  Mode mode = Mode::kNearest;
  Antialias antialias = Antialias::kNo;
  Coordinates coordinates = Coordinates::kHalfPixel;
  Rounding rounding = Rounding::kRoundPreferFloor;
  Border border = Border::kKeep;
  float cubic_coefficient = -0.75f;
  float extrapolation_value = 0;    // kTfCropAndResize, outside the source
  TensorSpec src, dst;
  std::vector<float> scales;        // one per dimension: dst/src as the operator defines it
  std::vector<float> roi;           // kTfCropAndResize: starts then ends, one per dimension each
};

absl::StatusOr<std::unique_ptr<Kernel>> CreateResize(const ResizeParams& params,
                                                     const KernelEnv& env);
absl::Span<const Implementation<ResizeParams>> ResizeImplementations();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_RESIZE_RESIZE_H_
