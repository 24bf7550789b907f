// Convert by the oracle: accepts whatever the contract allows.
#include "kernels/quantize/quantize_reference.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateConvertReference(const ConvertParams& params,
                                                               const KernelEnv&) {
  return MakeFunctionKernel("reference", 0, [params](const BindArgs& args) {
    ConvertReference(params, args.src[0], args.dst[0]);
  });
}

}  // namespace octet::kernels
