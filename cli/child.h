// A server in a process of its own: what the demo talks to.
#ifndef OCTET_CLI_CHILD_H_
#define OCTET_CLI_CHILD_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace octet::cli {

// Runs this program again as `octet serve ...` with ephemeral ports; its log goes to a file. The destructor stops it
// with SIGTERM and waits. Thread-compatible.
class ServerProcess {
 public:
  // Errors: kInternal with the end of the log when it ends before it listens.
  static absl::StatusOr<std::unique_ptr<ServerProcess>> Start(const std::string& repository, const std::string& log_file);
  ~ServerProcess();

  const std::string& grpc() const { return grpc_; }        // "127.0.0.1:43211"
  const std::string& http() const { return http_; }
  const std::string& metrics() const { return metrics_; }
  bool running() const;

 private:
  ServerProcess() = default;

  pid_t pid_ = -1;
  std::string grpc_, http_, metrics_;
};

}  // namespace octet::cli

#endif  // OCTET_CLI_CHILD_H_
