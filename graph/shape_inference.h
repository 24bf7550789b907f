// Types and shapes of all values of a graph, from those of its inputs and constants.
//
// One rule per operator (graph/infer_*.cc). A rule works on symbolic shapes (kUnknownDim) and on concrete ones; given
// concrete inputs and the constants that shape arithmetic needs, its outputs are concrete.
#ifndef OCTET_GRAPH_SHAPE_INFERENCE_H_
#define OCTET_GRAPH_SHAPE_INFERENCE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/tensor.h"
#include "graph/graph.h"

namespace octet::graph {

// What is known of one operand. `constant` is its content when known (an initializer, or a folded computation);
// `partial` is the same where only some elements are known (infer_rules.h), of use to InferShapes only. dtype of an
// operand with quant is f32: rules see reals.
struct PartialElements;
struct OperandInfo {
  DType dtype = DType::kInvalid;
  std::optional<Shape> shape;
  const Tensor* constant = nullptr;
  bool present = true;  // false: omitted optional input
  const PartialElements* partial = nullptr;
};

struct ResultInfo {
  DType dtype = DType::kInvalid;
  std::optional<Shape> shape;
};

// Results of one node, one per output. dtypes are those of the real computation (f32 for quantized operands): the
// caller keeps the storage type of values that have quant.
// Attributes are ONNX's, data types in them (Cast's `to`) ONNX's codes. Unknown dimensions may be any negative number.
// Errors: kUnimplemented for an operator without rule; kInvalidArgument for operands that break the operator's rules
// (message without the node: the caller adds it).
absl::StatusOr<std::vector<ResultInfo>> InferNode(const Node& node,
                                                  absl::Span<const OperandInfo> operands);

// The type that an attribute names (Cast's `to`: ONNX's TensorProto::DataType); kInvalid for types we do not have.
DType DTypeOfOnnxCode(int64_t code);

// True when InferNode has a rule for this operator.
bool HasShapeRule(absl::string_view domain, absl::string_view op);

// All operators that have a rule, sorted: the list that docs and error messages show.
std::vector<std::string> OperatorsWithShapeRule();

// Infers the whole graph in place (values' dtype and shape; declared shapes of inputs are kept, declared shapes of
// others are overwritten). Small integer shape arithmetic on constants is followed so that Reshape targets built from
// Shape nodes keep their unknown dimensions. Errors name node and operator.
absl::Status InferShapes(Graph* graph);

}  // namespace octet::graph

#endif  // OCTET_GRAPH_SHAPE_INFERENCE_H_
