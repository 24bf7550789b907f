// Local response normalization across channels.
//
//   dst[n,c,p] = src[n,c,p] / (bias + alpha / size * sum src[n,i,p]^2)^beta
//   i from max(0, c - floor((size - 1) / 2)) to min(C - 1, c + ceil((size - 1) / 2))
//
// src and dst are f32 [N, C, ...] of one shape and layout, of rank 2 or more. Operands of Bind: src[0], dst[0]; dst may
// not be src. Source: ONNX LRN-13.
#ifndef OCTET_KERNELS_NORMALIZE_LRN_H_
#define OCTET_KERNELS_NORMALIZE_LRN_H_

#include <memory>

#include "kernels/kernel.h"

namespace octet::kernels {

struct LrnParams {
  TensorSpec src, dst;
  int64_t size = 1;  // at least 1
  float alpha = 1e-4f, beta = 0.75f, bias = 1;
};

// Errors: kInvalidArgument (shapes, types, size).
absl::StatusOr<std::unique_ptr<Kernel>> CreateLrn(const LrnParams& params, const KernelEnv& env);

// The ordered list, best first, reference last.
absl::Span<const Implementation<LrnParams>> LrnImplementations();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_NORMALIZE_LRN_H_
