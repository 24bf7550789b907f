// If, Loop and Scan: what their subgraphs read from outside, and rewrites that take subgraphs apart.
//
// A subgraph is an attribute of its node (`then_branch`, `else_branch`, `body`). It reads a value of
// the graph around it by holding a value of the same name that is neither its input nor a constant
// nor produced in it ("captured"); type, shape and quant of such a value are those outside.
#ifndef OCTET_GRAPH_CONTROL_FLOW_H_
#define OCTET_GRAPH_CONTROL_FLOW_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "graph/graph.h"
#include "graph/infer_rules.h"

namespace octet::graph {

// True for If, Loop and Scan.
bool IsControlFlow(const Node& node);

// The subgraph under this attribute, or nullptr.
std::shared_ptr<const Graph> Subgraph(const Node& node, absl::string_view key);

// Ids in `subgraph` of the values that it captures and reads (nested subgraphs included).
std::vector<ValueId> CapturedValues(const Graph& subgraph);

// Ids in `subgraph` of all values that it does not give itself: after NormalizeSubgraphs those that it
// captures, and some that nobody has or reads. Does not look into nested subgraphs.
std::vector<ValueId> OuterValues(const Graph& subgraph);

// Names that the subgraphs of `node` capture, without repetition, in a fixed order.
std::vector<std::string> CapturedNames(const Node& node);

// Brings all subgraphs into the form that the functions below need: names of the values they own
// are unique in the whole graph, and a value that an inner subgraph captures from further outside
// is a captured value of every graph between. Errors: kInvalidArgument naming a captured value
// that no graph around has.
absl::Status NormalizeSubgraphs(Graph* graph);

// Moves constants of more than `min_bytes` bytes out of all subgraphs; they become captured. Equal
// ones (the same bytes in memory) become one. Requires: normalized.
void HoistConstants(Graph* graph, int64_t min_bytes);

// Nodes that do what `node`, an If, does when its condition has this value; adds the branch's
// values to the graph under their own names. Results are written to node.outputs. Requires:
// normalized, and each If is inlined once. Errors: kInvalidArgument when numbers of outputs differ.
// `names` is empty at the first call for a graph and kept for the next one.
using NameIndex = absl::flat_hash_map<std::string, ValueId>;
absl::StatusOr<std::vector<Node>> InlineBranch(Graph* graph, const Node& node, bool condition,
                                               NameIndex* names);

// Inlines all If nodes whose condition is a constant of the graph, nested ones too. Returns whether
// there was one. Requires: normalized.
absl::StatusOr<bool> InlineConstantIfs(Graph* graph);

// Value of the graph around by name, or nullptr.
using OuterScope = absl::FunctionRef<const Value*(absl::string_view)>;

// Results of an If, Loop or Scan; infers its subgraphs and puts the inferred ones into the node.
// Loop-carried shapes that change become unknown. Errors as InferNode.
absl::StatusOr<std::vector<ResultInfo>> InferControlFlow(Node* node,
                                                         absl::Span<const OperandInfo> operands,
                                                         OuterScope outer);

}  // namespace octet::graph

#endif  // OCTET_GRAPH_CONTROL_FLOW_H_
