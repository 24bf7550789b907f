// Scaled dot-product attention: one kernel for both products and the softmax between them.
//
//   s[b, i, j] = scale * sum_d q[b, i, d] * k[b, j, d] + mask[b, i, j]
//   p[b, i, :] = softmax(s[b, i, :]), rounded to `probabilities` when given
//   y[b, i, e] = sum_j p[b, i, j] * v[b, j, e], rounded into y
//
// b runs over two batch dimensions (batch, head). q, k, v and y lie anywhere: strides in elements, one per logical
// dimension, 0 where an operand broadcasts; so the Transposes around attention are no copies. Each of q, k, v and y is
// f32, or u8/s8 with quant; the mask is f32.
// Operands of Bind: src[0] = q, src[1] = k, src[2] = v, src[3] = mask when present; dst[0] = y.
#ifndef OCTET_KERNELS_ATTENTION_ATTENTION_H_
#define OCTET_KERNELS_ATTENTION_ATTENTION_H_

#include <array>
#include <memory>
#include <optional>

#include "kernels/kernel.h"

namespace octet::kernels {

using AttentionStrides = std::array<int64_t, 4>;  // batch, head, row, column

struct AttentionOperand {
  TensorSpec spec;             // as stored; only type, quant and number of elements matter
  AttentionStrides strides{};  // q: [.., query, depth], k: [.., key, depth], v: [.., key, value], y: [.., query, value]
};

struct AttentionParams {
  int64_t batch = 1, heads = 1, queries = 0, keys = 0, depth = 0, values = 0;
  AttentionOperand q, k, v, y;
  std::optional<AttentionOperand> mask;  // strides: [.., query, key]
  float scale = 1;
  // Storage of the probabilities: u8 or s8 and its parameters.
  struct Rounding {
    DType dtype = DType::kU8;
    float scale = 1;
    int32_t zero_point = 0;
  };
  std::optional<Rounding> probabilities;
};

// Errors: kInvalidArgument (a stride leads out of an operand), kUnimplemented (types).
absl::StatusOr<std::unique_ptr<Kernel>> CreateAttention(const AttentionParams& params, const KernelEnv& env);
absl::Span<const Implementation<AttentionParams>> AttentionImplementations();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_ATTENTION_ATTENTION_H_
