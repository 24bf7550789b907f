// Which references are in memory: loaded on demand, let go under pressure.
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "server/log.h"
#include "server/repository.h"
#include "server/repository_load.h"
#include "server/variant_loader.h"

namespace octet::server {
namespace {

int64_t HeldBytes(const VersionEntry& version) {
  int64_t bytes = 0;
  for (const auto& [name, variant] : version.variants) {
    if (variant.served == nullptr) continue;
    const engine::MemoryReport memory = variant.served->program->Memory();
    bytes += memory.weights + memory.activations + memory.scratchpad + memory.code + memory.metadata;
  }
  return bytes;
}

// Requests may reach the reference without naming it.
bool Answers(const VersionControl& control) {
  return control.primary() == control.reference() || control.traffic().weights.contains(control.reference()) ||
         control.AnyTripped();
}

bool Evictable(const VersionEntry& version) {
  auto it = version.variants.find(version.reference);
  return it != version.variants.end() && it->second.served != nullptr && version.variants.size() > 1 &&
         !Answers(*version.control);
}

}  // namespace

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
    VersionLoader loader(options_, *entry->settings, labels, scheduler_, metrics_, clock_);
    changed = loader.LoadReference(std::move(changed));
    Swap(model, std::move(entry));
    return;
  }
  if (!Evictable(changed)) return;
  const std::string reason =
      pressure.empty() ? "octet.reference.residency is 'sampled'" : "memory pressure: " + pressure;
  if (!pressure.empty()) ++evictions_;
  const std::shared_ptr<const ServedVariant> served = std::move(reference->second.served);
  reference->second = {ModelState::kUnavailable, absl::StrCat("not in memory: ", reason), nullptr};
  changed.control->SetTarget(changed.reference, std::nullopt);
  Swap(model, std::move(entry));
  scheduler_->Close(served->queue);
  Log(Severity::kInfo, "reference evicted",
      {{"model", model}, {"version", version}, {"variant", labels.variant}, {"why", reason}});
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
}

}  // namespace octet::server
