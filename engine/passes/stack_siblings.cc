// Products that share weights run as one on the stacked rows of their sources, and what follows them alike stays stacked.
//
//   y_t = f(x_t W), t = 1..T   ->   y = f([x_1; ...; x_T] W),  y_t = rows of y
//
// In ensembles (graph/ensemble.h) these are the decided layers behind the first undecided one: their weights are walked once
// instead of T times. Rows are axis 0: in a graph that is proven batchable every operator with a row rule
// (graph/row_rules.h) computes them one by one.
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/passes/passes.h"
#include "graph/row_rules.h"

namespace octet::engine {
namespace {

using graph::Graph;
using graph::kNoValue;
using graph::Node;
using graph::Value;
using graph::ValueId;

// Rows of `value` below each other: part 0, part 1, ...
struct Stack {
  ValueId value = kNoValue;
  std::vector<ValueId> parts;
};

struct Place {
  int stack = -1;
  size_t part = 0;
};

bool IsProduct(const Graph& g, const Node& n) {
  if (!n.domain.empty() || n.inputs.size() < 2 || n.inputs[0] == kNoValue || n.inputs[1] == kNoValue) return false;
  if (n.op != "Conv" && n.op != "Gemm" && n.op != "MatMul") return false;
  return !g.value(n.inputs[0]).is_constant() && g.value(n.inputs[1]).is_constant();
}

bool SameForm(const Value& a, const Value& b) {
  return a.dtype == b.dtype && a.quant == b.quant && a.shape.has_value() && a.shape == b.shape && !a.shape->empty();
}

class Stacker {
 public:
  Stacker(Graph* g, PassLog* log) : g_(*g), log_(log), consumers_(g->Consumers()), producers_(g->Producers()) {
    gone_.resize(g->nodes.size());
    place_.resize(g->values.size());
  }

  void Run() {
    // Products by what they have in common, in the order of their first ones.
    std::map<std::vector<ValueId>, std::vector<size_t>> alike;
    std::vector<std::vector<ValueId>> order;
    for (size_t i = 0; i < g_.nodes.size(); ++i) {
      const Node& n = g_.nodes[i];
      if (!IsProduct(g_, n)) continue;
      const std::vector<ValueId> key(n.inputs.begin() + 1, n.inputs.end());
      std::vector<size_t>& nodes = alike[key];
      if (nodes.empty()) order.push_back(key);
      nodes.push_back(i);
    }
    for (const std::vector<ValueId>& key : order) {
      const std::vector<size_t>& nodes = alike[key];
      if (nodes.size() >= 2 && Startable(nodes)) Start(nodes);
    }
    if (stacks_.empty()) return;
    Finish();
  }

 private:
  // Sources of one form, none of which depends on another product of these.
  bool Startable(const std::vector<size_t>& nodes) {
    const Node& first = g_.nodes[nodes[0]];
    std::set<ValueId> sources;
    for (size_t i : nodes) {
      if (!sources.insert(g_.nodes[i].inputs[0]).second) return false;  // equal nodes: Simplify makes them one
      if (gone_[i] || !Alike(first, g_.nodes[i]) || !SameForm(g_.value(first.inputs[0]), g_.value(g_.nodes[i].inputs[0]))) {
        return false;
      }
      if (RowsOf(g_.nodes[i], {0}).ok()) continue;
      return false;
    }
    return !Depend(nodes);
  }

  // Whether one of `nodes` is reached from the source of another, with all stacks made so far.
  bool Depend(const std::vector<size_t>& nodes) const {
    std::vector<bool> seen(g_.nodes.size());
    std::vector<ValueId> left;
    for (size_t i : nodes) left.push_back(g_.nodes[i].inputs[0]);
    while (!left.empty()) {
      const ValueId id = left.back();
      left.pop_back();
      if (id == kNoValue || static_cast<size_t>(id) >= producers_.size()) continue;
      std::vector<ValueId> alternatives = {id};
      if (const Place& place = place_[static_cast<size_t>(id)]; place.stack >= 0) {
        alternatives = stacks_[static_cast<size_t>(place.stack)].parts;
      }
      for (ValueId other : alternatives) {
        const int from = producers_[static_cast<size_t>(other)];
        if (from < 0 || seen[static_cast<size_t>(from)]) continue;
        seen[static_cast<size_t>(from)] = true;
        if (std::find(nodes.begin(), nodes.end(), static_cast<size_t>(from)) != nodes.end()) return true;
        const std::vector<ValueId>& inputs = g_.nodes[static_cast<size_t>(from)].inputs;
        left.insert(left.end(), inputs.begin(), inputs.end());
      }
    }
    return false;
  }

