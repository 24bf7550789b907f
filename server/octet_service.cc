// Handlers; a comparison runs on a thread of its own.
#include "server/octet_service.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "base/status.h"
#include "server/compare_job.h"
#include "server/grpc_status.h"
#include "server/log.h"

namespace octet::server {
namespace {

absl::Status InMemory(const FoundVersion& found, const std::string& variant) {
  auto it = found.version->variants.find(variant);
  if (it == found.version->variants.end()) {
    return absl::NotFoundError(
        absl::StrCat("model '", found.version->control->model(), "' has no variant '", variant, "'"));
  }
  if (it->second.served != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("variant '", variant, "' is not in memory: ", it->second.reason));
}

// The pair named, or all of the version.
absl::StatusOr<std::vector<std::shared_ptr<Pair>>> PairsOf(const FoundVersion& found, const std::string& variant) {
  std::vector<std::shared_ptr<Pair>> pairs;
  for (const auto& [name, pair] : found.version->control->pairs()) {
    if (variant.empty() || name == variant) pairs.push_back(pair);
  }
  if (!pairs.empty()) return pairs;
  return absl::NotFoundError(absl::StrCat("model '", found.version->control->model(), "' has no pair of ",
                                          variant.empty() ? "a variant" : absl::StrCat("variant '", variant, "'"),
                                          " and a reference"));
}

absl::Status Merge(const v1::GuardSettings& message, GuardSettings* settings) {
  const auto finite = [](double v, double least, double most) { return v >= least && v <= most; };
  settings->min_top1_agreement.reset();
  settings->min_sqnr_db.reset();
  if (message.has_min_top1_agreement()) {
    if (!finite(message.min_top1_agreement(), 0, 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("min_top1_agreement: ", message.min_top1_agreement(), " is outside [0, 1]"));
    }
    settings->min_top1_agreement = message.min_top1_agreement();
  }
  if (message.has_min_sqnr_db()) {
    if (!finite(message.min_sqnr_db(), -kMaxDb, kMaxDb)) {
      return absl::InvalidArgumentError(
          absl::StrCat("min_sqnr_db: ", message.min_sqnr_db(), " is outside [", -kMaxDb, ", ", kMaxDb, "]"));
    }
    settings->min_sqnr_db = message.min_sqnr_db();
  }
  if (message.min_comparisons() != 0) {
    if (message.min_comparisons() < 2) {
      return absl::InvalidArgumentError(
          absl::StrCat("min_comparisons: expected at least 2, found ", message.min_comparisons()));
    }
    settings->min_comparisons = message.min_comparisons();
  }
  if (message.recovery() == v1::GuardSettings::MANUAL) settings->recovery = GuardSettings::Recovery::kManual;
  if (message.recovery() == v1::GuardSettings::AUTOMATIC) settings->recovery = GuardSettings::Recovery::kAutomatic;
  return absl::OkStatus();
}

}  // namespace

// One Compare call: the job's thread writes one message at a time and finishes the call, after which it does not touch
// it.
class OctetService::CompareCall final : public grpc::ServerWriteReactor<v1::CompareResponse> {
 public:
  CompareCall(OctetService* service, Context* context, const v1::CompareRequest& request)
      : service_(service), context_(context) {
    job_.request = request;
  }

  absl::Status Begin() {
    const OctetEnvironment& environment = service_->environment_;
    OCTET_ASSIGN_OR_RETURN(job_.found,
                           FindVersion(*environment.source.repository, job_.request.model(), job_.request.version()));
    job_.calibration = absl::StrCat(environment.repository_root, "/", job_.request.model(), "/calibration");
    job_.make_context = environment.make_context;
    job_.step = [this](int64_t done, int64_t total) { return Step(done, total); };
    if (service_->job_runs_.exchange(true)) {
      return WithReason(absl::ResourceExhaustedError("another comparison runs; retry when it is done"),
                        "comparison_runs");
    }
    absl::MutexLock lock(&service_->job_mu_);
    if (service_->job_.joinable()) service_->job_.join();
    service_->job_ = std::thread([this] { Work(); });
    return absl::OkStatus();
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mu_);
    written_ = true;
    broken_ = broken_ || !ok;
    changed_.SignalAll();
  }
  void OnCancel() override {
    absl::MutexLock lock(&mu_);
    broken_ = true;
    changed_.SignalAll();
  }
  void OnDone() override { delete this; }

