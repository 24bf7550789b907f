// MatmulNBits by the reference loops: last resort.
#include "kernels/matmul_nbits/matmul_nbits_reference.h"

#include <utility>

#include "base/status.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateMatmulNBitsReference(const MatmulNBitsParams& params,
                                                                   const KernelEnv& env) {
  OCTET_ASSIGN_OR_RETURN(auto weights, PlainCopy(params.weights_constant, env));
  std::vector<double> bias;
  if (params.bias.present()) {
    if (!params.bias.tensor.valid()) {
      return absl::UnimplementedError("the bias was released after packing");
    }
    bias = BiasReals(params.bias, params.bias.tensor.ToF64());
  }
  MatmulNBitsParams p = params;
  p.weights_constant = {};  // the copies are enough
  p.bias = {};
  return MakeFunctionKernel(
      "reference", 0, [p = std::move(p), weights, bias = std::move(bias)](const BindArgs& args) {
        MatmulNBitsReference(p, args.src[0], weights->data.data(), bias, args.dst[0]);
      });
}

}  // namespace octet::kernels
