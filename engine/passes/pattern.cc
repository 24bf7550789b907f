// The matcher: goals with backtracking, and the reasons of near misses.
#include "engine/passes/pattern.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/passes/passes.h"

namespace octet::engine {
namespace {

using graph::Graph;
using graph::kNoValue;
using graph::Node;
using graph::ValueId;

constexpr double kNumberTolerance = 2e-4;
// Attempts per root: a hostile graph must not make the alternatives multiply.
constexpr int kMaxAttempts = 4000;

bool Commutes(absl::string_view op) {
  return op == "Add" || op == "Mul" || op == "Max" || op == "Min";
}

// A constant's only element (an integer one where it is an exponent).
std::optional<double> ScalarOf(const Graph& g, ValueId id) {
  const graph::Value& v = g.value(id);
  if (!v.is_constant() || v.quant.has_value() || !v.data->valid() || v.data->num_elements() != 1) {
    return std::nullopt;
  }
  return v.data->ToF64()[0];
}

// What is known of a graph while it is searched.
struct Tables {
  explicit Tables(const Graph& g)
      : producers(g.Producers()), consumers(g.Consumers()), captured(g.Captured()), output(g.values.size()) {
    for (ValueId id : g.outputs) output[static_cast<size_t>(id)] = true;
  }
  void Grow(size_t values) {
    producers.resize(values, -1);
    consumers.resize(values);
    captured.resize(values, false);
    output.resize(values, false);
  }

  std::vector<int> producers;
  std::vector<std::vector<int>> consumers;
  std::vector<bool> captured, output;
};

// How near an attempt came: a whole match that may not be replaced, then the deepest, then one that lacks a number only.
enum class Nearness : uint8_t { kShape, kNumber, kWhole };
struct Miss {
  size_t rank = 0;
  std::string text;
};

// One attempt: a pattern at one root.
class Attempt {
 public:
  Attempt(const Graph& g, const Tables& tables, absl::string_view anchor)
      : g_(g), tables_(tables), anchor_(anchor) {}

  bool Run(const GraphPattern& pattern, const std::vector<std::string>& exposed, ValueId root) {
    exposed_ = &exposed;
    rounded_ = &pattern.rounded;
    root_ = root;
    goals_.clear();
    goals_.push_back({&pattern.pattern, root, kNoValue});
    return Solve();
  }

  bool Took(int node) const { return std::find(nodes_.begin(), nodes_.end(), node) != nodes_.end(); }

  const std::vector<int>& nodes() const { return nodes_; }
  const absl::flat_hash_map<std::string, ValueId>& labels() const { return labels_; }
  // Per anchor node that an attempt went through: why the deepest one failed.
  const absl::flat_hash_map<int, Miss>& misses() const { return misses_; }

  void NoteMiss(Nearness nearness, const std::string& text) {
    const size_t rank = 2 * nodes_.size() + (nearness == Nearness::kNumber ? 1 : 0) +
                        (nearness == Nearness::kWhole ? 1000 : 0);
    for (int n : nodes_) {
      if (g_.nodes[static_cast<size_t>(n)].op != anchor_) continue;
      Miss& miss = misses_[n];
      if (rank > miss.rank) miss = {rank, text};
    }
  }

 private:
  struct Goal {
    const Pattern* pattern;
    ValueId value;
    ValueId reader;  // output of the node that reads it, for messages
  };

  std::string ReaderName(const Goal& goal) const {
    if (goal.reader == kNoValue) return "the result";
    return Describe(g_, g_.nodes[static_cast<size_t>(tables_.producers[static_cast<size_t>(goal.reader)])]);
  }

  bool Fail(const std::string& text, Nearness nearness = Nearness::kShape) {
    NoteMiss(nearness, text);
    return false;
  }

  // Satisfies the goals from the last one on; restores its state when it returns false.
  bool Solve() {
    if (++attempts_ > kMaxAttempts) return false;
    if (goals_.empty()) return Closed();
    const Goal goal = goals_.back();
    goals_.pop_back();
    const bool done = Satisfy(goal);
    if (!done) goals_.push_back(goal);
    return done;
  }

