// The exporter: values with quant become integers behind DequantizeLinear, everything else stays
// what it is.
#include "onnx/export.h"

#include <algorithm>
#include <climits>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/float16.h"
#include "base/status.h"
#include "onnx/decode_weights.h"
#include "onnx/export_opset.h"
#include "onnx/onnx_pb.h"
#include "onnx/tensors.h"

namespace octet::onnx_io {
namespace {

using graph::Graph;
using graph::kNoValue;
using graph::Node;
using graph::Value;
using graph::ValueId;
using ::onnx::AttributeProto;
using ::onnx::GraphProto;
using ::onnx::ModelProto;
using ::onnx::NodeProto;
using ::onnx::TensorProto;
using ::onnx::ValueInfoProto;

void SetTensor(const Tensor& tensor, TensorProto* proto) {
  proto->set_data_type(DTypeToOnnx(tensor.dtype()));
  for (int64_t dim : tensor.shape()) proto->add_dims(dim);
  proto->set_raw_data(tensor.data(), static_cast<size_t>(tensor.size_bytes()));
}

absl::Status SetAttribute(const std::string& key, const graph::Attribute& value,
                          AttributeProto* proto) {
  proto->set_name(key);
  if (const auto* i = std::get_if<int64_t>(&value)) {
    proto->set_type(AttributeProto::INT);
    proto->set_i(*i);
  } else if (const auto* f = std::get_if<float>(&value)) {
    proto->set_type(AttributeProto::FLOAT);
    proto->set_f(*f);
  } else if (const auto* s = std::get_if<std::string>(&value)) {
    proto->set_type(AttributeProto::STRING);
    proto->set_s(*s);
  } else if (const auto* ints = std::get_if<std::vector<int64_t>>(&value)) {
    proto->set_type(AttributeProto::INTS);
    for (int64_t v : *ints) proto->add_ints(v);
  } else if (const auto* floats = std::get_if<std::vector<float>>(&value)) {
    proto->set_type(AttributeProto::FLOATS);
    for (float v : *floats) proto->add_floats(v);
  } else if (const auto* strings = std::get_if<std::vector<std::string>>(&value)) {
    proto->set_type(AttributeProto::STRINGS);
    for (const std::string& v : *strings) proto->add_strings(v);
  } else if (const auto* tensor = std::get_if<Tensor>(&value)) {
    proto->set_type(AttributeProto::TENSOR);
    SetTensor(*tensor, proto->mutable_t());
  } else {
    return absl::UnimplementedError(
        absl::StrCat("attribute '", key, "' holds what export does not write"));
  }
  return absl::OkStatus();
}

// Zero points of `count` scales as the value's integer type; 4-bit ones two per byte.
std::string PackZeroPoints(DType dtype, const QuantParams& quant) {
  const size_t count = quant.scale.size();
  std::string bytes(static_cast<size_t>(ByteSize(dtype, {static_cast<int64_t>(count)})), '\0');
  for (size_t i = 0; i < count; ++i) {
    const int32_t z = quant.zero_point_at(i);
    if (BitsOf(dtype) == 4) {
      bytes[i / 2] = static_cast<char>(bytes[i / 2] | ((z & 15) << (i % 2 == 0 ? 0 : 4)));
    } else {
      const size_t width = static_cast<size_t>(BytesOf(dtype));
      std::memcpy(&bytes[i * width], &z, width);  // little-endian: the low bytes come first
    }
  }
  return bytes;
}

absl::StatusOr<std::vector<int64_t>> ScaleDims(const Value& value) {
  const QuantParams& quant = *value.quant;
  if (quant.per_tensor()) return std::vector<int64_t>{};
  if (quant.block == 0) return std::vector<int64_t>{static_cast<int64_t>(quant.scale.size())};
  if (!value.shape.has_value() || !IsConcrete(*value.shape)) {
    return absl::UnimplementedError(
        absl::StrCat("value '", value.name, "' has blocked scales and no fixed shape"));
  }
  std::vector<int64_t> dims(value.shape->begin(), value.shape->end());
  int64_t& along = dims[static_cast<size_t>(quant.axis)];
  along = (along + quant.block - 1) / quant.block;
  return dims;
}

bool HasLevels(const Value& value) { return value.quant.has_value() && !value.quant->levels.empty(); }

// Whether a value's scales are worth storing as f16 and all of them are normal numbers there.
bool StoresHalfScales(const Value& value) {
  constexpr size_t kFew = 64;
  constexpr float kLeastNormal = 0x1p-14f;
  if (!value.is_constant() || BitsOf(value.dtype) > 4 || value.quant->scale.size() <= kFew) return false;
  return std::all_of(value.quant->scale.begin(), value.quant->scale.end(),
                     [](float s) { return s >= kLeastNormal && F32FromF16(F16FromF32(s)) == s; });
}

void SetScales(const Value& value, absl::Span<const int64_t> dims, const std::string& name, TensorProto* proto) {
  const std::vector<float>& scale = value.quant->scale;
  proto->set_name(name);
  proto->mutable_dims()->Assign(dims.begin(), dims.end());
  if (!StoresHalfScales(value)) {
    proto->set_data_type(TensorProto::FLOAT);
    proto->set_raw_data(scale.data(), scale.size() * sizeof(float));
    return;
  }
  std::vector<uint16_t> half(scale.size());
  std::transform(scale.begin(), scale.end(), half.begin(), F16FromF32);
  proto->set_data_type(TensorProto::FLOAT16);
  proto->set_raw_data(half.data(), half.size() * sizeof(uint16_t));
}

absl::Status TooLarge() {
  return absl::ResourceExhaustedError("the model is larger than 2 GB, the limit of one ONNX file");
}

// A set of names in use and, by stem, the last suffix given.
struct Names {
  absl::flat_hash_set<std::string> used;
  absl::flat_hash_map<std::string, int> suffix;

