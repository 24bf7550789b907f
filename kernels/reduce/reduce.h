// Reductions over a set of axes, and ArgMax/ArgMin.
//
// f32 (or u8/s8 with quant on src and/or dst for sum and mean), f64 and integers; bool for maximum and minimum. Operands
// plain.
// Operands of Bind: src[0], dst[0]. Source: ONNX Reduce*-18, ArgMax-13, ArgMin-13.
#ifndef OCTET_KERNELS_REDUCE_REDUCE_H_
#define OCTET_KERNELS_REDUCE_REDUCE_H_

#include <memory>
#include <vector>

#include "kernels/kernel.h"

namespace octet::kernels {

enum class ReduceKind : uint8_t {
  kSum, kMean, kMax, kMin, kProd, kL1, kL2, kLogSum, kLogSumExp, kSumSquare,
  kArgMaxFirst, kArgMaxLast, kArgMinFirst, kArgMinLast,  // one axis; dst s64
};

struct ReduceParams {
  ReduceKind kind = ReduceKind::kSum;
  TensorSpec src, dst;    // dst has the reduced axes as 1 (keepdims form; dropping them changes no memory)
  std::vector<int> axes;  // in [0, rank), ascending; empty: nothing is reduced (each element alone)
};

absl::StatusOr<std::unique_ptr<Kernel>> CreateReduce(const ReduceParams& params,
                                                     const KernelEnv& env);
absl::Span<const Implementation<ReduceParams>> ReduceImplementations();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_REDUCE_REDUCE_H_
