// DynamicQuantize, one element after the other.
#include "kernels/dynamic_quantize/dynamic_quantize.h"
#include "kernels/elements.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateDynamicQuantizeReference(
    const DynamicQuantizeParams& params, const KernelEnv&) {
  return MakeFunctionKernel("reference", 0, [n = NumElements(params.src.shape)](const BindArgs& args) {
    const auto* src = static_cast<const float*>(args.src[0]);
    float low = 0, high = 0;
    for (int64_t i = 0; i < n; ++i) {
      low = std::min(low, src[i]);
      high = std::max(high, src[i]);
    }
    const DynamicRange range(low, high);
    auto* dst = static_cast<uint8_t*>(args.dst[0]);
    for (int64_t i = 0; i < n; ++i) {
      dst[i] = static_cast<uint8_t>(Quantize(src[i], range.scale, range.zero_point, DType::kU8));
    }
    *static_cast<float*>(args.dst[1]) = range.scale;
    *static_cast<uint8_t*>(args.dst[2]) = range.zero_point;
  });
}

}  // namespace octet::kernels