  std::string Unique(const std::string& stem) {
    if (used.insert(stem).second) return stem;
    std::string name;
    do {
      name = absl::StrCat(stem, "_", ++suffix[stem]);
    } while (!used.insert(name).second);
    return name;
  }
};

// What a graph and its subgraphs share.
struct Shared {
  int64_t opset = 0;
  Names names;  // of values
  Names node_names;
  std::vector<std::string> domains;
  bool decodes = false;  // a node is DecodeWeights
  bool draws = false;    // a node is DrawWeights
};

// Writes one graph; its subgraphs by exporters of their own.
class Exporter {
 public:
  Exporter(const Graph& graph, GraphProto* proto, Shared* shared)
      : graph_(graph), proto_(*proto), shared_(*shared), opset_(shared->opset) {}

  absl::Status Run() {
    for (const Value& value : graph_.values) shared_.names.used.insert(value.name);
    OCTET_RETURN_IF_ERROR(AddSignature());
    OCTET_RETURN_IF_ERROR(AddInitializers());
    return AddNodes();
  }

  // The same for the subgraph under attribute `key`, whose captured values the graphs around have.
  absl::Status RunSubgraph(const std::string& key) {
    proto_.set_name(key);
    for (const Value& value : graph_.values) shared_.names.used.insert(value.name);
    for (ValueId id : graph_.inputs) SetType(graph_.value(id), proto_.add_input());
    OCTET_RETURN_IF_ERROR(AddInitializers());
    OCTET_RETURN_IF_ERROR(AddNodes());
    std::vector<bool> produced(graph_.values.size());
    for (const Node& node : graph_.nodes) {
      for (ValueId id : node.outputs) {
        if (id != kNoValue) produced[static_cast<size_t>(id)] = true;
      }
    }
    for (ValueId id : graph_.outputs) {
      Value value = graph_.value(id);
      if (value.quant.has_value()) {
        return absl::UnimplementedError(absl::StrCat("output '", value.name, "' of '", key, "' is quantized"));
      }
      const bool own = produced[static_cast<size_t>(id)];
      produced[static_cast<size_t>(id)] = false;
      if (!own) {
        // Not a node's result, or given twice: ONNX wants one of its own.
        NodeProto* copy = proto_.add_node();
        copy->set_op_type("Identity");
        copy->add_input(value.name);
        value.name = UniqueName(absl::StrCat(value.name, "_out"));
        copy->set_name(UniqueNodeName("", value.name));
        copy->add_output(value.name);
      }
      SetType(value, proto_.add_output());
    }
    return absl::OkStatus();
  }

