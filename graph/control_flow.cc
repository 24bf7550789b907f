// Captures, names, hoisting and inlining of subgraphs.
#include "graph/control_flow.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet::graph {
namespace {

using NameSet = absl::flat_hash_set<std::string>;
using SubgraphPtr = std::shared_ptr<const Graph>;

// Attribute names of the subgraphs of a node, sorted, so that everything is deterministic.
std::vector<std::string> SubgraphKeys(const Node& node) {
  std::vector<std::string> keys;
  for (const auto& [key, attribute] : node.attributes) {
    const auto* sub = std::get_if<SubgraphPtr>(&attribute);
    if (sub != nullptr && *sub != nullptr) keys.push_back(key);
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

// Per value: whether the graph itself gives it (input, constant or product of a node).
std::vector<bool> OwnValues(const Graph& graph) {
  std::vector<bool> own(graph.values.size());
  for (size_t i = 0; i < own.size(); ++i) own[i] = graph.values[i].is_constant();
  for (ValueId id : graph.inputs) own[static_cast<size_t>(id)] = true;
  for (const Node& node : graph.nodes) {
    for (ValueId id : node.outputs) {
      if (id != kNoValue) own[static_cast<size_t>(id)] = true;
    }
  }
  return own;
}

// Adds captured values of nested subgraphs to the graphs between, inner graphs first; values that nothing gives nor
// reads lose their names. Returns the names that `graph`, a subgraph, captures.
std::vector<std::string> CompleteCaptures(Graph* graph) {
  absl::flat_hash_set<std::string> nested;
  std::vector<bool> read(graph->values.size());
  for (Node& node : graph->nodes) {
    for (ValueId id : node.inputs) {
      if (id != kNoValue) read[static_cast<size_t>(id)] = true;
    }
    for (const std::string& key : SubgraphKeys(node)) {
      auto inner = std::make_shared<Graph>(*Subgraph(node, key));
      for (std::string& name : CompleteCaptures(inner.get())) nested.insert(std::move(name));
      node.attributes[key] = SubgraphPtr(std::move(inner));
    }
  }
  for (ValueId id : graph->outputs) read[static_cast<size_t>(id)] = true;
  const std::vector<bool> own = OwnValues(*graph);
  std::vector<std::string> captured;
  for (size_t i = 0; i < own.size(); ++i) {
    Value& value = graph->values[i];
    const bool by_nested = nested.erase(value.name) > 0;
    if (own[i]) continue;
    if (read[i] || by_nested) {
      captured.push_back(value.name);
    } else {
      value.name.clear();
    }
  }
  std::vector<std::string> missing(nested.begin(), nested.end());
  std::sort(missing.begin(), missing.end());
  for (std::string& name : missing) {
    Value value;
    value.name = name;
    graph->AddValue(std::move(value));
    captured.push_back(std::move(name));
  }
  return captured;
}

// Names of one graph and what became of them; chained outwards.
struct Scope {
  const Scope* outer = nullptr;
  absl::flat_hash_map<std::string, std::string> names;

  const std::string* Find(const std::string& name) const {
    for (const Scope* at = this; at != nullptr; at = at->outer) {
      if (const auto it = at->names.find(name); it != at->names.end()) return &it->second;
    }
    return nullptr;
  }
};

// Renames what `graph`, a completed subgraph, owns to names not in `used`; `scope` maps names around it.
absl::Status RenameSubgraph(Graph* graph, const Scope& scope, NameSet* used, int* counter) {
  const std::vector<bool> own = OwnValues(*graph);
  Scope inside{&scope, {}};
  for (size_t i = 0; i < own.size(); ++i) {
    Value& value = graph->values[i];
    if (!own[i] && !value.name.empty()) {
      const std::string* outer = scope.Find(value.name);
      if (outer == nullptr) {
        return absl::InvalidArgumentError(
            absl::StrCat("a subgraph reads '", value.name, "', which no graph around it has"));
      }
      value.name = *outer;
      continue;
    }
    std::string name = value.name;
    while (name.empty() || !used->insert(name).second) {
      name = absl::StrCat(value.name, "/", ++*counter);
    }
    inside.names[value.name] = name;
    value.name = std::move(name);
  }
  for (Node& node : graph->nodes) {
    for (const std::string& key : SubgraphKeys(node)) {
      auto inner = std::make_shared<Graph>(*Subgraph(node, key));
      OCTET_RETURN_IF_ERROR(RenameSubgraph(inner.get(), inside, used, counter));
      node.attributes[key] = SubgraphPtr(std::move(inner));
    }
  }
  return absl::OkStatus();
}

// What makes two constants the same.
using ConstantKey = std::tuple<const std::byte*, DType, Shape>;

class Hoister {
 public:
  Hoister(Graph* top, int64_t min_bytes) : top_(top), min_bytes_(min_bytes) {}

  void Run() { HoistFrom(top_); }

 private:
  // Returns the names of constants that left a subgraph of `graph`.
  std::vector<std::string> HoistFrom(Graph* graph) {
    std::vector<std::string> moved;
    for (Node& node : graph->nodes) {
      for (const std::string& key : SubgraphKeys(node)) {
        auto inner = std::make_shared<Graph>(*Subgraph(node, key));
        const std::vector<std::string> from_inside = HoistFrom(inner.get());
        moved.insert(moved.end(), from_inside.begin(), from_inside.end());
        for (Value& value : inner->values) {
          if (Move(&value)) moved.push_back(value.name);
        }
        node.attributes[key] = SubgraphPtr(std::move(inner));
      }
    }
    if (graph == top_ || moved.empty()) return moved;
    // A graph between must hold the name, too.
    absl::flat_hash_set<std::string> names;
    for (const Value& value : graph->values) names.insert(value.name);
    for (const std::string& name : moved) {
      if (!names.insert(name).second) continue;
      Value value;
      value.name = name;
      graph->AddValue(std::move(value));
    }
    return moved;
  }

  bool Move(Value* value) {
    if (!value->is_constant() || value->data->size_bytes() <= min_bytes_) return false;
    auto& same = known_[ConstantKey(value->data->data(), value->dtype, value->data->shape())];
    for (ValueId id : same) {
      if (top_->value(id).quant != value->quant) continue;
      value->name = top_->value(id).name;
      value->data.reset();
      return true;
    }
    same.push_back(top_->AddValue(*value));
    value->data.reset();
    return true;
  }

  Graph* top_;
  const int64_t min_bytes_;
  std::map<ConstantKey, std::vector<ValueId>> known_;
};

}  // namespace

bool IsControlFlow(const Node& node) {
  return node.domain.empty() && (node.op == "If" || node.op == "Loop" || node.op == "Scan");
}

std::shared_ptr<const Graph> Subgraph(const Node& node, absl::string_view key) {
  const auto it = node.attributes.find(key);
  if (it == node.attributes.end()) return nullptr;
  const auto* sub = std::get_if<SubgraphPtr>(&it->second);
  return sub == nullptr ? nullptr : *sub;
}

std::vector<ValueId> CapturedValues(const Graph& subgraph) {
  const std::vector<bool> own = OwnValues(subgraph);
  std::vector<bool> read(subgraph.values.size());
  const auto mark = [&](ValueId id) {
    if (id != kNoValue) read[static_cast<size_t>(id)] = true;
  };
  absl::flat_hash_set<std::string> nested;
  for (const Node& node : subgraph.nodes) {
    for (ValueId id : node.inputs) mark(id);
    for (std::string& name : CapturedNames(node)) nested.insert(std::move(name));
  }
  for (ValueId id : subgraph.outputs) mark(id);
  std::vector<ValueId> out;
  for (size_t i = 0; i < own.size(); ++i) {
    if (own[i] || !(read[i] || nested.contains(subgraph.values[i].name))) continue;
    out.push_back(static_cast<ValueId>(i));
  }
  return out;
}

std::vector<std::string> CapturedNames(const Node& node) {
  std::vector<std::string> out;
  absl::flat_hash_set<std::string> seen;
  const auto add = [&](const std::string& name) {
    if (seen.insert(name).second) out.push_back(name);
  };
  for (const std::string& key : SubgraphKeys(node)) {
    const SubgraphPtr sub = Subgraph(node, key);
    absl::flat_hash_set<std::string> names;
    for (const Value& value : sub->values) names.insert(value.name);
    for (ValueId id : CapturedValues(*sub)) add(sub->value(id).name);
    for (const Node& inner : sub->nodes) {
      for (const std::string& name : CapturedNames(inner)) {
        if (!names.contains(name)) add(name);
      }
    }
  }
  return out;
}

absl::Status NormalizeSubgraphs(Graph* graph) {
  bool any = false;
  for (const Node& node : graph->nodes) any = any || !SubgraphKeys(node).empty();
  if (!any) return absl::OkStatus();
  NameSet used;
  Scope scope;
  for (const Value& value : graph->values) {
    used.insert(value.name);
    scope.names[value.name] = value.name;
  }
  int counter = 0;
  for (Node& node : graph->nodes) {
    for (const std::string& key : SubgraphKeys(node)) {
      auto inner = std::make_shared<Graph>(*Subgraph(node, key));
      CompleteCaptures(inner.get());
      const absl::Status status = RenameSubgraph(inner.get(), scope, &used, &counter);
      if (!status.ok()) return Annotate(status, Describe(*graph, node));
      node.attributes[key] = SubgraphPtr(std::move(inner));
    }
  }
  return absl::OkStatus();
}

void HoistConstants(Graph* graph, int64_t min_bytes) { Hoister(graph, min_bytes).Run(); }

std::vector<ValueId> OuterValues(const Graph& subgraph) {
  const std::vector<bool> own = OwnValues(subgraph);
  std::vector<ValueId> out;
  for (size_t i = 0; i < own.size(); ++i) {
    if (!own[i]) out.push_back(static_cast<ValueId>(i));
  }
  return out;
}

absl::StatusOr<std::vector<Node>> InlineBranch(Graph* graph, const Node& node, bool condition,
                                               NameIndex* names) {
  for (size_t i = names->size(); i < graph->values.size(); ++i) {
    names->emplace(graph->values[i].name, static_cast<ValueId>(i));
  }
  const SubgraphPtr branch = Subgraph(node, condition ? "then_branch" : "else_branch");
  if (branch == nullptr || branch->outputs.size() < node.outputs.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Describe(*graph, node), ": ", node.outputs.size(), " outputs, its branch has ",
                     branch == nullptr ? 0 : branch->outputs.size()));
  }
  const std::vector<bool> own = OwnValues(*branch);
  std::vector<ValueId> map(branch->values.size(), kNoValue);
  const std::vector<bool> captured = branch->Captured();
  std::vector<bool> produced(branch->values.size());
  for (const Node& inner : branch->nodes) {
    for (ValueId id : inner.outputs) {
      if (id != kNoValue) produced[static_cast<size_t>(id)] = true;
    }
  }
  // A result that the branch computes is written to the If's own output where nothing reads it by name.
  std::vector<bool> direct(node.outputs.size());
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const auto b = static_cast<size_t>(branch->outputs[i]);
    if (node.outputs[i] == kNoValue || !produced[b] || captured[b] || map[b] != kNoValue) continue;
    map[b] = node.outputs[i];
    direct[i] = true;
    Value& result = graph->value(node.outputs[i]);
    result.dtype = branch->values[b].dtype;
    if (branch->values[b].quant.has_value()) result.quant = branch->values[b].quant;
  }
  const std::vector<ValueId> read = CapturedValues(*branch);
  for (size_t i = 0; i < map.size(); ++i) {
    if (map[i] != kNoValue) continue;
    const Value& value = branch->values[i];
    const auto outer = names->find(value.name);
    const bool is_read = std::binary_search(read.begin(), read.end(), static_cast<ValueId>(i));
    if (!own[i] && !is_read) continue;
    if (!own[i]) {
      if (outer == names->end()) {
        return absl::InvalidArgumentError(absl::StrCat(Describe(*graph, node), ": a branch reads '",
                                                       value.name, "', which the graph has not"));
      }
      map[i] = outer->second;
      continue;
    }
    const bool taken = outer != names->end();
    map[i] = graph->AddValue(value);
    if (taken) graph->value(map[i]).name = graph->UniqueName(absl::StrCat(value.name, "/inlined"));
    names->emplace(graph->value(map[i]).name, map[i]);
  }
  std::vector<Node> nodes = branch->nodes;
  for (Node& inner : nodes) {
    for (ValueId& id : inner.inputs) id = id == kNoValue ? id : map[static_cast<size_t>(id)];
    for (ValueId& id : inner.outputs) id = id == kNoValue ? id : map[static_cast<size_t>(id)];
  }
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    if (direct[i] || node.outputs[i] == kNoValue) continue;
    const ValueId from = map[static_cast<size_t>(branch->outputs[i])];
    Value& result = graph->value(node.outputs[i]);
    result.dtype = graph->value(from).dtype;
    result.quant = graph->value(from).quant;
    nodes.push_back(Node{"Identity", "", node.name, {from}, {node.outputs[i]}, {}});
  }
  return nodes;
}

absl::StatusOr<bool> InlineConstantIfs(Graph* graph) {
  const auto decided = [&](const Node& node) -> const Tensor* {
    if (!node.domain.empty() || node.op != "If") return nullptr;
    const Tensor* condition = graph->ConstantInput(node, 0);
    return condition != nullptr && condition->num_elements() == 1 && condition->data() != nullptr
               ? condition
               : nullptr;
  };
  bool any = false;
  NameIndex names;
  for (bool changed = true; changed;) {
    changed = false;
    std::vector<Node> nodes;
    for (Node& node : graph->nodes) {
      const Tensor* condition = decided(node);
      if (condition == nullptr) {
        nodes.push_back(std::move(node));
        continue;
      }
      const Node taken = std::move(node);
      OCTET_ASSIGN_OR_RETURN(std::vector<Node> branch,
                             InlineBranch(graph, taken, condition->ToS64()[0] != 0, &names));
      for (Node& inner : branch) nodes.push_back(std::move(inner));
      changed = any = true;
    }
    graph->nodes = std::move(nodes);
  }
  return any;
}

}  // namespace octet::graph
