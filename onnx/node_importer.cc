// Emitting nodes with types, shapes and quant known as far as the file tells them.
#include "onnx/node_importer.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "graph/control_flow.h"
#include "graph/shape_inference.h"

namespace octet::onnx_io {
namespace {

using graph::kNoValue;
using graph::Value;
using graph::ValueId;

enum class QuantUse {
  kRefuse,  // the operator computes on numbers: stored integers become plain ones before it
  kIgnore,  // it reads the shape only
  kFirst,   // it moves elements of operand 0
  kAll,     // it moves or compares elements of all operands, which must agree
};

QuantUse QuantUseOf(absl::string_view op) {
  constexpr absl::string_view kMoves[] = {
      "Identity",     "Reshape",      "Flatten",   "Transpose",      "Squeeze",
      "Unsqueeze",    "Slice",        "Gather",    "GatherElements", "GatherND",
      "Split",        "Expand",       "Tile",      "MaxPool",        "GlobalMaxPool",
      "DepthToSpace", "SpaceToDepth", "ReduceMax", "ReduceMin"};
  constexpr absl::string_view kCompares[] = {"Concat", "Max", "Min"};
  if (std::find(std::begin(kMoves), std::end(kMoves), op) != std::end(kMoves)) {
    return QuantUse::kFirst;
  }
  if (std::find(std::begin(kCompares), std::end(kCompares), op) != std::end(kCompares)) {
    return QuantUse::kAll;
  }
  return op == "Shape" || op == "Size" ? QuantUse::kIgnore : QuantUse::kRefuse;
}

}  // namespace

std::string Quoted(absl::string_view name) {
  constexpr size_t kMaxShown = 120;
  const bool cut = name.size() > kMaxShown;
  return absl::StrCat("'", absl::CHexEscape(name.substr(0, kMaxShown)), cut ? "..." : "", "'");
}

std::string ImportState::UniqueName(absl::string_view stem) {
  std::string name(stem);
  if (used_names.insert(name).second) return name;
  int& suffix = next_suffix[name];
  do {
    name = absl::StrCat(stem, "_", ++suffix);
  } while (!used_names.insert(name).second);
  return name;
}

ValueId ImportState::AddNamed(Value value) {
  const std::string name = value.name;
  if (const auto other = renamed.find(name); other != renamed.end()) value.name = other->second;
  const ValueId id = graph.AddValue(std::move(value));
  values[name] = id;
  const auto read = readers.find(name);
  if (read != readers.end()) value_readers[id] = read->second;
  return id;
}

bool NodeImporter::OutputIsRead(size_t i) const {
  if (i >= num_outputs()) return false;
  const auto it = state_.readers.find(proto_.output(static_cast<int>(i)));
  return it != state_.readers.end() && (it->second.total > 0 || it->second.is_output);
}

bool NodeImporter::OnlyDequantized(ValueId id) const {
  const auto it = state_.value_readers.find(id);
  if (it == state_.value_readers.end()) return true;
  return !it->second.is_output && it->second.total == it->second.dequantize;
}

int64_t NodeImporter::Int(absl::string_view key, int64_t absent) const {
  const auto it = attributes.find(key);
  return it == attributes.end() ? absent : std::get<int64_t>(it->second);
}

float NodeImporter::Float(absl::string_view key, float absent) const {
  const auto it = attributes.find(key);
  return it == attributes.end() ? absent : std::get<float>(it->second);
}

std::string NodeImporter::String(absl::string_view key, absl::string_view absent) const {
  const auto it = attributes.find(key);
  return it == attributes.end() ? std::string(absent) : std::get<std::string>(it->second);
}

const std::vector<int64_t>* NodeImporter::Ints(absl::string_view key) const {
  const auto it = attributes.find(key);
  return it == attributes.end() ? nullptr : std::get_if<std::vector<int64_t>>(&it->second);
}

const std::vector<float>* NodeImporter::Floats(absl::string_view key) const {
  const auto it = attributes.find(key);
  return it == attributes.end() ? nullptr : std::get_if<std::vector<float>>(&it->second);
}

const Tensor* NodeImporter::ConstantInput(size_t i) const {
  if (!has_input(i)) return nullptr;
  const Value& v = value(inputs[i]);
  return v.data.has_value() ? &*v.data : nullptr;
}

const Tensor* NodeImporter::ConstantBehindCast(size_t i) const {
  if (const Tensor* direct = ConstantInput(i)) return direct;
  if (!has_input(i) || value(inputs[i]).dtype != DType::kF32) return nullptr;
  const auto it = state_.casts.find(inputs[i]);
  if (it == state_.casts.end()) return nullptr;
  const Value& v = value(it->second);
  return v.data.has_value() && !v.quant.has_value() && IsFloat(v.dtype) && v.dtype != DType::kF64
             ? &*v.data
             : nullptr;
}

std::optional<int64_t> NodeImporter::Rank(ValueId id) const {
  const Value& v = value(id);
  if (!v.shape.has_value()) return std::nullopt;
  return static_cast<int64_t>(v.shape->size());
}

std::string NodeImporter::Output(size_t i) const {
  return i < num_outputs() ? proto_.output(static_cast<int>(i)) : std::string();
}

std::string NodeImporter::Fresh(absl::string_view stem) {
  std::string base;
  for (const std::string& name : proto_.output()) {
    if (base.empty()) base = name;
  }
  return state_.UniqueName(absl::StrCat(base, "_", stem));
}

absl::StatusOr<std::vector<ValueId>> NodeImporter::Emit(absl::string_view op,
                                                        std::vector<ValueId> operands,
                                                        std::vector<std::string> outputs,
                                                        AttributeMap attrs) {
  while (!operands.empty() && operands.back() == kNoValue) operands.pop_back();
  // Split counts its outputs, omitted ones too.
  while (op != "Split" && !outputs.empty() && outputs.back().empty()) outputs.pop_back();
  const bool explicit_quant = op == "Quantize" || op == "Dequantize" || op == "Reinterpret";
  const bool quantized = std::any_of(operands.begin(), operands.end(), [&](ValueId id) {
    return id != kNoValue && value(id).quant.has_value();
  });
  const bool stored = quantized && !explicit_quant && !reads_reals;
  const bool keeps = stored && KeepsQuant(op, operands);
  for (ValueId& id : operands) {
    if (!stored || keeps || id == kNoValue || !value(id).quant.has_value()) continue;
    OCTET_ASSIGN_OR_RETURN(id, PlainIntegers(id));
  }
  graph::Node node;
  node.op = std::string(op);
  node.name = proto_.name();
  node.inputs = operands;
  node.attributes = std::move(attrs);

  std::vector<graph::ResultInfo> results;
  if (op == "Quantize" || op == "Dequantize") {
    results = {{DType::kF32, value(operands[0]).shape}};
  } else {
    if (!graph::HasShapeRule("", op)) {
      return absl::UnimplementedError(absl::StrCat("operator ", op, " is not supported"));
    }
    std::vector<graph::OperandInfo> infos;
    for (ValueId id : operands) {
      graph::OperandInfo info;
      info.present = id != kNoValue;
      if (info.present) {
        const Value& v = value(id);
        info.dtype = v.quant.has_value() ? DType::kF32 : v.dtype;
        info.shape = v.shape;
        info.constant = v.data.has_value() && !v.quant.has_value() ? &*v.data : nullptr;
      }
      infos.push_back(std::move(info));
    }
    // Some rules count the outputs (Split), so the node carries placeholders for them.
    node.outputs.assign(outputs.size(), kNoValue);
    OCTET_ASSIGN_OR_RETURN(results, graph::InferNode(node, infos));
  }
  if (results.size() < outputs.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(op, " has ", results.size(), " outputs, found ", outputs.size()));
  }
  std::vector<ValueId> ids;
  for (size_t i = 0; i < outputs.size(); ++i) {
    Value v;
    v.name = outputs[i];
    v.dtype = results[i].dtype;
    v.shape = results[i].shape;
    ids.push_back(outputs[i].empty() ? kNoValue : state_.AddNamed(std::move(v)));
  }
  if (keeps && QuantUseOf(op) != QuantUse::kIgnore) CarryQuant(operands, ids);
  if (op == "Cast" && ids.size() == 1) state_.casts[ids[0]] = operands[0];
  node.outputs = ids;
  state_.graph.nodes.push_back(std::move(node));
  return ids;
}

