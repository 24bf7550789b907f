// Oracles of the moving operators: one element after the other by its multi-index.
#ifndef OCTET_KERNELS_MOVEMENT_MOVEMENT_REFERENCE_H_
#define OCTET_KERNELS_MOVEMENT_MOVEMENT_REFERENCE_H_

#include "kernels/elements.h"
#include "kernels/movement/movement.h"

namespace octet::kernels {

inline void StridedCopyReference(const StridedCopyParams& p, const void* src, void* dst) {
  int64_t i = 0;
  ForEachIndex(p.dst_shape, [&](absl::Span<const int64_t> index) {
    CopyElement(p.dtype, src, p.src_offset + Offset(p.src_strides, index), dst, i++);
  });
}

// Where coordinate `at` of a padded axis comes from; -1: nowhere. Reflection does not repeat the
// edge.
inline int64_t PadSource(PadParams::Mode mode, int64_t at, int64_t size) {
  if (at >= 0 && at < size) return at;
  switch (mode) {
    case PadParams::Mode::kConstant:
      return -1;
    case PadParams::Mode::kEdge:
      return at < 0 ? 0 : size - 1;
    case PadParams::Mode::kWrap:
      return ((at % size) + size) % size;
    case PadParams::Mode::kReflect: {
      if (size == 1) return 0;
      const int64_t period = 2 * (size - 1);
      const int64_t phase = ((at % period) + period) % period;
      return phase < size ? phase : period - phase;
    }
  }
  return -1;
}

inline void PadReference(const PadParams& p, const void* src, void* dst) {
  const Shape strides = StridesOf(p.src.shape);
  int64_t i = 0;
  ForEachIndex(p.dst.shape, [&](absl::Span<const int64_t> index) {
    int64_t offset = 0;
    bool inside = true;
    for (size_t d = 0; d < strides.size(); ++d) {
      const int64_t at = PadSource(p.mode, index[d] - p.begin[d], p.src.shape[d]);
      inside = inside && at >= 0;
      offset += at * strides[d];
    }
    CopyElement(p.src.dtype, inside ? src : p.fill.data(), inside ? offset : 0, dst, i++);
  });
}

// Requires: indices in range.
inline void GatherReference(const GatherParams& p, const void* src, const void* indices,
                            void* dst) {
  const auto axis = static_cast<size_t>(p.axis);
  const size_t index_rank = p.indices.shape.size();
  const Shape strides = StridesOf(p.src.shape), index_strides = StridesOf(p.indices.shape);
  int64_t i = 0;
  ForEachIndex(p.dst.shape, [&](absl::Span<const int64_t> at) {
    int64_t taken =
        LoadInteger(p.indices.dtype, indices, Offset(index_strides, at.subspan(axis, index_rank)));
    if (taken < 0) taken += p.src.shape[axis];
    int64_t offset = taken * strides[axis];
    for (size_t d = 0; d < axis; ++d) offset += at[d] * strides[d];
    for (size_t d = axis + 1; d < strides.size(); ++d)
      offset += at[d - 1 + index_rank] * strides[d];
    CopyElement(p.src.dtype, src, offset, dst, i++);
  });
}

inline void WhereReference(const WhereParams& p, const void* condition, const void* a,
                           const void* b, void* dst) {
  const auto offset = [&](const TensorSpec& spec, absl::Span<const int64_t> at) {
    const Shape strides = StridesOf(spec.shape);
    const size_t lead = at.size() - strides.size();
    int64_t sum = 0;
    for (size_t d = 0; d < strides.size(); ++d)
      sum += spec.shape[d] == 1 ? 0 : at[lead + d] * strides[d];
    return sum;
  };
  int64_t i = 0;
  ForEachIndex(p.dst.shape, [&](absl::Span<const int64_t> at) {
    if (LoadInteger(DType::kBool, condition, offset(p.condition, at)) != 0) {
      CopyElement(p.dst.dtype, a, offset(p.a, at), dst, i++);
    } else {
      CopyElement(p.dst.dtype, b, offset(p.b, at), dst, i++);
    }
  });
}

// Channel k of a block's b*b*C channels: DCR k = (row * b + column) * C + c, CRD k = (c * b + row)
// * b + column.
inline void DepthToSpaceReference(const DepthToSpaceParams& p, const void* src, void* dst) {
  using Mode = DepthToSpaceParams::Mode;
  const bool to_depth = p.mode == Mode::kSpaceToDepth;
  const TensorSpec& deep = to_depth ? p.dst : p.src;
  const TensorSpec& wide = to_depth ? p.src : p.dst;
  const Shape deep_strides = StridesOf(deep.shape);
  const int64_t channels = wide.shape[1], b = p.block;
  int64_t i = 0;
  ForEachIndex(wide.shape, [&](absl::Span<const int64_t> at) {
    const int64_t row = at[2] % b, column = at[3] % b;
    const int64_t k = p.mode == Mode::kCrd ? (at[1] * b + row) * b + column
                                           : (row * b + column) * channels + at[1];
    const int64_t j = Offset(deep_strides, Shape{at[0], k, at[2] / b, at[3] / b});
    CopyElement(p.src.dtype, src, to_depth ? i : j, dst, to_depth ? j : i);
    ++i;
  });
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_MOVEMENT_MOVEMENT_REFERENCE_H_
