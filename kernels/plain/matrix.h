// Functions of matrices in the last two dimensions: triangles, identities, determinants; and
// Hardmax.
//
// Operands plain, without quant. Source: ONNX Trilu-14, EyeLike-22, Det-22, Hardmax-13.
#ifndef OCTET_KERNELS_PLAIN_MATRIX_H_
#define OCTET_KERNELS_PLAIN_MATRIX_H_

#include <memory>

#include "kernels/kernel.h"

namespace octet::kernels {

enum class Triangle : uint8_t {
  kUpper,  // keeps column - row >= k
  kLower,  // keeps column - row <= k
};

// dst[.., r, c] = kept ? src[.., r, c] : 0. Operands of Bind: src[0], src[1] = k, one s64 (absent:
// 0), dst[0].
struct TriluParams {
  Triangle keep = Triangle::kUpper;
  bool has_k = false;
  TensorSpec src, dst;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateTrilu(const TriluParams& params,
                                                    const KernelEnv& env);

// dst[r, c] = c - r == k. Operands of Bind: dst[0].
struct EyeParams {
  int64_t k = 0;
  TensorSpec dst;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateEye(const EyeParams& params, const KernelEnv& env);

// Determinants of square matrices [.., n, n] -> [..], by elimination with pivots in double. Bind:
// src[0], dst[0]; scratch holds one matrix.
struct DetParams {
  TensorSpec src, dst;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateDet(const DetParams& params, const KernelEnv& env);

// 1 at the first largest element along `axis`, 0 elsewhere. Floats. Bind: src[0], dst[0].
struct HardmaxParams {
  TensorSpec src, dst;
  int axis = 0;  // in [0, rank)
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateHardmax(const HardmaxParams& params,
                                                      const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_MATRIX_H_
