// The importer: file, model, names, nodes, canonical form; each step refuses what the next must not
// see.
#include "onnx/import.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"
#include "graph/control_flow.h"
#include "graph/rewrites.h"
#include "graph/shape_inference.h"
#include "onnx/decode_weights.h"
#include "onnx/node_importer.h"
#include "onnx/node_order.h"
#include "onnx/rules.h"
#include "onnx/wire.h"

namespace octet::onnx_io {
namespace {

using graph::Value;
using graph::ValueId;
using ::onnx::GraphProto;
using ::onnx::ModelProto;
using ::onnx::NodeProto;
using ::onnx::ValueInfoProto;

constexpr int64_t kMinIr = 3, kMaxIr = 10, kMinOpset = 1, kMaxOpset = 22;

// True for well-formed UTF-8 without control characters: names of inputs and outputs go onto the
// wire.
bool IsPrintableUtf8(absl::string_view s) {
  size_t i = 0;
  while (i < s.size()) {
    const auto at = [&](size_t k) { return static_cast<unsigned char>(s[k]); };
    const unsigned char c = at(i);
    const size_t more = c < 0x80 ? 0 : c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    if (c < 0x20 || c == 0x7f || (c >= 0x80 && c < 0xc2) || c > 0xf4) return false;
    if (more >= s.size() - i) return false;
    for (size_t k = 1; k <= more; ++k) {
      if ((at(i + k) & 0xc0) != 0x80) return false;
    }
    const bool overlong = (c == 0xe0 && at(i + 1) < 0xa0) || (c == 0xf0 && at(i + 1) < 0x90);
    const bool surrogate = c == 0xed && at(i + 1) >= 0xa0;
    const bool beyond = c == 0xf4 && at(i + 1) >= 0x90;
    if (overlong || surrogate || beyond) return false;
    i += more + 1;
  }
  return true;
}

// "ai.onnx" and "" are the same domain.
absl::string_view DomainOf(const std::string& domain) {
  return domain == "ai.onnx" ? absl::string_view() : absl::string_view(domain);
}

class Importer {
 public:
  Importer(const ModelProto& model, TensorSource source, bool has_functions)
      : model_(model), proto_(model.graph()), parent_(nullptr), has_functions_(has_functions) {
    state_.source = std::move(source);
    constexpr int64_t kAlways = 1 << 20;
    state_.scales_left = kAlways + state_.source.file->size_bytes();
    state_.folded_bytes_left = state_.scales_left;
  }

  absl::StatusOr<graph::Graph> Run() {
    OCTET_RETURN_IF_ERROR(CheckVersions());
    OCTET_RETURN_IF_ERROR(ImportGraph());
    return Finish();
  }

 private:
  // A subgraph of `parent`'s graph.
  Importer(const GraphProto& proto, Importer* parent)
      : model_(parent->model_), proto_(proto), parent_(parent), has_functions_(parent->has_functions_) {}

  absl::Status ImportGraph() {
    OCTET_ASSIGN_OR_RETURN(NodeOrder order, OrderNodes(proto_, [this](const std::string& name) {
                             return parent_ != nullptr && parent_->Knows(name);
                           }));
    state_.readers = std::move(order.readers);
    ReserveNames();
    OCTET_RETURN_IF_ERROR(AddInitializers());
    OCTET_RETURN_IF_ERROR(AddInputs());
    for (int i : order.nodes) {
      const NodeProto& node = proto_.node(i);
      const absl::Status status = ImportNode(node);
      if (!status.ok()) return Annotate(status, DescribeNode(node, i));
    }
    return AddOutputs();
  }

  // What nested importers share: names, budgets and the file.
  static void SwapShared(ImportState* a, ImportState* b) {
    std::swap(a->source, b->source);
    std::swap(a->opset, b->opset);
    std::swap(a->used_names, b->used_names);
    std::swap(a->next_suffix, b->next_suffix);
    std::swap(a->scales_left, b->scales_left);
    std::swap(a->folded_bytes_left, b->folded_bytes_left);
  }

