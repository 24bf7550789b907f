// Graphs into standard ONNX files that ONNX Runtime runs: values with quant become Q/DQ pairs where it fuses them.
#ifndef OCTET_ONNX_EXPORT_H_
#define OCTET_ONNX_EXPORT_H_

#include <string>

#include "absl/status/statusor.h"
#include "graph/graph.h"

namespace octet::onnx_io {

// Serialized ModelProto, IR 8, opset 17 (21 when a value has blocked or 4-bit quant). Every read of a value with quant
// goes through its own DequantizeLinear, every write through QuantizeLinear; constants with quant are stored as
// integers behind DequantizeLinear. `graph.metadata` becomes metadata_props. Deterministic: equal graphs, equal bytes.
// Subgraphs of If, Loop and Scan
// are written the same way. Errors: kUnimplemented for what ONNX cannot say, naming the node; kResourceExhausted above
// 2 GB.
absl::StatusOr<std::string> ExportModel(const graph::Graph& graph);

}  // namespace octet::onnx_io

#endif  // OCTET_ONNX_EXPORT_H_
