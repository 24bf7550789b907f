// Convolution whose taps are moved by learned offsets and scaled by a mask (deformable
// convolution).
//
//   dst[n, m, y, x] = bias[m] + sum over c, i, j of weights[m, c, i, j] mask[n, g, i, j, y, x]
//                       src[n, c, y stride - pad + i dilation + dy, x stride - pad + j dilation +
//                       dx]
//   (dy, dx) = offset[n, g, i, j, :, y, x]; g: the offset group of channel c
//
// Positions between elements are interpolated linearly; what lies outside of src is 0. Any float
// type, summed in f32. src[0] = src [N, C, H, W], src[1] = weights [M, C / groups, kh, kw], src[2]
// = offset [N, 2 G kh kw, oh, ow], then bias [M] and mask [N, G kh kw, oh, ow] where there is one.
// scratch is not used. Plain. Source: ONNX DeformConv-22.
#ifndef OCTET_KERNELS_PLAIN_DEFORM_CONV_H_
#define OCTET_KERNELS_PLAIN_DEFORM_CONV_H_

#include <memory>
#include <optional>

#include "kernels/kernel.h"

namespace octet::kernels {

struct DeformConvParams {
  TensorSpec src, weights, offset, dst;
  std::optional<TensorSpec> bias, mask;
  int64_t groups = 1, offset_groups = 1;
  int64_t strides[2] = {1, 1}, dilations[2] = {1, 1}, pads_begin[2] = {0, 0};
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateDeformConv(const DeformConvParams& params,
                                                         const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_DEFORM_CONV_H_
