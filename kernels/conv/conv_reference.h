// Oracle of Conv: plain loops over the formula of conv.h.
//
// Integers are accumulated exactly, floats in double. Spatial dimensions are padded in front to
// three.
#ifndef OCTET_KERNELS_CONV_CONV_REFERENCE_H_
#define OCTET_KERNELS_CONV_CONV_REFERENCE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/conv/conv.h"
#include "kernels/elements.h"
#include "kernels/product_reference.h"

namespace octet::kernels {

// Spatial dimensions padded in front to three, of a convolution or a transposed one.
struct ConvGeometry {
  using Dims3 = std::array<int64_t, 3>;
  Dims3 src{1, 1, 1}, dst{1, 1, 1}, kernel{1, 1, 1}, stride{1, 1, 1}, dilation{1, 1, 1},
      pad{0, 0, 0}, src_step{0, 0, 0}, dst_step{0, 0, 0};  // steps are strides in elements

  template <typename Params>  // ConvParams, DeconvParams
  explicit ConvGeometry(const Params& p) {
    const size_t spatial = p.src.shape.size() - 2;
    const Shape src_strides = StridesIn(p.src), dst_strides = StridesIn(p.dst);
    for (size_t i = 0; i < spatial; ++i) {
      const size_t to = 3 - spatial + i;
      src[to] = p.src.shape[i + 2];
      dst[to] = p.dst.shape[i + 2];
      kernel[to] = p.weights_shape[i + 2];
      stride[to] = p.strides[i];
      dilation[to] = p.dilations[i];
      pad[to] = p.pads_begin[i];
      src_step[to] = src_strides[i + 2];
      dst_step[to] = dst_strides[i + 2];
    }
  }
};

// sum_{c,k} (src - src_zero_point) * weights of one output element: `src` at the image and first
// channel of the group, `weights` at the output channel, `at` the output position. Acc: double for
// f32, int64_t for integers.
template <typename Acc, typename Src, typename Weights>
Acc ConvAccumulate(const ConvGeometry& g, const ConvGeometry::Dims3& at, const Src* src,
                   int64_t channel_step, int64_t channels, const Weights* weights, Acc zero_point) {
  Acc acc = 0;
  ConvGeometry::Dims3 k;
  for (int64_t c = 0; c < channels; ++c) {
    for (k[0] = 0; k[0] < g.kernel[0]; ++k[0]) {
      for (k[1] = 0; k[1] < g.kernel[1]; ++k[1]) {
        for (k[2] = 0; k[2] < g.kernel[2]; ++k[2], ++weights) {
          int64_t offset = c * channel_step;
          bool inside = true;
          for (size_t d = 0; d < 3; ++d) {
            const int64_t x = at[d] * g.stride[d] - g.pad[d] + k[d] * g.dilation[d];
            inside = inside && x >= 0 && x < g.src[d];
            offset += x * g.src_step[d];
          }
          if (inside) acc += (Acc{src[offset]} - zero_point) * Acc{*weights};
        }
      }
    }
  }
  return acc;
}

// Requires: params valid, weights of type Weights in ONNX order, bias empty or one real per output
// channel.
template <typename Acc, typename Src, typename Weights>
void ConvReference(const ConvParams& p, const void* src_data, const Weights* weights,
                   const std::vector<double>& bias, void* dst_data) {
  const auto* src = static_cast<const Src*>(src_data);
  const ConvGeometry g(p);
  const Shape src_strides = StridesIn(p.src), dst_strides = StridesIn(p.dst);
  const int64_t outputs = p.weights_shape[0], channels = p.weights_shape[1];
  const int64_t kernel_elements = channels * g.kernel[0] * g.kernel[1] * g.kernel[2];
  const Acc zero_point = p.src.quant ? p.src.quant->zero_point_at(0) : 0;
  for (int64_t n = 0; n < p.src.shape[0]; ++n) {
    for (int64_t o = 0; o < outputs; ++o) {
      double scale = 1;
      if (p.src.quant) {
        const QuantParams& q = *p.weights.quant;
        scale =
            double{p.src.quant->scale[0]} * q.scale[q.per_tensor() ? 0 : static_cast<size_t>(o)];
      }
      const int64_t group = o / (outputs / p.groups);
      const Src* image = src + n * src_strides[0] + group * channels * src_strides[1];
      ConvGeometry::Dims3 at;
      for (at[0] = 0; at[0] < g.dst[0]; ++at[0]) {
        for (at[1] = 0; at[1] < g.dst[1]; ++at[1]) {
          for (at[2] = 0; at[2] < g.dst[2]; ++at[2]) {
            const Acc acc = ConvAccumulate<Acc>(g, at, image, src_strides[1], channels,
                                                weights + o * kernel_elements, zero_point);
            const double real = static_cast<double>(acc) * scale +
                                (bias.empty() ? 0.0 : bias[static_cast<size_t>(o)]);
            const int64_t offset = n * dst_strides[0] + o * dst_strides[1] + at[0] * g.dst_step[0] +
                                   at[1] * g.dst_step[1] + at[2] * g.dst_step[2];
            StoreProduct(p.post_ops, p.dst, dst_data, offset, real);
          }
        }
      }
    }
  }
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_CONV_CONV_REFERENCE_H_
