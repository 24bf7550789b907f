// Loading the files of one version: names, twins, primary.
#include "server/repository_load.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/status.h"
#include "server/log.h"
#include "server/memory_admission.h"
#include "server/variant_loader.h"

namespace octet::server {

absl::StatusOr<VersionEntry> VersionLoader::Load(MakeRoom make_room) {
  make_room_ = std::move(make_room);
  const std::string original = OriginalPath();
  std::error_code ec;
  const bool has_original = std::filesystem::exists(original, ec);
  std::map<std::string, std::string> twins = TwinFiles();
  // A reference that is not kept is known by its name alone until it is wanted.
  std::string reference = settings_.reference;
  if (reference.empty() && has_original) reference = "f32";
  // Without a file of the primary's, model.onnx may be the primary under a name that only its content tells.
  const bool primary_elsewhere = twins.contains(settings_.primary) && settings_.primary != reference;
  if (!primary_elsewhere || KeepsReference(reference)) reference.clear();
  if (has_original && reference != "f32") LoadFile(original, "");
  if (has_original && reference == "f32") original_variant_ = "f32";
  for (const auto& [variant, path] : twins) {
    if (variant != reference) LoadFile(path, variant);
  }
  if ((reference == "f32" && has_original) || twins.contains(reference)) {
    entry_.variants[reference] = {ModelState::kUnavailable, "not in memory: octet.reference.residency is not 'always'",
                                  nullptr};
  }
  for (const std::string& wanted : settings_.variants) {
    if (entry_.variants.contains(wanted)) continue;
    entry_.variants[wanted] = {
        ModelState::kUnavailable,
        absl::StrCat("octet.variants lists '", wanted, "', but ", folder_,
                     " holds no file of it (making variants on load is not supported)"),
        nullptr};
  }
  if (entry_.variants.empty()) {
    return absl::NotFoundError(
        absl::StrCat(folder_, " holds neither model.onnx nor model.<variant>.onnx"));
  }
  if (absl::Status status = ChooseRoles(); !status.ok()) {
    for (const auto& [name, variant] : entry_.variants) {
      if (variant.served != nullptr) scheduler_->Close(variant.served->queue);
    }
    return status;
  }
  MakeControl();
  return std::move(entry_);
}

VersionEntry VersionLoader::LoadReference(VersionEntry entry) {
  entry_ = std::move(entry);
  const std::map<std::string, std::string> twins = TwinFiles();
  const std::string reference = entry_.reference;
  const auto twin = twins.find(reference);
  const std::string path = twin != twins.end() ? twin->second : OriginalPath();
  entry_.variants.erase(reference);
  std::string found = reference;
  absl::StatusOr<std::shared_ptr<const ServedVariant>> served =
      TryFile(path, twin != twins.end() ? reference : "", &found);
  if (served.ok() && found != reference) {
    scheduler_->Close((*served)->queue);
    served = absl::FailedPreconditionError(absl::StrCat(path, " holds variant '", found, "', not '", reference, "'"));
  }
  VariantEntry& entered = entry_.variants[reference];
  if (!served.ok()) {
    Log(Severity::kError, "reference not loaded",
        {{"model", labels_.model}, {"variant", reference}, {"error", served.status().ToString()}});
    entered = {ModelState::kUnavailable, std::string(served.status().message()), nullptr};
    return std::move(entry_);
  }
  entered = {ModelState::kReady, "", *served};
  entry_.control->SetTarget(reference, ReplayTarget{{*served, &(*served)->signature}, (*served)->program});
  return std::move(entry_);
}

bool VersionLoader::KeepsReference(const std::string& reference) const {
  return ResidencyOf(settings_, settings_.primary, reference) == ComparisonSettings::Residency::kAlways;
}

void VersionLoader::MakeControl() {
  const ComparisonSettings& compare = settings_.comparison;
  ControlOptions control;
  control.model = labels_.model;
  control.version = labels_.version;
  control.primary = entry_.primary;
  control.reference = entry_.reference;
  control.traffic = settings_.traffic;
  control.fraction = compare.fraction;
  control.max_comparison_cpus = compare.max_cpu_share * options_.cpu_threads;
  control.window = compare.window;
  control.guard = compare.guard;
  control.reference_sampled =
      ResidencyOf(settings_, entry_.primary, entry_.reference) == ComparisonSettings::Residency::kSampled;
  for (const auto& [name, variant] : entry_.variants) control.variants.push_back(name);
  entry_.control = std::make_shared<VersionControl>(std::move(control), clock_->Now());
  for (const auto& [name, variant] : entry_.variants) {
    if (variant.served == nullptr) continue;
    entry_.control->SetTarget(name,
                              ReplayTarget{{variant.served, &variant.served->signature}, variant.served->program});
  }
}

std::string VersionLoader::OriginalPath() const {
  const std::string& name = settings_.config.default_model_filename();
  return absl::StrCat(folder_, "/", name.empty() ? "model.onnx" : name);
}

std::map<std::string, std::string> VersionLoader::TwinFiles() const {
  std::map<std::string, std::string> files;
  std::error_code ec;
  for (const auto& item : std::filesystem::directory_iterator(folder_, ec)) {
    const std::string name = item.path().filename().string();
    absl::string_view variant = name;
    if (name == "model.onnx" || !absl::ConsumePrefix(&variant, "model.") ||
        !absl::ConsumeSuffix(&variant, ".onnx")) {
      continue;
    }
    if (item.path().string() == OriginalPath()) continue;
    if (!IsVariantName(variant)) {
      Log(Severity::kWarning, "file ignored: no variant name between 'model.' and '.onnx'",
          {{"model", labels_.model}, {"file", item.path().string()}});
      continue;
    }
    if (!Wanted(variant)) continue;
    files[std::string(variant)] = item.path().string();
  }
  // Ensembles that are asked for are made from the file of the variant whose samples they are.
  for (const std::string& wanted : settings_.variants) {
    const std::optional<EnsembleName> ensemble = ParseEnsembleName(wanted);
    if (!ensemble.has_value() || files.contains(wanted)) continue;
    const std::string path = absl::StrCat(folder_, "/model.", ensemble->file_variant, ".onnx");
    if (std::filesystem::exists(path, ec)) files[wanted] = path;
  }
  return files;
}

bool VersionLoader::Wanted(absl::string_view variant) const {
  return settings_.variants.empty() ||
         std::find(settings_.variants.begin(), settings_.variants.end(), std::string(variant)) !=
             settings_.variants.end();
}

void VersionLoader::LoadFile(const std::string& path, const std::string& named) {
  std::string variant = named.empty() ? "f32" : named;
  absl::StatusOr<std::shared_ptr<const ServedVariant>> served = TryFile(path, named, &variant);
  if (!Wanted(variant)) {
    if (served.ok()) scheduler_->Close((*served)->queue);
    return;
  }
  if (named.empty()) original_variant_ = variant;
  if (!served.ok()) {
    Log(Severity::kError, "variant not loaded",
        {{"model", labels_.model},
         {"version", labels_.version},
         {"variant", variant},
         {"reason", std::string(ReasonOf(served.status()))},
         {"error", served.status().ToString()}});
    entry_.variants[variant] = {ModelState::kUnavailable, std::string(served.status().message()),
                                nullptr};
    return;
  }
  entry_.variants[variant] = {ModelState::kReady, "", *std::move(served)};
}

absl::Status VersionLoader::CheckDigest(const std::string& source_sha256) {
  std::error_code ec;
  if (source_sha256.empty() || !std::filesystem::exists(OriginalPath(), ec))
    return absl::OkStatus();
  if (original_sha256_.empty()) {
    absl::StatusOr<std::shared_ptr<const Buffer>> bytes = ReadFile(OriginalPath());
    if (!bytes.ok()) return bytes.status();
    original_sha256_ = Sha256Hex(
        absl::MakeConstSpan((*bytes)->data(), static_cast<size_t>((*bytes)->size_bytes())));
  }
  if (original_sha256_ == source_sha256) return absl::OkStatus();
  return WithReason(
      absl::FailedPreconditionError(absl::StrCat(
          "stale twin: it was made from a file with SHA-256 ", source_sha256, ", ", OriginalPath(),
          " has ", original_sha256_, "; compress the new file or remove this one")),
      "stale_twin");
}

bool VersionLoader::LetOwnReferenceGo(const std::string& path, absl::string_view named) {
  const std::string reference = settings_.reference.empty() ? "f32" : settings_.reference;
  const auto it = entry_.variants.find(reference);
  if (it == entry_.variants.end() || it->second.served == nullptr || named.empty() || named != settings_.primary ||
      named == reference || settings_.traffic.weights.contains(reference)) {
    return false;
  }
  const std::shared_ptr<const ServedVariant> served = std::move(it->second.served);
  it->second = EvictedEntry(*served, absl::StrCat(path, " is to be loaded"), clock_->Now());
  scheduler_->Close(served->queue);
  return true;
}

absl::StatusOr<std::shared_ptr<const ServedVariant>> VersionLoader::TryFile(
    const std::string& path, const std::string& named, std::string* variant) {
  const absl::Time start = clock_->Now();
  const bool own_file = named.empty() || absl::EndsWith(path, absl::StrCat("/model.", named, ".onnx"));
  const std::optional<EnsembleName> ensemble = own_file ? std::nullopt : ParseEnsembleName(named);
  graph::EnsembleOptions samples;
  samples.seed = static_cast<uint64_t>(settings_.comparison.ensemble_seed);
  if (ensemble.has_value()) samples.samples = ensemble->samples;
  const int64_t peak = LoadPeakBytes(path) * (ensemble.has_value() ? ensemble->samples : 1);
  const int64_t limit = options_.memory_limit_bytes;
  int64_t resident = options_.resident_bytes();
  absl::Status admitted = AdmitLoad(path, peak, resident, limit);
  while (!admitted.ok() && ((make_room_ != nullptr && make_room_(path)) || LetOwnReferenceGo(path, named))) {
    resident = options_.resident_bytes();
    admitted = AdmitLoad(path, peak, resident, limit);
  }
  OCTET_RETURN_IF_ERROR(admitted);
  engine::CompileOptions compile;
  // What is left below the limit bounds the activations, too: a shape that needs more is refused.
  compile.max_specialisation_bytes =
      limit > 0 ? std::min(options_.max_activation_bytes, limit - resident - peak) : options_.max_activation_bytes;
  OCTET_ASSIGN_OR_RETURN(LoadedFile file, LoadModelFile(path, compile, ensemble.has_value() ? &samples : nullptr));
  if (named.empty()) {
    if (file.quantized) *variant = "int8";
  } else {
    OCTET_RETURN_IF_ERROR(CheckDigest(file.source_sha256));
    if (entry_.variants.contains(named)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " and ", OriginalPath(), " are both variant '", named, "'"));
    }
  }
  auto served = std::make_shared<ServedVariant>();
  served->labels = {labels_.model, labels_.version, *variant};
  OCTET_ASSIGN_OR_RETURN(
      served->signature,
      SignatureOf(*file.program, settings_.config.max_batch_size(), options_.default_max_batch));
  served->signature.extra_outputs = file.extra_outputs;
  OCTET_RETURN_IF_ERROR(CheckConfig(settings_.config, served->signature));
  if (auto it = entry_.variants.find(original_variant_);
      it != entry_.variants.end() && it->second.served != nullptr) {
    OCTET_RETURN_IF_ERROR(CheckTwins(it->second.served->signature, served->signature));
  }
  served->program = std::move(file.program);
  served->file_bytes = file.file_bytes;
  served->recorded = std::move(file.recorded);
  if (ensemble.has_value()) {
    UncertaintyLimits limits;
    limits.max_entropy_nats = settings_.comparison.max_entropy_nats;
    served->uncertainty = std::make_shared<UncertaintyWindow>(limits);
  }
  served->recorder = std::make_shared<VariantRecorder>(metrics_->ForVariant(served->labels), clock_, served->uncertainty);
  OpenQueue(served.get());
  absl::Status prepared = absl::OkStatus();
  if (ShapesKnown(served->signature)) prepared = scheduler_->Prepare(served->queue.get(), 1);
  if (!prepared.ok()) {
    scheduler_->Close(served->queue);
    return prepared;
  }
  served->load_time = clock_->Now() - start;
  LogLoaded(*served);
  return served;
}

