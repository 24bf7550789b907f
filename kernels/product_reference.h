// Oracle of what happens behind a product's accumulator: post-ops on the real result, then rounding
// into dst.
#ifndef OCTET_KERNELS_PRODUCT_REFERENCE_H_
#define OCTET_KERNELS_PRODUCT_REFERENCE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/elements.h"
#include "kernels/kernel.h"

namespace octet::kernels {

// dst[offset] = round(post_ops(real)); a kAdd residual is what dst[offset] held before.
inline void StoreProduct(const std::vector<PostOp>& post_ops, const TensorSpec& dst, void* data,
                         int64_t offset, double real) {
  for (const PostOp& op : post_ops) {
    if (op.kind == PostOp::Kind::kActivation) {
      real = Apply(op.activation, real);
    } else {
      real += LoadReal(op.residual, data, offset);
    }
  }
  StoreReal(dst, data, offset, real);
}

// Bias as reals: scale * q of an s32 constant, the value of an f32 one.
inline std::vector<double> BiasReals(const ConstantSpec& bias, std::vector<double> stored) {
  if (!bias.quant) return stored;
  for (size_t i = 0; i < stored.size(); ++i) {
    const size_t c = bias.quant->per_tensor() ? 0 : i;
    stored[i] = (stored[i] - bias.quant->zero_point_at(c)) * double{bias.quant->scale[c]};
  }
  return stored;
}

// A plain copy of a constant for reference kernels, kept in the store as "<id>/reference/plain".
absl::StatusOr<std::shared_ptr<const PackedWeights>> PlainCopy(const ConstantSpec& constant,
                                                               const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PRODUCT_REFERENCE_H_
