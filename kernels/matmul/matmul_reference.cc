// Matmul by the reference loops: last resort and constant folding.
#include "kernels/matmul/matmul_reference.h"

#include <utility>

#include "base/status.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateMatmulReference(const MatmulParams& params,
                                                              const KernelEnv& env) {
  std::shared_ptr<const PackedWeights> b;
  if (params.b_constant.present()) {
    OCTET_ASSIGN_OR_RETURN(b, PlainCopy(params.b_constant, env));
  }
  BiasView bias;
  if (params.bias.present()) {
    if (!params.bias.tensor.valid())
      return absl::UnimplementedError("the bias was released after packing");
    bias = {BiasReals(params.bias, params.bias.tensor.ToF64()), params.bias.tensor.shape()};
  }
  MatmulParams p = params;
  p.b_constant.tensor = Tensor();  // the copies are enough
  p.bias.tensor = Tensor();
  return MakeFunctionKernel(
      "reference", 0, [p = std::move(p), b, bias = std::move(bias)](const BindArgs& args) {
        if (p.runtime_quant) {
          MatmulParams now = p;
          now.a.quant = ReadRuntimeQuant(*p.runtime_quant, args);
          MatmulReference(now, args.src[0], b->data.data(), bias, args.dst[0]);
          return;
        }
        MatmulReference(p, args.src[0], b != nullptr ? b->data.data() : args.src[1], bias,
                        args.dst[0]);
      });
}

}  // namespace octet::kernels
