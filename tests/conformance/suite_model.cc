// Walking the suite's folders and files.
#include "tests/conformance/suite_model.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "onnx/import.h"
#include "onnx/onnx_pb.h"
#include "onnx/tensors.h"

namespace octet::conformance {
namespace {

namespace fs = std::filesystem;
using ::onnx::TensorProto;

template <typename Proto>
bool ParseFile(const fs::path& path, Proto* proto) {
  std::ifstream in(path, std::ios::binary);
  return in.good() && proto->ParseFromIstream(&in);
}

std::string TypeName(int type) {
  return TensorProto::DataType_IsValid(type)
             ? TensorProto::DataType_Name(static_cast<TensorProto::DataType>(type))
             : absl::StrCat("type ", type);
}

void CollectType(const onnx::ValueInfoProto& info, std::set<std::string>* types) {
  if (info.type().has_sequence_type()) types->insert("sequence");
  if (info.type().has_optional_type()) types->insert("optional");
  if (info.type().has_tensor_type()) types->insert(TypeName(info.type().tensor_type().elem_type()));
}

void Collect(const onnx::GraphProto& graph, SuiteModel* model) {
  for (const auto& node : graph.node()) {
    const bool ours = node.domain().empty() || node.domain() == "ai.onnx";
    model->operators.insert(ours ? node.op_type()
                                 : absl::StrCat(node.domain(), ".", node.op_type()));
    for (const auto& a : node.attribute()) {
      if (a.has_g()) Collect(a.g(), model);
      if (a.has_t()) model->types.insert(TypeName(a.t().data_type()));
      if ((node.op_type() == "Cast" && a.name() == "to") || a.name() == "output_dtype") {
        model->types.insert(TypeName(static_cast<int>(a.i())));
      }
    }
  }
  for (const auto& tensor : graph.initializer()) model->types.insert(TypeName(tensor.data_type()));
  for (const auto& info : graph.input()) CollectType(info, &model->types);
  for (const auto& info : graph.output()) CollectType(info, &model->types);
}

// Elements of the typed field, narrowed to the tensor's type.
template <typename Field>
std::string Narrowed(const Field& field, DType dtype) {
  const auto width = static_cast<size_t>(std::max<int64_t>(BytesOf(dtype), 1));
  std::string bytes;
  for (const auto value : field) {
    char raw[sizeof(value)];
    std::memcpy(raw, &value, sizeof(value));
    bytes.append(raw, std::min(width, sizeof(value)));
  }
  return bytes;
}

absl::StatusOr<Tensor> ReadTensor(const fs::path& path) {
  TensorProto proto;
  if (!ParseFile(path, &proto))
    return absl::DataLossError(absl::StrCat(path.string(), ": not a tensor"));
  const DType dtype = onnx_io::DTypeFromOnnx(proto.data_type());
  if (dtype == DType::kInvalid) {
    return absl::UnimplementedError(
        absl::StrCat(path.filename().string(), " holds ", TypeName(proto.data_type())));
  }
  const Shape shape(proto.dims().begin(), proto.dims().end());
  std::string bytes = proto.raw_data();
  if (bytes.empty()) {
    bytes = Narrowed(proto.float_data(), dtype) + Narrowed(proto.double_data(), dtype) +
            Narrowed(proto.int32_data(), dtype) + Narrowed(proto.int64_data(), dtype) +
            Narrowed(proto.uint64_data(), dtype);
  }
  if (static_cast<int64_t>(bytes.size()) != ByteSize(dtype, shape)) {
    return absl::DataLossError(absl::StrCat(path.string(), ": ", bytes.size(), " bytes of ",
                                            NameOf(dtype), ShapeString(shape)));
  }
  return Tensor::FromValues<char>(dtype, shape, bytes);
}

absl::StatusOr<std::vector<Tensor>> ReadNumbered(const fs::path& folder, const std::string& stem) {
  std::vector<Tensor> tensors;
  for (int i = 0;; ++i) {
    const fs::path path = folder / absl::StrCat(stem, i, ".pb");
    if (!fs::exists(path)) return tensors;
    OCTET_ASSIGN_OR_RETURN(Tensor tensor, ReadTensor(path));
    tensors.push_back(std::move(tensor));
  }
}

absl::StatusOr<std::vector<DataSet>> LightData(const SuiteModel& model) {
  onnx::ModelProto proto;
  if (!ParseFile(model.file, &proto)) return absl::DataLossError("not a model");
  DataSet data;
  std::set<std::string> initializers;
  for (const auto& tensor : proto.graph().initializer()) initializers.insert(tensor.name());
  for (const auto& info : proto.graph().input()) {
    if (initializers.contains(info.name())) continue;  // IR 3 repeats them
    Shape shape;
    for (const auto& dim : info.type().tensor_type().shape().dim()) {
      shape.push_back(dim.has_dim_value() ? dim.dim_value() : 1);
    }
    std::vector<float> values(static_cast<size_t>(NumElements(shape)));
    const auto n = static_cast<double>(values.size());
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(static_cast<double>(i) / n);
    data.inputs.push_back(Tensor::FromF32(shape, values));
  }
  OCTET_ASSIGN_OR_RETURN(data.outputs, ReadNumbered(model.file.parent_path(),
                                                    model.file.stem().string() + "_output_"));
  return std::vector<DataSet>{std::move(data)};
}

}  // namespace

std::string SuiteFolder() {
  const char* const other = std::getenv("OCTET_CONFORMANCE_DATA");
  return other != nullptr ? other : "/usr/share/libonnx-testdata/data";
}

std::vector<SuiteModel> FindSuiteModels() {
  const std::string folder = SuiteFolder();
  std::vector<SuiteModel> models;
  if (!fs::exists(folder)) return models;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().extension() != ".onnx") continue;
    SuiteModel model;
    model.file = entry.path();
    const fs::path relative = fs::relative(model.file, folder);
    model.name = model.file.filename() == "model.onnx"
                     ? relative.parent_path().string()
                     : (relative.parent_path() / model.file.stem()).string();
    onnx::ModelProto proto;
    if (ParseFile(model.file, &proto)) {
      Collect(proto.graph(), &model);
      for (const auto& import : proto.opset_import()) {
        if (import.domain().empty() || import.domain() == "ai.onnx") model.opset = import.version();
      }
    }
    models.push_back(std::move(model));
  }
  std::sort(models.begin(), models.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return models;
}

