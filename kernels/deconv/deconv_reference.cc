// Transposed convolution in plain loops, summed in double: the oracle's twin, and what oneDNN has no kernel for.
#include <vector>

#include "base/status.h"
#include "kernels/conv/conv_reference.h"
#include "kernels/deconv/deconv.h"
#include "kernels/elements.h"
#include "kernels/product_reference.h"

namespace octet::kernels {
namespace {

using Geometry = ConvGeometry;
using Dims3 = ConvGeometry::Dims3;

// Calls body(kernel index, source offset) for the pairs that meet in output position `at`.
template <typename Body>
void ForEachTap(const Geometry& g, const Dims3& at, const Body& body) {
  int64_t index = 0;
  for (Dims3 k{0, 0, 0}; k[0] < g.kernel[0]; ++k[0]) {
    for (k[1] = 0; k[1] < g.kernel[1]; ++k[1]) {
      for (k[2] = 0; k[2] < g.kernel[2]; ++k[2], ++index) {
        int64_t offset = 0;
        bool meets = true;
        for (size_t d = 0; d < 3; ++d) {
          const int64_t spread = at[d] + g.pad[d] - k[d] * g.dilation[d];
          const int64_t x = spread / g.stride[d];
          meets = meets && spread >= 0 && spread % g.stride[d] == 0 && x < g.src[d];
          offset += x * g.src_step[d];
        }
        if (meets) body(index, offset);
      }
    }
  }
}

void Run(const DeconvParams& p, const float* src, const float* weights, const float* bias, void* dst,
         ParallelFor* parallel) {
  const Geometry g(p);
  const Shape src_strides = StridesIn(p.src), dst_strides = StridesIn(p.dst);
  const int64_t outputs = p.dst.shape[1], per_group = p.weights_shape[1], channels = p.weights_shape[0] / p.groups;
  const int64_t taps = g.kernel[0] * g.kernel[1] * g.kernel[2];
  const int64_t work = std::max<int64_t>(g.dst[0] * g.dst[1] * g.dst[2] * taps * channels, 1);
  RunParallel(parallel, p.src.shape[0] * outputs, kGrainBytes / work + 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t n = item / outputs, o = item % outputs, group = o / per_group;
      const float* image = src + n * src_strides[0] + group * channels * src_strides[1];
      const float* w = weights + (group * channels * per_group + o % per_group) * taps;
      for (Dims3 at{0, 0, 0}; at[0] < g.dst[0]; ++at[0]) {
        for (at[1] = 0; at[1] < g.dst[1]; ++at[1]) {
          for (at[2] = 0; at[2] < g.dst[2]; ++at[2]) {
            double real = bias == nullptr ? 0.0 : bias[o];
            ForEachTap(g, at, [&](int64_t k, int64_t offset) {
              for (int64_t c = 0; c < channels; ++c) {
                real += double{image[offset + c * src_strides[1]]} * w[c * per_group * taps + k];
              }
            });
            const int64_t to = n * dst_strides[0] + o * dst_strides[1] + at[0] * g.dst_step[0] +
                               at[1] * g.dst_step[1] + at[2] * g.dst_step[2];
            StoreProduct(p.post_ops, p.dst, dst, to, real);
          }
        }
      }
    }
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateDeconvReference(const DeconvParams& params, const KernelEnv& env) {
  std::shared_ptr<const PackedWeights> weights, bias;
  if (params.weights.present()) {
    OCTET_ASSIGN_OR_RETURN(weights, PlainCopy(params.weights, env));
  }
  if (params.bias.present()) {
    if (params.bias.quant) return absl::UnimplementedError("bias of integers");
    OCTET_ASSIGN_OR_RETURN(bias, PlainCopy(params.bias, env));
  }
  DeconvParams p = params;
  p.weights.tensor = Tensor();  // the copies are enough
  p.bias.tensor = Tensor();
  return MakeFunctionKernel("reference", 0, [p = std::move(p), weights, bias](const BindArgs& args) {
    size_t next = 1;
    const auto operand = [&](const std::shared_ptr<const PackedWeights>& constant) {
      return static_cast<const float*>(constant != nullptr ? static_cast<const void*>(constant->data.data())
                                                           : args.src[next++]);
    };
    const float* w = operand(weights);
    const float* b = p.has_bias ? operand(bias) : nullptr;
    Run(p, static_cast<const float*>(args.src[0]), w, b, args.dst[0], args.parallel);
  });
}

}  // namespace octet::kernels
