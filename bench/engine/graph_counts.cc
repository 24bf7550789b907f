// Reads the file with libonnx's messages.
#include "bench/engine/graph_counts.h"

#include <fstream>

#include "absl/strings/str_cat.h"
#include "onnx/onnx_pb.h"

namespace octet::bench {

absl::StatusOr<std::map<std::string, int>> CountOperators(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  ::onnx::ModelProto model;
  if (!in || !model.ParseFromIstream(&in)) return absl::DataLossError(absl::StrCat(path, " is no ONNX model"));
  std::map<std::string, int> counts;
  for (const ::onnx::NodeProto& node : model.graph().node()) ++counts[node.op_type()];
  return counts;
}

}  // namespace octet::bench
