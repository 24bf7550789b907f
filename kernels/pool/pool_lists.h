// Internal to kernels/pool: the entries of its list.
#ifndef OCTET_KERNELS_POOL_POOL_LISTS_H_
#define OCTET_KERNELS_POOL_POOL_LISTS_H_

#include <memory>

#include "kernels/pool/pool.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreatePoolOneDnn(const PoolParams& p, const KernelEnv& env);
absl::StatusOr<std::unique_ptr<Kernel>> CreatePoolAverage8(const PoolParams& p, const KernelEnv& env);
absl::StatusOr<std::unique_ptr<Kernel>> CreatePoolReference(const PoolParams& p, const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_POOL_POOL_LISTS_H_
