// One-hot rows: the on value where an index points, the off value everywhere else.
//
//   dst[i, d, j] = values[indices[i, j] == d or indices[i, j] + depth == d ? 1 : 0], d < depth
//
// An index outside of [-depth, depth) gives a row of off values. src[0] = indices (any number type;
// fractions are cut off), src[1] = values [off, on] of any type of 8 bits and more; dst[0] is
// [outer, depth, inner]. Plain. Source: ONNX OneHot-11.
#ifndef OCTET_KERNELS_PLAIN_ONE_HOT_H_
#define OCTET_KERNELS_PLAIN_ONE_HOT_H_

#include <memory>

#include "kernels/kernel.h"

namespace octet::kernels {

struct OneHotParams {
  TensorSpec indices, values, dst;
  int axis = 0;  // of dst
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateOneHot(const OneHotParams& params,
                                                     const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_ONE_HOT_H_
