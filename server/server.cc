// Wiring of one server.
#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/cpu.h"
#include "base/status.h"
#include "kernels/onednn.h"
#include "server/clock.h"
#include "server/comparison/comparer.h"
#include "server/http_server.h"
#include "server/in_flight.h"
#include "server/json.h"
#include "server/loader.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/octet_service.h"
#include "server/protocol_views.h"
#include "server/repository.h"
#include "server/rpc_service.h"
#include "server/sample.h"
#include "server/scheduler.h"
#include "server/variant_loader.h"
#include "server/web/web_page.h"

namespace octet::server {
namespace {

constexpr int kMaxQueuedLoads = 10000;  // models of one repository, reloads
constexpr int kMaxQueuedSpecialisations = 64;
constexpr absl::Duration kLameDuck = absl::Milliseconds(100);

std::string OnednnVersion() {
  const dnnl_version_t* v = dnnl_version();
  return absl::StrCat(v->major, ".", v->minor, ".", v->patch);
}

class ServerImpl final : public Server {
 public:
  ServerImpl(const ServerOptions& options, int threads, const CpuFeatures& cpu)
      : options_(options),
        threads_(threads),
        cpu_(cpu),
        metrics_({options.version, cpu.isa, OnednnVersion(), threads * options.slots, options.slots}),
        in_flight_(options.max_in_flight_bytes),
        specialiser_(1, kMaxQueuedSpecialisations),
        scheduler_({options.slots, threads, MakeEngineContext, [this] { comparer_.SlotFreed(); }}, &clock_, &specialiser_),
        repository_({options.repository, options.default_max_batch, options.max_queued,
                     options.max_activation_bytes, options.memory_limit_bytes, cpu.isa, threads * options.slots},
                    &scheduler_, &metrics_, &clock_, &loader_),
        comparer_(ComparerHooks(), &clock_, &specialiser_),
        service_(Environment()),
        octet_service_(OctetServiceEnvironment()) {}
  ~ServerImpl() override { Shutdown(absl::ZeroDuration()); }

  absl::Status Listen();
  absl::Status LoadModels();

  ServerPorts ports() const override { return ports_; }
  bool ready() const override { return !draining_ && repository_.initial_load_done(); }
  void AwaitReady() const override { repository_.AwaitInitialLoad(); }
  void Shutdown(absl::Duration drain) override;

 private:
  RpcEnvironment Environment();
  OctetEnvironment OctetServiceEnvironment();
  ComparerOptions ComparerHooks();
  void KeepHouse();
  absl::Status ListenGrpc();
  HttpResponse AnswerHealth(absl::string_view path) const;
  HttpResponse AnswerMetrics(absl::string_view path) const;
  MetricsSample Sample() const;
  void UpdateHealth();