bool NodeImporter::KeepsQuant(absl::string_view op, const std::vector<ValueId>& operands) const {
  const auto quantized = [&](ValueId id) { return id != kNoValue && value(id).quant.has_value(); };
  const QuantUse use = QuantUseOf(op);
  if (use == QuantUse::kIgnore) return true;
  const ValueId first = operands[0];
  bool ok = use != QuantUse::kRefuse && quantized(first) && value(first).quant->per_tensor();
  for (size_t i = 1; ok && i < operands.size(); ++i) {
    if (use == QuantUse::kFirst) {
      ok = !quantized(operands[i]);
    } else {
      ok = quantized(operands[i]) && value(operands[i]).quant == value(first).quant &&
           value(operands[i]).dtype == value(first).dtype;
    }
  }
  return ok;
}

absl::StatusOr<ValueId> NodeImporter::PlainIntegers(ValueId id) {
  const Value& v = value(id);
  if (v.is_constant()) return AddConstant("integers", *v.data);
  AttributeMap attrs;
  attrs["to"] = int64_t{DTypeToOnnx(v.dtype)};
  return Emit1("Reinterpret", {id}, Fresh("integers"), std::move(attrs));
}

void NodeImporter::CarryQuant(const std::vector<ValueId>& operands,
                              const std::vector<ValueId>& results) {
  const Value first = value(operands[0]);
  for (ValueId id : results) {
    if (id != kNoValue) SetQuant(id, first.dtype, *first.quant);
  }
}

