// Copies what depends on undecided weights and joins the copies' outputs.
#include "graph/ensemble.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "graph/control_flow.h"
#include "graph/draws.h"

namespace octet::graph {
namespace {

// Adds nodes with one output each behind a graph.
class Tail {
 public:
  explicit Tail(Graph* graph) : graph_(*graph) {}

  ValueId Add(const std::string& op, std::vector<ValueId> inputs, Shape shape, const std::string& name,
              absl::flat_hash_map<std::string, Attribute> attributes = {}) {
    Value value;
    value.name = graph_.UniqueName(name);
    value.dtype = DType::kF32;
    value.shape = std::move(shape);
    Node node;
    node.op = op;
    node.name = value.name;
    node.inputs = std::move(inputs);
    node.outputs = {graph_.AddValue(std::move(value))};
    node.attributes = std::move(attributes);
    graph_.nodes.push_back(node);
    return node.outputs[0];
  }
  ValueId Axes(std::vector<int64_t> axes) {
    const Shape shape = {static_cast<int64_t>(axes.size())};
    return graph_.AddConstant(graph_.UniqueName("ensemble_axes"), Tensor::FromS64(shape, axes));
  }
  ValueId Number(float x) {
    return graph_.AddConstant(graph_.UniqueName("ensemble_constant"), Tensor::FromF32({}, {x}));
  }

 private:
  Graph& graph_;
};

Shape Without(Shape shape, size_t axis) {
  shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(axis));
  return shape;
}

class Ensemble {
 public:
  Ensemble(const Graph& graph, const EnsembleOptions& options) : source_(graph), options_(options) {}

  absl::StatusOr<Graph> Run() {
    OCTET_RETURN_IF_ERROR(FindDependent());
    if (const auto it = source_.metadata.find(std::string(kTemperatures)); it != source_.metadata.end()) {
      OCTET_ASSIGN_OR_RETURN(temperature_, TemperatureOf(it->second, options_.samples));
    }
    out_.name = source_.name;
    out_.metadata = source_.metadata;
    out_.values = source_.values;
    out_.inputs = source_.inputs;
    for (Value& value : out_.values) {
      value.alternatives.reset();
      names_.insert(value.name);
    }
    for (const Node& node : source_.nodes) {
      if (!Depends(node)) out_.nodes.push_back(node);
    }
    for (int t = 0; t < options_.samples; ++t) AddSample(static_cast<uint32_t>(t));
    // Names of the originals are free for the joined outputs.
    for (ValueId id : source_.outputs) {
      if (dependent_[static_cast<size_t>(id)]) out_.value(id).name = absl::StrCat(source_.value(id).name, "/of_one_sample");
    }
    out_.outputs = source_.outputs;
    std::vector<ValueId> more;
    for (size_t i = 0; i < source_.outputs.size(); ++i) OCTET_RETURN_IF_ERROR(Join(i, &more));
    out_.outputs.insert(out_.outputs.end(), more.begin(), more.end());
    out_.RemoveDead();
    OCTET_RETURN_IF_ERROR(out_.Validate());
    return std::move(out_);
  }

 private:
  bool Depends(const Node& node) const {
    return std::any_of(node.outputs.begin(), node.outputs.end(),
                       [&](ValueId id) { return id != kNoValue && dependent_[static_cast<size_t>(id)]; });
  }