  bool Satisfy(const Goal& goal) {
    switch (goal.pattern->kind) {
      case Pattern::Kind::kAny:
        return Bind(goal);
      case Pattern::Kind::kScalar:
        return MatchScalar(goal);
      case Pattern::Kind::kOneOf:
        for (const Pattern& alternative : goal.pattern->operands) {
          goals_.push_back({&alternative, goal.value, goal.reader});
          if (Solve()) return true;
          goals_.pop_back();
        }
        return false;
      case Pattern::Kind::kNode:
        return MatchNode(goal);
    }
    return false;
  }

  bool Bind(const Goal& goal) {
    const std::string& label = goal.pattern->label;
    if (label.empty()) return Solve();
    const auto [it, fresh] = labels_.try_emplace(label, goal.value);
    if (!fresh) {
      if (it->second == goal.value) return Solve();
      return Fail(absl::StrCat(ReaderName(goal), " reads '", g_.value(goal.value).name, "', expected '",
                               g_.value(it->second).name, "'"));
    }
    if (Solve()) return true;
    labels_.erase(label);
    return false;
  }

  bool MatchScalar(const Goal& goal) {
    const std::optional<double> found = ScalarOf(g_, goal.value);
    if (!found.has_value()) {
      return Fail(absl::StrCat("operand '", g_.value(goal.value).name, "' of ", ReaderName(goal),
                               " is not a constant number"));
    }
    const std::optional<double>& want = goal.pattern->number;
    if (want.has_value() && !(std::fabs(*found - *want) <= kNumberTolerance * std::fabs(*want))) {
      return Fail(absl::StrCat("the constant of ", ReaderName(goal), " is ", *found, ", expected ", *want),
                  Nearness::kNumber);
    }
    return Bind(goal);
  }

  bool MatchNode(const Goal& goal) {
    const Pattern& p = *goal.pattern;
    const int index = tables_.producers[static_cast<size_t>(goal.value)];
    const Node* node = index < 0 ? nullptr : &g_.nodes[static_cast<size_t>(index)];
    if (node == nullptr || node->outputs.empty() || !node->domain.empty() || node->op != p.op ||
        node->outputs[0] != goal.value) {
      return Fail(absl::StrCat("operand '", g_.value(goal.value).name, "' of ", ReaderName(goal), " is ",
                               node == nullptr ? "not computed" : absl::StrCat("made by ", node->op), ", expected ",
                               p.op));
    }
    if (Took(index)) return false;  // what is meant twice has a label the second time
    size_t given = node->inputs.size();
    while (given > 0 && node->inputs[given - 1] == kNoValue) --given;
    if (given != p.operands.size()) {
      return Fail(absl::StrCat(Describe(g_, *node), " has ", given, " operands, expected ", p.operands.size()));
    }
    nodes_.push_back(index);
    bool labelled = false;
    if (!p.label.empty()) {
      const auto [it, fresh] = labels_.try_emplace(p.label, goal.value);
      labelled = fresh;
      if (!fresh && it->second != goal.value) {
        nodes_.pop_back();
        return false;
      }
    }
    if (Operands(*node, p, false) || (Commutes(p.op) && p.operands.size() == 2 && Operands(*node, p, true))) {
      return true;
    }
    if (labelled) labels_.erase(p.label);
    nodes_.pop_back();
    return false;
  }

  bool Operands(const Node& node, const Pattern& p, bool swapped) {
    const size_t before = goals_.size();
    const size_t n = p.operands.size();
    // The first operand is solved first: it lies on top.
    for (size_t i = n; i-- > 0;) {
      goals_.push_back({&p.operands[i], node.inputs[swapped ? n - 1 - i : i], node.outputs[0]});
    }
    if (Solve()) return true;
    goals_.resize(before);
    return false;
  }

  bool IsOneOf(ValueId id, const std::vector<std::string>& labels) const {
    return std::any_of(labels.begin(), labels.end(), [&](const std::string& label) {
      const auto it = labels_.find(label);
      return it != labels_.end() && it->second == id;
    });
  }

  // The values that would disappear may do so.
  bool Closed() {
    const std::string why = WhyNotClosed();
    return why.empty() || Fail(why, Nearness::kWhole);
  }

