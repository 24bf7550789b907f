// Element functions of one operand: dst[i] = f(src[i]), on reals; f32, or u8/s8 with quant on either side.
//
// src and dst have the same shape and layout. Per-channel PRelu is kernels/binary's business (slope operand).
// Operands of Bind: src[0], dst[0]; they may be the same memory when the dtypes have the same size.
#ifndef OCTET_KERNELS_ACTIVATION_ACTIVATION_H_
#define OCTET_KERNELS_ACTIVATION_ACTIVATION_H_

#include <memory>

#include "kernels/kernel.h"

namespace octet::kernels {

struct ActivationParams {
  TensorSpec src, dst;
  Activation activation;
};

absl::StatusOr<std::unique_ptr<Kernel>> CreateActivation(const ActivationParams& params,
                                                         const KernelEnv& env);
absl::Span<const Implementation<ActivationParams>> ActivationImplementations();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_ACTIVATION_ACTIVATION_H_
