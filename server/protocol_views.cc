// Snapshots into messages.
#include "server/protocol_views.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "server/datatype.h"

namespace octet::server {
namespace {

void Set(inference::StatisticDuration* to, const DurationCount& from) {
  to->set_count(from.count);
  to->set_ns(static_cast<uint64_t>(absl::ToInt64Nanoseconds(from.total)));
}

void SetCounts(const StatisticsSnapshot& from, inference::ModelStatistics* to) {
  to->set_last_inference(static_cast<uint64_t>(absl::ToUnixMillis(from.last_inference)));
  to->set_inference_count(from.inferences);
  to->set_execution_count(from.executions);
  inference::InferStatistics* stats = to->mutable_inference_stats();
  Set(stats->mutable_success(), from.success);
  Set(stats->mutable_fail(), from.fail);
  Set(stats->mutable_queue(), from.queue);
  Set(stats->mutable_compute_input(), from.compute_input);
  Set(stats->mutable_compute_infer(), from.compute_infer);
  Set(stats->mutable_compute_output(), from.compute_output);
  stats->mutable_cache_hit();
  stats->mutable_cache_miss();
  for (const auto& [rows, counts] : from.batches) {
    inference::InferBatchStatistics* batch = to->add_batch_stats();
    batch->set_batch_size(static_cast<uint64_t>(rows));
    Set(batch->mutable_compute_input(), counts.input);
    Set(batch->mutable_compute_infer(), counts.infer);
    Set(batch->mutable_compute_output(), counts.output);
  }
}

struct Bytes {
  engine::MemoryReport memory;
  int64_t file = 0;

