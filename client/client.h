// A client for any server of the Open Inference Protocol over gRPC: Octet, Triton, KServe, OpenVINO
// Model Server.
#ifndef OCTET_CLIENT_CLIENT_H_
#define OCTET_CLIENT_CLIENT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/balance.h"
#include "client/types.h"

namespace octet::client {

// A request in its wire form, built once and sent any number of times: tensors go as raw contents,
// by reference to their bytes, which stay alive as long as the request. Copying copies a pointer.
// Thread-safe: immutable.
class PreparedRequest {
 public:
  // Errors: kInvalidArgument for no model, an unnamed or repeated input, a type that the protocol
  // lacks.
  static absl::StatusOr<PreparedRequest> Create(const InferRequest& request);

  int64_t size_bytes() const;

 private:
  friend class Client;
  struct Wire;
  std::shared_ptr<const Wire> wire_;
};

struct ClientOptions {
  absl::Duration connect_timeout = absl::Seconds(5);
  absl::Duration deadline = absl::Seconds(30);  // of each call that names none
  Retry retry = Retry::kRefused;
};

// One server, or several of the same models. Errors of the calls: the server's code and message, with its `octet-reason` where
// it sends one (see ReasonOf); kUnavailable when it cannot be reached, kDeadlineExceeded, kDataLoss
// for an answer that breaks the protocol. Thread-safe. The destructor waits for outstanding
// asynchronous calls.
class Client {
 public:
  // `address` is host:port or unix:path; or several servers, over which requests go round: dns:///name:port (every address of a
  // headless service) or ipv4:address:port,address:port (client/balance.h). What a draining server refused is sent
  // again unless `options` says not to. No proxy is used. Errors: kUnavailable, naming the address.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const std::string& address,
                                                         const ClientOptions& options = {});
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  absl::StatusOr<bool> Live();
  absl::StatusOr<bool> Ready();
  absl::StatusOr<ServerMetadata> Server();
  // Every model and variant of the repository.
  absl::StatusOr<std::vector<ModelState>> Index();
  // Loads a model, or loads it anew when its files changed; returns when it serves.
  absl::Status Load(const std::string& model, absl::Duration deadline);
  absl::Status Unload(const std::string& model, absl::Duration deadline);
  // A model may be "name" or "name@variant"; an empty version lets the server choose.
  absl::StatusOr<bool> ModelReady(const std::string& model, const std::string& version = "");
  absl::StatusOr<ModelMetadata> Metadata(const std::string& model, const std::string& version = "");
  // An empty model: all models.
  absl::StatusOr<std::vector<ModelStatistics>> Statistics(const std::string& model,
                                                          const std::string& version = "");

  // Outputs come as tensors, whether the server sends raw or typed contents. Requires: deadline >
  // 0.
  absl::StatusOr<InferResult> Infer(const InferRequest& request);
  absl::StatusOr<InferResult> Infer(const InferRequest& request, absl::Duration deadline);
  absl::StatusOr<InferResult> Infer(const PreparedRequest& request);
  absl::StatusOr<InferResult> Infer(const PreparedRequest& request, absl::Duration deadline);

  // Sends what `next` gives until it gives nothing, at most `in_flight` of them unanswered at a time, and hands the answers to
  // `answer` in the order of the requests; both are called on this thread. Each is a call of its own: spread over all
  // servers, merged into batches by them, and one that fails leaves the others alone. Errors: kInvalidArgument.
  absl::Status Stream(absl::FunctionRef<std::optional<PreparedRequest>()> next, int in_flight,
                      absl::FunctionRef<void(absl::StatusOr<InferResult>)> answer);

  // `done` is called once, on a thread of gRPC: it must not block nor destroy the client.
  using Callback = absl::AnyInvocable<void(absl::StatusOr<InferResult>)>;
  void InferAsync(const PreparedRequest& request, Callback done);
  void InferAsync(const PreparedRequest& request, absl::Duration deadline, Callback done);

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace octet::client

#endif  // OCTET_CLIENT_CLIENT_H_
