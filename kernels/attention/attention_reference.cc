// Attention by the oracle, on the team.
#include "kernels/attention/attention_reference.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateAttentionReference(const AttentionParams& p, const KernelEnv&) {
  return MakeFunctionKernel("reference", 0, [p](const BindArgs& args) {
    RunParallel(args.parallel, p.batch * p.heads * p.queries, 4, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        AttentionReference(p, args.src, args.dst[0], n / p.queries / p.heads, n / p.queries % p.heads, n % p.queries);
      }
    });
  });
}

}  // namespace octet::kernels
