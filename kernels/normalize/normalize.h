// Normalization of groups of elements: Layer-, RMS-, Instance-, Group-, mean-variance and Lp-normalization.
//
// The elements that share all indices but those of `axes` form a group x of n elements:
//
//   kDeviation   y = (x - mean) / sqrt(variance + epsilon)     variance = sum (x - mean)^2 / n
//   kMvn         y = (x - mean) / (sqrt(variance) + epsilon)
//   kRms         y = x / sqrt(sum x^2 / n + epsilon)
//   kL1, kL2     y = x / sum |x|,  y = x / sqrt(sum x^2)       0 where the norm is 0
//   dst = y * scale + shift
//
// scale and shift are optional operands, row-major, of src's rank; each of their dimensions is 1 or src's. So LayerNorm
// has axes = the trailing ones and a scale over them; InstanceNorm has axes = the spatial ones and a scale [1, C, 1, ...];
// GroupNorm is the view [N, groups, C / groups, spatial] with axes {2, 3} and a scale [1, groups, C / groups, 1].
//
// Operands of Bind: src[0] = src, then scale, then shift where present; dst[0] = dst, then mean, then inverse deviation
// (1 / sqrt(variance + epsilon)) where wanted: f32, src's shape with 1 along the axes. dst may be src.
// Sources: ONNX LayerNormalization-17, InstanceNormalization-22, GroupNormalization-21, MeanVarianceNormalization-13,
// LpNormalization-22.
#ifndef OCTET_KERNELS_NORMALIZE_NORMALIZE_H_
#define OCTET_KERNELS_NORMALIZE_NORMALIZE_H_

#include <memory>
#include <optional>
#include <vector>

#include "kernels/kernel.h"

namespace octet::kernels {

enum class NormalizeKind : uint8_t { kDeviation, kMvn, kRms, kL1, kL2 };

struct NormalizeParams {
  NormalizeKind kind = NormalizeKind::kDeviation;
  TensorSpec src, dst;    // same shape and layout; a float type, or 8 bits with quant
  std::vector<int> axes;  // in [0, rank), ascending
  float epsilon = 0;
  std::optional<TensorSpec> scale, shift;       // a float type
  std::optional<TensorSpec> mean, inverse_deviation;  // results; kDeviation and kRms only
};

// Errors: kInvalidArgument (shapes or axes disagree).
absl::StatusOr<std::unique_ptr<Kernel>> CreateNormalize(const NormalizeParams& params, const KernelEnv& env);

// The ordered list, best first, reference last.
absl::Span<const Implementation<NormalizeParams>> NormalizeImplementations();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_NORMALIZE_NORMALIZE_H_
