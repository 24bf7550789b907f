// The serving process without its command line: repository, slots, gRPC, HTTP, metrics; start to
// drained.
#ifndef OCTET_SERVER_SERVER_H_
#define OCTET_SERVER_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace octet::server {

struct ServerOptions {
  std::string repository;  // root folder
  std::string address = "0.0.0.0";
  int grpc_port = 8001;  // 0: the system chooses; ports() tells
  int http_port = 8000;
  int metrics_port = 8002;
  int slots = 1;    // inferences that run at the same time
  int threads = 0;  // of each slot; 0: the CPU budget divided by slots
  int64_t max_message_bytes = 64 << 20;
  int64_t max_in_flight_bytes = int64_t{1} << 30;
  int max_queued = 1024;           // requests that may wait for one variant
  // Activations of one variant over all input shapes it is kept ready for: least recently used shapes give way to new
  // ones; a shape that needs more than this alone is refused.
  int64_t max_activation_bytes = int64_t{2} << 30;
  int64_t memory_limit_bytes = 0;  // of the process; 0: the cgroup's or the machine's. A model that does not fit is refused
  // Connections older than this are closed gently, so that clients resolve names again and find new replicas.
  absl::Duration max_connection_age = absl::InfiniteDuration();
  int64_t default_max_batch = 32;  // where config.pbtxt has no max_batch_size
  std::string version = "0.1.0";   // of the program, for metadata and metrics
};

struct ServerPorts {
  int grpc = 0;
  int http = 0;
  int metrics = 0;
};

// Thread-safe.
class Server {
 public:
  // Listens, then loads the repository in the background: live at once, ready when every model was
  // tried. A model that fails to load does not stop the server. Errors: kNotFound or
  // kFailedPrecondition (repository), kUnavailable (a port is taken), kInvalidArgument (options).
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options);
  virtual ~Server() = default;  // Shutdown at once

  virtual ServerPorts ports() const = 0;
  virtual bool ready() const = 0;
  virtual void AwaitReady() const = 0;  // until every model of the repository was tried

  // Says not ready, refuses new requests, answers those accepted for at most `drain`, then ends.
  // Idempotent.
  virtual void Shutdown(absl::Duration drain) = 0;
};

}  // namespace octet::server

#endif  // OCTET_SERVER_SERVER_H_
