// octet.v1.Octet on gRPC's callback API.
#ifndef OCTET_SERVER_OCTET_SERVICE_H_
#define OCTET_SERVER_OCTET_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "proto/octet/v1/octet.grpc.pb.h"
#include "server/clock.h"
#include "server/octet_views.h"

namespace octet::server {

struct OctetEnvironment {
  OctetViewSource source;
  Clock* clock = nullptr;
  std::string repository_root;
  ContextFactory make_context;
  std::function<void(v1::ServerFigures*)> fill_server;
};

// Thread-safe.
class OctetService final : public v1::Octet::CallbackService {
 public:
  explicit OctetService(OctetEnvironment environment) : environment_(std::move(environment)) {}
  ~OctetService() override;  // after the server was shut down, which cancels a comparison that runs

  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  Reactor* ListVariants(Context* context, const v1::ListVariantsRequest* request,
                        v1::ListVariantsResponse* response) override;
  grpc::ServerWriteReactor<v1::CompareResponse>* Compare(Context* context, const v1::CompareRequest* request) override;
  Reactor* SetPrimary(Context* context, const v1::SetPrimaryRequest* request, v1::Version* response) override;
  Reactor* SetWeights(Context* context, const v1::SetWeightsRequest* request, v1::Version* response) override;
  Reactor* SetGuard(Context* context, const v1::SetGuardRequest* request, v1::Version* response) override;
  Reactor* ResetWindows(Context* context, const v1::ResetWindowsRequest* request, v1::Version* response) override;

  // What ListVariants answers; for GET /api/v1/variants. Errors: kNotFound.
  absl::StatusOr<v1::ListVariantsResponse> List(const std::string& model) const;

 private:
  class CompareCall;

  absl::Status ApplyPrimary(const v1::SetPrimaryRequest& request);
  absl::Status ApplyWeights(const v1::SetWeightsRequest& request);
  absl::Status ApplyGuard(const v1::SetGuardRequest& request);
  Reactor* Answer(Context* context, const absl::Status& status, const std::string& model, const std::string& version,
                  v1::Version* response);

  const OctetEnvironment environment_;
  absl::Mutex job_mu_;
  std::thread job_ ABSL_GUARDED_BY(job_mu_);
  std::atomic<bool> job_runs_{false};
};

}  // namespace octet::server

#endif  // OCTET_SERVER_OCTET_SERVICE_H_