absl::StatusOr<ValueId> NodeImporter::Emit1(absl::string_view op, std::vector<ValueId> operands,
                                            std::string output, AttributeMap attrs) {
  if (output.empty()) output = Fresh("unnamed");
  OCTET_ASSIGN_OR_RETURN(const std::vector<ValueId> ids,
                         Emit(op, std::move(operands), {std::move(output)}, std::move(attrs)));
  return ids[0];
}

absl::Status NodeImporter::EmitSelf() {
  std::vector<std::string> outputs;
  for (size_t i = 0; i < num_outputs(); ++i) outputs.push_back(Output(i));
  return Emit(op(), inputs, std::move(outputs), attributes).status();
}

absl::Status NodeImporter::EmitControlFlow() {
  graph::Node node;
  node.op = std::string(op());
  node.name = proto_.name();
  node.inputs = inputs;
  node.attributes = attributes;
  node.outputs.assign(num_outputs(), kNoValue);
  std::vector<graph::OperandInfo> operands;
  for (ValueId id : inputs) {
    graph::OperandInfo info;
    info.present = id != kNoValue;
    if (info.present && value(id).quant.has_value()) {
      return absl::UnimplementedError(
          absl::StrCat(op(), " on stored integers of a quantized tensor is not supported"));
    }
    if (info.present) info.dtype = value(id).dtype;
    if (info.present) info.shape = value(id).shape;
    operands.push_back(std::move(info));
  }
  OCTET_ASSIGN_OR_RETURN(const std::vector<graph::ResultInfo> results,
                         graph::InferControlFlow(&node, operands, [&](absl::string_view name) {
                           const auto it = captured.find(name);
                           return it == captured.end() ? nullptr : &value(it->second);
                         }));
  for (size_t i = 0; i < num_outputs(); ++i) {
    if (Output(i).empty()) continue;
    Value v;
    v.name = Output(i);
    v.dtype = results[i].dtype;
    v.shape = results[i].shape;
    node.outputs[i] = state_.AddNamed(std::move(v));
  }
  state_.graph.nodes.push_back(std::move(node));
  return absl::OkStatus();
}

ValueId NodeImporter::AddConstant(absl::string_view stem, Tensor tensor) {
  return state_.graph.AddConstant(Fresh(stem), std::move(tensor));
}

ValueId NodeImporter::AddInts(absl::string_view stem, const std::vector<int64_t>& values) {
  return AddConstant(stem, Tensor::FromS64({static_cast<int64_t>(values.size())}, values));
}

void NodeImporter::SetConstant(size_t i, Tensor tensor) {
  Value v;
  v.name = Output(i);
  v.dtype = tensor.dtype();
  v.shape = tensor.shape();
  v.data = std::move(tensor);
  state_.AddNamed(std::move(v));
}

absl::Status NodeImporter::Alias(size_t i, ValueId id) {
  const std::string name = Output(i);
  const auto read = state_.readers.find(name);
  if (read != state_.readers.end() && read->second.is_output) {
    return Emit("Identity", {id}, {name}).status();  // callers know the output by this name
  }
  state_.values[name] = id;
  Readers& all = state_.value_readers[id];
  if (read != state_.readers.end()) {
    all.total += read->second.total;
    all.dequantize += read->second.dequantize;
  }
  return absl::OkStatus();
}

ValueId NodeImporter::QuantizedConstant(ValueId id, const QuantParams& quant) {
  if (value(id).quant == quant) return id;
  if (!value(id).quant.has_value() && OnlyDequantized(id)) {
    state_.graph.value(id).quant = quant;
    return id;
  }
  std::vector<ValueId>& copies = state_.quantized_copies[id];
  constexpr size_t kMaxCompared =
      64;  // real files have one or two; a hostile one must not make this quadratic
  for (size_t i = 0; i < std::min(copies.size(), kMaxCompared); ++i) {
    if (value(copies[i]).quant == quant) return copies[i];
  }
  Value v = value(id);
  v.name = state_.UniqueName(absl::StrCat(v.name, "_quantized"));
  v.quant = quant;
  copies.push_back(state_.graph.AddValue(std::move(v)));
  return copies.back();
}

void NodeImporter::SetQuant(ValueId id, DType dtype, QuantParams quant) {
  Value& v = state_.graph.value(id);
  v.dtype = dtype;
  v.quant = std::move(quant);
}

}  // namespace octet::onnx_io
