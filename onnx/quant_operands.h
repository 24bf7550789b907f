// What the rules of quantized operators share: parameters that nodes name by their inputs, operands
// that carry them, and the same in float arithmetic where the parameters are computed.
#ifndef OCTET_ONNX_QUANT_OPERANDS_H_
#define OCTET_ONNX_QUANT_OPERANDS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/quantization.h"
#include "onnx/node_importer.h"

namespace octet::onnx_io {

// Parameters as a node names them, and the integer type that the zero point fixes (kInvalid when it
// is omitted).
struct NamedQuant {
  QuantParams params;
  DType integer = DType::kInvalid;
  DType real = DType::kF32;
};

struct Granularity {
  int64_t axis = 1;
  int64_t block = 0;
  bool per_axis = true;  // the opset allows a list of scales
};

// Scale and zero point (inputs `scale_input` and the next) are constants.
bool IsConstantQuant(const NodeImporter& node, size_t scale_input);

// Errors: kInvalidArgument when they disagree with each other or with `data`.
absl::StatusOr<NamedQuant> ReadQuant(NodeImporter& node, size_t scale_input,
                                     const std::optional<Shape>& data, const Granularity& g);

// Input `i`, an integer tensor, as a value with this quant.
absl::StatusOr<graph::ValueId> WithQuant(NodeImporter& node, size_t i, const NamedQuant& quant);

// scale * (x - zero point) in f32 for computed parameters, under `output`.
absl::StatusOr<graph::ValueId> EmitDequantize(NodeImporter& node, graph::ValueId x,
                                              size_t scale_input, const Granularity& g,
                                              std::string output);

// saturate(round(x / scale) + zero point) for computed parameters, as plain integers of `dtype`.
absl::Status EmitQuantize(NodeImporter& node, graph::ValueId x, size_t scale_input,
                          const Granularity& g, DType dtype, std::string output);

// The integer type of results: that of the zero point after `scale_input`, else `absent`.
DType IntegerOf(const NodeImporter& node, size_t scale_input, DType absent);

AttributeMap CastTo(DType dtype);

}  // namespace octet::onnx_io

#endif  // OCTET_ONNX_QUANT_OPERANDS_H_
