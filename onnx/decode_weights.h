// Weights on grids of levels in a file: operator DecodeWeights of domain ai.octet, version 1 (docs/format.md).
//
//   DecodeWeights(codes u8 [bytes], levels s8 [L, V], scales f16 or f32) -> f32 of `shape`
//
// A file that has such nodes carries a function of this name in standard operators, so that every ONNX runtime computes
// them; import reads the node itself and looks at no function.
#ifndef OCTET_ONNX_DECODE_WEIGHTS_H_
#define OCTET_ONNX_DECODE_WEIGHTS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/dtype.h"
#include "base/quantization.h"
#include "base/shape.h"
#include "onnx/onnx_pb.h"

namespace octet::onnx_io {

inline constexpr absl::string_view kOctetDomain = "ai.octet";
inline constexpr absl::string_view kDecodeWeights = "DecodeWeights";
inline constexpr int64_t kOctetVersion = 1;

// The attributes of a node, and the shape of its scales, as they follow from the value: export writes them, import
// takes no others.
struct DecodeAttributes {
  int64_t bits = 0;              // of a code; 8 of vectors
  std::vector<int64_t> stored;   // shape in the order of the codes
  std::vector<int64_t> perm;     // from there to an order that reshapes into the value's shape
  std::vector<int64_t> scales;   // the value's rank; 1 where a scale is shared
};

// Requires: graph::CheckLevels is OK.
DecodeAttributes DecodeAttributesOf(DType dtype, const Shape& shape, const QuantParams& quant);

// Marks weights as distributions: operator DrawWeights, version 1.
//
//   DrawWeights(weights f32, steps s8 [shape of weights] or u8 [bytes]) -> f32, the weights as they are
//
// Attributes: bits (of a step: 8 or 4, two to a byte, low one first), stream. Its function is Identity: other runtimes run
// the most probable network. The meaning of steps: graph/draws.h.
inline constexpr absl::string_view kDrawWeights = "DrawWeights";
void AddDrawFunction(int64_t opset, ::onnx::ModelProto* model);

// Adds the function, written in this opset (17 or later), to the model.
void AddDecodeFunction(int64_t opset, ::onnx::ModelProto* model);

}  // namespace octet::onnx_io

#endif  // OCTET_ONNX_DECODE_WEIGHTS_H_