  // Equal but for what they read and write; outputs of one form.
  bool Alike(const Node& a, const Node& b) const {
    if (a.op != b.op || a.domain != b.domain || a.inputs.size() != b.inputs.size() || a.outputs.size() != 1 ||
        b.outputs.size() != 1 || a.attributes.size() != b.attributes.size()) {
      return false;
    }
    for (const auto& [name, value] : a.attributes) {
      const auto it = b.attributes.find(name);
      if (it == b.attributes.end() || !Equal(value, it->second)) return false;
    }
    return SameForm(g_.value(a.outputs[0]), g_.value(b.outputs[0]));
  }

  static bool Equal(const graph::Attribute& a, const graph::Attribute& b) {
    if (a.index() != b.index()) return false;
    return std::visit(
        [&b](const auto& x) {
          using T = std::decay_t<decltype(x)>;
          if constexpr (std::is_same_v<T, Tensor> || std::is_same_v<T, std::shared_ptr<const Graph>>) {
            return false;  // not compared
          } else {
            return x == std::get<T>(b);
          }
        },
        a);
  }

  // Whether `n` keeps rows apart when its operands `rows` have them and all others have not.
  absl::Status RowsOf(const Node& n, const std::vector<size_t>& rows) const {
    std::vector<graph::RowOperand> operands;
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      graph::RowOperand operand;
      operand.present = n.inputs[i] != kNoValue;
      if (operand.present) {
        const Value& value = g_.value(n.inputs[i]);
        const bool has_rows = std::find(rows.begin(), rows.end(), i) != rows.end();
        operand.flow = has_rows ? graph::Flow::kRows : graph::Flow::kNone;
        operand.shape = value.shape;
        if (value.is_constant() && IsInteger(value.dtype) && !value.quant.has_value()) operand.integers = value.data->ToS64();
      }
      operands.push_back(std::move(operand));
    }
    return graph::KeepsRows(n, operands, g_.value(n.outputs[0]).shape->size());
  }

  ValueId AddValue(const Value& like, absl::string_view suffix) {
    Value value;
    value.name = g_.UniqueName(absl::StrCat(like.name, suffix));
    value.dtype = like.dtype;
    value.quant = like.quant;
    value.shape = like.shape;
    (*value.shape)[0] = kUnknownDim;
    return g_.AddValue(std::move(value));
  }

  void Start(const std::vector<size_t>& nodes) {
    Stack sources;
    for (size_t i : nodes) sources.parts.push_back(g_.nodes[i].inputs[0]);
    sources.value = AddValue(g_.value(sources.parts[0]), "/stacked");
    Node concat;
    concat.op = "Concat";
    concat.name = g_.value(sources.value).name;
    concat.inputs = sources.parts;
    concat.outputs = {sources.value};
    concat.attributes["axis"] = int64_t{0};
    added_.push_back(std::move(concat));
    Replace(nodes, {0}, {sources.value});
  }

  // One node for `nodes`, whose operands `rows` become `values`; then what reads its parts alike.
  void Replace(const std::vector<size_t>& nodes, const std::vector<size_t>& rows, const std::vector<ValueId>& values) {
    Node node = g_.nodes[nodes[0]];
    Stack stack;
    for (size_t i : nodes) {
      stack.parts.push_back(g_.nodes[i].outputs[0]);
      gone_[i] = true;
    }
    if (log_ != nullptr) {
      log_->Fired("stack-siblings", Describe(g_, node), absl::StrCat("runs once for ", nodes.size(), " nodes alike"));
    }
    for (size_t k = 0; k < rows.size(); ++k) node.inputs[rows[k]] = values[k];
    stack.value = AddValue(g_.value(stack.parts[0]), "/stacked");
    node.outputs[0] = stack.value;
    if (!node.name.empty()) absl::StrAppend(&node.name, "/stacked");
    added_.push_back(std::move(node));
    for (size_t i = 0; i < stack.parts.size(); ++i) {
      place_[static_cast<size_t>(stack.parts[i])] = {static_cast<int>(stacks_.size()), i};
    }
    const ValueId first = stack.parts[0];
    stacks_.push_back(std::move(stack));
    for (int consumer : consumers_[static_cast<size_t>(first)]) Follow(static_cast<size_t>(consumer));
  }