  absl::StatusOr<std::shared_ptr<const graph::Graph>> ImportSubgraph(const GraphProto& proto) {
    Importer inner(proto, this);
    SwapShared(&state_, &inner.state_);
    const absl::Status status = inner.ImportGraph();
    SwapShared(&state_, &inner.state_);
    OCTET_RETURN_IF_ERROR(status);
    graph::Graph g = std::move(inner.state_.graph);
    g.name = proto.name();
    graph::RemoveIdentities(&g);
    graph::AbsorbQuantization(&g);
    g.RemoveDead();
    return std::make_shared<const graph::Graph>(std::move(g));
  }

  // True when this graph or one around it gives the name.
  bool Knows(const std::string& name) const {
    return state_.values.contains(name) || (parent_ != nullptr && parent_->Knows(name));
  }

  // The value of this name; one of a graph around becomes captured, or a constant of its own.
  ValueId Find(const std::string& name) {
    if (const auto it = state_.values.find(name); it != state_.values.end()) return it->second;
    if (parent_ == nullptr || !parent_->Knows(name)) return graph::kNoValue;
    const Value& outer = parent_->state_.graph.value(parent_->Find(name));
    Value value = outer;
    if (value.is_constant()) {
      value.name = state_.UniqueName(absl::StrCat(value.name, "_captured"));
    } else {
      value.dim_names.clear();
    }
    const bool constant = value.is_constant();
    const ValueId id = state_.graph.AddValue(std::move(value));
    state_.values[name] = id;
    Readers& readers = state_.value_readers[id];
    if (const auto read = state_.readers.find(name); read != state_.readers.end()) {
      readers = read->second;
    }
    readers.is_output = readers.is_output || !constant;  // others read it, too
    return id;
  }

  // Reads the subgraphs of a node into its attributes. Of an If whose condition is constant, only
  // the branch that it takes.
  absl::Status ImportSubgraphs(const NodeProto& node, NodeImporter* importer) {
    const Tensor* condition = node.op_type() == "If" ? importer->ConstantInput(0) : nullptr;
    absl::string_view skipped;
    if (condition != nullptr && condition->num_elements() == 1) {
      skipped = condition->ToS64()[0] != 0 ? "else_branch" : "then_branch";
    }
    absl::flat_hash_map<std::string, std::shared_ptr<const graph::Graph>> made;
    for (const auto& a : node.attribute()) {
      if (!a.has_g()) continue;
      if (made.contains(a.name())) {
        return absl::InvalidArgumentError(absl::StrCat("attribute ", Quoted(a.name()), " is given twice"));
      }
      auto& sub = made[a.name()];
      if (a.name() == skipped) continue;
      absl::StatusOr<std::shared_ptr<const graph::Graph>> inner = ImportSubgraph(a.g());
      if (!inner.ok()) return Annotate(inner.status(), absl::StrCat("attribute ", Quoted(a.name())));
      sub = *std::move(inner);
    }
    for (const auto& [name, sub] : made) {
      const auto& taken = sub != nullptr ? sub : made[skipped == "else_branch" ? "then_branch" : "else_branch"];
      if (taken == nullptr) return absl::InvalidArgumentError("a branch is missing");
      importer->attributes[name] = taken;
    }
    // By the names in this graph: what the subgraphs capture.
    for (const std::string& name : CapturedNames(node)) {
      const ValueId id = Find(name);
      if (id != graph::kNoValue) importer->captured[importer->value(id).name] = id;
    }
    return absl::OkStatus();
  }

  absl::Status CheckVersions() {
    if (model_.ir_version() < kMinIr || model_.ir_version() > kMaxIr) {
      return absl::UnimplementedError(absl::StrCat("IR version: expected ", kMinIr, " to ", kMaxIr,
                                                   ", found ", model_.ir_version()));
    }
    for (const auto& import : model_.opset_import()) {
      if (import.domain() == kOctetDomain && import.version() != kOctetVersion) {
        return absl::UnimplementedError(absl::StrCat("opset of ", kOctetDomain, ": expected ", kOctetVersion,
                                                     ", found ", import.version()));
      }
      if (!DomainOf(import.domain()).empty()) continue;  // matters only when a node uses it
      if (state_.opset != 0 && state_.opset != import.version()) {
        return absl::InvalidArgumentError(absl::StrCat("opset ", state_.opset, " and opset ",
                                                       import.version(), " are both imported"));
      }
      state_.opset = import.version();
    }
    const auto& nodes = model_.graph().node();
    const bool used = std::any_of(nodes.begin(), nodes.end(), [](const NodeProto& node) {
      return DomainOf(node.domain()).empty();
    });
    if (state_.opset == 0 && !used) state_.opset = kMaxOpset;  // all nodes are of other domains
    if (state_.opset < kMinOpset || state_.opset > kMaxOpset) {
      return absl::UnimplementedError(absl::StrCat("opset of ai.onnx: expected ", kMinOpset, " to ",
                                                   kMaxOpset, ", found ", state_.opset));
    }
    return absl::OkStatus();
  }

