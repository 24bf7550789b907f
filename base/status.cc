// Reasons of errors.
#include "base/status.h"

#include <string>

#include "absl/strings/cord.h"

namespace octet {
namespace {
constexpr absl::string_view kReasonUrl = "octet/reason";
constexpr absl::string_view kReasons[] = {"queue_full", "deadline", "draining", "stale_twin", "memory_limit",
                                         "message_too_large"};
}  // namespace

absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  if (status.ok()) return status;
  absl::Status out(status.code(), absl::StrCat(context, ": ", status.message()));
  status.ForEachPayload(
      [&](absl::string_view url, const absl::Cord& payload) { out.SetPayload(url, payload); });
  return out;
}

absl::string_view ReasonOf(const absl::Status& status) {
  if (status.ok()) return "ok";
  if (auto payload = status.GetPayload(kReasonUrl); payload.has_value()) {
    const std::string found(*payload);
    for (absl::string_view reason : kReasons) {
      if (reason == found) return reason;
    }
  }
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return "invalid_argument";
    case absl::StatusCode::kNotFound:
      return "not_found";
    case absl::StatusCode::kFailedPrecondition:
      return "failed_precondition";
    case absl::StatusCode::kResourceExhausted:
      return "resource_exhausted";
    case absl::StatusCode::kDeadlineExceeded:
      return "deadline";
    case absl::StatusCode::kUnavailable:
      return "unavailable";
    case absl::StatusCode::kUnimplemented:
      return "unimplemented";
    case absl::StatusCode::kDataLoss:
      return "data_loss";
    case absl::StatusCode::kCancelled:
      return "cancelled";
    default:
      return "internal";
  }
}

absl::Status WithReason(absl::Status status, absl::string_view reason) {
  if (!status.ok()) status.SetPayload(kReasonUrl, absl::Cord(reason));
  return status;
}

}  // namespace octet
