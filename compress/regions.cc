// Quantized regions: seeds are the sources of products; they spread to what can stay integer between them.
#include "compress/regions.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "engine/passes/patterns.h"

namespace octet::compress {
namespace {

using graph::Graph;
using graph::kNoValue;
using graph::Node;
using graph::ValueId;

bool In(const Node& n, std::initializer_list<absl::string_view> ops) {
  return n.domain.empty() && std::find(ops.begin(), ops.end(), n.op) != ops.end();
}

bool IsMove(const Node& n) {
  return In(n, {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "MaxPool", "GlobalMaxPool", "Slice", "Split",
                "DepthToSpace", "SpaceToDepth"}) ||
         (In(n, {"Resize"}) && n.GetString("mode", "nearest") == "nearest");
}

class Finder {
 public:
  Finder(const Graph& g, std::vector<Product> products, const std::vector<std::string>& exclude)
      : g_(g), consumers_(g.Consumers()), captured_(g.Captured()), exclude_(exclude.begin(), exclude.end()) {
    regions_.products = std::move(products);
    regions_.same_as.assign(g.values.size(), kNoValue);
    regions_.symmetric.assign(g.values.size(), false);
    chosen_.assign(g.values.size(), false);
  }

  Regions Run() {
    for (const Product& p : regions_.products) Choose(p.src);
    if (!regions_.products.empty()) AddAttention();
    Spread();
    for (size_t v = 0; v < chosen_.size(); ++v) {
      if (chosen_[v]) regions_.values.push_back(static_cast<ValueId>(v));
    }
    Share();
    AddCopies();
    return std::move(regions_);
  }

 private:
  bool IsF32(ValueId id) const {
    const graph::Value& v = g_.value(id);
    return v.dtype == DType::kF32 && !v.quant.has_value() && !v.is_constant() && !captured_[static_cast<size_t>(id)];
  }

  // The products of softmax(Q K^T) V.
  void AddAttention() {
    const std::vector<engine::PatternGroup> groups = {engine::AttentionPatterns()};
    for (const engine::FoundPattern& found : engine::FindPatterns(groups, g_)) {
      const Node *scores = nullptr, *result = nullptr;
      bool keep = false;
      for (int index : found.nodes) {  // from the result backwards
        const Node& n = g_.nodes[static_cast<size_t>(index)];
        keep = keep || exclude_.contains(n.name);
        if (n.op != "MatMul") continue;
        if (result == nullptr) result = &n;
        scores = &n;
      }
      if (keep || result == nullptr || scores == result) continue;
      Choose(scores->inputs[0]);
      Choose(result->inputs[0]);
      for (ValueId id : {scores->inputs[1], result->inputs[1]}) {
        if (Choose(id)) symmetric_.push_back(id);
      }
    }
  }

  ValueId BehindActivation(ValueId id) const { return compress::BehindActivation(g_, consumers_, id); }

  bool Choose(ValueId id) {
    if (!IsF32(id) || g_.IsOutput(id) || chosen_[static_cast<size_t>(id)]) return false;
    chosen_[static_cast<size_t>(id)] = true;
    return true;
  }

  bool Chosen(ValueId id) const { return chosen_[static_cast<size_t>(id)]; }

  // Grows regions until nothing changes: backwards through moves, additions, poolings and joins that make a chosen value.
  void Spread() {
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t i = g_.nodes.size(); i-- > 0;) changed |= SpreadAt(g_.nodes[i]);
    }
  }

  bool SpreadAt(const Node& n) {
    if (n.outputs.empty() || n.outputs[0] == kNoValue || exclude_.contains(n.name)) return false;
    bool changed = false;
    const ValueId out = n.outputs[0];
    const ValueId behind = BehindActivation(out);
    const bool result_chosen = Chosen(out) || Chosen(behind);
    const bool any = std::any_of(n.outputs.begin(), n.outputs.end(),
                                 [&](ValueId id) { return id != kNoValue && Chosen(id); });
    if (IsMove(n) && any) {
      changed |= Choose(n.inputs[0]);
      for (ValueId id : n.outputs) changed |= Choose(id);
    }
    if (In(n, {"GlobalAveragePool", "AveragePool"}) && any) changed |= Choose(n.inputs[0]);
    if (In(n, {"Concat"}) && any) {
      for (ValueId id : n.inputs) changed |= Choose(id);
    }
    if (In(n, {"Add"}) && n.inputs.size() == 2 && result_chosen && IsF32(n.inputs[0]) && IsF32(n.inputs[1]) &&
        g_.value(n.inputs[0]).shape == g_.value(n.inputs[1]).shape) {
      changed |= Choose(n.inputs[0]);
      changed |= Choose(n.inputs[1]);
    }
    return changed;
  }