  const ServerOptions options_;
  const int threads_;
  const CpuFeatures cpu_;
  SystemClock clock_;
  Metrics metrics_;
  InFlightBytes in_flight_;
  Loader specialiser_;  // makes batch sizes while models load
  Scheduler scheduler_;
  Repository repository_;
  Loader loader_{1, kMaxQueuedLoads};  // ended before all above, which its tasks use
  Comparer comparer_;
  RpcService service_;
  OctetService octet_service_;
  std::unique_ptr<grpc::Server> grpc_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<HttpServer> metrics_http_;
  std::thread when_loaded_;  // reports readiness once
  std::thread housekeeper_;  // lets references go under memory pressure
  ServerPorts ports_;
  int64_t baseline_bytes_ =
      0;  // before the first load, without pages of files: code comes in as it first runs
  std::atomic<bool> draining_{false};
  absl::Mutex house_mu_;
  absl::CondVar house_;
  absl::Mutex shutdown_mu_;
  bool stopped_ ABSL_GUARDED_BY(shutdown_mu_) = false;
};

RpcEnvironment ServerImpl::Environment() {
  RpcEnvironment environment;
  environment.infer = {&repository_, &scheduler_, &metrics_, &clock_, &in_flight_, &comparer_, {}};
  environment.infer.limits.max_decoded_bytes = options_.max_message_bytes;
  environment.repository = &repository_;
  environment.ready = [this] { return ready(); };
  environment.models_changed = [this] { UpdateHealth(); };
  environment.version = options_.version;
  return environment;
}

OctetEnvironment ServerImpl::OctetServiceEnvironment() {
  OctetEnvironment environment;
  environment.source = {&repository_, &scheduler_};
  environment.clock = &clock_;
  environment.repository_root = options_.repository;
  environment.make_context = MakeEngineContext;
  environment.fill_server = [this](v1::ServerFigures* figures) {
    figures->set_version(options_.version);
    figures->set_isa(cpu_.isa);
    figures->set_slots(options_.slots);
    figures->set_threads_per_slot(threads_);
    figures->set_resident_bytes(ResidentBytes());
    figures->set_baseline_bytes(baseline_bytes_ + ResidentFileBytes());
    figures->set_requests_in_flight_bytes(in_flight_.bytes());
    figures->set_comparison_queued_bytes(comparer_.queued_bytes());
    figures->set_unix_seconds(absl::ToDoubleSeconds(clock_.Now() - absl::UnixEpoch()));
  };
  return environment;
}

ComparerOptions ServerImpl::ComparerHooks() {
  ComparerOptions hooks;
  hooks.make_context = MakeEngineContext;
  hooks.busy = [this] { return scheduler_.busy(); };
  hooks.load_reference = [this](const VersionControl& control) {
    repository_.LoadReference(control.model(), control.version());
  };
  hooks.evict_reference = [this](const VersionControl& control) {
    repository_.EvictReference(control.model(), control.version(), "");
  };
  return hooks;
}

void ServerImpl::KeepHouse() {
  constexpr double kFull = 0.95;  // of what the process may hold
  const auto limit = static_cast<int64_t>(kFull * static_cast<double>(options_.memory_limit_bytes));
  absl::MutexLock lock(&house_mu_);
  while (!draining_) {
    house_.WaitWithTimeout(&house_mu_, absl::Seconds(1));
    if (!draining_) repository_.RelievePressure(ResidentBytes(), limit);
  }
}

absl::Status ServerImpl::ListenGrpc() {
  grpc::EnableDefaultHealthCheckService(true);
  static const bool reflection = [] {
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    return true;
  }();
  (void)reflection;
  grpc::ServerBuilder builder;
  int port = 0;
  const std::string listen = absl::StrCat(options_.address, ":", options_.grpc_port);
  builder.AddListeningPort(listen, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service_);
  builder.RegisterService(&octet_service_);
  builder.SetMaxReceiveMessageSize(static_cast<int>(options_.max_message_bytes));
  builder.SetMaxSendMessageSize(-1);
  if (options_.max_connection_age < absl::InfiniteDuration()) {
    const int64_t ms = std::min<int64_t>(absl::ToInt64Milliseconds(options_.max_connection_age),
                                         std::numeric_limits<int>::max() - 1);  // INT_MAX is gRPC's infinity
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, static_cast<int>(ms));
  }
  // Two servers on one port would share its clients silently.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // The only synchronous service is reflection.
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MAX_POLLERS, 2);
  grpc_ = builder.BuildAndStart();
  if (grpc_ == nullptr || port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen for gRPC on ", listen, ": is the port taken?"));
  }
  grpc_->GetHealthCheckService()->SetServingStatus(false);
  ports_.grpc = port;
  return absl::OkStatus();
}