  void ReserveNames() {
    const auto reserve = [this](const std::string& name) {
      if (state_.used_names.insert(name).second || parent_ == nullptr || name.empty()) return;
      if (state_.renamed.contains(name)) return;  // an initializer that is an input, too
      std::string fresh = state_.UniqueName(name);
      state_.renamed.emplace(name, std::move(fresh));
    };
    for (const auto& v : proto_.input()) reserve(v.name());
    for (const auto& v : proto_.initializer()) reserve(v.name());
    for (const auto& node : proto_.node()) {
      for (const std::string& name : node.output()) reserve(name);
    }
  }

  absl::Status AddInitializers() {
    for (const auto& proto : proto_.initializer()) {
      const std::string who = absl::StrCat("initializer ", Quoted(proto.name()));
      if (proto.name().empty()) return absl::InvalidArgumentError("an initializer has no name");
      if (state_.values.contains(proto.name())) {
        return absl::InvalidArgumentError(absl::StrCat(who, " is given twice"));
      }
      absl::StatusOr<Tensor> tensor = LoadTensor(proto, &state_.source);
      if (!tensor.ok()) return Annotate(tensor.status(), who);
      Value value;
      value.name = proto.name();
      value.dtype = tensor->dtype();
      value.shape = tensor->shape();
      value.data = *std::move(tensor);
      state_.AddNamed(std::move(value));
    }
    return absl::OkStatus();
  }

  // Type and shape that the file declares; dimensions that are not positive numbers are free.
  static absl::StatusOr<Value> DeclaredValue(const ValueInfoProto& info) {
    if (info.name().empty()) return absl::InvalidArgumentError("it has no name");
    if (!IsPrintableUtf8(info.name())) {
      return absl::InvalidArgumentError("its name is not printable UTF-8");
    }
    if (!info.type().has_tensor_type()) {
      return absl::UnimplementedError(absl::StrCat("expected a tensor, found ",
                                                   info.type().has_sequence_type()   ? "a sequence"
                                                   : info.type().has_optional_type() ? "an optional value"
                                                                                     : "another or no type"));
    }
    const auto& type = info.type().tensor_type();
    Value value;
    value.name = info.name();
    value.dtype = DTypeFromOnnx(type.elem_type());
    if (value.dtype == DType::kInvalid) {
      return absl::UnimplementedError(
          absl::StrCat("tensors of ", OnnxTypeName(type.elem_type()), " are not supported"));
    }
    if (!type.has_shape()) return value;
    if (type.shape().dim_size() > kMaxRank) {
      return absl::InvalidArgumentError(absl::StrCat(
          "expected at most ", kMaxRank, " dimensions, found ", type.shape().dim_size()));
    }
    Shape shape, known;
    for (const auto& dim : type.shape().dim()) {
      shape.push_back(dim.dim_value() > 0 ? dim.dim_value() : kUnknownDim);
      if (dim.dim_value() > 0) known.push_back(dim.dim_value());
      value.dim_names.push_back(IsPrintableUtf8(dim.dim_param()) ? dim.dim_param() : "");
    }
    OCTET_RETURN_IF_ERROR(CheckedByteSize(value.dtype, known).status());
    value.shape = std::move(shape);
    return value;
  }

