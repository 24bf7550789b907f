// Octet's own service (proto/octet/v1) from C++: figures of variants, and who answers. For inference see client.h.
#ifndef OCTET_CLIENT_OCTET_CLIENT_H_
#define OCTET_CLIENT_OCTET_CLIENT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/octet/v1/octet.pb.h"

namespace octet::client {

// One connection. Errors of the calls: the server's code, message and reason; kUnavailable, kDeadlineExceeded;
// kUnimplemented from a server that is not Octet's. Thread-safe.
class OctetClient {
 public:
  // `address` is host:port or unix:path. Errors: kUnavailable, naming it.
  static absl::StatusOr<std::unique_ptr<OctetClient>> Connect(const std::string& address, absl::Duration timeout);
  ~OctetClient();

  absl::StatusOr<v1::ListVariantsResponse> ListVariants(const v1::ListVariantsRequest& request);
  absl::StatusOr<v1::Version> SetPrimary(const v1::SetPrimaryRequest& request);
  absl::StatusOr<v1::Version> SetWeights(const v1::SetWeightsRequest& request);
  absl::StatusOr<v1::Version> SetGuard(const v1::SetGuardRequest& request);
  absl::StatusOr<v1::Version> ResetWindows(const v1::ResetWindowsRequest& request);

  // Without a deadline; `progress` is called on this thread, false ends the comparison with kCancelled.
  absl::StatusOr<v1::CompareResult> Compare(const v1::CompareRequest& request,
                                            const std::function<bool(const v1::CompareProgress&)>& progress);

 private:
  struct Impl;
  explicit OctetClient(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace octet::client

#endif  // OCTET_CLIENT_OCTET_CLIENT_H_
