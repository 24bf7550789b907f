// Binary by the oracle, on the team: accepts whatever the contract allows.
#include "kernels/binary/binary_reference.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateBinaryReference(const BinaryParams& params,
                                                              const KernelEnv&) {
  const LoopNest nest = BroadcastNest({&params.a, &params.b}, params.dst);
  const int64_t n = NumElements(params.dst.shape);
  // 4-bit elements share bytes: no two threads may write them.
  const int64_t grain = BitsOf(params.dst.dtype) < 8 ? n : 4096;
  return MakeFunctionKernel("reference", 0, [params, nest, n, grain](const BindArgs& args) {
    RunParallel(args.parallel, n, grain, [&](int64_t begin, int64_t end) {
      BinaryReference(params, nest, args.src[0], args.src[1], args.dst[0], begin, end);
    });
  });
}

}  // namespace octet::kernels
