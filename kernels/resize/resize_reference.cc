// Resize by the oracle, on the team: accepts whatever the contract allows.
#include "kernels/resize/resize_reference.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateResizeReference(const ResizeParams& params,
                                                              const KernelEnv&) {
  const int64_t n = NumElements(params.dst.shape);
  return MakeFunctionKernel("reference", 0, [params, n](const BindArgs& args) {
    RunParallel(args.parallel, n, BitsOf(params.dst.dtype) < 8 ? n : 256,
                [&](int64_t begin, int64_t end) {
                  ResizeReference(params, args.src[0], args.dst[0], begin, end);
                });
  });
}

}  // namespace octet::kernels