  // Stacks `leader`, which reads part 0 of a stack, with those that read the other parts as it does.
  void Follow(size_t leader) {
    const Node& n = g_.nodes[leader];
    if (gone_[leader] || n.outputs.size() != 1 || !g_.value(n.outputs[0]).shape.has_value()) return;
    std::vector<size_t> rows;
    std::vector<ValueId> values;
    size_t parts = 0;
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      if (n.inputs[i] == kNoValue || g_.value(n.inputs[i]).is_constant()) continue;
      const Place& place = place_[static_cast<size_t>(n.inputs[i])];
      if (place.stack < 0 || place.part != 0) return;
      const Stack& stack = stacks_[static_cast<size_t>(place.stack)];
      if (parts != 0 && stack.parts.size() != parts) return;
      parts = stack.parts.size();
      rows.push_back(i);
      values.push_back(stack.value);
    }
    if (parts == 0 || n.op == "Shape" || n.op == "Size" || !RowsOf(n, rows).ok()) return;
    std::vector<size_t> nodes = {leader};
    for (size_t t = 1; t < parts; ++t) {
      const int stack = place_[static_cast<size_t>(n.inputs[rows[0]])].stack;
      const ValueId source = stacks_[static_cast<size_t>(stack)].parts[t];
      const auto& readers = consumers_[static_cast<size_t>(source)];
      const auto it = std::find_if(readers.begin(), readers.end(), [&](int reader) {
        return !gone_[static_cast<size_t>(reader)] && Matches(n, g_.nodes[static_cast<size_t>(reader)], t) &&
               std::find(nodes.begin(), nodes.end(), static_cast<size_t>(reader)) == nodes.end();
      });
      if (it == readers.end()) return;
      nodes.push_back(static_cast<size_t>(*it));
    }
    Replace(nodes, rows, values);
  }

  // Whether `other` reads part t wherever `leader` reads part 0, and the same constants.
  bool Matches(const Node& leader, const Node& other, size_t t) const {
    if (!Alike(leader, other)) return false;
    for (size_t i = 0; i < leader.inputs.size(); ++i) {
      const ValueId a = leader.inputs[i], b = other.inputs[i];
      if (a == b && (a == kNoValue || g_.value(a).is_constant())) continue;
      if (a == kNoValue || b == kNoValue || g_.value(a).is_constant() || g_.value(b).is_constant()) return false;
      const Place &from = place_[static_cast<size_t>(a)], &to = place_[static_cast<size_t>(b)];
      if (from.stack < 0 || from.stack != to.stack || to.part != t) return false;
    }
    return true;
  }

  // Parts that are still read come out of their stacks again.
  void Finish() {
    std::vector<Node> nodes;
    for (size_t i = 0; i < gone_.size(); ++i) {
      if (!gone_[i]) nodes.push_back(std::move(g_.nodes[i]));
    }
    std::vector<bool> read(g_.values.size());
    for (const std::vector<Node>* list : {&nodes, &added_}) {
      for (const Node& n : *list) {
        for (ValueId id : n.inputs) {
          if (id != kNoValue) read[static_cast<size_t>(id)] = true;
        }
      }
    }
    for (ValueId id : g_.outputs) read[static_cast<size_t>(id)] = true;
    nodes.insert(nodes.end(), std::make_move_iterator(added_.begin()), std::make_move_iterator(added_.end()));
    for (const Stack& stack : stacks_) {
      const bool any = std::any_of(stack.parts.begin(), stack.parts.end(),
                                   [&](ValueId id) { return read[static_cast<size_t>(id)]; });
      if (!any) continue;
      Node split;
      split.op = "Split";
      split.name = absl::StrCat(g_.value(stack.value).name, "/parts");
      split.inputs = {stack.value};
      split.outputs = stack.parts;
      split.attributes["axis"] = int64_t{0};
      split.attributes["num_outputs"] = static_cast<int64_t>(stack.parts.size());
      nodes.push_back(std::move(split));
    }
    g_.nodes = std::move(nodes);
    SortNodes(&g_);
    g_.RemoveDead();
  }

  Graph& g_;
  PassLog* log_;
  const std::vector<std::vector<int>> consumers_;  // of the graph as it came
  const std::vector<int> producers_;
  std::vector<bool> gone_;    // per node of the graph as it came
  std::vector<Place> place_;  // per value of the graph as it came
  std::vector<Stack> stacks_;
  std::vector<Node> added_;
};

}  // namespace

void StackSiblings(Graph* graph, PassLog* log) {
  if (!HasBodies(*graph)) Stacker(graph, log).Run();
}

}  // namespace octet::engine
