// Operators that read or write elements at given positions: GatherElements, GatherND,
// ScatterElements, ScatterND.
//
//   GatherElements   dst[i, j, k] = src[indices[i, j, k], j, k]                     (along axis 0)
//   GatherND         dst[b.., i..] = src[b.., indices[b.., i.., :]]                 (b: batch_dims
//   leading axes) ScatterElements  dst = data; dst[indices[i, j, k], j, k] <op>= updates[i, j, k]
//   (along axis 0) ScatterND        dst = data; dst[indices[i.., :]] <op>= updates[i..]
//
// Indices are s32 or s64 and count from the end when negative; one outside of its axis fails the
// run with kInvalidArgument naming it and the bound, and nothing outside of an operand is touched.
// Where indices repeat, updates apply in their order. Elements are of any type of 8 bits and more;
// reductions other than kNone compute in it, 16-bit floats in f32. All operands are plain. Source:
// ONNX GatherElements-13, GatherND-13, ScatterElements-18, ScatterND-18.
#ifndef OCTET_KERNELS_PLAIN_INDEXING_H_
#define OCTET_KERNELS_PLAIN_INDEXING_H_

#include <memory>

#include "kernels/kernel.h"

namespace octet::kernels {

// src[0] = src, src[1] = indices; dst[0] has the indices' shape.
struct GatherElementsParams {
  TensorSpec src, indices, dst;
  int axis = 0;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateGatherElements(const GatherElementsParams& params,
                                                             const KernelEnv& env);

// src[0] = src, src[1] = indices; with constant indices (valid) src[1] is absent.
struct GatherNdParams {
  TensorSpec src, indices, dst;
  int batch_dims = 0;
  Tensor constant_indices;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateGatherNd(const GatherNdParams& params,
                                                       const KernelEnv& env);

enum class ScatterReduction : uint8_t { kNone, kAdd, kMul, kMax, kMin };

// src[0] = data, src[1] = indices, src[2] = updates.
struct ScatterElementsParams {
  TensorSpec data, indices, updates, dst;
  int axis = 0;
  ScatterReduction reduction = ScatterReduction::kNone;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateScatterElements(const ScatterElementsParams& params,
                                                              const KernelEnv& env);

// src[0] = data, src[1] = updates, src[2] = indices; with constant indices (valid) src[2] is
// absent.
struct ScatterNdParams {
  TensorSpec data, indices, updates, dst;
  ScatterReduction reduction = ScatterReduction::kNone;
  Tensor constant_indices;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateScatterNd(const ScatterNdParams& params,
                                                        const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_INDEXING_H_
