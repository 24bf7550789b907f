// Text format, checked.
#include "server/model_settings.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/status.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"

namespace octet::server {
namespace {

constexpr int64_t kMaxConfigBytes = 1 << 20;
constexpr int32_t kMaxBatchSize = 4096;

class Collector final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (error_.empty())
      error_ = absl::StrCat("line ", line + 1, ", column ", column + 1, ": ", message);
  }
  void AddWarning(int line, int, const std::string& message) override {
    warnings_.push_back(absl::StrCat("line ", line + 1, ": ", message));
  }
  const std::string& error() const { return error_; }
  std::vector<std::string> TakeWarnings() { return std::move(warnings_); }

 private:
  std::string error_;
  std::vector<std::string> warnings_;
};

absl::Status OctetParameter(const std::string& key, const std::string& value,
                            ModelSettings* settings) {
  if (key == "octet.variants") {
    for (absl::string_view name : absl::StrSplit(value, ',')) {
      name = absl::StripAsciiWhitespace(name);
      if (!IsVariantName(name)) {
        return absl::InvalidArgumentError(
            absl::StrCat("octet.variants: '", name, "' is no variant name"));
      }
      settings->variants.emplace_back(name);
    }
    return absl::OkStatus();
  }
  if (key == "octet.primary" || key == "octet.reference") {
    if (!IsVariantName(value))
      return absl::InvalidArgumentError(absl::StrCat(key, ": '", value, "' is no variant name"));
    (key == "octet.primary" ? settings->primary : settings->reference) = value;
    return absl::OkStatus();
  }
  for (absl::string_view planned :
       {"octet.compare.fraction", "octet.guard.min_top1_agreement", "octet.guard.min_sqnr_db",
        "octet.reference.residency", "octet.memory.limit_bytes"}) {
    if (key == planned) {
      settings->warnings.push_back(absl::StrCat(key, " has no effect in this version"));
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("parameter '", key, "' is no setting of Octet's"));
}

absl::Status Check(absl::string_view model, ModelSettings* settings) {
  const inference::ModelConfig& config = settings->config;
  if (!config.name().empty() && config.name() != model) {
    return absl::InvalidArgumentError(
        absl::StrCat("name: '", config.name(), "' in the folder of model '", model, "'"));
  }
  if (config.max_batch_size() < 0 || config.max_batch_size() > kMaxBatchSize) {
    return absl::InvalidArgumentError(absl::StrCat("max_batch_size: ", config.max_batch_size(),
                                                   " is outside [0, ", kMaxBatchSize, "]"));
  }
  if (config.has_sequence_batching() || config.has_ensemble_scheduling()) {
    return absl::UnimplementedError("sequence_batching and ensemble_scheduling are not supported");
  }
  if (config.model_transaction_policy().decoupled()) {
    return absl::UnimplementedError("model_transaction_policy.decoupled is not supported");
  }
  if (absl::StrContains(config.default_model_filename(), '/')) {
    return absl::InvalidArgumentError(
        "default_model_filename: must be a file of the version's folder");
  }
  if (config.instance_group_size() > 0) {
    settings->warnings.push_back("instance_group has no effect: slots are shared by all models");
  }
  for (const auto& [key, value] : config.parameters()) {
    if (key.rfind("octet.", 0) != 0) continue;
    OCTET_RETURN_IF_ERROR(OctetParameter(key, value.string_value(), settings));
  }
  return absl::OkStatus();
}

}  // namespace

bool IsVariantName(absl::string_view name) {
  const auto lower = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !name.empty() && lower(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return lower(c) || c == '-'; });
}

absl::StatusOr<ModelSettings> ParseModelSettings(const std::string& text, absl::string_view model) {
  ModelSettings settings;
  Collector collector;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&collector);
  parser.AllowUnknownField(true);
  parser.SetRecursionLimit(32);
  if (!parser.ParseFromString(text, &settings.config)) {
    return absl::InvalidArgumentError(absl::StrCat("config.pbtxt: ", collector.error()));
  }
  settings.warnings = collector.TakeWarnings();
  if (absl::Status status = Check(model, &settings); !status.ok())
    return Annotate(status, "config.pbtxt");
  return settings;
}

absl::StatusOr<ModelSettings> ReadModelSettings(const std::string& path, absl::string_view model) {
  absl::StatusOr<std::shared_ptr<const Buffer>> file = ReadFile(path, kMaxConfigBytes);
  if (absl::IsNotFound(file.status())) return ModelSettings{};
  if (!file.ok()) return file.status();
  return ParseModelSettings(std::string(reinterpret_cast<const char*>((*file)->data()),
                                        static_cast<size_t>((*file)->size_bytes())),
                            model);
}

std::vector<int64_t> VersionsToLoad(const inference::ModelVersionPolicy& policy,
                                    std::vector<int64_t> on_disk) {
  std::sort(on_disk.begin(), on_disk.end());
  switch (policy.policy_choice_case()) {
    case inference::ModelVersionPolicy::kAll:
      return on_disk;
    case inference::ModelVersionPolicy::kSpecific: {
      const auto& wanted = policy.specific().versions();
      std::erase_if(on_disk, [&](int64_t v) {
        return std::find(wanted.begin(), wanted.end(), v) == wanted.end();
      });
      return on_disk;
    }
    default: {
      const size_t keep = std::max<size_t>(policy.latest().num_versions(), 1);
      if (on_disk.size() > keep)
        on_disk.erase(on_disk.begin(), on_disk.end() - static_cast<std::ptrdiff_t>(keep));
      return on_disk;
    }
  }
}

}  // namespace octet::server
