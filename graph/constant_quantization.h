// Constants between their real and their stored form; internal to graph/.
//
//   stored = saturate(round_half_even(real / scale) + zero_point)        real = (stored -
//   zero_point) * scale
//
// Source: ONNX QuantizeLinear-21, DequantizeLinear-21.
#ifndef OCTET_GRAPH_CONSTANT_QUANTIZATION_H_
#define OCTET_GRAPH_CONSTANT_QUANTIZATION_H_

#include <optional>

#include "base/dtype.h"
#include "base/quantization.h"
#include "base/tensor.h"

namespace octet::graph {

// nullopt when shape and parameters disagree or `dtype` is not an integer type of at most 32 bits.
std::optional<Tensor> QuantizeTensor(const Tensor& reals, DType dtype, const QuantParams& quant);

// f32; nullopt when shape and parameters disagree.
std::optional<Tensor> DequantizeTensor(const Tensor& stored, const QuantParams& quant);

}  // namespace octet::graph

#endif  // OCTET_GRAPH_CONSTANT_QUANTIZATION_H_
