// Snapshots, addressing, and the background work that changes them.
#include "server/repository.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "server/log.h"
#include "server/repository_load.h"
#include "server/variant_loader.h"

namespace octet::server {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kMostWaitForRequests = absl::Seconds(2);  // that hold a variant which goes

template <typename Map>
std::string KeysOf(const Map& map) {
  constexpr size_t kMost = 20;
  std::string out;
  size_t n = 0;
  for (const auto& [key, value] : map) {
    if (n == kMost) return absl::StrCat(out, ", ...");
    absl::StrAppend(&out, n++ == 0 ? "" : ", ", key);
  }
  return out.empty() ? "none" : out;
}

absl::Status NotReady(absl::string_view what, ModelState state, absl::string_view reason) {
  if (state == ModelState::kLoading) {
    return absl::UnavailableError(absl::StrCat(what, " is being loaded; retry"));
  }
  return absl::FailedPreconditionError(absl::StrCat(what, " is not available: ", reason));
}

// Folders whose name is a positive number.
std::vector<int64_t> VersionsIn(const fs::path& folder) {
  std::vector<int64_t> versions;
  std::error_code ec;
  for (fs::directory_iterator it(folder, ec), end; !ec && it != end; it.increment(ec)) {
    int64_t version = 0;
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if (it->is_directory(ignored) && absl::SimpleAtoi(name, &version) && version > 0 &&
        name == absl::StrCat(version)) {
      versions.push_back(version);
    }
  }
  return versions;
}

// The latest version whose primary is loaded, else the latest. Requires: not empty.
std::map<int64_t, VersionEntry>::const_iterator LatestThatServes(
    const std::map<int64_t, VersionEntry>& versions) {
  for (auto it = versions.end(); it != versions.begin();) {
    --it;
    if (it->second.variants.at(it->second.control->primary()).served != nullptr) return it;
  }
  return std::prev(versions.end());
}

}  // namespace

absl::string_view NameOf(ModelState state) {
  switch (state) {
    case ModelState::kLoading:
      return "LOADING";
    case ModelState::kReady:
      return "READY";
    case ModelState::kUnavailable:
      return "UNAVAILABLE";
  }
  return "UNKNOWN";
}

Repository::Repository(RepositoryOptions options, Scheduler* scheduler, Metrics* metrics,
                       Clock* clock, Loader* loader)
    : options_(std::move(options)),
      scheduler_(scheduler),
      metrics_(metrics),
      clock_(clock),
      loader_(loader) {}

Repository::~Repository() = default;

absl::StatusOr<std::vector<std::string>> Repository::ScanModels() const {
  std::error_code ec;
  if (!fs::exists(options_.root, ec)) {
    return absl::NotFoundError(
        absl::StrCat("model repository '", options_.root, "' does not exist"));
  }
  if (!fs::is_directory(options_.root, ec)) {
    return absl::FailedPreconditionError(
        absl::StrCat("model repository '", options_.root, "' is not a folder"));
  }
  std::vector<std::string> models;
  for (fs::directory_iterator it(options_.root, ec), end; !ec && it != end; it.increment(ec)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if (!name.empty() && name[0] != '.' && it->is_directory(ignored)) models.push_back(name);
  }
  if (ec) {
    return absl::FailedPreconditionError(
        absl::StrCat("model repository '", options_.root, "' cannot be read: ", ec.message()));
  }
  std::sort(models.begin(), models.end());
  return models;
}

absl::Status Repository::LoadAll() {
  OCTET_ASSIGN_OR_RETURN(const std::vector<std::string> models, ScanModels());
  {
    absl::MutexLock lock(&mu_);
    initial_started_ = true;
    initial_loads_ = static_cast<int>(models.size());
    for (const std::string& model : models) models_[model] = std::make_shared<ModelEntry>();
    loaded_.SignalAll();
  }
  for (const std::string& model : models) {
    Load(model, [this](const absl::Status&) {
      absl::MutexLock lock(&mu_);
      --initial_loads_;
      loaded_.SignalAll();
    });
  }
  return absl::OkStatus();
}

