// Pool by the reference loops: last resort.
#include "kernels/pool/pool_reference.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreatePoolReference(const PoolParams& params,
                                                            const KernelEnv&) {
  return MakeFunctionKernel("reference", 0, [params](const BindArgs& args) {
    PoolReference(params, args.src[0], args.dst[0]);
  });
}

}  // namespace octet::kernels