  absl::Status AddInputs() {
    for (const ValueInfoProto& info : proto_.input()) {
      const auto existing = state_.values.find(info.name());
      if (existing != state_.values.end() && state_.graph.value(existing->second).is_constant()) {
        continue;  // IR 3 repeats initializers as inputs; later they may be defaults of inputs
      }
      const std::string who = absl::StrCat("graph input ", Quoted(info.name()));
      if (existing != state_.values.end()) {
        return absl::InvalidArgumentError(absl::StrCat(who, " is given twice"));
      }
      absl::StatusOr<Value> value = Value{};
      if (parent_ != nullptr && info.has_type() == false && !info.name().empty()) {
        value->name = info.name();  // a subgraph's inputs get their types from outside
      } else {
        value = DeclaredValue(info);
      }
      if (!value.ok()) return Annotate(value.status(), who);
      const ValueId id = state_.AddNamed(*std::move(value));
      state_.graph.inputs.push_back(id);
      state_.graph_inputs.insert(id);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<const Rule*> RuleFor(const NodeProto& node) const {
    const absl::string_view domain = DomainOf(node.domain());
    if (const Rule* rule = FindRule(domain, node.op_type())) return rule;
    const absl::string_view reason = ReasonNotSupported(domain, node.op_type());
    std::string where =
        domain.empty() ? absl::StrCat("ai.onnx, opset ", state_.opset) : Quoted(node.domain());
    if (has_functions_) absl::StrAppend(&where, "; model-local functions are not supported");
    return absl::UnimplementedError(absl::StrCat("operator ", Quoted(node.op_type()), " (", where,
                                                 ") is not supported", reason.empty() ? "" : ": ",
                                                 reason));
  }

  static absl::Status CheckArity(const Rule& rule, const NodeProto& node) {
    const int in = node.input_size(), out = node.output_size();
    bool ok = in >= rule.min_inputs && (rule.max_inputs == kAnyNumber || in <= rule.max_inputs);
    for (int i = 0; ok && i < rule.min_inputs; ++i) {
      // QOperator forms leave zero points out by an empty name.
      ok = !node.input(i).empty() || rule.domain == "com.microsoft";
    }
    if (ok && in > 0 && rule.min_inputs > 0) ok = !node.input(0).empty();
    if (!ok) {
      const std::string most =
          rule.max_inputs == kAnyNumber ? "any number of" : absl::StrCat(rule.max_inputs);
      return absl::InvalidArgumentError(absl::StrCat("expected ", rule.min_inputs, " to ", most,
                                                     " inputs, found ", in, " or an empty one"));
    }
    if (out < 1 || (rule.max_outputs != kAnyNumber && out > rule.max_outputs)) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected 1 to ", rule.max_outputs, " outputs, found ", out));
    }
    return absl::OkStatus();
  }

  std::string Attributes(const Rule& rule) const {
    const std::string legacy = rule.domain.empty() ? LegacyAttributes(rule.op, state_.opset) : "";
    return absl::StrCat(rule.attributes, legacy);
  }

  absl::Status ImportNode(const NodeProto& node) {
    OCTET_ASSIGN_OR_RETURN(const Rule* rule, RuleFor(node));
    OCTET_RETURN_IF_ERROR(CheckArity(*rule, node));
    OCTET_ASSIGN_OR_RETURN(AttributeMap attributes,
                           ReadAttributes(node, Attributes(*rule), &state_.source));
    std::vector<ValueId> inputs;
    for (const std::string& name : node.input()) {
      if (name.empty()) {
        inputs.push_back(graph::kNoValue);
        continue;
      }
      const ValueId id = Find(name);
      if (id == graph::kNoValue) {
        return absl::UnimplementedError(
            absl::StrCat("input ", Quoted(name), " is an output that import does not give"));
      }
      inputs.push_back(id);
    }
    NodeImporter importer(&state_, node, std::move(attributes), std::move(inputs));
    if (rule->domain.empty()) OCTET_RETURN_IF_ERROR(TranslateLegacy(importer));
    OCTET_RETURN_IF_ERROR(ImportSubgraphs(node, &importer));
    return rule->translate == nullptr ? importer.EmitSelf() : rule->translate(importer);
  }

  absl::Status AddOutputs() {
    if (proto_.output_size() == 0) {
      return absl::InvalidArgumentError("the graph has no output");
    }
    for (const ValueInfoProto& info : proto_.output()) {
      const std::string who = absl::StrCat("graph output ", Quoted(info.name()));
      if (!IsPrintableUtf8(info.name())) {
        return absl::InvalidArgumentError(absl::StrCat(who, ": its name is not printable UTF-8"));
      }
      const ValueId id = Find(info.name());
      if (id == graph::kNoValue) {
        return absl::UnimplementedError(
            absl::StrCat(who, " is a node's output that import does not give"));
      }
      state_.graph.outputs.push_back(id);
    }
    return absl::OkStatus();
  }

  // Declared names of dimensions, and a declared type that the computed one must agree with.
  absl::Status CheckDeclaredOutputs(graph::Graph* g) const {
    for (int i = 0; i < proto_.output_size(); ++i) {
      const ValueInfoProto& info = proto_.output(i);
      const std::string who = absl::StrCat("graph output ", Quoted(info.name()));
      if (!info.has_type()) continue;
      absl::StatusOr<Value> declared = DeclaredValue(info);
      if (!declared.ok()) return Annotate(declared.status(), who);
      Value& value = g->value(g->outputs[static_cast<size_t>(i)]);
      if (value.dtype != DType::kInvalid && value.dtype != declared->dtype) {
        return absl::InvalidArgumentError(absl::StrCat(who, ": declared ", NameOf(declared->dtype),
                                                       ", computed ", NameOf(value.dtype)));
      }
      // Of an output whose rank only a run tells, the names say how many dimensions the file means.
      if (!value.shape.has_value() && value.dim_names.empty()) value.dim_names = declared->dim_names;
      const bool fits = value.shape.has_value() && value.dim_names.empty() &&
                        declared->dim_names.size() == value.shape->size();
      if (fits) value.dim_names = std::move(declared->dim_names);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<graph::Graph> Finish() {
    graph::Graph g = std::move(state_.graph);
    g.name = model_.graph().name();
    for (const auto& entry : model_.metadata_props()) g.metadata[entry.key()] = entry.value();
    OCTET_RETURN_IF_ERROR(graph::NormalizeSubgraphs(&g));
    OCTET_RETURN_IF_ERROR(graph::InlineConstantIfs(&g).status());
    graph::RemoveIdentities(&g);
    graph::AbsorbQuantization(&g);
    g.RemoveDead();
    OCTET_RETURN_IF_ERROR(graph::InferShapes(&g));
    OCTET_RETURN_IF_ERROR(CheckDeclaredOutputs(&g));
    OCTET_RETURN_IF_ERROR(g.Validate());
    return g;
  }

  const ModelProto& model_;
  const GraphProto& proto_;
  Importer* const parent_;  // nullptr: the main graph
  const bool has_functions_;
  ImportState state_;
};

absl::StatusOr<graph::Graph> ImportModel(std::shared_ptr<const Buffer> bytes,
                                         const std::string& folder, const ImportOptions& options) {
  WireLimits limits;
  limits.max_nodes = options.max_nodes;
  limits.max_values = options.max_values;
  limits.max_subgraph_depth = options.max_subgraph_depth;
  OCTET_ASSIGN_OR_RETURN(
      ReducedModel reduced,
      ReduceModel({bytes->data(), static_cast<size_t>(bytes->size_bytes())}, limits));
  ModelProto model;
  if (!model.ParseFromString(reduced.model)) {
    return absl::InvalidArgumentError("not an ONNX model: protobuf refuses it");
  }
  reduced.model = std::string();
  TensorSource source;
  source.file = std::move(bytes);
  source.reduced = &reduced;
  source.folder = folder;
  source.max_external_bytes = options.max_file_bytes;
  return Importer(model, std::move(source), reduced.has_functions).Run();
}

}  // namespace

absl::StatusOr<graph::Graph> ImportFile(const std::string& path, const ImportOptions& options) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (!error && size > static_cast<uint64_t>(options.max_file_bytes)) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, ": has ", size, " bytes, the limit is ", options.max_file_bytes));
  }
  OCTET_ASSIGN_OR_RETURN(std::shared_ptr<const Buffer> bytes,
                         ReadFile(path, options.max_file_bytes));
  std::string folder = std::filesystem::path(path).parent_path().string();
  if (folder.empty()) folder = ".";
  absl::StatusOr<graph::Graph> graph = ImportModel(std::move(bytes), folder, options);
  if (!graph.ok()) return Annotate(graph.status(), path);
  return graph;
}

absl::StatusOr<graph::Graph> ImportBytes(std::shared_ptr<const Buffer> bytes,
                                         const std::string& name, const ImportOptions& options) {
  if (bytes == nullptr) return absl::InvalidArgumentError(absl::StrCat(name, ": no bytes"));
  absl::StatusOr<graph::Graph> graph = ImportModel(std::move(bytes), "", options);
  if (!graph.ok()) return Annotate(graph.status(), name);
  return graph;
}

}  // namespace octet::onnx_io
