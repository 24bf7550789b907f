// Text format, checked.
#include "server/model_settings.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
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

absl::Status Number(const std::string& key, const std::string& text, double least, double most, double* value) {
  if (!absl::SimpleAtod(text, value) || !(*value >= least && *value <= most)) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, ": expected a number in [", least, ", ", most, "], found '", text, "'"));
  }
  return absl::OkStatus();
}

absl::Status Integer(const std::string& key, const std::string& text, int64_t least, int64_t most, int64_t* value) {
  if (!absl::SimpleAtoi(text, value) || *value < least || *value > most) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, ": expected a whole number in [", least, ", ", most, "], found '", text, "'"));
  }
  return absl::OkStatus();
}

template <typename Enum>
absl::Status OneOf(const std::string& key, const std::string& text,
                   std::initializer_list<std::pair<absl::string_view, Enum>> words, Enum* value) {
  std::string expected;
  for (const auto& [word, meaning] : words) {
    if (text == word) {
      *value = meaning;
      return absl::OkStatus();
    }
    absl::StrAppend(&expected, expected.empty() ? "" : ", ", word);
  }
  return absl::InvalidArgumentError(absl::StrCat(key, ": expected one of ", expected, ", found '", text, "'"));
}

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
  const std::string& v = value;
  ComparisonSettings& compare = settings->comparison;
  if (key == "octet.compare.fraction") return Number(key, v, 0, 1, &compare.fraction);
  if (key == "octet.compare.max_cpu_share") return Number(key, v, 0, 1, &compare.max_cpu_share);
  if (key == "octet.compare.window_rows") return Integer(key, v, 1, 1'000'000, &compare.window.max_rows);
  if (key == "octet.compare.window_seconds") {
    double seconds = 0;
    OCTET_RETURN_IF_ERROR(Number(key, v, 1, 86'400, &seconds));
    compare.window.max_age = absl::Seconds(seconds);
    return absl::OkStatus();
  }
  if (key == "octet.guard.min_top1_agreement") return Number(key, v, 0, 1, &compare.guard.min_top1_agreement.emplace());
  if (key == "octet.guard.min_sqnr_db") return Number(key, v, -kMaxDb, kMaxDb, &compare.guard.min_sqnr_db.emplace());
  if (key == "octet.guard.min_comparisons") return Integer(key, v, 2, 1'000'000, &compare.guard.min_comparisons);
  if (key == "octet.guard.recovery") {
    return OneOf(key, v,
                 {{"automatic", GuardSettings::Recovery::kAutomatic}, {"manual", GuardSettings::Recovery::kManual}},
                 &compare.guard.recovery);
  }
  if (key == "octet.reference.residency") {
    using R = ComparisonSettings::Residency;
    return OneOf(key, v, {{"always", R::kAlways}, {"sampled", R::kSampled}, {"never", R::kNever}}, &compare.residency);
  }
  if (key == "octet.uncertainty.max_entropy") return Number(key, v, 0, 100, &compare.max_entropy_nats);
  if (key == "octet.ensemble.seed") {
    return Integer(key, v, 0, std::numeric_limits<int64_t>::max(), &compare.ensemble_seed);
  }
  if (key == "octet.memory.limit_bytes") {
    return Integer(key, v, 1, std::numeric_limits<int64_t>::max(), &settings->memory_limit_bytes);
  }
  if (key == "octet.sticky_parameter") {
    if (v.empty())
      return absl::InvalidArgumentError("octet.sticky_parameter: the name of a request parameter is missing");
    settings->traffic.sticky_parameter = v;
    return absl::OkStatus();
  }
  if (key == "octet.weights") {
    absl::StatusOr<TrafficWeights> weights = ParseWeights(v);
    if (!weights.ok()) return Annotate(weights.status(), "octet.weights");
    settings->traffic.weights = *std::move(weights);
    return absl::OkStatus();
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

ComparisonSettings::Residency ResidencyOf(const ModelSettings& settings, absl::string_view primary,
                                          absl::string_view reference) {
  using Residency = ComparisonSettings::Residency;
  const ComparisonSettings& compare = settings.comparison;
  if (compare.residency != Residency::kUnset) return compare.residency;
  const bool listed =
      std::find(settings.variants.begin(), settings.variants.end(), reference) != settings.variants.end();
  const bool wanted = primary == reference || listed || settings.traffic.weights.contains(std::string(reference)) ||
                      compare.fraction > 0 || compare.guard.enabled();
  return wanted ? Residency::kAlways : Residency::kNever;
}

absl::Status CheckRoles(const ModelSettings& settings, absl::string_view primary, absl::string_view reference) {
  using Residency = ComparisonSettings::Residency;
  const ComparisonSettings& compare = settings.comparison;
  const bool kept = ResidencyOf(settings, primary, reference) == Residency::kAlways;
  if (compare.guard.enabled() || compare.fraction > 0) {
    const absl::string_view what = compare.guard.enabled() ? "octet.guard" : "octet.compare.fraction";
    if (reference.empty())
      return absl::InvalidArgumentError(absl::StrCat(what, ": the model has no reference to compare with"));
    if (compare.residency == Residency::kNever) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, " needs the reference '", reference, "', but octet.reference.residency is 'never'"));
    }
  }
  if (compare.guard.enabled() && compare.fraction == 0) {
    return absl::InvalidArgumentError("octet.guard judges live comparisons: octet.compare.fraction must be above 0");
  }
  if (!kept && primary == reference && !primary.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("octet.reference.residency: the reference '", reference,
                                                   "' is the primary and must stay in memory"));
  }
  if (!kept && settings.traffic.weights.contains(std::string(reference))) {
    return absl::InvalidArgumentError(absl::StrCat("octet.weights sends requests to the reference '", reference,
                                                   "': octet.reference.residency must be 'always'"));
  }
  return absl::OkStatus();
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
