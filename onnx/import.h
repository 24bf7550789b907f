// ONNX files into graphs, with all distrust: a file is hostile until this returned OK.
//
// Accepts IR 3 to 10, default-domain opset 1 to 22, the com.microsoft operators that import rules know and DecodeWeights
// of ai.octet, whose function in the file is not looked at. Establishes
// the canonical form of graph/graph.h: current operator semantics, QDQ absorbed into quant, constants out of
// `Constant` nodes and repeated inputs, topological order, types and shapes inferred.
#ifndef OCTET_ONNX_IMPORT_H_
#define OCTET_ONNX_IMPORT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/buffer.h"
#include "graph/graph.h"

namespace octet::onnx_io {

struct ImportOptions {
  int64_t max_file_bytes = int64_t{8} << 30;
  int64_t max_nodes = 100000;          // with subgraphs
  int64_t max_values = 1000000;
  int max_subgraph_depth = 16;
};

// Reads and imports a model file. Initializers are views into the file's bytes (kept alive by the tensors) unless
// external; external data must lie inside the model's folder.
// Errors name file, node, operator or tensor, what was found and what was expected:
//   kNotFound, kInvalidArgument (breaks ONNX's rules), kUnimplemented (operator, type or opset we do not have),
//   kDataLoss (truncated), kResourceExhausted (limits above).
absl::StatusOr<graph::Graph> ImportFile(const std::string& path, const ImportOptions& options = {});

// The same from memory; `name` stands for the path in messages; external data is refused.
absl::StatusOr<graph::Graph> ImportBytes(std::shared_ptr<const Buffer> bytes, const std::string& name,
                                         const ImportOptions& options = {});

}  // namespace octet::onnx_io

#endif  // OCTET_ONNX_IMPORT_H_
