// The graph's queries, edits and its invariants.
#include "graph/graph.h"

#include <functional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "graph/draws.h"
#include "graph/weight_levels.h"

namespace octet::graph {
namespace {

template <typename T>
const T* FindAttribute(const Node& node, absl::string_view key) {
  const auto it = node.attributes.find(key);
  return it == node.attributes.end() ? nullptr : std::get_if<T>(&it->second);
}

// Calls `fn` with the name of every value that the subgraphs of `node` capture from outside: values
// of a subgraph that are neither its inputs, nor constants, nor produced in it. Captures of nested
// subgraphs count too.
void ForEachCapture(const Node& node, const std::function<void(const std::string&)>& fn) {
  for (const auto& [key, attribute] : node.attributes) {
    const auto* sub = std::get_if<std::shared_ptr<const Graph>>(&attribute);
    if (sub == nullptr || *sub == nullptr) continue;
    const Graph& graph = **sub;
    const std::vector<int> producers = graph.Producers();
    std::vector<bool> inside(graph.values.size());
    absl::flat_hash_set<absl::string_view> names;
    for (ValueId id : graph.inputs) inside[static_cast<size_t>(id)] = true;
    for (size_t i = 0; i < graph.values.size(); ++i) {
      if (producers[i] >= 0 || graph.values[i].is_constant()) inside[i] = true;
      if (inside[i]) {
        names.insert(graph.values[i].name);
      } else {
        fn(graph.values[i].name);
      }
    }
    for (const Node& inner : graph.nodes) {
      ForEachCapture(inner, [&](const std::string& name) {
        if (!names.contains(name)) fn(name);
      });
    }
  }
}

bool HasSubgraph(const Node& node) {
  for (const auto& [key, attribute] : node.attributes) {
    if (std::holds_alternative<std::shared_ptr<const Graph>>(attribute)) return true;
  }
  return false;
}

// Reads of a node beyond its inputs: values that its subgraphs capture, once each.
class CaptureIndex {
 public:
  explicit CaptureIndex(const Graph& graph) : graph_(graph) {}

  std::vector<ValueId> Of(const Node& node) {
    std::vector<ValueId> out;
    if (!HasSubgraph(node)) return out;
    if (by_name_.empty()) {
      for (size_t i = 0; i < graph_.values.size(); ++i) {
        by_name_[graph_.values[i].name] = static_cast<ValueId>(i);
      }
    }
    absl::flat_hash_set<ValueId> seen;
    ForEachCapture(node, [&](const std::string& name) {
      const auto it = by_name_.find(name);
      if (it != by_name_.end() && seen.insert(it->second).second) out.push_back(it->second);
    });
    return out;
  }

 private:
  const Graph& graph_;
  absl::flat_hash_map<absl::string_view, ValueId> by_name_;
};

// Of a value that nobody reads the content is gone, but not the quant.
absl::Status CheckWeightLevels(const Value& value, const std::string& who) {
  if (value.quant->levels.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(who, ": vectors of ", value.quant->vector, " without levels"));
  }
  if (!value.is_constant() || value.data->dtype() != value.dtype) return absl::OkStatus();  // refused by Validate
  OCTET_RETURN_IF_ERROR(Annotate(CheckLevels(value.dtype, value.data->shape(), *value.quant), who));
  return Annotate(CheckCodes(*value.data, *value.quant), who);
}

absl::Status CheckComputed(const Value& value) {
  if (!value.quant.has_value() || value.quant->levels.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("value '", value.name, "': quantization has levels, which only constants may have"));
}

absl::Status CheckQuant(const Value& value) {
  const QuantParams& quant = *value.quant;
  const std::string who = absl::StrCat("value '", value.name, "': quantization");
  if (!IsInteger(value.dtype)) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, " of type ", NameOf(value.dtype), ", expected an integer type"));
  }
  if (quant.scale.empty()) return absl::InvalidArgumentError(absl::StrCat(who, " without scale"));
  if (!quant.zero_point.empty() && quant.zero_point.size() != quant.scale.size()) {
    return absl::InvalidArgumentError(absl::StrCat(who, " has ", quant.scale.size(), " scales and ",
                                                   quant.zero_point.size(), " zero points"));
  }
  if (!quant.levels.empty() || quant.vector != 1) return CheckWeightLevels(value, who);
  if (quant.per_tensor()) {
    if (quant.scale.size() == 1) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(who, " has ", quant.scale.size(), " scales, expected one per tensor"));
  }
  if (!value.shape.has_value() || quant.block > 0) return absl::OkStatus();
  const Shape& shape = *value.shape;
  if (quant.axis >= static_cast<int>(shape.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, " along axis ", quant.axis, " of shape ", ShapeString(shape)));
  }
  const int64_t channels = shape[static_cast<size_t>(quant.axis)];
  if (channels != kUnknownDim && channels != static_cast<int64_t>(quant.scale.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, " has ", quant.scale.size(), " scales for ", channels, " channels"));
  }
  return absl::OkStatus();
}

