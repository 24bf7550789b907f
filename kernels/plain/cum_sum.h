// Running sums along an axis.
//
//   dst[j] = sum of src[i] over i <= j   (i < j when exclusive; i >= j, i > j when reverse)
//
// The axis is read at run time: src[0] = src, src[1] = axis (one s32 or s64, negative from the end;
// outside fails the run). Sums are in the elements' type, of 16-bit floats in f32; integers wrap.
// Plain. Source: ONNX CumSum-14.
#ifndef OCTET_KERNELS_PLAIN_CUM_SUM_H_
#define OCTET_KERNELS_PLAIN_CUM_SUM_H_

#include <memory>

#include "kernels/kernel.h"

namespace octet::kernels {

struct CumSumParams {
  enum class Start : uint8_t { kInclusive, kExclusive };
  enum class Direction : uint8_t { kForward, kReverse };
  TensorSpec src, axis;
  Start start = Start::kInclusive;
  Direction direction = Direction::kForward;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateCumSum(const CumSumParams& params,
                                                     const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_CUM_SUM_H_