 private:
  void Work() {
    // Behind the slots; on Linux a thread id names one thread here.
    (void)setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 19);
    absl::StatusOr<v1::CompareResult> result = RunCompareJob(job_);
    absl::Status status = result.status();
    if (result.ok()) {
      message_.Clear();
      *message_.mutable_result() = *std::move(result);
      status = Write();
    }
    job_ = {};
    OctetService* service = service_;
    const grpc::Status answer = ToGrpc(status, context_);
    service->job_runs_ = false;
    Finish(answer);  // OnDone may have deleted this already
  }

  absl::Status Step(int64_t done, int64_t total) {
    const absl::Time now = absl::Now();
    if (now < next_progress_) {
      absl::MutexLock lock(&mu_);
      return broken_ ? absl::CancelledError("the client ended the comparison") : absl::OkStatus();
    }
    next_progress_ = now + absl::Milliseconds(200);
    message_.Clear();
    message_.mutable_progress()->set_samples_done(done);
    message_.mutable_progress()->set_samples_total(total);
    return Write();
  }

  absl::Status Write() {
    {
      absl::MutexLock lock(&mu_);
      if (broken_) return absl::CancelledError("the client ended the comparison");
      written_ = false;
    }
    StartWrite(&message_);
    absl::MutexLock lock(&mu_);
    while (!written_) changed_.Wait(&mu_);
    return broken_ ? absl::CancelledError("the client ended the comparison") : absl::OkStatus();
  }

  OctetService* const service_;
  Context* const context_;
  CompareJob job_;
  v1::CompareResponse message_;
  absl::Time next_progress_ = absl::InfinitePast();
  absl::Mutex mu_;
  absl::CondVar changed_;
  bool written_ ABSL_GUARDED_BY(mu_) = false;
  bool broken_ ABSL_GUARDED_BY(mu_) = false;
};

OctetService::~OctetService() {
  absl::MutexLock lock(&job_mu_);
  if (job_.joinable()) job_.join();
}

grpc::ServerWriteReactor<v1::CompareResponse>* OctetService::Compare(Context* context,
                                                                     const v1::CompareRequest* request) {
  auto* call = new CompareCall(this, context, *request);
  if (const absl::Status status = call->Begin(); !status.ok()) call->Finish(ToGrpc(status, context));
  return call;
}

absl::StatusOr<v1::ListVariantsResponse> OctetService::List(const std::string& model) const {
  OCTET_ASSIGN_OR_RETURN(v1::ListVariantsResponse response,
                         ListVariantsView(environment_.source, model, environment_.clock->Now()));
  environment_.fill_server(response.mutable_server());
  return response;
}

OctetService::Reactor* OctetService::ListVariants(Context* context, const v1::ListVariantsRequest* request,
                                                  v1::ListVariantsResponse* response) {
  absl::StatusOr<v1::ListVariantsResponse> list = List(request->model());
  if (list.ok()) *response = *std::move(list);
  Reactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(list.status(), context));
  return reactor;
}

OctetService::Reactor* OctetService::Answer(Context* context, const absl::Status& status, const std::string& model,
                                            const std::string& version, v1::Version* response) {
  absl::Status result = status;
  if (result.ok()) {
    absl::StatusOr<v1::Version> view = VersionView(environment_.source, model, version, environment_.clock->Now());
    result = view.status();
    if (view.ok()) *response = *std::move(view);
  }
  Reactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(result, context));
  return reactor;
}

absl::Status OctetService::ApplyPrimary(const v1::SetPrimaryRequest& request) {
  OCTET_ASSIGN_OR_RETURN(const FoundVersion found,
                         FindVersion(*environment_.source.repository, request.model(), request.version()));
  OCTET_RETURN_IF_ERROR(InMemory(found, request.variant()));
  OCTET_RETURN_IF_ERROR(found.version->control->SetPrimary(request.variant()));
  Log(Severity::kInfo, "primary set", {{"model", request.model()}, {"variant", request.variant()}});
  return absl::OkStatus();
}