  absl::Status FindDependent() {
    dependent_.assign(source_.values.size(), false);
    const std::vector<bool> captured = source_.Captured();
    bool any = false;
    for (size_t i = 0; i < source_.values.size(); ++i) {
      dependent_[i] = source_.values[i].alternatives.has_value() && IsUndecided(source_.values[i]);
      any = any || dependent_[i];
    }
    if (!any) {
      return absl::FailedPreconditionError(
          "the file holds no undecided weight to draw samples from; compress with a distribution (docs/stochastic.md)");
    }
    for (const Node& node : source_.nodes) {
      const bool reads = std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) {
        return id != kNoValue && dependent_[static_cast<size_t>(id)];
      });
      if (!reads) continue;
      if (IsControlFlow(node)) {
        return absl::UnimplementedError(absl::StrCat(Describe(source_, node), " depends on undecided weights"));
      }
      for (ValueId id : node.outputs) {
        if (id != kNoValue) dependent_[static_cast<size_t>(id)] = true;
      }
    }
    for (size_t i = 0; i < captured.size(); ++i) {
      if (!captured[i] || !dependent_[i]) continue;
      return absl::UnimplementedError(
          absl::StrCat("control flow reads '", source_.values[i].name, "', which depends on undecided weights"));
    }
    return absl::OkStatus();
  }

  void AddSample(uint32_t t) {
    std::vector<ValueId> own(source_.values.size(), kNoValue);
    const auto mapped = [&](ValueId id) {
      if (id == kNoValue || !dependent_[static_cast<size_t>(id)]) return id;
      ValueId& to = own[static_cast<size_t>(id)];
      if (to != kNoValue) return to;
      Value value = source_.value(id);
      absl::StrAppend(&value.name, "/sample", t);
      while (!names_.insert(value.name).second) value.name += "_";
      if (value.alternatives.has_value()) {
        value.data = DrawCodes(value, options_.seed, t);
        value.alternatives.reset();
      }
      to = out_.AddValue(std::move(value));
      return to;
    };
    for (const Node& node : source_.nodes) {
      if (!Depends(node)) continue;
      Node copy = node;
      if (!copy.name.empty()) absl::StrAppend(&copy.name, "/sample", t);
      for (ValueId& id : copy.inputs) id = mapped(id);
      for (ValueId& id : copy.outputs) id = mapped(id);
      out_.nodes.push_back(std::move(copy));
    }
    samples_.push_back(std::move(own));
  }

  absl::StatusOr<EnsembleOptions::Outputs> KindOf(ValueId id) const {
    using Outputs = EnsembleOptions::Outputs;
    if (options_.outputs != Outputs::kAuto) return options_.outputs;
    const auto it = source_.metadata.find("ai.octet.outputs");
    if (it != source_.metadata.end()) {
      if (it->second == "classes") return Outputs::kClasses;
      if (it->second == "values") return Outputs::kValues;
      return absl::InvalidArgumentError(
          absl::StrCat("metadata ai.octet.outputs is '", it->second, "', expected classes or values"));
    }
    const Value& value = source_.value(id);
    if (value.shape->size() != 2 || (*value.shape)[1] == kUnknownDim || (*value.shape)[1] < 2) return Outputs::kValues;
    const Node* node = ProducerOf(id);
    while (node != nullptr && (node->op == "Dequantize" || node->op == "Flatten" || node->op == "Reshape" ||
                               node->op == "Squeeze" || node->op == "Identity")) {
      node = ProducerOf(node->inputs[0]);
    }
    const bool classes = node != nullptr && (node->op == "Softmax" || node->op == "Gemm" || node->op == "MatMul" ||
                                             node->op == "Conv" || node->op == "Add" || node->op == "GlobalAveragePool");
    return classes ? Outputs::kClasses : Outputs::kValues;
  }

  const Node* ProducerOf(ValueId id) const {
    for (const Node& node : source_.nodes) {
      if (std::find(node.outputs.begin(), node.outputs.end(), id) != node.outputs.end()) return &node;
    }
    return nullptr;
  }

  absl::Status Join(size_t index, std::vector<ValueId>* more) {
    const ValueId id = source_.outputs[index];
    if (!dependent_[static_cast<size_t>(id)]) return absl::OkStatus();
    const Value& value = source_.value(id);
    if (value.dtype != DType::kF32 || value.quant.has_value() || !value.shape.has_value() || value.shape->empty()) {
      return absl::UnimplementedError(absl::StrCat("output '", value.name, "' is ", NameOf(value.dtype), ", expected f32 with axes"));
    }
    const std::string name = value.name;
    const Shape shape = *value.shape;
    OCTET_ASSIGN_OR_RETURN(const EnsembleOptions::Outputs kind, KindOf(id));
    Tail tail(&out_);
    // [rows, T, ...]: samples beside each other within a row, so that rows stay rows.
    std::vector<ValueId> parts;
    Shape part = shape, stacked = shape;
    part.insert(part.begin() + 1, 1);
    stacked.insert(stacked.begin() + 1, options_.samples);
    for (const std::vector<ValueId>& own : samples_) {
      parts.push_back(tail.Add("Unsqueeze", {own[static_cast<size_t>(id)], tail.Axes({1})}, part, name + "/part"));
    }
    const ValueId stack = tail.Add("Concat", parts, stacked, name + "/samples", {{"axis", int64_t{1}}});
    out_.outputs[index] = kind == EnsembleOptions::Outputs::kClasses ? JoinClasses(id, stack, stacked, more)
                                                                     : JoinValues(id, stack, stacked, more);
    return absl::OkStatus();
  }

  // -sum over the last axis of p log p.
  ValueId Entropy(ValueId p, const Shape& shape, const std::string& name) {
    Tail tail(&out_);
    const ValueId some = tail.Add("Clip", {p, tail.Number(kLeastProbability)}, shape, name + "/some");
    const ValueId log = tail.Add("Log", {some}, shape, name + "/log");
    const ValueId products = tail.Add("Mul", {p, log}, shape, name + "/products");
    const int64_t last = static_cast<int64_t>(shape.size()) - 1;
    const Shape reduced = Without(shape, static_cast<size_t>(last));
    const ValueId sum = tail.Add("ReduceSum", {products, tail.Axes({last})}, reduced, name + "/sum", {{"keepdims", int64_t{0}}});
    return tail.Add("Neg", {sum}, reduced, name);
  }

  ValueId JoinClasses(ValueId id, ValueId stack, const Shape& stacked, std::vector<ValueId>* more) {
    Tail tail(&out_);
    const std::string& name = source_.value(id).name;
    const Shape shape = Without(stacked, 1), rows = {shape[0]};
    const Node* producer = ProducerOf(id);
    const bool probabilities = producer != nullptr && producer->op == "Softmax";
    ValueId p = stack;
    if (probabilities && temperature_ != 1) {
      const ValueId some = tail.Add("Clip", {p, tail.Number(kLeastProbability)}, stacked, name + "/possible");
      p = tail.Add("Log", {some}, stacked, name + "/log_probabilities");
    }
    if (temperature_ != 1) {
      p = tail.Add("Mul", {p, tail.Number(static_cast<float>(1 / temperature_))}, stacked, name + "/at_temperature");
    }
    if (!probabilities || temperature_ != 1) {
      p = tail.Add("Softmax", {p}, stacked, name + "/probabilities", {{"axis", static_cast<int64_t>(stacked.size()) - 1}});
    }
    const ValueId mean =
        tail.Add("ReduceMean", {p, tail.Axes({1})}, shape, probabilities ? name : name + "/mean", {{"keepdims", int64_t{0}}});
    ValueId result = mean;
    if (!probabilities) {
      const ValueId some = tail.Add("Clip", {mean, tail.Number(kLeastProbability)}, shape, name + "/some");
      result = tail.Add("Log", {some}, shape, name);
    }
    const ValueId total = Entropy(mean, shape, absl::StrCat(name, kPredictiveEntropy));
    const ValueId each = Entropy(p, stacked, name + "/entropies");
    const ValueId within =
        tail.Add("ReduceMean", {each, tail.Axes({1})}, Without(shape, shape.size() - 1), name + "/within", {{"keepdims", int64_t{0}}});
    const ValueId apart = tail.Add("Sub", {total, within}, Without(shape, shape.size() - 1), name + "/apart");
    // Not negative but for rounding.
    const ValueId information =
        tail.Add("Relu", {apart}, Without(shape, shape.size() - 1), absl::StrCat(name, kMutualInformation));
    more->push_back(total);
    more->push_back(information);
    return result;
  }

  ValueId JoinValues(ValueId id, ValueId stack, const Shape& stacked, std::vector<ValueId>* more) {
    Tail tail(&out_);
    const std::string& name = source_.value(id).name;
    const Shape shape = Without(stacked, 1);
    Shape kept = stacked;
    kept[1] = 1;
    const ValueId mean = tail.Add("ReduceMean", {stack, tail.Axes({1})}, shape, name, {{"keepdims", int64_t{0}}});
    const ValueId wide = tail.Add("Unsqueeze", {mean, tail.Axes({1})}, kept, name + "/mean_of_samples");
    const ValueId apart = tail.Add("Sub", {stack, wide}, stacked, name + "/apart");
    const ValueId squares = tail.Add("Mul", {apart, apart}, stacked, name + "/squares");
    const ValueId sum = tail.Add("ReduceSum", {squares, tail.Axes({1})}, shape, name + "/sum", {{"keepdims", int64_t{0}}});
    const ValueId variance =
        tail.Add("Mul", {sum, tail.Number(1.0f / static_cast<float>(options_.samples - 1))}, shape, name + "/variance");
    more->push_back(tail.Add("Sqrt", {variance}, shape, absl::StrCat(name, kStandardDeviation)));
    return mean;
  }

  const Graph& source_;
  const EnsembleOptions options_;
  double temperature_ = 1;
  Graph out_;
  absl::flat_hash_set<std::string> names_;
  std::vector<bool> dependent_;                // per value of the source
  std::vector<std::vector<ValueId>> samples_;  // per sample and value of the source, the copy
};

}  // namespace

