// Constants between their real and their stored form.
//
//   stored = saturate(round_half_even(real / scale) + zero_point)
//   real = f32(stored - zero_point) * scale, or f32(level) * scale of values with levels (base/quantization.h)
//
// Source: ONNX QuantizeLinear-21, DequantizeLinear-21.
#ifndef OCTET_GRAPH_CONSTANT_QUANTIZATION_H_
#define OCTET_GRAPH_CONSTANT_QUANTIZATION_H_

#include <optional>

#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "base/quantization.h"
#include "base/tensor.h"

namespace octet::graph {

// nullopt when shape and parameters disagree or `dtype` is not an integer type of at most 32 bits.
std::optional<Tensor> QuantizeTensor(const Tensor& reals, DType dtype, const QuantParams& quant);

// The f32 reals of a constant, whatever its grid: how everything that has no kernel for its stored form reads it.
// Requires: codes with levels have passed CheckCodes. Errors: kInvalidArgument when shape and parameters disagree,
// kResourceExhausted.
absl::StatusOr<Tensor> DequantizeTensor(const Tensor& stored, const QuantParams& quant);

}  // namespace octet::graph

#endif  // OCTET_GRAPH_CONSTANT_QUANTIZATION_H_