  std::string WhyNotClosed() const {
    for (int index : nodes_) {
      for (ValueId id : g_.nodes[static_cast<size_t>(index)].outputs) {
        if (id == kNoValue || id == root_) continue;
        const auto i = static_cast<size_t>(id);
        const std::string name = absl::StrCat("'", g_.value(id).name, "'");
        if (g_.value(id).quant.has_value() && !IsOneOf(id, *rounded_)) {
          return absl::StrCat(name, " in between is rounded to integers");
        }
        if (IsOneOf(id, *exposed_)) continue;
        if (tables_.output[i]) return absl::StrCat(name, " in between is an output of the graph");
        if (tables_.captured[i]) return absl::StrCat(name, " in between is read by a subgraph");
        for (int reader : tables_.consumers[i]) {
          if (!Took(reader) && !g_.nodes[static_cast<size_t>(reader)].outputs.empty()) {
            return absl::StrCat(name, " in between is also read by ",
                                     Describe(g_, g_.nodes[static_cast<size_t>(reader)]));
          }
        }
      }
    }
    return "";
  }

  const Graph& g_;
  const Tables& tables_;
  const std::string anchor_;
  const std::vector<std::string>* exposed_ = nullptr;
  const std::vector<std::string>* rounded_ = nullptr;
  ValueId root_ = kNoValue;
  std::vector<Goal> goals_;
  std::vector<int> nodes_;
  absl::flat_hash_map<std::string, ValueId> labels_;
  absl::flat_hash_map<int, Miss> misses_;
  int attempts_ = 0;
};

class Rewriter {
 public:
  Rewriter(const PatternGroup& group, Graph* graph) : group_(group), g_(*graph), tables_(*graph) {
    has_bodies_ = HasBodies(g_);
  }

  void Run(PassLog* log) {
    bool reorder = false;
    // From the last node on: the largest pattern sees its root before a smaller one eats into it.
    for (size_t i = g_.nodes.size(); i-- > 0;) {
      const std::string name = log == nullptr || g_.nodes[i].outputs.empty() ? "" : Describe(g_, g_.nodes[i]);
      std::optional<Node> made = MatchAt(i);
      if (!made.has_value()) continue;
      if (log != nullptr) {
        log->Fired(group_.name, name, absl::StrCat(nodes_.size(), " nodes became ", made->op));
      }
      reorder = reorder || made->outputs.size() > 1;
      Replace(i, *std::move(made));
    }
    std::erase_if(g_.nodes, [](const Node& n) { return n.outputs.empty(); });
    if (reorder) SortNodes(&g_);
    g_.RemoveDead();
    if (log != nullptr) ReportMisses(log);
  }

  std::vector<FoundPattern> Find() {
    std::vector<FoundPattern> found;
    for (size_t i = g_.nodes.size(); i-- > 0;) {
      std::optional<Node> made = MatchAt(i);
      if (!made.has_value()) continue;
      found.push_back({group_.name, nodes_, g_.nodes[i].outputs[0]});
      Replace(i, *std::move(made));
    }
    return found;
  }

 private:
  // The replacement of the first match whose root is node i; sets nodes_.
  std::optional<Node> MatchAt(size_t i) {
    for (const GraphPattern& pattern : group_.patterns) {
      const Node& node = g_.nodes[i];
      if (node.op != pattern.pattern.op || !node.domain.empty() || node.outputs.empty()) continue;
      if (node.outputs[0] == kNoValue) continue;
      std::optional<Node> made = TryPattern(pattern, node.outputs[0], node.name);
      if (made.has_value()) return made;
    }
    return std::nullopt;
  }

  std::optional<Node> TryPattern(const GraphPattern& pattern, ValueId root, const std::string& name) {
    static const auto& nothing = *new std::vector<std::string>;
    Attempt attempt(g_, tables_, group_.anchor);
    if (attempt.Run(pattern, has_bodies_ ? nothing : pattern.exposed, root)) {
      const size_t values = g_.values.size();
      absl::StatusOr<Node> made = pattern.make(Match(&g_, &tables_.producers, root, attempt.nodes(), attempt.labels()));
      if (made.ok()) {
        nodes_ = attempt.nodes();
        made->name = name;
        made->outputs = {root};
        Expose(pattern, attempt, &*made);
        return *std::move(made);
      }
      g_.values.resize(values);
      attempt.NoteMiss(Nearness::kWhole, std::string(made.status().message()));
    }
    for (const auto& [index, miss] : attempt.misses()) {
      Miss& known = misses_[Describe(g_, g_.nodes[static_cast<size_t>(index)])];
      if (miss.rank > known.rank) known = miss;
    }
    return std::nullopt;
  }