absl::Status ServerImpl::Listen() {
  OCTET_RETURN_IF_ERROR(ListenGrpc());
  OCTET_ASSIGN_OR_RETURN(
      http_, HttpServer::Start(options_.address, options_.http_port,
                               [this](absl::string_view path) { return AnswerHealth(path); }));
  OCTET_ASSIGN_OR_RETURN(metrics_http_, HttpServer::Start(options_.address, options_.metrics_port,
                                                          [this](absl::string_view path) {
                                                            return AnswerMetrics(path);
                                                          }));
  ports_.http = http_->port();
  ports_.metrics = metrics_http_->port();
  return absl::OkStatus();
}

absl::Status ServerImpl::LoadModels() {
  baseline_bytes_ = ResidentBytes() - ResidentFileBytes();
  metrics_.SetSampler([this] { return Sample(); });
  OCTET_RETURN_IF_ERROR(repository_.LoadAll());
  when_loaded_ = std::thread([this] {
    repository_.AwaitInitialLoad();
    UpdateHealth();
    int ready_models = 0, failed_models = 0;
    for (const auto& [name, model] : repository_.snapshot()) {
      ++(model->state == ModelState::kReady ? ready_models : failed_models);
    }
    Log(Severity::kInfo, "ready",
        {{"models", ready_models},
         {"failed_models", failed_models},
         {"resident_bytes", ResidentBytes()}});
  });
  housekeeper_ = std::thread([this] { KeepHouse(); });
  return absl::OkStatus();
}

void ServerImpl::UpdateHealth() {
  if (draining_ || !repository_.initial_load_done()) return;
  grpc::HealthCheckServiceInterface* health = grpc_->GetHealthCheckService();
  health->SetServingStatus("", true);
  health->SetServingStatus("inference.GRPCInferenceService", true);
  health->SetServingStatus("octet.v1.Octet", true);
  for (const auto& [name, model] : repository_.snapshot()) {
    health->SetServingStatus(name, model->state == ModelState::kReady);
  }
}

HttpResponse ServerImpl::AnswerHealth(absl::string_view path) const {
  if (std::optional<HttpResponse> page = WebPage(path); page.has_value()) return *std::move(page);
  if (path == "/v2/health/live") return {200, "text/plain; charset=utf-8", "live\n"};
  if (path == "/v2/health/ready") {
    if (ready()) return {200, "text/plain; charset=utf-8", "ready\n"};
    return {503, "text/plain; charset=utf-8", draining_ ? "draining\n" : "loading\n"};
  }
  if (path == "/api/v1/variants") {
    const absl::StatusOr<v1::ListVariantsResponse> list = octet_service_.List("");
    if (list.ok()) return {200, "application/json", ToJson(*list)};
    return {503, "text/plain; charset=utf-8", absl::StrCat(list.status().message(), "\n")};
  }
  absl::string_view model = path;
  if (absl::ConsumePrefix(&model, "/v2/models/") && absl::ConsumeSuffix(&model, "/ready")) {
    std::string version;
    if (const size_t at = model.find("/versions/"); at != absl::string_view::npos) {
      version = std::string(model.substr(at + sizeof("/versions/") - 1));
      model = model.substr(0, at);
    }
    const absl::StatusOr<bool> is_ready = ModelReadyView(repository_, std::string(model), version);
    if (!is_ready.ok())
      return {404, "text/plain; charset=utf-8", absl::StrCat(is_ready.status().message(), "\n")};
    if (*is_ready && !draining_) return {200, "text/plain; charset=utf-8", "ready\n"};
    return {503, "text/plain; charset=utf-8", "not ready\n"};
  }
  return {404, "text/plain; charset=utf-8",
          "served here: /, /v2/health/live, /v2/health/ready, /v2/models/MODEL[/versions/V]/ready, "
          "/api/v1/variants\n"};
}

HttpResponse ServerImpl::AnswerMetrics(absl::string_view path) const {
  if (path != "/metrics") return {404, "text/plain; charset=utf-8", "served here: /metrics\n"};
  return {200, "text/plain; version=0.0.4; charset=utf-8", metrics_.Text()};
}

