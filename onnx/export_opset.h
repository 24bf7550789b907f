// Which opset a graph needs, and how its nodes are said there: opset 17 wherever possible, since
// more runtimes read it.
#ifndef OCTET_ONNX_EXPORT_OPSET_H_
#define OCTET_ONNX_EXPORT_OPSET_H_

#include <cstdint>

#include "graph/graph.h"
#include "onnx/attributes.h"

namespace octet::onnx_io {

// 17, or 21 when a value without levels has blocked, 4-bit or 16-bit quant or a node says what came after opset 17.
int64_t RequiredOpset(const graph::Graph& graph);

// True for the constant axes of a reduction that opset 17 writes as an attribute.
bool InputBecomesAttribute(const graph::Graph& graph, const graph::Node& node, size_t input,
                           int64_t opset);

// The node's attributes as that opset has them.
AttributeMap AttributesForOpset(const graph::Graph& graph, const graph::Node& node, int64_t opset);

}  // namespace octet::onnx_io

#endif  // OCTET_ONNX_EXPORT_OPSET_H_
