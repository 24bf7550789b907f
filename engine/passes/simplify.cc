// Small identities that let patterns be written once: equal constants and equal nodes become one, casts to the own type
// disappear, a division by a power of two becomes a product, and what is divided by a value whose reciprocal is computed
// anyway is multiplied by that.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/passes/passes.h"
#include "graph/value_alias.h"

namespace octet::engine {
namespace {

using graph::Attribute;
using graph::Graph;
using graph::kNoValue;
using graph::Node;
using graph::ValueId;

constexpr int64_t kSmallBytes = 64;

// A key that equal attributes share; nullopt for those that are not compared (tensors, bodies).
std::optional<std::string> KeyOf(const Attribute& a) {
  if (const auto* i = std::get_if<int64_t>(&a)) return absl::StrCat("i", *i);
  if (const auto* f = std::get_if<float>(&a)) return absl::StrCat("f", std::bit_cast<uint32_t>(*f));
  if (const auto* s = std::get_if<std::string>(&a)) return absl::StrCat("s", s->size(), ":", *s);
  if (const auto* v = std::get_if<std::vector<int64_t>>(&a)) {
    std::string key = "v";
    for (int64_t x : *v) absl::StrAppend(&key, x, ",");
    return key;
  }
  return std::nullopt;
}

std::optional<std::string> KeyOf(const Graph& g, const Node& n) {
  if (n.outputs.size() != 1 || n.outputs[0] == kNoValue || n.inputs.empty()) return std::nullopt;
  if (absl::StrContains(n.op, "Random") || n.op == "Bernoulli" || n.op == "Multinomial" || n.op == "Dropout") {
    return std::nullopt;
  }
  const graph::Value& out = g.value(n.outputs[0]);
  if (out.quant.has_value()) return std::nullopt;
  std::string key = absl::StrCat(n.domain, "/", n.op, "(");
  for (ValueId id : n.inputs) absl::StrAppend(&key, id, ",");
  std::map<std::string, std::string> attributes;
  for (const auto& [name, attribute] : n.attributes) {
    std::optional<std::string> part = KeyOf(attribute);
    if (!part.has_value()) return std::nullopt;
    attributes[name] = *std::move(part);
  }
  for (const auto& [name, part] : attributes) absl::StrAppend(&key, ";", name, "=", part);
  return key;
}

class Simplifier {
 public:
  Simplifier(Graph* g, PassLog* log)
      : g_(*g), log_(log), alias_(g->values.size()), captured_(g->Captured()), output_(g->values.size()) {
    for (ValueId id : g->outputs) output_[static_cast<size_t>(id)] = true;
  }

  void Run() {
    MergeConstants();
    std::map<std::string, ValueId> seen;
    for (Node& n : g_.nodes) {
      for (ValueId& id : n.inputs) id = alias_.Resolve(id);
      if (!n.domain.empty()) continue;
      if (DropCast(n)) continue;
      if (n.op == "Div") ExactReciprocal(&n);
      const std::optional<std::string> key = KeyOf(g_, n);
      if (!key.has_value()) continue;
      const auto [it, fresh] = seen.try_emplace(*key, n.outputs[0]);
      if (fresh || Fixed(n.outputs[0])) continue;
      Note(n, "equals an earlier node");
      alias_.Set(n.outputs[0], it->second);
    }
    alias_.Apply(&g_);
    g_.RemoveDead();
    ShareReciprocals();
  }

 private:
  bool Fixed(ValueId id) const { return output_[static_cast<size_t>(id)] || captured_[static_cast<size_t>(id)]; }

  void Note(const Node& n, const std::string& text) {
    if (log_ != nullptr) log_->Fired("simplify", Describe(g_, n), text);
  }

  void MergeConstants() {
    std::map<std::string, ValueId> seen;
    for (size_t i = 0; i < g_.values.size(); ++i) {
      const graph::Value& v = g_.values[i];
      const auto id = static_cast<ValueId>(i);
      if (!v.is_constant() || v.quant.has_value() || Fixed(id) || v.data->data() == nullptr) continue;
      if (v.data->size_bytes() > kSmallBytes || BitsOf(v.data->dtype()) < 8) continue;
      const absl::string_view bytes(reinterpret_cast<const char*>(v.data->data()),
                                    static_cast<size_t>(v.data->size_bytes()));
      const auto [it, fresh] =
          seen.try_emplace(absl::StrCat(NameOf(v.data->dtype()), ShapeString(v.data->shape()), bytes), id);
      if (!fresh) alias_.Set(id, it->second);
    }
  }

  bool DropCast(const Node& n) {
    if (n.op != "Cast" || n.inputs.empty() || n.inputs[0] == kNoValue || Fixed(n.outputs[0])) return false;
    const graph::Value &from = g_.value(n.inputs[0]), &to = g_.value(n.outputs[0]);
    if (from.quant.has_value() || to.quant.has_value() || from.dtype != to.dtype || from.is_constant()) return false;
    Note(n, "casts to the type it has");
    alias_.Set(n.outputs[0], n.inputs[0]);
    return true;
  }

  // x / c = x * (1 / c) bit by bit when c is a power of two.
  void ExactReciprocal(Node* n) {
    const Tensor* c = g_.ConstantInput(*n, 1);
    if (c == nullptr || !c->valid() || c->data() == nullptr || c->dtype() != DType::kF32 || c->num_elements() != 1 ||
        g_.value(n->inputs[1]).quant.has_value()) {
      return;
    }
    const float value = c->ToF32()[0];
    int exponent = 0;
    const float mantissa = std::frexp(value, &exponent);
    if (std::fabs(mantissa) != 0.5f || std::abs(exponent) > 100) return;
    const auto [it, fresh] = reciprocals_.try_emplace(n->inputs[1], kNoValue);
    if (fresh) {
      const graph::Value& old = g_.value(n->inputs[1]);
      it->second = g_.AddConstant(g_.UniqueName(absl::StrCat(old.name, "_reciprocal")),
                                  Tensor::FromF32(old.data->shape(), std::vector<float>{1 / value}));
    }
    n->inputs[1] = it->second;
    Note(*n, absl::StrCat("division by ", value, " became a product"));
    n->op = "Mul";
  }

  // Div(a, s) where Reciprocal(s) stands in front of it.
  void ShareReciprocals() {
    std::map<ValueId, ValueId> reciprocal;
    for (Node& n : g_.nodes) {
      if (!n.domain.empty()) continue;
      if (n.op == "Reciprocal" && !g_.value(n.outputs[0]).quant.has_value()) reciprocal[n.inputs[0]] = n.outputs[0];
    }
    if (reciprocal.empty() || HasBodies(g_)) return;
    bool changed = false;
    for (Node& n : g_.nodes) {
      if (!n.domain.empty() || n.op != "Div") continue;
      const auto it = reciprocal.find(n.inputs[1]);
      if (it == reciprocal.end()) continue;
      Note(n, "multiplies by the reciprocal that is computed anyway");
      n.op = "Mul";
      n.inputs[1] = it->second;
      changed = true;
    }
    if (changed) SortNodes(&g_);  // the reciprocal may have stood behind its new reader
  }

  Graph& g_;
  PassLog* log_;
  graph::ValueAlias alias_;
  const std::vector<bool> captured_;
  std::vector<bool> output_;
  std::map<ValueId, ValueId> reciprocals_;
};

}  // namespace

void Simplify(Graph* graph, PassLog* log) { Simplifier(graph, log).Run(); }

}  // namespace octet::engine