  // Outputs 1, 2, ... for inner values that others read, too.
  void Expose(const GraphPattern& pattern, const Attempt& attempt, Node* made) const {
    for (size_t e = 0; e < pattern.exposed.size(); ++e) {
      const auto it = attempt.labels().find(pattern.exposed[e]);
      if (it == attempt.labels().end()) continue;
      const auto id = static_cast<size_t>(it->second);
      const bool outside =
          tables_.output[id] || std::any_of(tables_.consumers[id].begin(), tables_.consumers[id].end(), [&](int r) {
            return !attempt.Took(r) && !g_.nodes[static_cast<size_t>(r)].outputs.empty();
          });
      if (!outside) continue;
      made->outputs.resize(std::max(made->outputs.size(), e + 2), kNoValue);
      made->outputs[e + 1] = it->second;
    }
  }

  // Puts the new node in the place of its root and keeps the tables true.
  void Replace(size_t i, Node made) {
    for (int n : nodes_) g_.nodes[static_cast<size_t>(n)] = Node{"Identity", "", "", {}, {}, {}};
    tables_.Grow(g_.values.size());
    for (ValueId id : made.outputs) {
      if (id != kNoValue) tables_.producers[static_cast<size_t>(id)] = static_cast<int>(i);
    }
    for (ValueId id : made.inputs) {
      if (id != kNoValue) tables_.consumers[static_cast<size_t>(id)].push_back(static_cast<int>(i));
    }
    g_.nodes[i] = std::move(made);
  }

  void ReportMisses(PassLog* log) const {
    for (const Node& node : g_.nodes) {
      if (node.op != group_.anchor || !node.domain.empty()) continue;
      const std::string name = Describe(g_, node);
      if (const auto it = misses_.find(name); it != misses_.end()) log->Refused(group_.name, name, it->second.text);
    }
  }

  const PatternGroup& group_;
  Graph& g_;
  Tables tables_;
  bool has_bodies_ = false;
  std::vector<int> nodes_;                         // of the last match
  absl::flat_hash_map<std::string, Miss> misses_;  // by the anchor's description
};

}  // namespace

Pattern Any(std::string label) { return {Pattern::Kind::kAny, std::move(label), "", {}, {}}; }
Pattern Scalar(std::string label) { return {Pattern::Kind::kScalar, std::move(label), "", {}, {}}; }
Pattern Number(double value) { return {Pattern::Kind::kScalar, "", "", {}, value}; }
Pattern Op(std::string op, std::vector<Pattern> operands, std::string label) {
  return {Pattern::Kind::kNode, std::move(label), std::move(op), std::move(operands), {}};
}
Pattern OneOf(std::vector<Pattern> alternatives) {
  return {Pattern::Kind::kOneOf, "", "", std::move(alternatives), {}};
}
Pattern Times(const Pattern& x, double value) {
  return OneOf({Op("Mul", {x, Number(value)}), Op("Div", {x, Number(1 / value)})});
}

double Match::scalar(const std::string& label) const { return *ScalarOf(*graph_, value(label)); }

const Node& Match::node(const std::string& label) const {
  const ValueId id = value(label);
  for (int n : nodes_) {
    const Node& node = graph_->nodes[static_cast<size_t>(n)];
    if (std::find(node.outputs.begin(), node.outputs.end(), id) != node.outputs.end()) return node;
  }
  return graph_->nodes[static_cast<size_t>(nodes_[0])];
}

void ApplyPatterns(absl::Span<const PatternGroup> groups, Graph* graph, PassLog* log) {
  for (const PatternGroup& group : groups) Rewriter(group, graph).Run(log);
}

std::vector<FoundPattern> FindPatterns(absl::Span<const PatternGroup> groups, const Graph& graph) {
  Graph copy = graph;  // makers may add constants
  std::vector<FoundPattern> all;
  for (const PatternGroup& group : groups) {
    for (FoundPattern& found : Rewriter(group, &copy).Find()) all.push_back(std::move(found));
  }
  return all;
}

}  // namespace octet::engine