  // Moves keep the integers: their results have the parameters of their source. A part that only a Concat reads is
  // written with the parameters of the whole, which then costs no requantization.
  void Share() {
    for (const Node& n : g_.nodes) {
      if (IsMove(n) && Chosen(n.inputs[0])) {
        for (ValueId id : n.outputs) {
          if (id != kNoValue && Chosen(id)) regions_.same_as[static_cast<size_t>(id)] = Root(n.inputs[0]);
        }
      }
    }
    for (size_t i = g_.nodes.size(); i-- > 0;) {
      const Node& n = g_.nodes[i];
      if (!In(n, {"Concat"}) || !Chosen(n.outputs[0])) continue;
      for (ValueId id : n.inputs) {
        const bool alone = consumers_[static_cast<size_t>(id)].size() == 1;
        if (alone && Chosen(id) && regions_.same_as[static_cast<size_t>(id)] == kNoValue) {
          regions_.same_as[static_cast<size_t>(id)] = Root(n.outputs[0]);
        }
      }
    }
  }

  // Node `n` works on integers when its operand `id` is stored so.
  bool ReadsIntegers(const Node& n, int index, ValueId id) const {
    for (const Product& p : regions_.products) {
      if (p.node == index && p.src == id) return true;
    }
    const bool result = !n.outputs.empty() && n.outputs[0] != kNoValue &&
                        (Chosen(n.outputs[0]) || Chosen(BehindActivation(n.outputs[0])));
    if (In(n, {"MatMul"})) return std::all_of(n.inputs.begin(), n.inputs.end(), [&](ValueId v) { return Chosen(v); });
    return IsMove(n) || In(n, {"GlobalAveragePool", "AveragePool", "Concat"}) || (In(n, {"Add"}) && result);
  }

  void AddCopies() {
    for (ValueId id : symmetric_) regions_.symmetric[static_cast<size_t>(Root(id))] = true;
    const std::vector<int> producers = g_.Producers();
    for (ValueId id : regions_.values) {
      const bool input = std::find(g_.inputs.begin(), g_.inputs.end(), id) != g_.inputs.end();
      const int producer = producers[static_cast<size_t>(id)];
      const bool norm = producer >= 0 && In(g_.nodes[static_cast<size_t>(producer)], {"LayerNormalization"});
      if (!input && !norm) continue;
      Regions::Copy copy{id, {}};
      const std::vector<int>& readers = consumers_[static_cast<size_t>(id)];
      for (int r : readers) {
        if (ReadsIntegers(g_.nodes[static_cast<size_t>(r)], r, id)) copy.readers.push_back(r);
      }
      // What only integers read is written as integers.
      if (input || copy.readers.size() < readers.size()) regions_.copies.push_back(std::move(copy));
    }
  }

  ValueId Root(ValueId id) const {
    while (regions_.same_as[static_cast<size_t>(id)] != kNoValue) id = regions_.same_as[static_cast<size_t>(id)];
    return id;
  }

  const Graph& g_;
  std::vector<std::vector<int>> consumers_;
  std::vector<bool> captured_;  // read by subgraphs, by name: they stay float
  absl::flat_hash_set<std::string> exclude_;
  Regions regions_;
  std::vector<bool> chosen_;
  std::vector<ValueId> symmetric_;
};

}  // namespace

Regions FindRegions(const Graph& graph, std::vector<Product> products, const std::vector<std::string>& exclude) {
  return Finder(graph, std::move(products), exclude).Run();
}

}  // namespace octet::compress
