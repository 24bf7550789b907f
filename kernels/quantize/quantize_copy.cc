// Convert that changes neither bits nor order: a parallel memcpy.
#include <cstring>

#include "kernels/elements.h"
#include "kernels/quantize/quantize.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateConvertCopy(const ConvertParams& params,
                                                          const KernelEnv&) {
  if (params.src.dtype != params.dst.dtype || params.src.quant != params.dst.quant) {
    return absl::UnimplementedError("values change");
  }
  if (!SameMemoryOrder(params.src, params.dst))
    return absl::UnimplementedError("the order changes");
  return MakeFunctionKernel("copy", 0, [bytes = params.dst.size_bytes()](const BindArgs& args) {
    const auto* src = static_cast<const std::byte*>(args.src[0]);
    auto* dst = static_cast<std::byte*>(args.dst[0]);
    if (src == dst) return;
    RunParallel(args.parallel, bytes, kGrainBytes, [&](int64_t begin, int64_t end) {
      std::memcpy(dst + begin, src + begin, static_cast<size_t>(end - begin));
    });
  });
}

}  // namespace octet::kernels
