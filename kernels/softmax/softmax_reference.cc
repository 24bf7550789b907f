// Softmax by the oracle: any axis and layout.
#include "kernels/softmax/softmax_reference.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateSoftmaxReference(const SoftmaxParams& params,
                                                               const KernelEnv&) {
  return MakeFunctionKernel("reference", 0, [params](const BindArgs& args) {
    SoftmaxReference(params, args.src[0], args.dst[0]);
  });
}

}  // namespace octet::kernels
