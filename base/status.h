// Status plumbing: the return macros, context for messages, and the closed list of error reasons.
#ifndef OCTET_BASE_STATUS_H_
#define OCTET_BASE_STATUS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace octet {

// Same code, "context: message". An OK status stays OK.
absl::Status Annotate(const absl::Status& status, absl::string_view context);

// The reason of an error in one lower-case word from a closed list ("invalid_argument", "queue_full", ...): the value
// of the metric label `outcome` and of the trailing metadata `octet-reason`. "ok" for OK.
absl::string_view ReasonOf(const absl::Status& status);

// Marks a status with a reason of the list that its code alone does not tell (queue_full, deadline, draining, stale_twin).
absl::Status WithReason(absl::Status status, absl::string_view reason);

}  // namespace octet

#define OCTET_CONCAT_INNER_(a, b) a##b
#define OCTET_CONCAT_(a, b) OCTET_CONCAT_INNER_(a, b)

#define OCTET_RETURN_IF_ERROR(expr)                     \
  do {                                                  \
    absl::Status octet_status_ = (expr);                \
    if (!octet_status_.ok()) return octet_status_;      \
  } while (false)

// OCTET_ASSIGN_OR_RETURN(auto x, F()); returns the error status of F, else assigns its value.
#define OCTET_ASSIGN_OR_RETURN(lhs, expr) \
  OCTET_ASSIGN_OR_RETURN_IMPL_(OCTET_CONCAT_(octet_statusor_, __LINE__), lhs, expr)
#define OCTET_ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr) \
  auto tmp = (expr);                                 \
  if (!tmp.ok()) return std::move(tmp).status();     \
  lhs = *std::move(tmp)

#endif  // OCTET_BASE_STATUS_H_
