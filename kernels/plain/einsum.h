// One contraction in plain loops: what no matrix product says (diagonals, sums, integers, single
// operands).
//
//   dst[r..] = sum over s of product over operands k of src[k][offset_k(r.., s..)]
//
// Operands are walked by strides, so a diagonal is a sum of two strides and a broadcast is stride
// 0. Sums are in the elements' type, of 16-bit floats in f32, of f32 in f32; integers wrap. src[k],
// dst[0] dense row-major. Source: ONNX Einsum-12.
#ifndef OCTET_KERNELS_PLAIN_EINSUM_H_
#define OCTET_KERNELS_PLAIN_EINSUM_H_

#include <memory>
#include <vector>

#include "kernels/kernel.h"

namespace octet::kernels {

struct EinsumParams {
  DType dtype = DType::kF32;
  Shape result;  // of dst
  Shape summed;  // sizes of the dimensions that are summed over; may be empty
  std::vector<Shape>
      strides;  // per operand, in elements: one per result dimension, then one per summed dimension
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateEinsum(const EinsumParams& params,
                                                     const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_EINSUM_H_