void VersionLoader::OpenQueue(ServedVariant* served) {
  QueueSpec spec;
  spec.model_version = served->labels.version;
  spec.variant = served->labels.variant;
  spec.signature = served->signature;
  spec.program = served->program;
  spec.observer = served->recorder;
  spec.max_queued = options_.max_queued;
  spec.max_context_bytes = options_.max_activation_bytes;
  const inference::ModelDynamicBatching& batching = settings_.config.dynamic_batching();
  const inference::ModelQueuePolicy& policy = batching.default_queue_policy();
  // An hour is past any deadline; the cap keeps the arithmetic of absl::Duration away from
  // infinity.
  const uint64_t delay =
      std::min<uint64_t>(batching.max_queue_delay_microseconds(), 3'600'000'000u);
  spec.max_queue_delay = absl::Microseconds(static_cast<int64_t>(delay));
  if (policy.max_queue_size() > 0)
    spec.max_queued = static_cast<int>(std::min(policy.max_queue_size(), 1u << 20));
  if (policy.default_timeout_microseconds() > 0 &&
      policy.timeout_action() == inference::ModelQueuePolicy::REJECT) {
    const uint64_t timeout =
        std::min<uint64_t>(policy.default_timeout_microseconds(), 3'600'000'000u);
    served->default_timeout = absl::Microseconds(static_cast<int64_t>(timeout));
  }
  // The program outlives its queue: spec.program owns it.
  spec.on_first_context = [program = served->program.get()] {
    program->ReleaseInitializers();
    ReturnMemory();
  };
  served->queue = scheduler_->Open(std::move(spec));
}

void VersionLoader::LogLoaded(const ServedVariant& served) const {
  const engine::MemoryReport memory = served.program->Memory();
  const graph::BatchProof& proof = served.program->batch_proof();
  Log(Severity::kInfo, "variant loaded",
      {{"model", served.labels.model},
       {"version", served.labels.version},
       {"variant", served.labels.variant},
       {"file_bytes", served.file_bytes},
       {"weights_bytes", memory.weights},
       {"activations_bytes", memory.activations},
       {"milliseconds", absl::ToDoubleMilliseconds(served.load_time)},
       {"max_batch", served.signature.max_batch},
       {"batching", proof.batchable ? (proof.freed ? "freed from 1" : "proved") : proof.obstacle},
       {"isa", options_.isa},
       {"slots", scheduler_->slots()},
       {"threads_per_slot", scheduler_->threads_per_slot()}});
  if (settings_.config.max_batch_size() > 0 && !served.signature.batchable) {
    Log(Severity::kWarning, "max_batch_size has no effect: rows would mix",
        {{"model", served.labels.model},
         {"variant", served.labels.variant},
         {"obstacle", proof.obstacle}});
  }
}

absl::Status VersionLoader::ChooseRoles() {
  const auto names = absl::StrJoin(entry_.variants, ", ", [](std::string* out, const auto& item) {
    absl::StrAppend(out, item.first);
  });
  for (const std::string* role : {&settings_.primary, &settings_.reference}) {
    if (!role->empty() && !entry_.variants.contains(*role)) {
      return absl::InvalidArgumentError(
          absl::StrCat("config.pbtxt names variant '", *role, "'; there are: ", names));
    }
  }
  entry_.primary = settings_.primary;
  if (entry_.primary.empty() && entry_.variants.contains(original_variant_))
    entry_.primary = original_variant_;
  if (entry_.primary.empty()) entry_.primary = entry_.variants.begin()->first;
  entry_.reference = settings_.reference;
  if (entry_.reference.empty() && entry_.variants.contains("f32")) entry_.reference = "f32";
  for (const auto& [variant, share] : settings_.traffic.weights) {
    if (!entry_.variants.contains(variant)) {
      return absl::InvalidArgumentError(
          absl::StrCat("config.pbtxt: octet.weights names variant '", variant, "'; there are: ", names));
    }
  }
  return CheckRoles(settings_, entry_.primary, entry_.reference);
}

}  // namespace octet::server
