// One copy in, one copy out: requests into a context's inputs, a context's outputs into replies.
#ifndef OCTET_SERVER_BATCH_H_
#define OCTET_SERVER_BATCH_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/program.h"
#include "server/observer.h"
#include "server/reply.h"
#include "server/signature.h"

namespace octet::server {

// Copies the rows of `requests`, in order, from the wire's pieces into the context's inputs; rows
// beyond them are zero. Errors: kInternal when a context's input is smaller than the rows.
absl::Status AssembleBatch(const ModelSignature& signature,
                           absl::Span<const BoundRequest* const> requests,
                           engine::Context* context);

// The reply to the request whose rows start at `first_row` of the batch that ran.
absl::StatusOr<Reply> ScatterReply(const ModelSignature& signature, const BoundRequest& request,
                                   int64_t first_row, absl::string_view model_version,
                                   absl::string_view variant, const engine::Context& context);

// Tells `observer` what an ensemble of classes says of the first `rows` rows of its first uncertain output; nothing of others.
void ReportUncertainty(const ModelSignature& signature, int64_t rows, const engine::Context& context,
                       ExecutionObserver* observer);

}  // namespace octet::server

#endif  // OCTET_SERVER_BATCH_H_