absl::Status CheckValues(const Graph& graph) {
  absl::flat_hash_set<absl::string_view> names;
  for (size_t i = 0; i < graph.values.size(); ++i) {
    const Value& value = graph.values[i];
    if (value.name.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("value #", i, " has no name"));
    }
    if (!names.insert(value.name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("the name '", value.name, "' stands for two values"));
    }
    if (value.quant.has_value()) OCTET_RETURN_IF_ERROR(CheckQuant(value));
    if (!value.is_constant()) continue;  // the content of constants that nobody reads is gone
    if (value.alternatives.has_value()) OCTET_RETURN_IF_ERROR(CheckAlternatives(value));
    if (value.data->dtype() != value.dtype || !value.shape.has_value() ||
        value.data->shape() != *value.shape) {
      return absl::InvalidArgumentError(absl::StrCat(
          "constant '", value.name, "' holds ", NameOf(value.data->dtype()),
          ShapeString(value.data->shape()), ", declared ", NameOf(value.dtype),
          value.shape.has_value() ? ShapeString(*value.shape) : std::string(" without shape")));
    }
  }
  return absl::OkStatus();
}

}  // namespace

int64_t Node::GetInt(absl::string_view key, int64_t absent) const {
  const int64_t* found = FindAttribute<int64_t>(*this, key);
  return found != nullptr ? *found : absent;
}

float Node::GetFloat(absl::string_view key, float absent) const {
  const float* found = FindAttribute<float>(*this, key);
  return found != nullptr ? *found : absent;
}

std::string Node::GetString(absl::string_view key, absl::string_view absent) const {
  const std::string* found = FindAttribute<std::string>(*this, key);
  return found != nullptr ? *found : std::string(absent);
}

std::vector<int64_t> Node::GetInts(absl::string_view key, std::vector<int64_t> absent) const {
  const auto* found = FindAttribute<std::vector<int64_t>>(*this, key);
  return found != nullptr ? *found : std::move(absent);
}

ValueId Graph::AddValue(Value value) {
  values.push_back(std::move(value));
  return static_cast<ValueId>(values.size() - 1);
}

ValueId Graph::AddConstant(std::string constant_name, Tensor tensor) {
  Value value;
  value.name = std::move(constant_name);
  value.dtype = tensor.dtype();
  value.shape = tensor.shape();
  value.data = std::move(tensor);
  return AddValue(std::move(value));
}

const Tensor* Graph::ConstantInput(const Node& node, size_t i) const {
  if (!node.has_input(i)) return nullptr;
  const Value& input = value(node.inputs[i]);
  return input.data.has_value() ? &*input.data : nullptr;
}

std::vector<int> Graph::Producers() const {
  std::vector<int> out(values.size(), -1);
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (ValueId id : nodes[i].outputs) {
      if (id != kNoValue) out[static_cast<size_t>(id)] = static_cast<int>(i);
    }
  }
  return out;
}

std::vector<std::vector<int>> Graph::Consumers() const {
  std::vector<std::vector<int>> out(values.size());
  CaptureIndex captures(*this);
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (ValueId id : nodes[i].inputs) {
      if (id != kNoValue) out[static_cast<size_t>(id)].push_back(static_cast<int>(i));
    }
    for (ValueId id : captures.Of(nodes[i])) {
      out[static_cast<size_t>(id)].push_back(static_cast<int>(i));
    }
  }
  return out;
}

bool Graph::IsOutput(ValueId id) const {
  for (ValueId output : outputs) {
    if (output == id) return true;
  }
  return false;
}

std::vector<bool> Graph::Captured() const {
  std::vector<bool> out(values.size());
  CaptureIndex captures(*this);
  for (const Node& node : nodes) {
    for (ValueId id : captures.Of(node)) out[static_cast<size_t>(id)] = true;
  }
  return out;
}

void Graph::ReplaceReads(ValueId from, ValueId to) {
  for (Node& node : nodes) {
    for (ValueId& id : node.inputs) {
      if (id == from) id = to;
    }
  }
  for (ValueId& id : outputs) {
    if (id == from) id = to;
  }
}

