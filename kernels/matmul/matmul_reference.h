// Oracle of Matmul: plain loops over the formula of matmul.h.
//
// Integers are accumulated exactly, floats in double; operands are read element by element through
// LoadNumber.
#ifndef OCTET_KERNELS_MATMUL_MATMUL_REFERENCE_H_
#define OCTET_KERNELS_MATMUL_MATMUL_REFERENCE_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/elements.h"
#include "kernels/matmul/matmul.h"
#include "kernels/product_reference.h"

namespace octet::kernels {

// Strides of `shape` in front of a broadcast to `rank` dimensions: 0 where it has size 1 or no
// dimension.
inline Shape BroadcastStrides(const Shape& shape, size_t rank) {
  const Shape dense = StridesOf(shape);
  Shape strides(rank, 0);
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] != 1) strides[rank - shape.size() + i] = dense[i];
  }
  return strides;
}

// A bias that broadcasts to dst: its reals, shape as in ONNX.
struct BiasView {
  std::vector<double> reals;
  Shape shape;
};

// Acc: double for f32, int64_t for integers. Requires: params valid; b and bias as stored;
// bias.reals empty if absent.
template <typename Acc, typename A, typename B>
void MatmulReference(const MatmulParams& p, const void* a_data, const void* b_data,
                     const BiasView& bias, void* dst_data) {
  const auto* a = static_cast<const A*>(a_data);
  const auto* b = static_cast<const B*>(b_data);
  const size_t rank = p.dst.shape.size(), row = rank - 2, col = rank - 1;
  Shape a_strides = BroadcastStrides(p.a.shape, rank),
        b_strides = BroadcastStrides(p.b.shape, rank);
  const Shape bias_strides = BroadcastStrides(bias.shape, rank),
              dst_strides = StridesOf(p.dst.shape);
  const bool ta = p.transpose_a == MatmulParams::Transpose::kYes;
  const bool tb = p.transpose_b == MatmulParams::Transpose::kYes;
  if (ta) std::swap(a_strides[row], a_strides[col]);
  if (tb) std::swap(b_strides[row], b_strides[col]);
  const int64_t depth = p.a.shape[p.a.shape.size() - (ta ? 2 : 1)];
  const Acc a_zero = p.a.quant ? p.a.quant->zero_point_at(0) : 0;
  ForEachIndex(p.dst.shape, [&](absl::Span<const int64_t> at) {
    const auto channel = p.b.quant && !p.b.quant->per_tensor() ? static_cast<size_t>(at[col]) : 0;
    const Acc b_zero = p.b.quant ? p.b.quant->zero_point_at(channel) : 0;
    int64_t a_offset = at[row] * a_strides[row], b_offset = at[col] * b_strides[col];
    for (size_t d = 0; d < row; ++d) {
      a_offset += at[d] * a_strides[d];
      b_offset += at[d] * b_strides[d];
    }
    Acc acc = 0;
    for (int64_t k = 0; k < depth; ++k) {
      acc += (Acc{a[a_offset + k * a_strides[col]]} - a_zero) *
             (Acc{b[b_offset + k * b_strides[row]]} - b_zero);
    }
    double real = static_cast<double>(acc) * p.alpha;
    if (p.a.quant) real *= double{p.a.quant->scale[0]} * p.b.quant->scale[channel];
    if (!bias.reals.empty()) real += bias.reals[static_cast<size_t>(Offset(bias_strides, at))];
    StoreProduct(p.post_ops, p.dst, dst_data, Offset(dst_strides, at), real);
  });
}

// The same by the types of a and b.
inline void MatmulReference(const MatmulParams& p, const void* a, const void* b,
                            const BiasView& bias, void* dst) {
  const bool u8b = p.b.dtype == DType::kU8;
  if (p.a.dtype == DType::kF32) {
    MatmulReference<double, float, float>(p, a, b, bias, dst);
  } else if (p.a.dtype == DType::kU8) {
    u8b ? MatmulReference<int64_t, uint8_t, uint8_t>(p, a, b, bias, dst)
        : MatmulReference<int64_t, uint8_t, int8_t>(p, a, b, bias, dst);
  } else {
    u8b ? MatmulReference<int64_t, int8_t, uint8_t>(p, a, b, bias, dst)
        : MatmulReference<int64_t, int8_t, int8_t>(p, a, b, bias, dst);
  }
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_MATMUL_MATMUL_REFERENCE_H_
