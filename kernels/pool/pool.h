// Max, average and global pooling in 1 to 3 spatial dimensions.
//
// f32 or u8/s8 with quant (src and dst of max pooling share one quant; average pooling may change it). Padding never
// wins a maximum; averages divide by the window's elements inside the source, or by all when count_include_pad.
// dst may be larger than the declared padding allows (ONNX ceil_mode): a window may reach past pads_end, and what lies
// beyond never counts, not even with count_include_pad. Callers pass the declared pads, not enlarged ones. Each window
// must touch the source. Average into f32 from 8 bits, and the reverse, is allowed.
// Operands of Bind: src[0], dst[0]. Source: ONNX MaxPool-22, AveragePool-22, GlobalAveragePool-1.
#ifndef OCTET_KERNELS_POOL_POOL_H_
#define OCTET_KERNELS_POOL_POOL_H_

#include <memory>
#include <vector>

#include "kernels/kernel.h"

namespace octet::kernels {

struct PoolParams {
  enum class Kind : uint8_t { kMax, kAverage, kAverageIncludePad };
  Kind kind = Kind::kMax;
  TensorSpec src, dst;  // [N, C, spatial...]; same layout
  std::vector<int64_t> kernel, strides, dilations, pads_begin, pads_end;  // one per spatial dimension, dilation 1 = dense
};

absl::StatusOr<std::unique_ptr<Kernel>> CreatePool(const PoolParams& params, const KernelEnv& env);
absl::Span<const Implementation<PoolParams>> PoolImplementations();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_POOL_POOL_H_
