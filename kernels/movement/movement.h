// Operators that move elements without computing: any dtype of 1, 2, 4 or 8 bytes, plain layout, quant unchanged.
//
// One strided copy serves Transpose, Slice, Expand, Split and Tile; Pad, Gather and Where have their own loops.
// Operands of Bind: src[0] (and as stated), dst[0]. Source: ONNX Transpose-21, Slice-13, Expand-13, Pad-21, Gather-13,
// GatherElements-13, Where-16.
#ifndef OCTET_KERNELS_MOVEMENT_MOVEMENT_H_
#define OCTET_KERNELS_MOVEMENT_MOVEMENT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/kernel.h"

namespace octet::kernels {

// dst[i0, i1, ...] = src[offset + i0*src_strides[0] + i1*src_strides[1] + ...], dst dense row-major; strides and offset
// in elements, may be 0 or negative.
struct StridedCopyParams {
  DType dtype = DType::kF32;
  Shape dst_shape;
  Shape src_strides;
  int64_t src_offset = 0;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateStridedCopy(const StridedCopyParams& params,
                                                          const KernelEnv& env);

struct PadParams {
  enum class Mode : uint8_t { kConstant, kReflect, kEdge, kWrap };
  Mode mode = Mode::kConstant;
  TensorSpec src, dst;
  std::vector<int64_t> begin;   // per axis, may be negative (crop); the end follows from the shapes
  std::vector<std::byte> fill;  // one element of src's dtype (kConstant); empty: src[1] holds it
};
absl::StatusOr<std::unique_ptr<Kernel>> CreatePad(const PadParams& params, const KernelEnv& env);

// dst = src taken along `axis` at indices (s32 or s64; negative counts from the end; out of range fails the run with
// kInvalidArgument). src[0] = data, src[1] = indices.
struct GatherParams {
  TensorSpec src, indices, dst;
  int axis = 0;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateGather(const GatherParams& params, const KernelEnv& env);

// dst = condition ? a : b with broadcast; src[0] = condition (bool), src[1] = a, src[2] = b.
struct WhereParams {
  TensorSpec condition, a, b, dst;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateWhere(const WhereParams& params, const KernelEnv& env);

// Space <-> depth. src[0], dst[0] plain [N, C, H, W]. Source: ONNX DepthToSpace-13, SpaceToDepth-13.
struct DepthToSpaceParams {
  enum class Mode : uint8_t { kDcr, kCrd, kSpaceToDepth };
  Mode mode = Mode::kDcr;
  TensorSpec src, dst;
  int64_t block = 2;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateDepthToSpace(const DepthToSpaceParams& params,
                                                           const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_MOVEMENT_MOVEMENT_H_
