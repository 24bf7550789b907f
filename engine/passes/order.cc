// Topological order of a graph whose edges have changed.
#include <queue>

#include "engine/passes/passes.h"

namespace octet::engine {

using graph::Graph;
using graph::kNoValue;
using graph::Node;
using graph::ValueId;

bool HasBodies(const Graph& g) {
  for (const Node& n : g.nodes) {
    for (const auto& [key, attribute] : n.attributes) {
      if (std::holds_alternative<std::shared_ptr<const Graph>>(attribute)) return true;
    }
  }
  return false;
}

void SortNodes(Graph* g) {
  const std::vector<int> producers = g->Producers();
  std::vector<int> missing(g->nodes.size(), 0);
  std::vector<std::vector<int>> next(g->nodes.size());
  for (size_t i = 0; i < g->nodes.size(); ++i) {
    for (ValueId id : g->nodes[i].inputs) {
      const int from = id == kNoValue ? -1 : producers[static_cast<size_t>(id)];
      if (from < 0) continue;
      next[static_cast<size_t>(from)].push_back(static_cast<int>(i));
      ++missing[i];
    }
  }
  std::priority_queue<int, std::vector<int>, std::greater<int>> ready;
  for (size_t i = 0; i < missing.size(); ++i) {
    if (missing[i] == 0) ready.push(static_cast<int>(i));
  }
  std::vector<Node> sorted;
  while (!ready.empty()) {
    const int i = ready.top();
    ready.pop();
    sorted.push_back(std::move(g->nodes[static_cast<size_t>(i)]));
    for (int j : next[static_cast<size_t>(i)]) {
      if (--missing[static_cast<size_t>(j)] == 0) ready.push(j);
    }
  }
  g->nodes = std::move(sorted);
}

}  // namespace octet::engine
