// Oracle of Concat: one element after the other by its multi-index.
#ifndef OCTET_KERNELS_CONCAT_CONCAT_REFERENCE_H_
#define OCTET_KERNELS_CONCAT_CONCAT_REFERENCE_H_

#include "kernels/concat/concat.h"
#include "kernels/elements.h"

namespace octet::kernels {

inline void ConcatReference(const ConcatParams& p, absl::Span<const void* const> src, void* dst) {
  const Shape dst_strides = StridesIn(p.dst);
  const auto axis = static_cast<size_t>(p.axis);
  int64_t before = 0;  // elements along the axis that earlier parts hold
  for (size_t i = 0; i < p.parts.size(); ++i) {
    const TensorSpec& part = p.parts[i];
    const Shape src_strides = StridesIn(part);
    ForEachIndex(part.shape, [&](absl::Span<const int64_t> index) {
      const int64_t from = Offset(src_strides, index);
      const int64_t to = Offset(dst_strides, index) + before * dst_strides[axis];
      if (part.quant == p.dst.quant) {
        CopyElement(part.dtype, src[i], from, dst, to);
      } else {
        StoreReal(p.dst, dst, to, LoadReal(part, src[i], from));
      }
    });
    before += part.shape[axis];
  }
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_CONCAT_CONCAT_REFERENCE_H_