absl::StatusOr<double> TemperatureOf(absl::string_view temperatures, int samples) {
  std::optional<double> chosen;
  int before = 0;
  for (const absl::string_view entry : absl::StrSplit(temperatures, ' ', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(entry, absl::MaxSplits(':', 1));
    int of = 0;
    double temperature = 0;
    if (!absl::SimpleAtoi(parts.first, &of) || !absl::SimpleAtod(parts.second, &temperature) || of <= before ||
        !(temperature >= 0.01 && temperature <= 100)) {
      return absl::InvalidArgumentError(
          absl::StrCat("metadata ", kTemperatures, ": '", entry,
                       "', expected SAMPLES:TEMPERATURE, samples ascending, temperatures from 0.01 to 100"));
    }
    if (!chosen.has_value() || of <= samples) chosen = temperature;
    before = of;
  }
  return chosen.value_or(1);
}

absl::StatusOr<Graph> MakeEnsemble(const Graph& graph, const EnsembleOptions& options) {
  if (options.samples < 2 || options.samples > kMostSamples) {
    return absl::InvalidArgumentError(
        absl::StrCat("an ensemble of ", options.samples, " samples, expected 2 to ", kMostSamples));
  }
  return Ensemble(graph, options).Run();
}

}  // namespace octet::graph
