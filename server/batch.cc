// Copies between wire pieces, contexts and replies.
#include "server/batch.h"

#include <cstring>

#include "absl/strings/match.h"
#include "base/status.h"
#include "graph/ensemble.h"

namespace octet::server {

absl::Status AssembleBatch(const ModelSignature& signature,
                           absl::Span<const BoundRequest* const> requests,
                           engine::Context* context) {
  for (size_t i = 0; i < signature.inputs.size(); ++i) {
    const absl::Span<std::byte> dst = context->input(static_cast<int>(i));
    size_t at = 0;
    for (const BoundRequest* bound : requests) {
      const InputTensor& tensor = bound->request.inputs[static_cast<size_t>(bound->inputs[i])];
      if (static_cast<size_t>(tensor.size_bytes) > dst.size() - at) {
        return absl::InternalError(absl::StrCat(
            "input '", tensor.name, "' of a batch exceeds its context's ", dst.size(), " bytes"));
      }
      for (ByteSpan piece : tensor.pieces) {
        std::memcpy(dst.data() + at, piece.data(), piece.size());
        at += piece.size();
      }
    }
    if (at < dst.size()) std::memset(dst.data() + at, 0, dst.size() - at);
  }
  return absl::OkStatus();
}

absl::StatusOr<Reply> ScatterReply(const ModelSignature& signature, const BoundRequest& request,
                                   int64_t first_row, absl::string_view model_version,
                                   absl::string_view variant, const engine::Context& context) {
  std::vector<ReplyOutput> outputs;
  for (int index : request.outputs) {
    const engine::Signature& output = signature.outputs[static_cast<size_t>(index)];
    ReplyOutput& reply_output = outputs.emplace_back();
    reply_output = {output.name, output.dtype, context.output_shape(index)};
    if (!signature.batchable) continue;
    if (reply_output.shape.empty() || reply_output.shape[0] < first_row + request.rows) {
      return absl::InternalError(absl::StrCat("output '", output.name, "' of shape ",
                                              ShapeString(reply_output.shape), " lacks row ",
                                              first_row + request.rows - 1));
    }
    reply_output.shape[0] = request.rows;
  }
  OCTET_ASSIGN_OR_RETURN(Reply reply, Reply::Create({request.request.model_name, model_version,
                                                     request.request.id, variant},
                                                    outputs));
  for (size_t i = 0; i < outputs.size(); ++i) {
    const absl::Span<std::byte> dst = reply.raw(i);
    const absl::Span<const std::byte> src = context.output(request.outputs[i]);
    const size_t begin = signature.batchable ? dst.size() / static_cast<size_t>(request.rows) *
                                                   static_cast<size_t>(first_row)
                                             : 0;
    if (begin + dst.size() > src.size()) {
      return absl::InternalError(absl::StrCat("output '", outputs[i].name, "' has ", src.size(),
                                              " bytes, needs ", begin + dst.size()));
    }
    if (!dst.empty()) std::memcpy(dst.data(), src.data() + begin, dst.size());
  }
  return reply;
}

void ReportUncertainty(const ModelSignature& signature, int64_t rows, const engine::Context& context,
                       ExecutionObserver* observer) {
  absl::Span<const float> entropy, information;
  for (size_t i = signature.own_outputs(); i < signature.outputs.size(); ++i) {
    const std::string& name = signature.outputs[i].name;
    const absl::Span<const std::byte> bytes = context.output(static_cast<int>(i));
    const absl::Span<const float> values(reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float));
    if (entropy.empty() && absl::EndsWith(name, graph::kPredictiveEntropy)) entropy = values;
    if (information.empty() && absl::EndsWith(name, graph::kMutualInformation)) information = values;
  }
  const auto count = static_cast<size_t>(rows);
  if (entropy.size() < count || information.size() < count || count == 0) return;
  observer->OnUncertainty(entropy.first(count), information.first(count));
}

}  // namespace octet::server
