// `octet serve`: starts the server, and stops it gracefully on SIGTERM or SIGINT.
#include <signal.h>

#include <cstdio>

#include "absl/flags/declare.h"
#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cli/commands.h"
#include "server/server.h"

ABSL_FLAG(std::string, model_repository, "", "serve: folder of models (Triton's layout)");
ABSL_FLAG(std::string, host, "0.0.0.0", "serve: address to listen on");
ABSL_FLAG(int, grpc_port, 8001, "serve: gRPC port (0: any free one)");
ABSL_FLAG(int, http_port, 8000, "serve: port of the health pages (0: any free one)");
ABSL_FLAG(int, metrics_port, 8002, "serve: port of /metrics (0: any free one)");
ABSL_FLAG(int, slots, 1, "serve, bench: inferences that run at the same time, each on its own team");
ABSL_FLAG(int64_t, max_message_bytes, 64 << 20, "serve: largest request or reply");
ABSL_FLAG(int64_t, max_in_flight_bytes, int64_t{1} << 30, "serve: bytes of requests held at the same time");
ABSL_FLAG(int, max_queued, 1024, "serve: requests that may wait for one variant");
ABSL_FLAG(int64_t, max_activation_bytes, int64_t{2} << 30,
          "serve: activations of one variant over all input shapes kept ready; a shape that needs more is refused");
ABSL_FLAG(int64_t, memory_limit_bytes, 0,
          "serve: memory of the process; a model that does not fit is refused (0: the container's or machine's limit)");
ABSL_FLAG(absl::Duration, max_connection_age, absl::InfiniteDuration(),
          "serve: older connections are closed gently, so that clients of a scaled service find new replicas");
ABSL_FLAG(absl::Duration, drain_timeout, absl::Seconds(30), "serve: time that requests get to finish at shutdown");
ABSL_DECLARE_FLAG(int, threads);

namespace octet::cli {
absl::Status Serve(const Words& words) {
  if (!words.empty()) return absl::InvalidArgumentError(absl::StrCat("unexpected word '", words[0], "'"));
  if (absl::GetFlag(FLAGS_model_repository).empty()) {
    return absl::InvalidArgumentError("--model-repository is missing");
  }
  // Blocked before any thread starts, so that only sigwait below sees them.
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);

  server::ServerOptions options;
  options.repository = absl::GetFlag(FLAGS_model_repository);
  options.address = absl::GetFlag(FLAGS_host);
  options.grpc_port = absl::GetFlag(FLAGS_grpc_port);
  options.http_port = absl::GetFlag(FLAGS_http_port);
  options.metrics_port = absl::GetFlag(FLAGS_metrics_port);
  options.slots = absl::GetFlag(FLAGS_slots);
  options.threads = absl::GetFlag(FLAGS_threads);
  options.max_message_bytes = absl::GetFlag(FLAGS_max_message_bytes);
  options.max_in_flight_bytes = absl::GetFlag(FLAGS_max_in_flight_bytes);
  options.max_activation_bytes = absl::GetFlag(FLAGS_max_activation_bytes);
  options.memory_limit_bytes = absl::GetFlag(FLAGS_memory_limit_bytes);
  options.max_connection_age = absl::GetFlag(FLAGS_max_connection_age);
  options.max_queued = absl::GetFlag(FLAGS_max_queued);
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<server::Server> server, server::Server::Start(options));
  // One line for scripts that start a server on free ports.
  const server::ServerPorts ports = server->ports();
  std::printf("listening grpc=%s:%d http=%s:%d metrics=%s:%d\n", options.address.c_str(), ports.grpc,
              options.address.c_str(), ports.http, options.address.c_str(), ports.metrics);
  std::fflush(stdout);
  int signal_number = 0;
  sigwait(&set, &signal_number);
  server->Shutdown(absl::GetFlag(FLAGS_drain_timeout));
  return absl::OkStatus();
}

}  // namespace octet::cli
