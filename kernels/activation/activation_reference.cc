// Activation by the oracle, on the team: accepts whatever the contract allows.
#include "kernels/activation/activation_reference.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateActivationReference(const ActivationParams& params,
                                                                  const KernelEnv&) {
  const int64_t n = NumElements(params.dst.shape);
  const int64_t grain = BitsOf(params.dst.dtype) < 8 ? n : 2048;  // 4-bit elements share bytes
  return MakeFunctionKernel("reference", 0, [params, n, grain](const BindArgs& args) {
    RunParallel(args.parallel, n, grain, [&](int64_t begin, int64_t end) {
      ActivationReference(params, args.src[0], args.dst[0], begin, end);
    });
  });
}

}  // namespace octet::kernels