bool Repository::initial_load_done() const {
  absl::MutexLock lock(&mu_);
  return initial_started_ && initial_loads_ == 0;
}

void Repository::AwaitInitialLoad() const {
  absl::MutexLock lock(&mu_);
  while (!initial_started_ || initial_loads_ > 0) loaded_.Wait(&mu_);
}

void Repository::Load(const std::string& model, std::function<void(absl::Status)> done) {
  if (!loader_->Schedule([this, model, done] { done(LoadNow(model)); })) {
    done(absl::ResourceExhaustedError("too many loads are waiting; retry later"));
  }
}

void Repository::Unload(const std::string& model, std::function<void(absl::Status)> done) {
  const bool scheduled = loader_->Schedule([this, model, done] {
    std::shared_ptr<const ModelEntry> old;
    {
      absl::MutexLock lock(&mu_);
      auto it = models_.find(model);
      if (it != models_.end()) old = it->second;
    }
    if (old == nullptr)
      return done(absl::NotFoundError(absl::StrCat("unknown model '", model, "'")));
    auto entry = std::make_shared<ModelEntry>();
    entry->state = ModelState::kUnavailable;
    entry->reason = "unloaded";
    Swap(model, std::move(entry));
    Retire(std::move(old));
    Log(Severity::kInfo, "model unloaded", {{"model", model}});
    done(absl::OkStatus());
  });
  if (!scheduled) done(absl::ResourceExhaustedError("too many loads are waiting; retry later"));
}

absl::Status Repository::LoadNow(const std::string& model) {
  if (stopping_)
    return WithReason(absl::UnavailableError("the server is shutting down"), "draining");
  absl::StatusOr<ModelEntry> loaded = LoadModel(model);
  std::shared_ptr<const ModelEntry> old;  // looked up only now: the load may have evicted its reference
  {
    absl::MutexLock lock(&mu_);
    auto it = models_.find(model);
    if (it != models_.end()) old = it->second;
  }
  if (!loaded.ok()) {
    Log(Severity::kError, "model not loaded",
        {{"model", model}, {"error", loaded.status().ToString()}});
    const bool serving = old != nullptr && old->state == ModelState::kReady;
    if (!serving && (old != nullptr || !absl::IsNotFound(loaded.status()))) {
      auto entry = std::make_shared<ModelEntry>();
      entry->state = ModelState::kUnavailable;
      entry->reason = std::string(loaded.status().message());
      Swap(model, std::move(entry));
    }
    return loaded.status();
  }
  const absl::Status status = loaded->state == ModelState::kReady
                                  ? absl::OkStatus()
                                  : absl::FailedPreconditionError(loaded->reason);
  Swap(model, std::make_shared<ModelEntry>(*std::move(loaded)));
  if (old != nullptr) Retire(std::move(old));
  return status;
}

