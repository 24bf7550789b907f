// Graphs into standard ONNX files that ONNX Runtime runs: values with quant become Q/DQ pairs where it fuses them.
#ifndef OCTET_ONNX_EXPORT_H_
#define OCTET_ONNX_EXPORT_H_

#include <string>

#include "absl/status/statusor.h"
#include "graph/graph.h"

namespace octet::onnx_io {

// Serialized ModelProto, IR 8, opset 17 (IR 10, opset 21 when a value without levels has blocked or 4-bit quant). Every
// read of a value with quant goes through its own DequantizeLinear, every write through QuantizeLinear; constants with
// quant are stored as integers behind DequantizeLinear, those with levels as codes behind DecodeWeights, for which the
// file carries a function (onnx/decode_weights.h). More than 64 scales of weights of 4 bits or fewer are stored as f16,
// behind a Cast, where that is exact. `graph.metadata` becomes metadata_props. Subgraphs of If, Loop and Scan are
// written the same way. Deterministic: equal graphs, equal bytes.
// Errors: kUnimplemented for what ONNX cannot say, naming the node; kResourceExhausted above 2 GB.
absl::StatusOr<std::string> ExportModel(const graph::Graph& graph);

}  // namespace octet::onnx_io

#endif  // OCTET_ONNX_EXPORT_H_
