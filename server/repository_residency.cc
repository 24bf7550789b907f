// Which references are in memory: loaded on demand, let go under pressure.
#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "server/log.h"
#include "server/memory_admission.h"
#include "server/repository.h"
#include "server/repository_load.h"
#include "server/variant_loader.h"

namespace octet::server {
namespace {

int64_t HeldBytes(const ServedVariant& served) {
  const engine::MemoryReport memory = served.program->Memory();
  return memory.weights + memory.activations + memory.scratchpad + memory.code + memory.metadata;
}

int64_t HeldBytes(const VersionEntry& version) {
  int64_t bytes = 0;
  for (const auto& [name, variant] : version.variants) {
    if (variant.served != nullptr) bytes += HeldBytes(*variant.served);
  }
  return bytes;
}

// Requests may reach the reference without naming it.
bool Answers(const VersionControl& control) {
  return control.primary() == control.reference() || control.traffic().weights.contains(control.reference()) ||
         control.AnyTripped();
}

constexpr absl::Duration kRest = absl::Seconds(30), kLongestRest = absl::Hours(1);

bool Evictable(const VersionEntry& version) {
  auto it = version.variants.find(version.reference);
  return it != version.variants.end() && it->second.served != nullptr && version.variants.size() > 1 &&
         !Answers(*version.control);
}

}  // namespace

VariantEntry EvictedEntry(const ServedVariant& served, absl::string_view pressure, absl::Time now) {
  Log(Severity::kInfo, "reference evicted",
      {{"model", served.labels.model},
       {"version", served.labels.version},
       {"variant", served.labels.variant},
       {"why", absl::StrCat("memory pressure: ", pressure)}});
  return {ModelState::kUnavailable, absl::StrCat("not in memory: memory pressure: ", pressure), nullptr,
          Eviction{now, kRest, HeldBytes(served), served.file_bytes}};
}

void Repository::LoadReference(const std::string& model, const std::string& version) {
  (void)loader_->Schedule([this, model, version] { ChangeReference(model, version, true, ""); });
}

void Repository::EvictReference(const std::string& model, const std::string& version, const std::string& pressure) {
  (void)loader_->Schedule([this, model, version, pressure] { ChangeReference(model, version, false, pressure); });
}

// On the loader's one thread, as every change of a model: nobody else swaps the entry meanwhile.
void Repository::ChangeReference(const std::string& model, const std::string& version, bool resident,
                                 const std::string& pressure) {
  if (stopping_) return;
  const absl::StatusOr<std::shared_ptr<const ModelEntry>> old = FindModel(model);
  int64_t number = 0;
  if (!old.ok() || !absl::SimpleAtoi(version, &number) || !(*old)->versions.contains(number)) return;
  auto entry = std::make_shared<ModelEntry>(**old);
  VersionEntry& changed = entry->versions.at(number);
  auto reference = changed.variants.find(changed.reference);
  if (reference == changed.variants.end() || (reference->second.served != nullptr) == resident) return;
  const VariantLabels labels = {model, version, changed.reference};
  if (resident) {
    std::optional<Eviction> evicted = reference->second.evicted;
    VersionLoader loader(options_, *entry->settings, labels, scheduler_, metrics_, clock_);
    changed = loader.LoadReference(std::move(changed));
    VariantEntry& loaded = changed.variants.at(changed.reference);
    if (loaded.served == nullptr && evicted.has_value()) {
      evicted->at = clock_->Now();
      evicted->rest = std::min(2 * evicted->rest, kLongestRest);
      loaded.evicted = evicted;
    }
    Swap(model, std::move(entry));
    return;
  }
  if (!Evictable(changed)) return;
  const std::shared_ptr<const ServedVariant> served = std::move(reference->second.served);
  if (pressure.empty()) {
    const std::string reason = "octet.reference.residency is 'sampled'";
    reference->second = {ModelState::kUnavailable, absl::StrCat("not in memory: ", reason), nullptr};
    Log(Severity::kInfo, "reference evicted",
        {{"model", model}, {"version", version}, {"variant", labels.variant}, {"why", reason}});
  } else {
    ++evictions_;
    reference->second = EvictedEntry(*served, pressure, clock_->Now());
    // What is there for samples only comes back with the next ones.
    if (changed.control->reference_sampled()) reference->second.evicted.reset();
  }
  changed.control->SetTarget(changed.reference, std::nullopt);
  Swap(model, std::move(entry));
  scheduler_->Close(served->queue);
  ReturnMemory();
}

void Repository::RelievePressure(int64_t resident_bytes, int64_t limit_bytes) {
  const bool process_full = limit_bytes > 0 && resident_bytes > limit_bytes;
  for (const auto& [name, model] : snapshot()) {
    for (const auto& [number, version] : model->versions) {
      if (!Evictable(version)) continue;
      const int64_t limit = model->settings->memory_limit_bytes;
      const int64_t held = limit > 0 ? HeldBytes(version) : 0;
      const bool model_full = limit > 0 && held > limit;
      if (!process_full && !model_full) continue;
      EvictReference(name, absl::StrCat(number),
                     model_full
                         ? absl::StrCat("its variants hold ", held, " bytes, octet.memory.limit_bytes is ", limit)
                         : absl::StrCat("the process holds ", resident_bytes, " bytes of ", limit_bytes));
      if (process_full) return;  // one at a time: the next look shows what it gave
    }
  }
  if (!process_full) RestoreOne(resident_bytes, limit_bytes);
}

void Repository::RestoreOne(int64_t resident_bytes, int64_t limit_bytes) {
  const int64_t room = limit_bytes - LoadHeadroomBytes(limit_bytes) - resident_bytes;
  for (const auto& [name, model] : snapshot()) {
    for (const auto& [number, version] : model->versions) {
      const auto it = version.variants.find(version.reference);
      if (it == version.variants.end() || !it->second.evicted.has_value()) continue;
      const Eviction& evicted = *it->second.evicted;
      const int64_t limit = model->settings->memory_limit_bytes;
      if (clock_->Now() - evicted.at < evicted.rest) continue;
      if (limit > 0 && HeldBytes(version) + evicted.held_bytes > limit) continue;
      // A load's peak is the file and as much again.
      if (limit_bytes > 0 && std::max(2 * evicted.file_bytes, evicted.held_bytes) > room) continue;
      LoadReference(name, absl::StrCat(number));
      return;  // one at a time: the next look shows what it took
    }
  }
}

bool Repository::EvictLeastUsed(const std::string& pressure) {
  struct Candidate {
    bool always;
    absl::Time used;
    std::string model, version;
    auto operator<=>(const Candidate&) const = default;
  };
  std::optional<Candidate> least;
  for (const auto& [name, model] : snapshot()) {
    for (const auto& [number, version] : model->versions) {
      if (!Evictable(version)) continue;
      const ServedVariant& served = *version.variants.at(version.reference).served;
      Candidate candidate = {!version.control->reference_sampled(), served.recorder->Statistics().last_inference, name,
                             absl::StrCat(number)};
      if (!least.has_value() || candidate < *least) least = std::move(candidate);
    }
  }
  if (!least.has_value()) return false;
  ChangeReference(least->model, least->version, false, pressure);
  return true;
}

}  // namespace octet::server
