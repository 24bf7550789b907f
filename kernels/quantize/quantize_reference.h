// Oracle of Convert: one element after the other, straight from the formulas of quantize.h.
#ifndef OCTET_KERNELS_QUANTIZE_QUANTIZE_REFERENCE_H_
#define OCTET_KERNELS_QUANTIZE_QUANTIZE_REFERENCE_H_

#include "kernels/elements.h"
#include "kernels/quantize/quantize.h"

namespace octet::kernels {

// Which scale applies to the element at `index` (ONNX order).
inline size_t ScaleIndex(const QuantParams& quant, absl::Span<const int64_t> shape,
                         absl::Span<const int64_t> index) {
  if (quant.per_tensor()) return 0;
  const auto axis = static_cast<size_t>(quant.axis);
  if (quant.block == 0) return static_cast<size_t>(index[axis]);
  int64_t at = 0;  // row-major in the shape whose axis counts blocks
  for (size_t d = 0; d < shape.size(); ++d) {
    const bool blocked = d == axis;
    const int64_t size = blocked ? (shape[d] + quant.block - 1) / quant.block : shape[d];
    at = at * size + (blocked ? index[d] / quant.block : index[d]);
  }
  return static_cast<size_t>(at);
}

// Requires: equal shapes, valid quant on both sides.
inline void ConvertReference(const ConvertParams& p, const void* src, void* dst) {
  const Shape src_strides = StridesIn(p.src), dst_strides = StridesIn(p.dst);
  const auto is_count = [](DType t) { return IsInteger(t) || t == DType::kBool; };
  const bool same_grid = p.src.quant == p.dst.quant;
  ForEachIndex(p.src.shape, [&](absl::Span<const int64_t> index) {
    const int64_t s = Offset(src_strides, index), d = Offset(dst_strides, index);
    if (same_grid && p.src.dtype == p.dst.dtype) {  // nothing but a move, exact for every type
      CopyElement(p.src.dtype, src, s, dst, d);
      return;
    }
    if (!p.src.quant && !p.dst.quant) {
      if (is_count(p.src.dtype) && is_count(p.dst.dtype)) {
        StoreInteger(p.dst.dtype, dst, d, LoadInteger(p.src.dtype, src, s));
      } else {
        StoreNumber(p.dst.dtype, dst, d, LoadNumber(p.src.dtype, src, s));
      }
      return;
    }
    double real = LoadNumber(p.src.dtype, src, s);
    if (p.src.quant) {
      const size_t c = ScaleIndex(*p.src.quant, p.src.shape, index);
      real = Dequantize(LoadInteger(p.src.dtype, src, s), p.src.quant->scale[c],
                        p.src.quant->zero_point_at(c));
    }
    if (p.dst.quant) {
      const size_t c = ScaleIndex(*p.dst.quant, p.dst.shape, index);
      StoreInteger(p.dst.dtype, dst, d,
                   Quantize(static_cast<float>(real), p.dst.quant->scale[c],
                            p.dst.quant->zero_point_at(c), p.dst.dtype));
    } else {
      StoreNumber(p.dst.dtype, dst, d, real);
    }
  });
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_QUANTIZE_QUANTIZE_REFERENCE_H_