absl::StatusOr<ModelEntry> Repository::LoadModel(const std::string& model) {
  const fs::path folder = fs::path(options_.root) / model;
  std::error_code ec;
  // A name from a client must not reach outside the root.
  if (model.empty() || model[0] == '.' || model.find('/') != std::string::npos ||
      !fs::is_directory(folder, ec)) {
    return absl::NotFoundError(
        absl::StrCat("unknown model '", model, "': the repository has no such folder"));
  }
  if (model.find('@') != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("model name '", model, "': '@' is reserved for variants"));
  }
  OCTET_ASSIGN_OR_RETURN(ModelSettings read, ReadModelSettings((folder / "config.pbtxt").string(), model));
  const auto owned = std::make_shared<const ModelSettings>(std::move(read));
  const ModelSettings& settings = *owned;
  for (const std::string& warning : settings.warnings) {
    Log(Severity::kWarning, "config.pbtxt", {{"model", model}, {"warning", warning}});
  }
  const std::vector<int64_t> on_disk = VersionsIn(folder);
  const std::vector<int64_t> wanted = VersionsToLoad(settings.config.version_policy(), on_disk);
  if (wanted.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("no version to load: the folder holds ",
                     on_disk.empty() ? "none" : absl::StrJoin(on_disk, ", ")));
  }
  ModelEntry entry;
  entry.settings = owned;
  for (int64_t version : wanted) {
    VersionLoader loader(options_, settings, {model, absl::StrCat(version), ""}, scheduler_,
                         metrics_, clock_);
    absl::StatusOr<VersionEntry> loaded = loader.Load(
        [this](const std::string& path) { return EvictLeastUsed(absl::StrCat(path, " is to be loaded")); });
    if (!loaded.ok()) {
      entry.reason = std::string(loaded.status().message());
      Log(Severity::kError, "version not loaded",
          {{"model", model}, {"version", version}, {"error", loaded.status().ToString()}});
      continue;
    }
    entry.versions[version] = *std::move(loaded);
  }
  entry.state = ModelState::kUnavailable;
  for (auto it = entry.versions.rbegin(); it != entry.versions.rend(); ++it) {
    const VariantEntry& primary = it->second.variants.at(it->second.primary);
    if (primary.served == nullptr) {
      if (entry.reason.empty()) {
        entry.reason = absl::StrCat("its primary variant '", it->second.primary,
                                    "' failed to load: ", primary.reason);
      }
      continue;
    }
    entry.state = ModelState::kReady;
    entry.reason.clear();
    entry.config = EffectiveConfig(settings.config, model, primary.served->signature);
    break;
  }
  return entry;
}

void Repository::Swap(const std::string& model, std::shared_ptr<const ModelEntry> entry) {
  absl::MutexLock lock(&mu_);
  models_[model] = std::move(entry);
}

// Answered requests hold their variant until gRPC has let their calls go, slots until they have counted the batch: an
// unload that did not wait for them would be through before the memory is back.
void Repository::Retire(std::shared_ptr<const ModelEntry> entry) {
  std::vector<std::weak_ptr<const void>> retired;
  for (const auto& [version, version_entry] : entry->versions) {
    version_entry.control->ClearTargets();
    for (const auto& [name, variant] : version_entry.variants) {
      if (variant.served == nullptr) continue;
      scheduler_->Close(variant.served->queue);
      retired.push_back(variant.served);
      retired.push_back(variant.served->program);
    }
  }
  entry.reset();
  const auto gone = [](const std::weak_ptr<const void>& weak) { return weak.expired(); };
  for (absl::Duration waited; waited < kMostWaitForRequests && !std::all_of(retired.begin(), retired.end(), gone);
       waited += absl::Milliseconds(1)) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  ReturnMemory();
}

RepositorySnapshot Repository::snapshot() const {
  absl::MutexLock lock(&mu_);
  return models_;
}

std::vector<std::shared_ptr<const ServedVariant>> Repository::Served() const {
  std::vector<std::shared_ptr<const ServedVariant>> served;
  for (const auto& [name, model] : snapshot()) {
    for (const auto& [number, version] : model->versions) {
      for (const auto& [variant, entry] : version.variants) {
        if (entry.served != nullptr) served.push_back(entry.served);
      }
    }
  }
  return served;
}

absl::StatusOr<std::shared_ptr<const ModelEntry>> Repository::FindModel(
    absl::string_view name) const {
  const std::string model(name.substr(0, name.find('@')));
  absl::MutexLock lock(&mu_);
  auto it = models_.find(model);
  if (it == models_.end()) {
    return absl::NotFoundError(
        absl::StrCat("unknown model '", model, "'; the repository has: ", KeysOf(models_)));
  }
  return it->second;
}

