// Joins tensors along one axis, requantizing parts whose quant differs from dst's.
//
// Any dtype; all operands of one dtype and layout. Operands of Bind: src[i] = part i, dst[0]. Source: ONNX Concat-13.
#ifndef OCTET_KERNELS_CONCAT_CONCAT_H_
#define OCTET_KERNELS_CONCAT_CONCAT_H_

#include <memory>
#include <vector>

#include "kernels/kernel.h"

namespace octet::kernels {

struct ConcatParams {
  std::vector<TensorSpec> parts;
  TensorSpec dst;
  int axis = 0;  // ONNX order
};

absl::StatusOr<std::unique_ptr<Kernel>> CreateConcat(const ConcatParams& params,
                                                     const KernelEnv& env);
absl::Span<const Implementation<ConcatParams>> ConcatImplementations();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_CONCAT_CONCAT_H_
