// Bitwise functions of two integer tensors with numpy broadcast: dst = a op b.
//
// a, b and dst have one integer type; all plain. kShiftLeft and kShiftRight want unsigned types; a
// shift by the type's width or more gives 0. Operands of Bind: src[0] = a, src[1] = b, dst[0].
// Source: ONNX BitwiseAnd-18, BitwiseOr-18, BitwiseXor-18, BitShift-11.
#ifndef OCTET_KERNELS_PLAIN_BITWISE_H_
#define OCTET_KERNELS_PLAIN_BITWISE_H_

#include <memory>

#include "kernels/kernel.h"

namespace octet::kernels {

enum class BitwiseKind : uint8_t { kAnd, kOr, kXor, kShiftLeft, kShiftRight };

struct BitwiseParams {
  BitwiseKind kind = BitwiseKind::kAnd;
  TensorSpec a, b, dst;
};

absl::StatusOr<std::unique_ptr<Kernel>> CreateBitwise(const BitwiseParams& params,
                                                      const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_BITWISE_H_
