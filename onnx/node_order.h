// The order in which a file's nodes are imported, and what its names refer to.
#ifndef OCTET_ONNX_NODE_ORDER_H_
#define OCTET_ONNX_NODE_ORDER_H_

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "onnx/node_importer.h"
#include "onnx/onnx_pb.h"

namespace octet::onnx_io {

struct NodeOrder {
  std::vector<int>
      nodes;  // indices into GraphProto.node that some output needs, topologically sorted
  absl::flat_hash_map<std::string, Readers>
      readers;  // reads of those nodes and of the graph's outputs
};

// "node 'conv1' (Conv)" or "node #12 -> 'y' (Conv)": how every message names a node of a file.
std::string DescribeNode(const ::onnx::NodeProto& node, int index);

// Names that the subgraphs of a node read and do not give themselves, once each, in order.
std::vector<std::string> CapturedNames(const ::onnx::NodeProto& node);

// Sorts stably: the file's order is kept where it is one already. What subgraphs read counts as read
// by their node; `in_outer_scope` tells the names that graphs around this one give. Errors
// (kInvalidArgument), naming node and value: an input that nothing produces, a value produced twice,
// a cycle, an output that nothing produces.
absl::StatusOr<NodeOrder> OrderNodes(const ::onnx::GraphProto& graph,
                                     absl::FunctionRef<bool(const std::string&)> in_outer_scope);

}  // namespace octet::onnx_io

#endif  // OCTET_ONNX_NODE_ORDER_H_
