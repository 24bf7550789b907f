// Quantization of a source that is known only when the kernel runs: dynamically quantized products.
#ifndef OCTET_KERNELS_RUNTIME_QUANT_H_
#define OCTET_KERNELS_RUNTIME_QUANT_H_

#include <cstdint>

#include "base/quantization.h"
#include "kernels/kernel.h"

namespace octet::kernels {

// Which operands of Bind hold the parameters; -1: scale 1, zero point 0.
struct RuntimeQuant {
  int scale = -1;       // f32, one element
  int zero_point = -1;  // s32, one element
};

// The parameters of one run.
inline QuantParams ReadRuntimeQuant(const RuntimeQuant& quant, const BindArgs& args) {
  const auto at = [&](int i) { return args.src[static_cast<size_t>(i)]; };
  return QuantParams::PerTensor(
      quant.scale < 0 ? 1.0f : *static_cast<const float*>(at(quant.scale)),
      quant.zero_point < 0 ? 0 : *static_cast<const int32_t*>(at(quant.zero_point)));
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_RUNTIME_QUANT_H_