 private:
  absl::Status AddNodes() {
    for (const Node& node : graph_.nodes) {
      const absl::Status status = AddNode(node);
      if (!status.ok()) return Annotate(status, graph::Describe(graph_, node));
    }
    return absl::OkStatus();
  }

  std::string UniqueName(const std::string& stem) { return shared_.names.Unique(stem); }

  // ONNX Runtime 1.21 derives names from nodes' names in some fusions and then refuses two that are
  // equal, so every node gets a name and no two share one.
  std::string UniqueNodeName(const std::string& name, const std::string& output) {
    return shared_.node_names.Unique(name.empty() ? absl::StrCat(output, "_node") : name);
  }

  static void SetType(const Value& value, ValueInfoProto* info) {
    info->set_name(value.name);
    auto* type = info->mutable_type()->mutable_tensor_type();
    type->set_elem_type(DTypeToOnnx(value.dtype));
    if (!value.shape.has_value()) return;
    auto* shape = type->mutable_shape();
    for (size_t i = 0; i < value.shape->size(); ++i) {
      auto* dim = shape->add_dim();
      if ((*value.shape)[i] != kUnknownDim) {
        dim->set_dim_value((*value.shape)[i]);
      } else if (i < value.dim_names.size() && !value.dim_names[i].empty()) {
        dim->set_dim_param(value.dim_names[i]);
      }
    }
  }

  absl::Status AddSignature() {
    for (ValueId id : graph_.inputs) SetType(graph_.value(id), proto_.add_input());
    absl::flat_hash_set<ValueId> seen;
    for (ValueId id : graph_.outputs) {
      if (!seen.insert(id).second) {
        return absl::UnimplementedError(absl::StrCat("output '", graph_.value(id).name,
                                                     "' is given twice, which ONNX cannot say"));
      }
      if (HasLevels(graph_.value(id))) {
        return absl::UnimplementedError(
            absl::StrCat("output '", graph_.value(id).name, "' has levels, which ONNX cannot say of an output"));
      }
      SetType(graph_.value(id), proto_.add_output());
    }
    return absl::OkStatus();
  }

  // Constants that a node or the caller reads; not those that become an attribute in this opset.
  absl::Status AddInitializers() {
    std::vector<bool> read = graph_.Captured();
    for (ValueId id : graph_.outputs) read[static_cast<size_t>(id)] = true;
    for (const Node& node : graph_.nodes) {
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        const bool inlined = InputBecomesAttribute(graph_, node, i, opset_);
        if (node.inputs[i] != kNoValue && !inlined)
          read[static_cast<size_t>(node.inputs[i])] = true;
      }
    }
    int64_t bytes = 0;
    for (size_t i = 0; i < read.size(); ++i) {
      const Value& value = graph_.values[i];
      if (!read[i] || !value.is_constant()) continue;
      bytes += value.data->size_bytes();
      if (bytes > INT_MAX) return TooLarge();
      TensorProto* proto = proto_.add_initializer();
      SetTensor(*value.data, proto);
      proto->set_name(value.name);
      if (!HasLevels(value)) continue;
      proto->set_data_type(TensorProto::UINT8);
      proto->clear_dims();
      proto->add_dims(value.data->size_bytes());
    }
    return absl::OkStatus();
  }

  struct ParameterNames {
    std::string scale;
    std::string zero_point;  // "" for s32, whose zero point is always zero, and where a block's would be
  };

  // Name of the f32 scales of a value: an initializer, or a Cast of one in f16.
  std::string AddScales(const Value& value, absl::Span<const int64_t> dims) {
    const std::string name = UniqueName(absl::StrCat(value.name, "_scale"));
    if (!StoresHalfScales(value)) {
      SetScales(value, dims, name, proto_.add_initializer());
      return name;
    }
    const std::string half = UniqueName(absl::StrCat(name, "_f16"));
    SetScales(value, dims, half, proto_.add_initializer());
    NodeProto* cast = proto_.add_node();
    cast->set_op_type("Cast");
    cast->set_name(UniqueNodeName("", name));
    cast->add_input(half);
    cast->add_output(name);
    AttributeProto* to = cast->add_attribute();
    to->set_name("to");
    to->set_type(AttributeProto::INT);
    to->set_i(TensorProto::FLOAT);
    return name;
  }

