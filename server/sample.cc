// From a snapshot of the repository.
#include "server/sample.h"

#include <utility>

namespace octet::server {
namespace {

const ServedVariant* ServedOf(const VersionEntry& version, const std::string& variant) {
  auto it = version.variants.find(variant);
  return it == version.variants.end() ? nullptr : it->second.served.get();
}

}  // namespace

double TrafficShare(const VersionControl& control, const std::string& variant) {
  const TrafficWeights weights = control.traffic().weights;
  if (weights.empty()) return control.primary() == variant ? 1 : 0;
  auto it = weights.find(variant);
  return it == weights.end() ? 0 : it->second;
}

std::optional<double> MemoryRatio(const VersionEntry& version, const std::string& variant) {
  const ServedVariant* one = ServedOf(version, variant);
  const ServedVariant* reference = ServedOf(version, version.reference);
  if (one == nullptr || reference == nullptr) return std::nullopt;
  const int64_t bytes = reference->program->Memory().weights;
  if (bytes <= 0) return std::nullopt;
  return static_cast<double>(one->program->Memory().weights) / static_cast<double>(bytes);
}

void SampleRepository(const Repository& repository, const Scheduler& scheduler, absl::Time now, MetricsSample* sample) {
  for (const auto& [name, model] : repository.snapshot()) {
    for (const auto& [number, version] : model->versions) {
      const VersionControl& control = *version.control;
      const std::string primary = control.primary();
      for (const auto& [variant, entry] : version.variants) {
        if (entry.served == nullptr) continue;
        const ServedVariant& served = *entry.served;
        MetricsSample::Variant& out = sample->variants.emplace_back();
        out.labels = served.labels;
        out.memory = served.program->Memory();
        out.cache = served.program->Cache();
        out.file_bytes = served.file_bytes;
        out.load_time = served.load_time;
        out.queue_depth = scheduler.QueueDepth(*served.queue);
        out.primary = primary == variant;
        out.traffic_weight = TrafficShare(control, variant);
        if (served.uncertainty != nullptr) {
          const UncertaintySummary uncertainty = served.uncertainty->Summary(now);
          if (uncertainty.answers > 0) out.uncertainty = uncertainty;
        }
      }
      for (const auto& [variant, pair] : control.pairs()) {
        const ServedVariant* served = ServedOf(version, variant);
        if (served == nullptr) continue;
        MetricsSample::ComparedPair& out = sample->pairs.emplace_back();
        out.summary = pair->Summary(now);
        out.reference_resident = ServedOf(version, version.reference) != nullptr;
        out.memory_ratio = MemoryRatio(version, variant);
        for (const RecordedFigures::Output& output : served->recorded.outputs) {
          out.recorded.push_back({output.name, output.top1_agreement, output.sqnr_db, output.cosine});
        }
      }
    }
  }
  sample->reference_evictions = repository.reference_evictions();
}

}  // namespace octet::server
