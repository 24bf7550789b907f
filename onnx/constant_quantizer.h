// QuantizeLinear of a constant: files of quantization-aware training store float weights before it.
#ifndef OCTET_ONNX_CONSTANT_QUANTIZER_H_
#define OCTET_ONNX_CONSTANT_QUANTIZER_H_

#include "absl/status/statusor.h"
#include "base/quantization.h"
#include "base/tensor.h"

namespace octet::onnx_io {

//   stored[i] = clamp(round_half_even(x[i] / scale[c]) + zero_point[c], least, largest of dtype)
// NaN becomes the zero point. Requires: params fit x's shape, x is a float tensor, dtype an integer
// type up to s32. Source: ONNX QuantizeLinear, opset 21. Errors: kResourceExhausted.
absl::StatusOr<Tensor> QuantizeConstant(const Tensor& x, DType dtype, const QuantParams& params);

}  // namespace octet::onnx_io

#endif  // OCTET_ONNX_CONSTANT_QUANTIZER_H_
