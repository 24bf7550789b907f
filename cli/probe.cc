// `octet probe`: the health check of containers that have no shell.
#include <cstdio>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cli/commands.h"
#include "client/client.h"

ABSL_FLAG(std::string, address, "127.0.0.1:8001", "infer, bench, probe: host:port of a server");
ABSL_FLAG(absl::Duration, timeout, absl::Seconds(5), "infer, bench, probe: deadline of a call");

namespace octet::cli {

absl::Status Probe(const Words& words) {
  if (!words.empty()) return absl::InvalidArgumentError(absl::StrCat("unexpected word '", words[0], "'"));
  client::ClientOptions options;
  options.connect_timeout = options.deadline = absl::GetFlag(FLAGS_timeout);
  OCTET_ASSIGN_OR_RETURN(auto client, client::Client::Connect(absl::GetFlag(FLAGS_address), options));
  OCTET_ASSIGN_OR_RETURN(const bool ready, client->Ready());
  if (!ready) return absl::UnavailableError(absl::StrCat(absl::GetFlag(FLAGS_address), " is not ready"));
  std::printf("ready\n");
  return absl::OkStatus();
}

}  // namespace octet::cli
