// From file to program, and its signature against config and twins.
#include "server/variant_loader.h"

#include <malloc.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/parallel_for.h"
#include "base/status.h"
#include "graph/batching.h"
#include "kernels/onednn.h"
#include "onnx/import.h"
#include "server/datatype.h"

namespace octet::server {
namespace {

// TYPE_FP32 <-> "FP32"; strings have no tensor of ours.
std::string ConfigTypeName(DType dtype) { return absl::StrCat("TYPE_", WireNameOf(dtype)); }

inference::DataType ConfigTypeOf(DType dtype) {
  inference::DataType type = inference::TYPE_INVALID;
  inference::DataType_Parse(ConfigTypeName(dtype), &type);
  return type;
}

Shape DimsWithBatch(const google::protobuf::RepeatedField<int64_t>& dims, bool batched) {
  Shape shape;
  if (batched) shape.push_back(kUnknownDim);
  for (int64_t dim : dims) shape.push_back(dim < 0 ? kUnknownDim : dim);
  return shape;
}

template <typename Tensors>
absl::Status CheckConfigTensors(const Tensors& tensors,
                                const std::vector<engine::Signature>& signatures,
                                absl::string_view kind, bool batched) {
  for (const auto& tensor : tensors) {
    const std::string where = absl::StrCat("config.pbtxt: ", kind, " '", tensor.name(), "'");
    auto it = std::find_if(signatures.begin(), signatures.end(),
                           [&](const auto& s) { return s.name == tensor.name(); });
    if (it == signatures.end())
      return absl::InvalidArgumentError(absl::StrCat(where, " is not in the model file"));
    if (tensor.data_type() != ConfigTypeOf(it->dtype)) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": data_type ",
                                                     inference::DataType_Name(tensor.data_type()),
                                                     ", the file has ", ConfigTypeName(it->dtype)));
    }
    const Shape shape = DimsWithBatch(tensor.dims(), batched);
    bool fits = shape.size() == it->shape.size();
    for (size_t i = 0; fits && i < shape.size(); ++i) {
      fits = shape[i] == kUnknownDim || it->shape[i] == kUnknownDim || shape[i] == it->shape[i];
    }
    if (!fits) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": dims with batch ",
                                                     ShapeString(shape), ", the file has ",
                                                     ShapeString(it->shape)));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTwinTensors(absl::Span<const engine::Signature> reference,
                              absl::Span<const engine::Signature> twin, absl::string_view kind) {
  if (reference.size() != twin.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("has ", twin.size(), " ", kind, "s, its reference has ", reference.size()));
  }
  for (const engine::Signature& want : reference) {
    auto it =
        std::find_if(twin.begin(), twin.end(), [&](const auto& s) { return s.name == want.name; });
    if (it == twin.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("lacks ", kind, " '", want.name, "' of its reference"));
    }
    if (it->dtype != want.dtype || it->shape.size() != want.shape.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat(kind, " '", want.name, "' is ", NameOf(it->dtype), ShapeString(it->shape),
                       ", its reference has ", NameOf(want.dtype), ShapeString(want.shape)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LoadedFile> LoadModelFile(const std::string& path,
                                         const engine::CompileOptions& options,
                                         const graph::EnsembleOptions* ensemble) {
  LoadedFile loaded;
  struct stat info{};
  if (stat(path.c_str(), &info) == 0) loaded.file_bytes = info.st_size;
  OCTET_ASSIGN_OR_RETURN(graph::Graph graph, onnx_io::ImportFile(path));
  loaded.quantized = std::any_of(graph.values.begin(), graph.values.end(),
                                 [](const graph::Value& value) { return value.quant.has_value(); });
  if (auto it = graph.metadata.find("ai.octet.source_sha256"); it != graph.metadata.end()) {
    loaded.source_sha256 = it->second;
  }
  if (ensemble == nullptr) {
    loaded.recorded = ReadRecorded(graph);  // of the most probable network
  } else {
    const size_t own = graph.outputs.size();
    absl::StatusOr<graph::Graph> samples = graph::MakeEnsemble(graph, *ensemble);
    if (!samples.ok()) return Annotate(samples.status(), path);
    graph = *std::move(samples);
    loaded.extra_outputs = graph.outputs.size() - own;
  }
  graph::FreeBatch(&graph);
  OCTET_ASSIGN_OR_RETURN(loaded.program, engine::Program::Compile(std::move(graph), options));
  return loaded;
}

absl::StatusOr<std::unique_ptr<engine::Context>> MakeEngineContext(
    engine::Program& program, absl::Span<const Shape> input_shapes, int threads) {
  SetTeamSize(threads);
  OCTET_ASSIGN_OR_RETURN(std::shared_ptr<const engine::Specialisation> specialisation,
                         program.Specialise(input_shapes, threads));
  auto context = engine::Context::Create(std::move(specialisation));
  kernels::ClearPrimitiveCache();
  return context;
}

absl::StatusOr<ModelSignature> SignatureOf(const engine::Program& program,
                                           int64_t configured_max_batch,
                                           int64_t default_max_batch) {
  ModelSignature signature;
  signature.inputs = program.inputs();
  signature.outputs = program.outputs();
  for (const auto* list : {&signature.inputs, &signature.outputs}) {
    for (const engine::Signature& tensor : *list) {
      if (WireNameOf(tensor.dtype).empty()) {
        return absl::UnimplementedError(absl::StrCat("tensor '", tensor.name, "' has type ",
                                                     NameOf(tensor.dtype),
                                                     ", which the protocol cannot carry"));
      }
    }
  }
  signature.batchable = program.batch_proof().batchable && !signature.inputs.empty();
  if (signature.batchable) {
    signature.max_batch = configured_max_batch > 0 ? configured_max_batch : default_max_batch;
  }
  return signature;
}

absl::Status CheckConfig(const inference::ModelConfig& config, const ModelSignature& signature) {
  const bool batched = config.max_batch_size() > 0;
  OCTET_RETURN_IF_ERROR(CheckConfigTensors(config.input(), signature.inputs, "input", batched));
  return CheckConfigTensors(config.output(), signature.outputs, "output", batched);
}

absl::Status CheckTwins(const ModelSignature& reference, const ModelSignature& twin) {
  OCTET_RETURN_IF_ERROR(CheckTwinTensors(reference.inputs, twin.inputs, "input"));
  return CheckTwinTensors(absl::MakeConstSpan(reference.outputs).first(reference.own_outputs()),
                          absl::MakeConstSpan(twin.outputs).first(twin.own_outputs()), "output");
}

inference::ModelConfig EffectiveConfig(inference::ModelConfig config, const std::string& name,
                                       const ModelSignature& signature) {
  config.set_name(name);
  if (config.platform().empty()) config.set_platform("octet_onnx");
  if (config.backend().empty()) config.set_backend("octet");
  if (config.default_model_filename().empty()) config.set_default_model_filename("model.onnx");
  config.set_max_batch_size(signature.batchable ? static_cast<int32_t>(signature.max_batch) : 0);
  if (signature.batchable && !config.has_dynamic_batching()) config.mutable_dynamic_batching();
  config.clear_input();
  config.clear_output();
  const auto fill = [&](const engine::Signature& from, auto* to) {
    to->set_name(from.name);
    to->set_data_type(ConfigTypeOf(from.dtype));
    for (size_t i = signature.batchable ? 1 : 0; i < from.shape.size(); ++i)
      to->add_dims(from.shape[i]);
  };
  for (const engine::Signature& input : signature.inputs) fill(input, config.add_input());
  for (const engine::Signature& output : signature.outputs) fill(output, config.add_output());
  return config;
}

bool ShapesKnown(const ModelSignature& signature) {
  return std::all_of(
      signature.inputs.begin(), signature.inputs.end(), [&](const engine::Signature& input) {
        return IsConcrete(absl::MakeConstSpan(input.shape).subspan(signature.batchable ? 1 : 0));
      });
}

void ReturnMemory() {
  kernels::ClearPrimitiveCache();
  malloc_trim(0);
}

}  // namespace octet::server
