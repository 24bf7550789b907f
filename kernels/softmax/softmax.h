// Softmax and LogSoftmax along one axis, f32.
//
//   dst = exp(src - max) / sum exp(src - max)         log form: src - max - log(sum exp(src - max))
//
// Operands of Bind: src[0], dst[0]; same shape and layout; may be the same memory. Source: ONNX Softmax-13.
#ifndef OCTET_KERNELS_SOFTMAX_SOFTMAX_H_
#define OCTET_KERNELS_SOFTMAX_SOFTMAX_H_

#include <memory>

#include "kernels/kernel.h"

namespace octet::kernels {

struct SoftmaxParams {
  enum class Form : uint8_t { kSoftmax, kLogSoftmax };
  Form form = Form::kSoftmax;
  TensorSpec src, dst;
  int axis = 0;  // in [0, rank), ONNX order
};

absl::StatusOr<std::unique_ptr<Kernel>> CreateSoftmax(const SoftmaxParams& params,
                                                      const KernelEnv& env);
absl::Span<const Implementation<SoftmaxParams>> SoftmaxImplementations();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_SOFTMAX_SOFTMAX_H_
