// Oracle of Activation: one element after the other, in double.
#ifndef OCTET_KERNELS_ACTIVATION_ACTIVATION_REFERENCE_H_
#define OCTET_KERNELS_ACTIVATION_ACTIVATION_REFERENCE_H_

#include "kernels/activation/activation.h"
#include "kernels/elements.h"

namespace octet::kernels {

// Elements [begin, end) in memory order.
inline void ActivationReference(const ActivationParams& p, const void* src, void* dst,
                                int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    StoreReal(p.dst, dst, i, Apply(p.activation, LoadReal(p.src, src, i)));
  }
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_ACTIVATION_ACTIVATION_REFERENCE_H_