OctetService::Reactor* OctetService::SetPrimary(Context* context, const v1::SetPrimaryRequest* request,
                                                v1::Version* response) {
  return Answer(context, ApplyPrimary(*request), request->model(), request->version(), response);
}

absl::Status OctetService::ApplyWeights(const v1::SetWeightsRequest& request) {
  OCTET_ASSIGN_OR_RETURN(const FoundVersion found,
                         FindVersion(*environment_.source.repository, request.model(), request.version()));
  TrafficSettings traffic = found.version->control->traffic();
  traffic.weights.clear();
  for (const auto& [variant, share] : request.weights()) {
    if (share > 0) OCTET_RETURN_IF_ERROR(InMemory(found, variant));
    traffic.weights[variant] = share;
  }
  if (request.has_sticky_parameter()) traffic.sticky_parameter = request.sticky_parameter();
  OCTET_RETURN_IF_ERROR(found.version->control->SetTraffic(std::move(traffic)));
  Log(Severity::kInfo, "traffic weights set", {{"model", request.model()}});
  return absl::OkStatus();
}

OctetService::Reactor* OctetService::SetWeights(Context* context, const v1::SetWeightsRequest* request,
                                                v1::Version* response) {
  return Answer(context, ApplyWeights(*request), request->model(), request->version(), response);
}

absl::Status OctetService::ApplyGuard(const v1::SetGuardRequest& request) {
  OCTET_ASSIGN_OR_RETURN(const FoundVersion found,
                         FindVersion(*environment_.source.repository, request.model(), request.version()));
  VersionControl& control = *found.version->control;
  OCTET_ASSIGN_OR_RETURN(const std::vector<std::shared_ptr<Pair>> pairs, PairsOf(found, request.variant()));
  const absl::Time now = environment_.clock->Now();
  const double fraction = request.has_compare_fraction() ? request.compare_fraction() : control.fraction();
  std::vector<GuardSettings> merged;
  bool enabled = false;
  for (const std::shared_ptr<Pair>& pair : pairs) {
    GuardSettings& settings = merged.emplace_back(pair->Summary(now).guard.settings);
    if (request.has_settings()) OCTET_RETURN_IF_ERROR(Merge(request.settings(), &settings));
    enabled = enabled || settings.enabled();
  }
  if (enabled && !(fraction > 0)) {
    return absl::FailedPreconditionError("a guard judges live comparisons: set compare_fraction above 0 as well");
  }
  if ((enabled || fraction > 0) && !control.reference_sampled())
    OCTET_RETURN_IF_ERROR(InMemory(found, control.reference()));
  OCTET_RETURN_IF_ERROR(control.SetFraction(fraction));
  for (size_t i = 0; i < pairs.size(); ++i) {
    pairs[i]->SetGuard(merged[i]);
    // Without a minimum nothing would ever bring a variant back.
    if (request.recover() || !merged[i].enabled()) pairs[i]->Recover(now);
  }
  Log(Severity::kInfo, "guard set", {{"model", request.model()}, {"compare_fraction", fraction}});
  return absl::OkStatus();
}

OctetService::Reactor* OctetService::SetGuard(Context* context, const v1::SetGuardRequest* request,
                                              v1::Version* response) {
  return Answer(context, ApplyGuard(*request), request->model(), request->version(), response);
}

OctetService::Reactor* OctetService::ResetWindows(Context* context, const v1::ResetWindowsRequest* request,
                                                  v1::Version* response) {
  const auto apply = [&]() -> absl::Status {
    OCTET_ASSIGN_OR_RETURN(const FoundVersion found,
                           FindVersion(*environment_.source.repository, request->model(), request->version()));
    OCTET_ASSIGN_OR_RETURN(const std::vector<std::shared_ptr<Pair>> pairs, PairsOf(found, request->variant()));
    for (const std::shared_ptr<Pair>& pair : pairs) pair->ResetWindows();
    return absl::OkStatus();
  };
  return Answer(context, apply(), request->model(), request->version(), response);
}

}  // namespace octet::server