MetricsSample ServerImpl::Sample() const {
  MetricsSample sample;
  SampleRepository(repository_, scheduler_, absl::Now(), &sample);
  sample.resident_bytes = ResidentBytes();
  sample.baseline_bytes = baseline_bytes_ + ResidentFileBytes();
  sample.memory_limit_bytes = options_.memory_limit_bytes;
  sample.requests_bytes = in_flight_.bytes();
  sample.comparison_queued_bytes = comparer_.queued_bytes();
  return sample;
}

void ServerImpl::Shutdown(absl::Duration drain) {
  absl::MutexLock lock(&shutdown_mu_);
  if (stopped_) return;
  stopped_ = true;
  const absl::Time deadline = absl::Now() + drain;
  draining_ = true;
  repository_.StopLoading();
  comparer_.Stop();
  {
    absl::MutexLock house(&house_mu_);
    house_.SignalAll();
  }
  if (grpc_ != nullptr) {
    Log(Severity::kInfo, "draining", {{"seconds", absl::ToDoubleSeconds(drain)}});
    grpc_->GetHealthCheckService()->SetServingStatus(false);
  }
  // Refuses new requests with UNAVAILABLE while those accepted are answered. Only then the
  // transport is closed, a little later still: calls that reach gRPC after its shutdown began end
  // as CANCELLED, which clients do not retry.
  service_.DrainStreams();
  scheduler_.Stop(deadline);
  if (grpc_ != nullptr) {
    absl::SleepFor(std::min(drain, kLameDuck));
    grpc_->Shutdown(absl::ToChronoTime(std::max(deadline, absl::Now())));
    grpc_->Wait();
  }
  metrics_.SetSampler(nullptr);
  if (when_loaded_.joinable()) when_loaded_.join();
  if (housekeeper_.joinable()) housekeeper_.join();
  metrics_http_.reset();
  http_.reset();
  if (grpc_ != nullptr) Log(Severity::kInfo, "stopped");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options) {
  if (options.slots < 1 || options.threads < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("slots must be at least 1 and threads at least 0, got ", options.slots,
                     " and ", options.threads));
  }
  if (options.max_message_bytes < 1024 ||
      options.max_message_bytes > std::numeric_limits<int>::max()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "max_message_bytes must lie in [1024, 2147483647], got ", options.max_message_bytes));
  }
  if (options.max_connection_age <= absl::ZeroDuration() || options.memory_limit_bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "max_connection_age must be positive and memory_limit_bytes at least 0, got ",
        absl::FormatDuration(options.max_connection_age), " and ", options.memory_limit_bytes));
  }
  const CpuBudget budget = DetectCpuBudget();
  const CpuFeatures cpu = DetectCpuFeatures();
  const int threads =
      options.threads > 0 ? options.threads : std::max(1, budget.threads / options.slots);
  Log(Severity::kInfo, "starting",
      {{"version", options.version},
       {"cpu", cpu.model_name},
       {"isa", cpu.isa},
       {"onednn", OnednnVersion()},
       {"slots", options.slots},
       {"threads_per_slot", threads},
       {"threads_why", options.threads > 0 ? "as asked for" : budget.reason},
       {"repository", options.repository}});
  ServerOptions bounded = options;
  if (bounded.memory_limit_bytes == 0) bounded.memory_limit_bytes = MemoryLimitBytes();
  // Requests in flight must not be what a small container is killed for.
  bounded.max_in_flight_bytes = std::min(bounded.max_in_flight_bytes, bounded.memory_limit_bytes / 4);
  auto server = std::make_unique<ServerImpl>(bounded, threads, cpu);
  OCTET_RETURN_IF_ERROR(server->Listen());
  Log(Severity::kInfo, "listening",
      {{"grpc", server->ports().grpc},
       {"http", server->ports().http},
       {"metrics", server->ports().metrics}});
  OCTET_RETURN_IF_ERROR(server->LoadModels());
  return server;
}

}  // namespace octet::server
