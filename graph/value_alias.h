// Replacements of values collected during one walk and applied in one pass, so that rewrites stay
// linear in the size of a hostile graph; internal to graph/.
#ifndef OCTET_GRAPH_VALUE_ALIAS_H_
#define OCTET_GRAPH_VALUE_ALIAS_H_

#include <utility>
#include <vector>

#include "graph/graph.h"

namespace octet::graph {

class ValueAlias {
 public:
  explicit ValueAlias(size_t values) : to_(values, kNoValue) {}

  // Reads of `from` become reads of `to`. Requires: `to` resolves to something else than `from`.
  void Set(ValueId from, ValueId to) { to_[static_cast<size_t>(from)] = Resolve(to); }

  // What stands for `id` now; shortens the chains it follows.
  ValueId Resolve(ValueId id) {
    if (id == kNoValue || static_cast<size_t>(id) >= to_.size()) return id;
    ValueId end = id;
    while (to_[static_cast<size_t>(end)] != kNoValue) end = to_[static_cast<size_t>(end)];
    while (id != end) id = std::exchange(to_[static_cast<size_t>(id)], end);
    return end;
  }

  void Apply(Graph* graph) {
    for (Node& node : graph->nodes) {
      for (ValueId& id : node.inputs) id = Resolve(id);
    }
    for (ValueId& id : graph->outputs) id = Resolve(id);
  }

 private:
  std::vector<ValueId> to_;
};

// Removes the nodes that are marked; keeps the order of the others.
inline void EraseNodes(Graph* graph, const std::vector<bool>& removed) {
  std::vector<Node> kept;
  for (size_t i = 0; i < graph->nodes.size(); ++i) {
    if (i >= removed.size() || !removed[i]) kept.push_back(std::move(graph->nodes[i]));
  }
  graph->nodes = std::move(kept);
}

}  // namespace octet::graph

#endif  // OCTET_GRAPH_VALUE_ALIAS_H_
