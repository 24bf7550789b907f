// gRPC's service configuration for one server or several: who is asked next, and what is asked again.
#ifndef OCTET_CLIENT_BALANCE_H_
#define OCTET_CLIENT_BALANCE_H_

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace octet::client {

// True for targets that may mean several servers: "dns:///name:port", "ipv4:a:1,b:2". "name:port" is one server.
inline bool MeansSeveralServers(absl::string_view target) {
  return absl::StartsWith(target, "dns:") || absl::StartsWith(target, "ipv4:") || absl::StartsWith(target, "ipv6:");
}

// What a client does about UNAVAILABLE, with which a draining server refuses: such a request was not run.
enum class Retry {
  kRefused,  // sends it again, up to 5 times
  kNever,    // reports it: for what measures servers
};

// Over several servers requests go round, and a server whose health says NOT_SERVING is left out; one server is asked
// whatever its health says.
inline std::string ServiceConfigJson(absl::string_view target, Retry retry) {
  constexpr absl::string_view kRetry =
      R"("methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.02s","maxBackoff":"1s",)"
      R"("backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}])";
  constexpr absl::string_view kNoRetry = R"("methodConfig":[])";
  constexpr absl::string_view kRound = R"("loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":""},)";
  const absl::string_view round = MeansSeveralServers(target) ? kRound : "";
  return absl::StrCat("{", round, retry == Retry::kRefused ? kRetry : kNoRetry, "}");
}

}  // namespace octet::client

#endif  // OCTET_CLIENT_BALANCE_H_
