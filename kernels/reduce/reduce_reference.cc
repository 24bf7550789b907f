// Reduce by the oracle, results shared by the team: accepts whatever the contract allows.
#include "kernels/reduce/reduce_reference.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateReduceReference(const ReduceParams& params,
                                                              const KernelEnv&) {
  const int64_t results = NumElements(params.dst.shape);
  const int64_t per_result = results == 0 ? 1 : NumElements(params.src.shape) / results;
  return MakeFunctionKernel("reference", 0, [params, results, per_result](const BindArgs& args) {
    RunParallel(args.parallel, results, 4096 / std::max<int64_t>(per_result, 1) + 1,
                [&](int64_t begin, int64_t end) {
                  ReduceReference(params, args.src[0], args.dst[0], begin, end);
                });
  });
}

}  // namespace octet::kernels
