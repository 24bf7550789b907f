// Oracle of MatmulNBits: plain loops over the formulas of matmul_nbits.h.
//
// The source is quantized in f32 as the contract says, products are summed exactly, groups in
// double.
#ifndef OCTET_KERNELS_MATMUL_NBITS_MATMUL_NBITS_REFERENCE_H_
#define OCTET_KERNELS_MATMUL_NBITS_MATMUL_NBITS_REFERENCE_H_

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/elements.h"
#include "kernels/matmul_nbits/matmul_nbits.h"
#include "kernels/product_reference.h"

namespace octet::kernels {

// Weight [k, n] as stored, its scale and its zero point.
class NBitsWeights {
 public:
  // Requires: CheckNBitsWeights or any quant per tensor, per column or in blocks along K; both
  // outlive this.
  NBitsWeights(const TensorSpec& spec, MatmulNBitsParams::Transpose transpose, const void* data)
      : dtype_(spec.dtype), quant_(*spec.quant), data_(data) {
    const bool transposed = transpose == MatmulNBitsParams::Transpose::kYes;
    k_ = spec.shape[transposed ? 1 : 0];
    n_ = spec.shape[transposed ? 0 : 1];
    k_stride_ = transposed ? 1 : n_;
    n_stride_ = transposed ? k_ : 1;
    block_ = quant_.block > 0 ? quant_.block : std::max<int64_t>(k_, 1);
    const int64_t groups = (k_ + block_ - 1) / block_;
    if (quant_.per_tensor()) return;  // both strides 0: one scale
    scale_n_stride_ = transposed && quant_.block > 0 ? groups : 1;
    scale_g_stride_ = quant_.block == 0 ? 0 : transposed ? 1 : n_;
  }

  int64_t k() const { return k_; }
  int64_t n() const { return n_; }
  int64_t block() const { return block_; }
  int64_t groups() const { return (k_ + block_ - 1) / block_; }
  // The integer, or the level of a code.
  int64_t stored(int64_t k, int64_t n) const {
    if (quant_.vector > 1) {
      const int64_t code = LoadInteger(DType::kU8, data_, (n * k_ + k) / quant_.vector);
      return quant_.levels[static_cast<size_t>(code * quant_.vector + k % quant_.vector)];
    }
    const int64_t code = LoadInteger(dtype_, data_, k * k_stride_ + n * n_stride_);
    return quant_.levels.empty() ? code : quant_.levels[static_cast<size_t>(code)];
  }
  float scale(int64_t group, int64_t n) const { return quant_.scale[at(group, n)]; }
  int64_t zero_point(int64_t group, int64_t n) const { return quant_.zero_point_at(at(group, n)); }

 private:
  size_t at(int64_t group, int64_t n) const {
    return static_cast<size_t>(group * scale_g_stride_ + n * scale_n_stride_);
  }
  DType dtype_;
  const QuantParams& quant_;
  const void* data_;
  int64_t k_, n_, k_stride_, n_stride_, block_, scale_n_stride_ = 0, scale_g_stride_ = 0;
};

// One row of integers with what they stand for.
struct QuantizedRow {
  std::vector<int64_t> q;
  float scale = 1;
  int64_t zero_point = 0;
};

inline QuantizedRow QuantizeRowReference(const float* src, int64_t n) {
  float low = 0, high = 0;
  bool finite = true;
  for (int64_t i = 0; i < n; ++i) {
    low = std::min(low, src[i]);
    high = std::max(high, src[i]);
    finite = finite && std::isfinite(src[i]);
  }
  QuantizedRow row;
  row.q.assign(static_cast<size_t>(n), 0);
  if (!finite) {
    row.scale = std::numeric_limits<float>::quiet_NaN();
    return row;
  }
  row.scale = std::max((high / 2 - low / 2) / 127.5f, FLT_MIN);
  const float inverse = 1 / row.scale;
  const auto clamp = [](float x) { return std::clamp<int64_t>(std::llrint(x), 0, 255); };
  row.zero_point = clamp(-low * inverse);
  for (int64_t i = 0; i < n; ++i) {
    row.q[static_cast<size_t>(i)] =
        clamp(std::nearbyint(src[i] * inverse) + static_cast<float>(row.zero_point));
  }
  return row;
}

// Row m of the source in its integers.
inline QuantizedRow SourceRow(const TensorSpec& spec, const void* src, int64_t m) {
  const int64_t k = spec.shape.back();
  if (!spec.quant) return QuantizeRowReference(static_cast<const float*>(src) + m * k, k);
  QuantizedRow row;
  for (int64_t i = 0; i < k; ++i) row.q.push_back(LoadInteger(spec.dtype, src, m * k + i));
  row.scale = spec.quant->scale[0];
  row.zero_point = spec.quant->zero_point_at(0);
  return row;
}

// Requires: params valid; `bias` empty, one real or N.
inline void MatmulNBitsReference(const MatmulNBitsParams& p, const void* src_data,
                                 const void* weights_data, const std::vector<double>& bias,
                                 void* dst) {
  const NBitsWeights weights(p.weights, p.transpose_weights, weights_data);
  const int64_t k = weights.k(), n = weights.n(), block = weights.block();
  const int64_t rows = n == 0 ? 0 : NumElements(p.dst.shape) / n;
  for (int64_t m = 0; m < rows; ++m) {
    const QuantizedRow row = SourceRow(p.src, src_data, m);
    for (int64_t c = 0; c < n; ++c) {
      double sum = 0, weight_sum = 0;
      for (int64_t g = 0; g < weights.groups(); ++g) {
        int64_t acc = 0, group_sum = 0;
        for (int64_t i = g * block; i < std::min(k, (g + 1) * block); ++i) {
          const int64_t w = weights.stored(i, c) - weights.zero_point(g, c);
          acc += row.q[static_cast<size_t>(i)] * w;
          group_sum += w;
        }
        sum += double{weights.scale(g, c)} * static_cast<double>(acc);
        weight_sum += double{weights.scale(g, c)} * static_cast<double>(group_sum);
      }
      double real =
          double{p.alpha} * row.scale * (sum - static_cast<double>(row.zero_point) * weight_sum);
      if (!bias.empty()) real += bias[bias.size() == 1 ? 0 : static_cast<size_t>(c)];
      StoreProduct(p.post_ops, p.dst, dst, m * n + c, real);
    }
  }
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_MATMUL_NBITS_MATMUL_NBITS_REFERENCE_H_
