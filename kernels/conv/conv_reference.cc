// Conv by the reference loops: last resort and constant folding.
#include "kernels/conv/conv_reference.h"
#include "base/status.h"
#include "kernels/narrow_weights.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateConvReference(const ConvParams& params,
                                                            const KernelEnv& env) {
  if (IsNarrow(params.weights_dtype)) {
    OCTET_ASSIGN_OR_RETURN(const ConvParams s8, ConvOfS8(params));
    return CreateConvReference(s8, env);
  }
  OCTET_ASSIGN_OR_RETURN(auto weights, PlainCopy(params.weights, env));
  std::shared_ptr<const PackedWeights> bias;
  if (params.bias.present()) {
    OCTET_ASSIGN_OR_RETURN(bias, PlainCopy(params.bias, env));
  }
  ConvParams p = params;
  p.weights.tensor = Tensor();  // the copies are enough
  p.bias.tensor = Tensor();
  return MakeFunctionKernel(
      "reference", 0, [p = std::move(p), weights, bias](const BindArgs& args) {
        std::vector<double> reals;
        if (bias != nullptr) {
          const Tensor stored(std::any_cast<DType>(bias->detail), {p.weights_shape[0]},
                              bias->data.data(), bias);
          reals = BiasReals(p.bias, stored.ToF64());
        }
        const std::byte* w = weights->data.data();
        if (p.runtime_quant) {
          ConvParams now = p;
          now.src.quant = ReadRuntimeQuant(*p.runtime_quant, args);
          const auto* s8 = reinterpret_cast<const int8_t*>(w);
          if (p.src.dtype == DType::kU8) {
            ConvReference<int64_t, uint8_t>(now, args.src[0], s8, reals, args.dst[0]);
          } else {
            ConvReference<int64_t, int8_t>(now, args.src[0], s8, reals, args.dst[0]);
          }
        } else if (p.src.dtype == DType::kF32) {
          ConvReference<double, float>(p, args.src[0], reinterpret_cast<const float*>(w), reals,
                                       args.dst[0]);
        } else if (p.src.dtype == DType::kU8) {
          ConvReference<int64_t, uint8_t>(p, args.src[0], reinterpret_cast<const int8_t*>(w), reals,
                                          args.dst[0]);
        } else {
          ConvReference<int64_t, int8_t>(p, args.src[0], reinterpret_cast<const int8_t*>(w), reals,
                                         args.dst[0]);
        }
      });
}

}  // namespace octet::kernels