  // Name of the reals of a constant with levels; one node for all that read it.
  absl::StatusOr<std::string> AddDecode(ValueId id, const std::string& node_name, const std::string& output) {
    const Value& value = graph_.value(id);
    if (!value.shape.has_value()) {
      return absl::UnimplementedError(absl::StrCat("value '", value.name, "' has levels and no shape"));
    }
    const QuantParams& quant = *value.quant;
    const DecodeAttributes a = DecodeAttributesOf(value.dtype, *value.shape, quant);
    const std::string levels = UniqueName(absl::StrCat(value.name, "_levels"));
    const std::string scales = UniqueName(absl::StrCat(value.name, "_scale"));
    TensorProto* table = proto_.add_initializer();
    SetTensor(Tensor::FromValues<int8_t>(
                  DType::kS8, {static_cast<int64_t>(quant.levels.size()) / quant.vector, quant.vector}, quant.levels),
              table);
    table->set_name(levels);
    SetScales(value, a.scales, scales, proto_.add_initializer());
    NodeProto* node = proto_.add_node();
    node->set_op_type(std::string(kDecodeWeights));
    node->set_domain(std::string(kOctetDomain));
    node->set_name(UniqueNodeName(node_name, output));
    for (const std::string& input : {value.name, levels, scales}) node->add_input(input);
    node->add_output(output);
    const std::pair<const char*, graph::Attribute> attributes[] = {
        {"axis", int64_t{quant.axis}}, {"bits", a.bits},     {"block", quant.block},
        {"perm", a.perm},              {"shape", std::vector<int64_t>(value.shape->begin(), value.shape->end())},
        {"stored", a.stored}};
    for (const auto& [key, attribute] : attributes) {
      OCTET_RETURN_IF_ERROR(SetAttribute(key, attribute, node->add_attribute()));
    }
    shared_.domains.emplace_back(kOctetDomain);
    shared_.decodes = true;
    return output;
  }

  // Name of the reals of a constant that may be a distribution.
  absl::StatusOr<std::string> AddDraw(const Value& value, const std::string& reals) {
    if (!value.alternatives.has_value()) return reals;
    const Tensor& steps = value.alternatives->steps;
    TensorProto* proto = proto_.add_initializer();
    SetTensor(steps, proto);
    proto->set_name(UniqueName(absl::StrCat(value.name, "_steps")));
    if (steps.dtype() == DType::kS4) {
      proto->set_data_type(TensorProto::UINT8);
      proto->clear_dims();
      proto->add_dims(steps.size_bytes());
    }
    NodeProto* node = proto_.add_node();
    node->set_op_type(std::string(kDrawWeights));
    node->set_domain(std::string(kOctetDomain));
    node->add_input(reals);
    node->add_input(proto->name());
    node->add_output(UniqueName(absl::StrCat(value.name, "_drawn")));
    node->set_name(UniqueNodeName("", node->output(0)));
    OCTET_RETURN_IF_ERROR(SetAttribute("bits", graph::Attribute(int64_t{BitsOf(steps.dtype())}), node->add_attribute()));
    OCTET_RETURN_IF_ERROR(
        SetAttribute("stream", graph::Attribute(int64_t{value.alternatives->stream}), node->add_attribute()));
    shared_.domains.emplace_back(kOctetDomain);
    shared_.draws = true;
    return node->output(0);
  }

