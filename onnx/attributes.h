// Attributes of a NodeProto, checked against the list that an import rule declares.
#ifndef OCTET_ONNX_ATTRIBUTES_H_
#define OCTET_ONNX_ATTRIBUTES_H_

#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "graph/graph.h"
#include "onnx/onnx_pb.h"
#include "onnx/tensors.h"

namespace octet::onnx_io {

using AttributeMap = absl::flat_hash_map<std::string, graph::Attribute>;

// Reads all attributes. `spec` lists what the operator has, as "name:kind" separated by spaces,
// where kind is i f s (int, float, string), I F S (lists of them), t (tensor) or g (subgraph:
// checked, not read). "auto_pad:s kernel_shape:I". Errors, without the node: kInvalidArgument (kind differs from spec, given
// twice), kUnimplemented (not in spec, graph or reference), and LoadTensor's.
absl::StatusOr<AttributeMap> ReadAttributes(const ::onnx::NodeProto& node, absl::string_view spec,
                                            TensorSource* source);

}  // namespace octet::onnx_io

#endif  // OCTET_ONNX_ATTRIBUTES_H_