absl::StatusOr<Repository::Located> Repository::Locate(absl::string_view name, absl::string_view version,
                                                       absl::string_view variant) const {
  Located located;
  OCTET_ASSIGN_OR_RETURN(located.model, FindModel(name));
  const size_t at = name.find('@');
  located.variant = at == absl::string_view::npos ? variant : name.substr(at + 1);
  if (!variant.empty() && variant != located.variant) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model name '", name, "' and parameter variant '", variant, "' ask for two variants"));
  }
  if (at != absl::string_view::npos && located.variant.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("model name '", name, "' has no variant after '@'"));
  }
  const std::map<int64_t, VersionEntry>& versions = located.model->versions;
  located.what = absl::StrCat("model '", name.substr(0, at), "'");
  if (versions.empty()) return NotReady(located.what, located.model->state, located.model->reason);
  auto found = versions.end();
  if (version.empty()) {
    found = LatestThatServes(versions);
  } else {
    int64_t number = 0;
    found = absl::SimpleAtoi(version, &number) ? versions.find(number) : versions.end();
    if (found == versions.end()) {
      return absl::NotFoundError(
          absl::StrCat(located.what, " has no version '", version, "'; loaded are: ", KeysOf(versions)));
    }
  }
  located.version = &found->second;
  return located;
}

namespace {

absl::StatusOr<std::shared_ptr<const ServedVariant>> ServedAs(const VersionEntry& version, const std::string& variant,
                                                              absl::string_view what) {
  auto chosen = version.variants.find(variant);
  if (chosen == version.variants.end()) {
    return absl::NotFoundError(
        absl::StrCat(what, " has no variant '", variant, "'; there are: ", KeysOf(version.variants)));
  }
  if (chosen->second.served == nullptr) {
    return NotReady(absl::StrCat(what, " variant '", chosen->first, "'"), chosen->second.state,
                    chosen->second.reason);
  }
  return chosen->second.served;
}

absl::StatusOr<std::optional<std::string>> StickyKey(const std::string& name, const Parameters& parameters) {
  if (name.empty()) return std::nullopt;
  auto it = parameters.find(name);
  if (it == parameters.end()) return std::nullopt;
  if (const auto* text = std::get_if<std::string>(&it->second)) return *text;
  if (const auto* number = std::get_if<int64_t>(&it->second)) return absl::StrCat(*number);
  if (const auto* number = std::get_if<uint64_t>(&it->second)) return absl::StrCat(*number);
  return absl::InvalidArgumentError(
      absl::StrCat("parameter '", name, "' (octet.sticky_parameter) must be a string or a whole number"));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const ServedVariant>> Repository::Find(absl::string_view name, absl::string_view version,
                                                                      absl::string_view variant) const {
  OCTET_ASSIGN_OR_RETURN(const Located located, Locate(name, version, variant));
  return ServedAs(*located.version,
                  located.variant.empty() ? located.version->control->primary() : std::string(located.variant),
                  located.what);
}

absl::StatusOr<Route> Repository::RouteOf(absl::string_view name, absl::string_view version, absl::string_view variant,
                                          const Parameters& parameters) const {
  OCTET_ASSIGN_OR_RETURN(const Located located, Locate(name, version, variant));
  Route route;
  route.control = located.version->control;
  std::string wanted(located.variant);
  const bool named = !wanted.empty();
  if (!named) {
    OCTET_ASSIGN_OR_RETURN(const std::optional<std::string> key,
                           StickyKey(route.control->traffic().sticky_parameter, parameters));
    wanted = route.control->Intended(key);
  }
  route.pair = route.control->pair(wanted);
  if (!named && route.pair != nullptr && route.pair->tripped()) {
    auto reference = located.version->variants.find(route.control->reference());
    if (reference != located.version->variants.end() && reference->second.served != nullptr) {
      route.variant = reference->second.served;
      return route;
    }
  }
  OCTET_ASSIGN_OR_RETURN(route.variant, ServedAs(*located.version, wanted, located.what));
  return route;
}

}  // namespace octet::server
