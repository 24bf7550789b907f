// Bytes of requests and replies that the server holds, and their limit.
#ifndef OCTET_SERVER_IN_FLIGHT_H_
#define OCTET_SERVER_IN_FLIGHT_H_

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet::server {

// Thread-safe.
class InFlightBytes {
 public:
  explicit InFlightBytes(int64_t limit) : limit_(limit) {}

  // Admits a request's bytes. Errors: kResourceExhausted (memory_limit) when they exceed the limit.
  absl::Status Admit(int64_t bytes) {
    if (bytes_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= limit_)
      return absl::OkStatus();
    Release(bytes);
    return WithReason(
        absl::ResourceExhaustedError(absl::StrCat("requests in flight would hold more than ",
                                                  limit_, " bytes; retry later")),
        "memory_limit");
  }
  // A reply is counted but never refused: its request was admitted.
  void Add(int64_t bytes) { bytes_.fetch_add(bytes, std::memory_order_relaxed); }
  void Release(int64_t bytes) { bytes_.fetch_sub(bytes, std::memory_order_relaxed); }
  int64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  const int64_t limit_;
  std::atomic<int64_t> bytes_{0};
};

}  // namespace octet::server

#endif  // OCTET_SERVER_IN_FLIGHT_H_
