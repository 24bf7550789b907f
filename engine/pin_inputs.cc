// Which inputs decide branches and shapes.
#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "engine/evaluate.h"
#include "engine/staged.h"
#include "graph/control_flow.h"

namespace octet::engine {
namespace {

using graph::Graph;
using graph::kNoValue;
using graph::Node;
using graph::ValueId;

// Operands whose contents decide branches or shapes, [first, end).
std::pair<size_t, size_t> Deciding(const Node& node) {
  static const auto& table = *new absl::flat_hash_map<std::string, std::pair<size_t, size_t>>{
      {"If", {0, 1}},   {"Reshape", {1, 2}}, {"Expand", {1, 2}},          {"Tile", {1, 2}},
      {"Pad", {1, 2}},  {"TopK", {1, 2}},    {"ConstantOfShape", {0, 1}}, {"Resize", {2, 4}},
      {"Split", {1, 2}}};
  const auto it = node.domain.empty() ? table.find(node.op) : table.end();
  return it == table.end() ? std::pair<size_t, size_t>{0, 0} : it->second;
}

// One graph and those around it: names of inner graphs resolve outwards.
struct Scope {
  const Graph* graph;
  const Scope* outer;
  std::vector<int> producers;
  absl::flat_hash_map<std::string, ValueId> names;
};

class PinFinder {
 public:
  explicit PinFinder(const Graph& graph) : pins_(graph.inputs.size(), false), top_(&graph) {}

  std::vector<bool> Find() {
    Visit(*top_, nullptr);
    return pins_;
  }

 private:
  void Visit(const Graph& graph, const Scope* outer) {
    Scope scope{&graph, outer, graph.Producers(), {}};
    for (size_t i = 0; i < graph.values.size(); ++i) scope.names[graph.values[i].name] = static_cast<ValueId>(i);
    for (const Node& node : graph.nodes) {
      const auto [first, end] = Deciding(node);
      for (size_t i = first; i < end; ++i) {
        if (!node.has_input(i)) continue;
        std::vector<size_t> found;
        seen_.clear();
        if (!Trace(scope, node.inputs[i], &found)) continue;
        for (size_t input : found) pins_[input] = true;
      }
      // A loop's body sees other contents at every turn: only branches belong to the graph itself.
      if (node.op != "If" || !node.domain.empty()) continue;
      for (const char* key : {"then_branch", "else_branch"}) {
        if (const auto branch = graph::Subgraph(node, key)) Visit(*branch, &scope);
      }
    }
  }

  // Whether the value follows from constants, shapes and small integer inputs of the graph, which it collects.
  bool Trace(const Scope& scope, ValueId id, std::vector<size_t>* found) {
    const graph::Value& value = scope.graph->value(id);
    if (value.is_constant()) return true;
    if (!seen_.insert(&value).second) return true;
    const int producer = scope.producers[static_cast<size_t>(id)];
    if (producer < 0) return TraceOutside(scope, id, found);
    const Node& node = scope.graph->nodes[static_cast<size_t>(producer)];
    if (node.domain.empty() && (node.op == "Shape" || node.op == "Size")) return true;
    if (!IsShapeOperator(node) && FindLowering(node.domain, node.op) == nullptr) return false;
    return std::all_of(node.inputs.begin(), node.inputs.end(),
                       [&](ValueId input) { return input == kNoValue || Trace(scope, input, found); });
  }

  bool TraceOutside(const Scope& scope, ValueId id, std::vector<size_t>* found) {
    const graph::Value& value = scope.graph->value(id);
    if (scope.outer != nullptr) {
      const auto it = scope.outer->names.find(value.name);
      return it != scope.outer->names.end() && Trace(*scope.outer, it->second, found);
    }
    const auto input = std::find(top_->inputs.begin(), top_->inputs.end(), id);
    if (input == top_->inputs.end() || IsFloat(value.dtype) || value.quant.has_value()) return false;
    if (value.shape.has_value() && value.shape->size() > 1) return false;
    found->push_back(static_cast<size_t>(input - top_->inputs.begin()));
    return true;
  }

  std::vector<bool> pins_;
  const Graph* top_;
  absl::flat_hash_set<const graph::Value*> seen_;
};

}  // namespace

std::vector<bool> InputsToPin(const Graph& graph) { return PinFinder(graph).Find(); }

}  // namespace octet::engine
