// Concat by the oracle: accepts whatever the contract allows.
#include "kernels/concat/concat_reference.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateConcatReference(const ConcatParams& params,
                                                              const KernelEnv&) {
  return MakeFunctionKernel("reference", 0, [params](const BindArgs& args) {
    ConcatReference(params, args.src, args.dst[0]);
  });
}

}  // namespace octet::kernels
