// The order in which a file's nodes are imported, and what its names refer to.
#ifndef OCTET_ONNX_NODE_ORDER_H_
#define OCTET_ONNX_NODE_ORDER_H_

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
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

// Sorts stably: the file's order is kept where it is one already. Errors (kInvalidArgument), naming
// node and value: an input that nothing produces, a value produced twice, a cycle, an output that
// nothing produces.
absl::StatusOr<NodeOrder> OrderNodes(const ::onnx::GraphProto& graph);

}  // namespace octet::onnx_io

#endif  // OCTET_ONNX_NODE_ORDER_H_