absl::StatusOr<std::vector<DataSet>> ReadDataSets(const SuiteModel& model) {
  if (model.file.filename() != "model.onnx") return LightData(model);
  std::vector<DataSet> sets;
  for (int i = 0;; ++i) {
    const fs::path folder = model.file.parent_path() / absl::StrCat("test_data_set_", i);
    if (!fs::exists(folder)) return sets;
    DataSet data;
    OCTET_ASSIGN_OR_RETURN(data.inputs, ReadNumbered(folder, "input_"));
    OCTET_ASSIGN_OR_RETURN(data.outputs, ReadNumbered(folder, "output_"));
    sets.push_back(std::move(data));
  }
}

absl::StatusOr<graph::Graph> ImportAsIs(const SuiteModel& model) {
  return onnx_io::ImportFile(model.file.string());
}

absl::StatusOr<graph::Graph> ImportWithConstants(const SuiteModel& model) {
  onnx::ModelProto proto;
  if (!ParseFile(model.file, &proto)) return absl::DataLossError("not a model");
  auto* inputs = proto.mutable_graph()->mutable_input();
  for (int i = 1; i < inputs->size(); ++i) {
    onnx::TensorProto* constant = proto.mutable_graph()->add_initializer();
    const fs::path file =
        model.file.parent_path() / "test_data_set_0" / absl::StrCat("input_", i, ".pb");
    if (!ParseFile(file, constant))
      return absl::DataLossError(absl::StrCat(file.string(), ": not a tensor"));
    constant->set_name(inputs->Get(i).name());
  }
  inputs->DeleteSubrange(1, std::max(0, inputs->size() - 1));
  const std::string bytes = proto.SerializeAsString();
  OCTET_ASSIGN_OR_RETURN(Buffer buffer, Buffer::Allocate(static_cast<int64_t>(bytes.size())));
  std::memcpy(buffer.data(), bytes.data(), bytes.size());
  return onnx_io::ImportBytes(std::make_shared<const Buffer>(std::move(buffer)), model.name);
}

}  // namespace octet::conformance
