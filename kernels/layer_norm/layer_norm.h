// Normalization of rows by their own mean and deviation.
//
//   kLayer: y = (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias
//   kRms:   y = x / sqrt(mean(x^2) + epsilon) * scale
//
// A row is the last `row` elements of the shape, dense; scale and bias have one f32 element per element of a row.
// x is f32, or u8/s8 with quant; y is f32, or u8/s8 with quant, and may be written in two forms at once: as reals for a
// residual and as integers for a product.
// Operands of Bind: src[0] = x, src[1] = scale, src[2] = bias when has_bias; dst[0] = y, then copy, mean and inverse
// deviation ([rows] f32 each), those that are asked for, in this order. y may be x's memory when both are f32.
// Sources: ONNX LayerNormalization-17, RMSNormalization-23.
#ifndef OCTET_KERNELS_LAYER_NORM_LAYER_NORM_H_
#define OCTET_KERNELS_LAYER_NORM_LAYER_NORM_H_

#include <memory>

#include "kernels/kernel.h"

namespace octet::kernels {

struct LayerNormParams {
  enum class Form : uint8_t { kLayer, kRms };
  Form form = Form::kLayer;
  TensorSpec src, dst;             // plain, of one shape
  std::optional<TensorSpec> copy;  // the same reals stored as 8 bits
  int64_t row = 0;                 // elements; divides the elements of src
  float epsilon = 1e-5f;
  enum class Wanted : uint8_t { kNo, kYes };
  Wanted bias = Wanted::kNo, mean = Wanted::kNo, inverse_deviation = Wanted::kNo;
};

// Errors: kInvalidArgument (shapes disagree), kUnimplemented (types).
absl::StatusOr<std::unique_ptr<Kernel>> CreateLayerNorm(const LayerNormParams& params, const KernelEnv& env);
absl::Span<const Implementation<LayerNormParams>> LayerNormImplementations();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_LAYER_NORM_LAYER_NORM_H_