  void Add(const ServedVariant& served) {
    const engine::MemoryReport m = served.program->Memory();
    memory.weights += m.weights;
    memory.activations += m.activations;
    memory.scratchpad += m.scratchpad;
    memory.code += m.code;
    memory.metadata += m.metadata;
    file += served.file_bytes;
  }
};

void SetMemory(const Bytes& bytes, inference::ModelStatistics* to) {
  const std::pair<const char*, int64_t> kinds[] = {
      {"weights", bytes.memory.weights},       {"activations", bytes.memory.activations},
      {"scratchpad", bytes.memory.scratchpad}, {"code", bytes.memory.code},
      {"metadata", bytes.memory.metadata},     {"file", bytes.file}};
  for (const auto& [type, value] : kinds) {
    inference::MemoryUsage* usage = to->add_memory_usage();
    usage->set_type(type);
    usage->set_byte_size(static_cast<uint64_t>(value));
  }
}

void AddTensor(const engine::Signature& tensor,
               inference::ModelMetadataResponse::TensorMetadata* to) {
  to->set_name(tensor.name);
  to->set_datatype(std::string(WireNameOf(tensor.dtype)));
  for (int64_t dim : tensor.shape) to->add_shape(dim);
}

// The part behind '@', or "".
std::string VariantPart(const std::string& name) {
  const size_t at = name.find('@');
  return at == std::string::npos ? "" : name.substr(at + 1);
}

void AddVersionStatistics(const std::string& model, const std::string& number,
                          const VersionEntry& version, const std::string& only_variant,
                          inference::ModelStatisticsResponse* response) {
  StatisticsSnapshot sum;
  Bytes sum_bytes;
  inference::ModelStatisticsResponse variants;
  for (const auto& [variant, entry] : version.variants) {
    if (entry.served == nullptr || (!only_variant.empty() && variant != only_variant)) continue;
    const StatisticsSnapshot counts = entry.served->recorder->Statistics();
    Bytes bytes;
    bytes.Add(*entry.served);
    inference::ModelStatistics* stats = variants.add_model_stats();
    stats->set_name(absl::StrCat(model, "@", variant));
    stats->set_version(number);
    SetCounts(counts, stats);
    SetMemory(bytes, stats);
    sum.Add(counts);
    sum_bytes.Add(*entry.served);
  }
  if (variants.model_stats_size() == 0) return;
  if (only_variant.empty()) {
    inference::ModelStatistics* stats = response->add_model_stats();
    stats->set_name(model);
    stats->set_version(number);
    SetCounts(sum, stats);
    SetMemory(sum_bytes, stats);
  }
  response->MergeFrom(variants);
}

}  // namespace

inference::ServerMetadataResponse ServerMetadataView(absl::string_view version) {
  inference::ServerMetadataResponse response;
  response.set_name("octet");
  response.set_version(std::string(version));
  for (const char* extension : {"model_repository", "model_configuration", "statistics",
                                "binary_tensor_data", "parameters", "schedule_policy"}) {
    response.add_extensions(extension);
  }
  return response;
}

absl::StatusOr<inference::ModelMetadataResponse> ModelMetadataView(const Repository& repository,
                                                                   const std::string& name,
                                                                   const std::string& version) {
  OCTET_ASSIGN_OR_RETURN(const std::shared_ptr<const ServedVariant> served,
                         repository.Find(name, version, ""));
  OCTET_ASSIGN_OR_RETURN(const std::shared_ptr<const ModelEntry> model, repository.FindModel(name));
  inference::ModelMetadataResponse response;
  response.set_name(name);
  for (const auto& [number, entry] : model->versions) response.add_versions(absl::StrCat(number));
  response.set_platform("octet_onnx");
  for (const engine::Signature& input : served->signature.inputs)
    AddTensor(input, response.add_inputs());
  for (const engine::Signature& output : served->signature.outputs)
    AddTensor(output, response.add_outputs());
  auto& properties = *response.mutable_properties();
  properties["variant"] = served->labels.variant;
  if (auto it = model->versions.find(std::stoll(served->labels.version));
      it != model->versions.end()) {
    std::string names;
    for (const auto& [variant, entry] : it->second.variants) {
      if (entry.served != nullptr) absl::StrAppend(&names, names.empty() ? "" : ",", variant);
    }
    properties["variants"] = names;
    properties["primary"] = it->second.control->primary();
    if (!it->second.reference.empty()) properties["reference"] = it->second.reference;
  }
  return response;
}

absl::StatusOr<inference::ModelConfigResponse> ModelConfigView(const Repository& repository,
                                                               const std::string& name,
                                                               const std::string& version) {
  OCTET_RETURN_IF_ERROR(repository.Find(name, version, "").status());
  OCTET_ASSIGN_OR_RETURN(const std::shared_ptr<const ModelEntry> model, repository.FindModel(name));
  inference::ModelConfigResponse response;
  *response.mutable_config() = model->config;
  response.mutable_config()->set_name(name);
  return response;
}

absl::StatusOr<inference::ModelStatisticsResponse> ModelStatisticsView(const Repository& repository,
                                                                       const std::string& name,
                                                                       const std::string& version) {
  inference::ModelStatisticsResponse response;
  const std::string variant = VariantPart(name);
  if (!name.empty()) {
    // Unknown names, versions and variants are errors; known ones that are not loaded have no
    // statistics.
    const absl::Status found = repository.Find(name, version, "").status();
    if (absl::IsNotFound(found) || absl::IsInvalidArgument(found)) return found;
  }
  const std::string model = name.substr(0, name.find('@'));
  for (const auto& [model_name, entry] : repository.snapshot()) {
    if (!name.empty() && model_name != model) continue;
    for (const auto& [number, version_entry] : entry->versions) {
      const std::string text = absl::StrCat(number);
      if (!version.empty() && version != text) continue;
      AddVersionStatistics(model_name, text, version_entry, variant, &response);
    }
  }
  return response;
}

inference::RepositoryIndexResponse RepositoryIndexView(const Repository& repository,
                                                       bool ready_only) {
  inference::RepositoryIndexResponse response;
  const auto add = [&](const std::string& name, const std::string& version, ModelState state,
                       const std::string& reason) {
    if (ready_only && state != ModelState::kReady) return;
    auto* index = response.add_models();
    index->set_name(name);
    index->set_version(version);
    index->set_state(std::string(NameOf(state)));
    index->set_reason(reason);
  };
  for (const auto& [name, model] : repository.snapshot()) {
    if (model->versions.empty()) add(name, "", model->state, model->reason);
    for (const auto& [number, version] : model->versions) {
      const std::string text = absl::StrCat(number);
      const VariantEntry& primary = version.variants.at(version.control->primary());
      add(name, text, primary.state, primary.reason);
      for (const auto& [variant, entry] : version.variants) {
        add(absl::StrCat(name, "@", variant), text, entry.state, entry.reason);
      }
    }
  }
  return response;
}

absl::StatusOr<bool> ModelReadyView(const Repository& repository, const std::string& name,
                                    const std::string& version) {
  const absl::Status status = repository.Find(name, version, "").status();
  if (status.ok()) return true;
  if (absl::IsUnavailable(status) || absl::IsFailedPrecondition(status)) return false;
  return status;
}

}  // namespace octet::server
