// Field by field.
#include "server/octet_views.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "server/sample.h"

namespace octet::server {
namespace {

void FillLatency(const LatencySummary& summary, v1::Latency* latency) {
  latency->set_window_seconds(absl::ToDoubleSeconds(summary.span));
  latency->set_requests(summary.count);
  if (summary.span > absl::ZeroDuration()) {
    latency->set_requests_per_second(static_cast<double>(summary.count) / absl::ToDoubleSeconds(summary.span));
  }
  latency->set_mean_seconds(summary.mean_seconds);
  latency->set_p50_seconds(summary.Percentile(0.5));
  latency->set_p90_seconds(summary.Percentile(0.9));
  latency->set_p95_seconds(summary.Percentile(0.95));
  latency->set_p99_seconds(summary.Percentile(0.99));
  latency->set_max_seconds(summary.max_seconds);
  for (const LatencySummary::Bucket& bucket : summary.buckets) {
    v1::Latency::Bucket* out = latency->add_buckets();
    out->set_lower_seconds(bucket.lower_seconds);
    out->set_upper_seconds(bucket.upper_seconds);
    out->set_requests(bucket.count);
  }
}

void FillEstimate(const Estimate& estimate, v1::Estimate* out) {
  out->set_value(estimate.value);
  out->set_lower(estimate.lower);
  out->set_upper(estimate.upper);
}

void FillServed(const OctetViewSource& source, const ServedVariant& served, absl::Time now, v1::Variant* out) {
  out->set_in_memory(true);
  FillMemory(served, out->mutable_memory());
  out->set_load_seconds(absl::ToDoubleSeconds(served.load_time));
  const StatisticsSnapshot counts = served.recorder->Statistics();
  out->set_requests_ok(counts.success.count);
  out->set_requests_failed(counts.fail.count);
  out->set_rows(counts.inferences);
  out->set_batches(counts.executions);
  out->set_queue_depth(source.scheduler->QueueDepth(*served.queue));
  FillLatency(served.recorder->Latency(), out->mutable_latency());
  for (const RecordedFigures::Output& output : served.recorded.outputs) {
    v1::RecordedAgreement* recorded = out->add_recorded();
    recorded->set_output(output.name);
    if (output.top1_agreement.has_value()) recorded->set_top1_agreement(*output.top1_agreement);
    recorded->set_sqnr_db(output.sqnr_db);
    recorded->set_cosine(output.cosine);
    recorded->set_samples(output.samples);
  }
  for (const RecordedFigures::Layer& layer : served.recorded.layers) {
    v1::Layer* recorded = out->add_layers();
    recorded->set_node(layer.node);
    recorded->set_op(layer.op);
    recorded->set_scheme(layer.scheme);
    recorded->set_sqnr_db(layer.sqnr_db);
  }
  if (served.uncertainty == nullptr) return;
  const UncertaintySummary summary = served.uncertainty->Summary(now);
  v1::Uncertainty* uncertainty = out->mutable_uncertainty();
  uncertainty->set_answers(summary.answers);
  uncertainty->set_predictive_entropy_nats(summary.entropy_nats);
  uncertainty->set_epistemic_share(summary.epistemic_share);
  uncertainty->set_uncertain_ratio(summary.uncertain_ratio);
}

void FillGuard(const GuardStatus& status, v1::Pair* pair) {
  if (!status.settings.enabled() && status.trips == 0) return;
  v1::Guard* guard = pair->mutable_guard();
  v1::GuardSettings* settings = guard->mutable_settings();
  if (status.settings.min_top1_agreement.has_value())
    settings->set_min_top1_agreement(*status.settings.min_top1_agreement);
  if (status.settings.min_sqnr_db.has_value()) settings->set_min_sqnr_db(*status.settings.min_sqnr_db);
  settings->set_min_comparisons(status.settings.min_comparisons);
  settings->set_recovery(status.settings.recovery == GuardSettings::Recovery::kManual ? v1::GuardSettings::MANUAL
                                                                                      : v1::GuardSettings::AUTOMATIC);
  guard->set_tripped(status.tripped);
  guard->set_reason(status.reason);
  if (status.since > absl::InfinitePast())
    guard->set_since_unix_seconds(absl::ToDoubleSeconds(status.since - absl::UnixEpoch()));
  guard->set_trips(status.trips);
  guard->set_recoveries(status.recoveries);
}

void FillPair(const VersionEntry& version, const Pair& pair, absl::Time now, v1::Pair* out) {
  const PairSummary summary = pair.Summary(now);
  out->set_variant(summary.labels.variant);
  out->set_reference(summary.labels.reference);
  auto reference = version.variants.find(version.reference);
  out->set_reference_in_memory(reference != version.variants.end() && reference->second.served != nullptr);
  for (const auto& [name, output] : summary.outputs) *out->add_outputs() = AgreementMessage(name, output);
  out->set_compared(summary.compared);
  out->set_dropped(summary.dropped);
  out->set_failed(summary.failed);
  out->set_waiting(summary.waiting);
  out->set_cpu_seconds(absl::ToDoubleSeconds(summary.cpu));
  if (summary.latency_ratio.has_value()) out->set_latency_ratio(*summary.latency_ratio);
  if (const std::optional<double> ratio = MemoryRatio(version, summary.labels.variant); ratio.has_value()) {
    out->set_memory_ratio(*ratio);
  }
  FillGuard(summary.guard, out);
}

void FillVersion(const OctetViewSource& source, const VersionEntry& version, absl::Time now, v1::Version* out) {
  const VersionControl& control = *version.control;
  out->set_model(control.model());
  out->set_version(control.version());
  out->set_primary(control.primary());
  out->set_reference(version.reference);
  const TrafficSettings traffic = control.traffic();
  for (const auto& [variant, share] : traffic.weights) (*out->mutable_weights())[variant] = share;
  out->set_sticky_parameter(traffic.sticky_parameter);
  out->set_compare_fraction(control.fraction());
  for (const auto& [name, entry] : version.variants) {
    v1::Variant* variant = out->add_variants();
    variant->set_name(name);
    variant->set_state(std::string(NameOf(entry.state)));
    variant->set_reason(entry.reason);
    if (entry.served != nullptr) FillServed(source, *entry.served, now, variant);
  }
  for (const auto& [variant, pair] : control.pairs()) FillPair(version, *pair, now, out->add_pairs());
}

}  // namespace

v1::OutputAgreement AgreementMessage(const std::string& output, const WindowSummary& summary) {
  v1::OutputAgreement message;
  message.set_output(output);
  message.set_comparisons(summary.comparisons);
  message.set_rows(summary.rows);
  if (summary.classes) FillEstimate(summary.top1, message.mutable_top1_agreement());
  FillEstimate(summary.sqnr_db, message.mutable_sqnr_db());
  message.set_cosine(summary.cosine);
  return message;
}

void FillMemory(const ServedVariant& served, v1::Memory* memory) {
  const engine::MemoryReport report = served.program->Memory();
  memory->set_weights(report.weights);
  memory->set_activations(report.activations);
  memory->set_scratchpad(report.scratchpad);
  memory->set_code(report.code);
  memory->set_metadata(report.metadata);
  memory->set_file(served.file_bytes);
}

absl::StatusOr<FoundVersion> FindVersion(const Repository& repository, const std::string& model,
                                         const std::string& version) {
  if (model.find('@') != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("model '", model, "': a name without variant is expected here"));
  }
  FoundVersion found;
  OCTET_ASSIGN_OR_RETURN(found.model, repository.FindModel(model));
  if (found.model->versions.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("model '", model, "' is not loaded: ", found.model->reason));
  }
  int64_t number = found.model->versions.rbegin()->first;
  if (!version.empty() && !absl::SimpleAtoi(version, &number)) number = -1;
  auto it = found.model->versions.find(number);
  if (it == found.model->versions.end()) {
    return absl::NotFoundError(absl::StrCat("model '", model, "' has no version '", version, "'"));
  }
  found.version = &it->second;
  return found;
}

absl::StatusOr<v1::Version> VersionView(const OctetViewSource& source, const std::string& model,
                                        const std::string& version, absl::Time now) {
  OCTET_ASSIGN_OR_RETURN(const FoundVersion found, FindVersion(*source.repository, model, version));
  v1::Version message;
  FillVersion(source, *found.version, now, &message);
  return message;
}

absl::StatusOr<v1::ListVariantsResponse> ListVariantsView(const OctetViewSource& source, const std::string& model,
                                                          absl::Time now) {
  RepositorySnapshot models;
  if (model.empty()) {
    models = source.repository->snapshot();
  } else {
    OCTET_ASSIGN_OR_RETURN(models[model], source.repository->FindModel(model));
  }
  v1::ListVariantsResponse response;
  for (const auto& [name, entry] : models) {
    v1::Model* out = response.add_models();
    out->set_name(name);
    out->set_state(std::string(NameOf(entry->state)));
    out->set_reason(entry->reason);
    for (const auto& [number, version] : entry->versions) FillVersion(source, version, now, out->add_versions());
  }
  return response;
}

}  // namespace octet::server