  // Initializers that hold the quant of a value; made once.
  absl::StatusOr<ParameterNames> ParametersOf(ValueId id) {
    const auto it = parameters_.find(id);
    if (it != parameters_.end()) return it->second;
    const Value& value = graph_.value(id);
    const QuantParams& quant = *value.quant;
    OCTET_ASSIGN_OR_RETURN(const std::vector<int64_t> dims, ScaleDims(value));
    ParameterNames names;
    names.scale = AddScales(value, dims);
    const bool all_zero =
        std::all_of(quant.zero_point.begin(), quant.zero_point.end(), [](int32_t z) { return z == 0; });
    const bool left_out = quant.block > 0 && all_zero && value.is_constant();
    if (value.dtype != DType::kS32 && !left_out) {
      names.zero_point = UniqueName(absl::StrCat(value.name, "_zero_point"));
      TensorProto* zero = proto_.add_initializer();
      zero->set_name(names.zero_point);
      zero->set_data_type(DTypeToOnnx(value.dtype));
      zero->mutable_dims()->Assign(dims.begin(), dims.end());
      zero->set_raw_data(PackZeroPoints(value.dtype, quant));
    } else if (!all_zero) {
      return absl::UnimplementedError(
          absl::StrCat("value '", value.name, "': s32 with a zero point other than 0"));
    }
    return parameters_.emplace(id, std::move(names)).first->second;
  }

  // A QuantizeLinear or DequantizeLinear node with the parameters of value `id`.
  absl::Status AddConversion(const char* op, const std::string& name, ValueId id,
                             const std::string& from, const std::string& to) {
    OCTET_ASSIGN_OR_RETURN(const ParameterNames names, ParametersOf(id));
    const QuantParams& quant = *graph_.value(id).quant;
    NodeProto* node = proto_.add_node();
    node->set_op_type(op);
    node->set_name(UniqueNodeName(name, to));
    node->add_input(from);
    node->add_input(names.scale);
    if (!names.zero_point.empty()) node->add_input(names.zero_point);
    node->add_output(to);
    if (quant.per_tensor()) return absl::OkStatus();
    OCTET_RETURN_IF_ERROR(
        SetAttribute("axis", graph::Attribute(int64_t{quant.axis}), node->add_attribute()));
    if (quant.block == 0) return absl::OkStatus();
    return SetAttribute("block_size", graph::Attribute(quant.block), node->add_attribute());
  }

  // Name under which a node reads value `id`: quantized ones through a DequantizeLinear of their
  // own, because ONNX Runtime fuses a pattern only when its nodes serve no other.
  absl::StatusOr<std::string> NameForRead(const Node& node, ValueId id) {
    if (id == kNoValue) return std::string();
    const Value& value = graph_.value(id);
    if (HasLevels(value)) {
      std::string& reals = decoded_[id];
      if (reals.empty()) {
        OCTET_ASSIGN_OR_RETURN(reals, AddDecode(id, "", UniqueName(absl::StrCat(value.name, "_dequantized"))));
        OCTET_ASSIGN_OR_RETURN(reals, AddDraw(value, reals));
      }
      return reals;
    }
    const bool shape_only = node.op == "Shape" || node.op == "Size";
    if (!value.quant.has_value() || shape_only) return value.name;
    const std::string real = UniqueName(absl::StrCat(value.name, "_dequantized"));
    OCTET_RETURN_IF_ERROR(AddConversion("DequantizeLinear", "", id, value.name, real));
    return AddDraw(value, real);
  }

