// LayerNorm by the oracle, on the team.
#include "kernels/layer_norm/layer_norm_reference.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateLayerNormReference(const LayerNormParams& params, const KernelEnv&) {
  const int64_t rows = params.row == 0 ? 0 : NumElements(params.src.shape) / params.row;
  return MakeFunctionKernel("reference", 0, [params, rows](const BindArgs& args) {
    const LayerNormMemory memory = MemoryOf(params, args);
    RunParallel(args.parallel, rows, 16,
                [&](int64_t begin, int64_t end) { LayerNormReference(params, memory, begin, end); });
  });
}

}  // namespace octet::kernels