void Graph::RemoveDead() {
  std::vector<bool> read(values.size());
  for (ValueId id : outputs) read[static_cast<size_t>(id)] = true;
  CaptureIndex captures(*this);
  std::vector<bool> keep(nodes.size());
  for (size_t i = nodes.size(); i-- > 0;) {
    for (ValueId id : nodes[i].outputs) {
      if (id != kNoValue && read[static_cast<size_t>(id)]) keep[i] = true;
    }
    if (!keep[i]) continue;
    for (ValueId id : nodes[i].inputs) {
      if (id != kNoValue) read[static_cast<size_t>(id)] = true;
    }
    for (ValueId id : captures.Of(nodes[i])) read[static_cast<size_t>(id)] = true;
  }
  std::vector<Node> kept;
  kept.reserve(nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (keep[i]) kept.push_back(std::move(nodes[i]));
  }
  nodes = std::move(kept);
  for (size_t i = 0; i < values.size(); ++i) {
    if (read[i]) continue;
    values[i].data.reset();
    values[i].alternatives.reset();
  }
}

std::string Graph::UniqueName(absl::string_view stem) const {
  absl::flat_hash_set<absl::string_view> taken;
  for (const Value& v : values) {
    if (absl::StartsWith(v.name, stem)) taken.insert(v.name);
  }
  std::string candidate(stem);
  for (int i = 1; candidate.empty() || taken.contains(candidate); ++i) {
    candidate = absl::StrCat(stem, "_", i);
  }
  return candidate;
}

absl::Status Graph::Validate() const {
  OCTET_RETURN_IF_ERROR(CheckValues(*this));
  const auto in_range = [&](ValueId id) {
    return id >= 0 && static_cast<size_t>(id) < values.size();
  };
  std::vector<bool> ready(values.size());
  for (size_t i = 0; i < values.size(); ++i) ready[i] = values[i].is_constant();
  for (ValueId id : inputs) {
    if (!in_range(id))
      return absl::InvalidArgumentError(absl::StrCat("input id ", id, " out of range"));
    if (ready[static_cast<size_t>(id)]) {
      return absl::InvalidArgumentError(
          absl::StrCat("input '", value(id).name, "' is repeated or a constant"));
    }
    OCTET_RETURN_IF_ERROR(CheckComputed(value(id)));
    ready[static_cast<size_t>(id)] = true;
  }
  CaptureIndex captures(*this);
  for (const Node& node : nodes) {
    if (node.op.empty()) return absl::InvalidArgumentError("a node has no operator");
    std::vector<ValueId> reads = node.inputs;
    for (ValueId id : captures.Of(node)) reads.push_back(id);
    for (ValueId id : reads) {
      if (id == kNoValue) continue;
      if (!in_range(id)) {
        return absl::InvalidArgumentError(
            absl::StrCat(Describe(*this, node), " reads id ", id, ", out of range"));
      }
      if (!ready[static_cast<size_t>(id)]) {
        return absl::InvalidArgumentError(absl::StrCat(Describe(*this, node), " reads '",
                                                       value(id).name, "' before it is produced"));
      }
    }
    for (ValueId id : node.outputs) {
      if (id == kNoValue) continue;
      if (!in_range(id)) {
        return absl::InvalidArgumentError(
            absl::StrCat(Describe(*this, node), " writes id ", id, ", out of range"));
      }
      if (ready[static_cast<size_t>(id)]) {
        return absl::InvalidArgumentError(absl::StrCat(
            Describe(*this, node), " writes '", value(id).name, "', which has a value already"));
      }
      OCTET_RETURN_IF_ERROR(CheckComputed(value(id)));
      ready[static_cast<size_t>(id)] = true;
    }
  }
  for (ValueId id : outputs) {
    if (!in_range(id)) {
      return absl::InvalidArgumentError(absl::StrCat("output id ", id, " out of range"));
    }
    if (!ready[static_cast<size_t>(id)]) {
      return absl::InvalidArgumentError(
          absl::StrCat("output '", value(id).name, "' is produced by no node"));
    }
  }
  return absl::OkStatus();
}

std::string Describe(const Graph& graph, const Node& node) {
  if (!node.name.empty()) return absl::StrCat(node.op, " '", node.name, "'");
  std::string out = node.op;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (&graph.nodes[i] == &node) absl::StrAppend(&out, " #", i);
  }
  for (ValueId id : node.outputs) {
    if (id < 0 || static_cast<size_t>(id) >= graph.values.size()) continue;
    return absl::StrCat(out, " -> '", graph.value(id).name, "'");
  }
  return out;
}

}  // namespace octet::graph