  absl::Status AddNode(const Node& node) {
    if (node.op == "Quantize") {
      return AddConversion("QuantizeLinear", node.name, node.outputs[0],
                           graph_.value(node.inputs[0]).name, graph_.value(node.outputs[0]).name);
    }
    if (node.op == "Dequantize" && HasLevels(graph_.value(node.inputs[0]))) {
      return AddDecode(node.inputs[0], node.name, graph_.value(node.outputs[0]).name).status();
    }
    if (node.op == "Dequantize") {
      return AddConversion("DequantizeLinear", node.name, node.inputs[0],
                           graph_.value(node.inputs[0]).name, graph_.value(node.outputs[0]).name);
    }
    NodeProto proto;
    proto.set_op_type(node.op);
    proto.set_domain(node.domain);
    std::string first;
    for (ValueId id : node.outputs) {
      if (first.empty() && id != kNoValue) first = graph_.value(id).name;
    }
    proto.set_name(UniqueNodeName(node.name, first));
    if (!node.domain.empty()) shared_.domains.push_back(node.domain);
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const bool inlined = InputBecomesAttribute(graph_, node, i, opset_);
      OCTET_ASSIGN_OR_RETURN(*proto.add_input(),
                             NameForRead(node, inlined ? kNoValue : node.inputs[i]));
    }
    while (proto.input_size() > 0 && proto.input(proto.input_size() - 1).empty()) {
      proto.mutable_input()->RemoveLast();
    }
    std::vector<std::pair<ValueId, std::string>> rounded;  // quantized results and their real names
    for (ValueId id : node.outputs) {
      if (id == kNoValue) {
        proto.add_output();
      } else if (!graph_.value(id).quant.has_value()) {
        proto.add_output(graph_.value(id).name);
      } else {
        rounded.emplace_back(id, UniqueName(absl::StrCat(graph_.value(id).name, "_real")));
        proto.add_output(rounded.back().second);
      }
    }
    OCTET_RETURN_IF_ERROR(SetAttributes(node, &proto));
    *proto_.add_node() = std::move(proto);
    for (const auto& [id, real] : rounded) {
      OCTET_RETURN_IF_ERROR(AddConversion("QuantizeLinear", "", id, real, graph_.value(id).name));
    }
    return absl::OkStatus();
  }

  absl::Status SetAttributes(const Node& node, NodeProto* proto) {
    const auto attributes = AttributesForOpset(graph_, node, opset_);
    std::vector<std::string> keys;
    for (const auto& [key, value] : attributes) keys.push_back(key);
    std::sort(keys.begin(), keys.end());
    for (const std::string& key : keys) {
      const graph::Attribute& value = attributes.at(key);
      AttributeProto* attribute = proto->add_attribute();
      const auto* subgraph = std::get_if<std::shared_ptr<const Graph>>(&value);
      if (subgraph == nullptr) {
        OCTET_RETURN_IF_ERROR(SetAttribute(key, value, attribute));
        continue;
      }
      attribute->set_name(key);
      attribute->set_type(AttributeProto::GRAPH);
      OCTET_RETURN_IF_ERROR(
          Annotate(Exporter(**subgraph, attribute->mutable_g(), &shared_).RunSubgraph(key), key));
    }
    return absl::OkStatus();
  }

  const Graph& graph_;
  GraphProto& proto_;
  Shared& shared_;
  const int64_t opset_;
  absl::flat_hash_map<ValueId, ParameterNames> parameters_;
  absl::flat_hash_map<ValueId, std::string> decoded_;
};

void AddModelFields(const Graph& graph, Shared& shared, ModelProto* model) {
  auto* main = model->add_opset_import();
  main->set_domain("");
  main->set_version(shared.opset);
  std::sort(shared.domains.begin(), shared.domains.end());
  shared.domains.erase(std::unique(shared.domains.begin(), shared.domains.end()), shared.domains.end());
  for (const std::string& domain : shared.domains) {
    auto* import = model->add_opset_import();
    import->set_domain(domain);
    import->set_version(1);
  }
  if (shared.decodes) AddDecodeFunction(shared.opset, model);
  if (shared.draws) AddDrawFunction(shared.opset, model);
  std::vector<std::string> keys;
  for (const auto& [key, value] : graph.metadata) keys.push_back(key);
  std::sort(keys.begin(), keys.end());
  for (const std::string& key : keys) {
    auto* entry = model->add_metadata_props();
    entry->set_key(key);
    entry->set_value(graph.metadata.at(key));
  }
}

}  // namespace

absl::StatusOr<std::string> ExportModel(const Graph& graph) {
  OCTET_RETURN_IF_ERROR(graph.Validate());
  ModelProto model;
  Shared shared;
  shared.opset = RequiredOpset(graph);
  model.set_ir_version(shared.opset > 17 ? 10 : 8);
  model.set_producer_name("octet");
  model.mutable_graph()->set_name(graph.name.empty() ? "octet" : graph.name);
  OCTET_RETURN_IF_ERROR(Exporter(graph, model.mutable_graph(), &shared).Run());
  AddModelFields(graph, shared, &model);
  if (model.ByteSizeLong() > INT_MAX) return TooLarge();
  return model.SerializeAsString();
}

}  // namespace octet::onnx_io
