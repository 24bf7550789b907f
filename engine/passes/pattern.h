// Patterns over a canonical graph: which nodes, seen from the result backwards, become which node.
//
// A pattern is a tree over values. Matching starts at a value that a node of the pattern's root operator makes and
// follows operands; both orders of Add, Mul, Max and Min are tried, and every alternative of OneOf. A label stands for
// the same value wherever it appears. The values between the labelled operands and the root disappear: they must be
// unquantized (their rounding would be lost), read by nobody else, no graph outputs and not captured by a subgraph.
#ifndef OCTET_ENGINE_PASSES_PATTERN_H_
#define OCTET_ENGINE_PASSES_PATTERN_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/pass_log.h"
#include "graph/graph.h"

namespace octet::engine {

struct Pattern {
  enum class Kind : uint8_t { kAny, kScalar, kNode, kOneOf };
  Kind kind = Kind::kAny;
  std::string label;              // "" : not remembered
  std::string op;                 // kNode
  std::vector<Pattern> operands;  // kNode: operands; kOneOf: alternatives
  std::optional<double> number;   // kScalar: its value within a relative 2e-4 (constants rounded to f16 included)
};

Pattern Any(std::string label);     // any value
Pattern Scalar(std::string label);  // a constant with one element
Pattern Number(double value);       // the same with this value
Pattern Op(std::string op, std::vector<Pattern> operands, std::string label = "");
Pattern OneOf(std::vector<Pattern> alternatives);
// x * value, and x / (1 / value).
Pattern Times(const Pattern& x, double value);

// One match, handed to the maker of the replacement.
class Match {
 public:
  Match(graph::Graph* graph, const std::vector<int>* producers, graph::ValueId root, std::vector<int> nodes,
        absl::flat_hash_map<std::string, graph::ValueId> labels)
      : graph_(graph), producers_(producers), root_(root), nodes_(std::move(nodes)), labels_(std::move(labels)) {}

  graph::Graph& graph() const { return *graph_; }
  graph::ValueId root() const { return root_; }
  const std::vector<int>& nodes() const { return nodes_; }  // indices, root first
  bool has(const std::string& label) const { return labels_.contains(label); }
  graph::ValueId value(const std::string& label) const { return labels_.at(label); }
  double scalar(const std::string& label) const;  // of a Scalar
  // The matched node that makes the value of `label`.
  const graph::Node& node(const std::string& label) const;
  // The node that makes any value, matched or not; nullptr for none.
  const graph::Node* producer(graph::ValueId id) const {
    const int index = (*producers_)[static_cast<size_t>(id)];
    return index < 0 ? nullptr : &graph_->nodes[static_cast<size_t>(index)];
  }

 private:
  graph::Graph* graph_;
  const std::vector<int>* producers_;
  graph::ValueId root_;
  std::vector<int> nodes_;
  absl::flat_hash_map<std::string, graph::ValueId> labels_;
};

// The node that stands for a match (its first output is set to the root value by the caller). It may add constants to
// the graph. An error's message is the reason of a refusal.
using MakeNode = std::function<absl::StatusOr<graph::Node>(const Match&)>;

struct GraphPattern {
  Pattern pattern;  // its root is kNode
  MakeNode make;
  // Inner values that may be read elsewhere, because output 1, 2, ... of the new node is the same.
  std::vector<std::string> exposed;
  // Inner values that may be rounded to integers, because the new node rounds them, too.
  std::vector<std::string> rounded = {};
};

// Patterns that make the same kind of node, the largest first.
struct PatternGroup {
  std::string name;    // "gelu"
  std::string anchor;  // the operator whose nodes are reported when a pattern nearly took them
  std::vector<GraphPattern> patterns;
};

// Replaces every match, group after group. The graph stays valid, in topological order, and inferred if it was.
void ApplyPatterns(absl::Span<const PatternGroup> groups, graph::Graph* graph, PassLog* log);

// What would be replaced, nothing changed but added constants dropped again: for callers that plan around fusion.
struct FoundPattern {
  std::string name;
  std::vector<int> nodes;        // indices, root first
  graph::ValueId root = graph::kNoValue;
};
std::vector<FoundPattern> FindPatterns(absl::Span<const PatternGroup> groups, const graph::Graph& graph);

}  // namespace octet::engine

#endif  // OCTET_ENGINE_PASSES_PATTERN_H_
