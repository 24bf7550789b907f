// From a message to a job and back.
#include "server/inference.h"

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "server/wire.h"

namespace octet::server {
namespace {

// gRPC's slices, shared with the request that points into them; no byte is copied.
absl::StatusOr<WireMessage> SlicesOf(const grpc::ByteBuffer& buffer) {
  auto slices = std::make_shared<std::vector<grpc::Slice>>();
  if (const grpc::Status status = buffer.Dump(slices.get()); !status.ok()) {
    return absl::InvalidArgumentError("the message cannot be decompressed");
  }
  WireMessage message;
  message.slices.reserve(slices->size());
  // Small slices hold their bytes in the object itself, so the vector must not move from here on.
  for (const grpc::Slice& slice : *slices) {
    message.slices.emplace_back(reinterpret_cast<const std::byte*>(slice.begin()), slice.size());
  }
  message.owner = std::move(slices);
  return message;
}

void DeleteBytes(void* bytes) { delete[] static_cast<std::byte*>(bytes); }

absl::StatusOr<std::string> VariantParameter(const InferRequest& request) {
  auto it = request.parameters.find("variant");
  if (it == request.parameters.end()) return std::string();
  if (const auto* name = std::get_if<std::string>(&it->second)) return *name;
  return absl::InvalidArgumentError("parameter 'variant' must be a string");
}

}  // namespace

void Inference::Start(const grpc::ByteBuffer& request, Done done) {
  done_ = std::move(done);
  const absl::Status status = Submit(request);
  if (status.ok()) return;  // this may be gone
  if (route_.variant == nullptr) {
    environment_.metrics->CountRefused(status);
  } else {
    const absl::Duration total = environment_.clock->Now() - job_->arrival;
    route_.variant->recorder->OnRequest({status, 0, total, absl::ZeroDuration(), false, {}});
  }
  const Done refused = std::move(done_);
  refused(status);
}

absl::Status Inference::SetDeadline(const InferRequest& request, Job* job) const {
  if (deadline_ - job->arrival < absl::Hours(24 * 365)) job->deadline = deadline_;
  absl::Duration timeout = route_.variant->default_timeout;
  if (auto it = request.parameters.find("timeout"); it != request.parameters.end()) {
    const auto* microseconds = std::get_if<int64_t>(&it->second);
    if (microseconds == nullptr || *microseconds < 0) {
      return absl::InvalidArgumentError(
          "parameter 'timeout' must be a number of microseconds, at least 0");
    }
    if (*microseconds > 0) timeout = absl::Microseconds(*microseconds);
  }
  job->deadline = std::min(job->deadline, job->arrival + timeout);
  return absl::OkStatus();
}

absl::Status Inference::Submit(const grpc::ByteBuffer& request) {
  job_ = std::make_shared<Job>();
  job_->arrival = environment_.clock->Now();
  const auto wire_bytes = static_cast<int64_t>(request.Length());
  OCTET_RETURN_IF_ERROR(environment_.in_flight->Admit(wire_bytes));
  held_bytes_ = wire_bytes;
  OCTET_ASSIGN_OR_RETURN(WireMessage message, SlicesOf(request));
  OCTET_ASSIGN_OR_RETURN(InferRequest parsed,
                         ParseInferRequest(std::move(message), environment_.limits));
  const int64_t decoded_bytes = parsed.held_bytes - wire_bytes;
  if (decoded_bytes > 0) {
    OCTET_RETURN_IF_ERROR(environment_.in_flight->Admit(decoded_bytes));
    held_bytes_ += decoded_bytes;
  }
  OCTET_ASSIGN_OR_RETURN(const std::string variant, VariantParameter(parsed));
  OCTET_ASSIGN_OR_RETURN(
      route_, environment_.repository->RouteOf(parsed.model_name, parsed.model_version, variant, parsed.parameters));
  OCTET_RETURN_IF_ERROR(SetDeadline(parsed, job_.get()));
  OCTET_ASSIGN_OR_RETURN(job_->bound, Bind(std::move(parsed), route_.variant->signature));
  job_->done = [this](absl::StatusOr<Reply> reply) {
    const Done done = std::move(done_);
    done(Finish(std::move(reply)));
  };
  environment_.scheduler->Submit(route_.variant->queue, job_);
  return absl::OkStatus();
}

// The answer's slice and the job's request are kept, not copied; they are handed over once the answer is sent.
void Inference::KeepForComparison(Reply* reply) {
  for (size_t i = 0; i < job_->bound.outputs.size(); ++i) {
    const absl::Span<std::byte> raw = reply->raw(i);
    kept_outputs_.emplace_back(raw.data(), raw.size());
  }
  kept_reply_ = std::make_shared<grpc::Slice>();
}

absl::StatusOr<grpc::Slice> Inference::Finish(absl::StatusOr<Reply> reply) {
  if (!reply.ok()) return reply.status();
  const size_t size = reply->wire().size();
  if (route_.pair != nullptr && route_.control->Sample()) KeepForComparison(&*reply);
  environment_.in_flight->Add(static_cast<int64_t>(size));
  held_bytes_ += static_cast<int64_t>(size);
  const grpc::Slice slice(reply->Release().release(), size, &DeleteBytes);
  if (kept_reply_ != nullptr) *kept_reply_ = slice;
  return slice;
}

void Inference::Cancel() {
  // Without a variant it was refused before it was submitted.
  if (route_.variant != nullptr) environment_.scheduler->Cancel(route_.variant->queue, job_.get());
}

Inference::~Inference() {
  if (kept_reply_ != nullptr) {
    Replay replay;
    replay.control = route_.control;
    replay.pair = route_.pair;
    replay.by_reference = route_.variant->labels.variant == route_.control->reference();
    replay.answered_as = {route_.variant, &route_.variant->signature};
    replay.bound = std::move(job_->bound);  // answered: nobody else looks at the job
    replay.outputs = std::move(kept_outputs_);
    replay.reply = std::move(kept_reply_);
    replay.bytes = held_bytes_;
    replay.answered_at = environment_.clock->Now();
    environment_.comparer->Offer(std::move(replay));
  }
  environment_.in_flight->Release(held_bytes_);
}

std::string RequestId(const grpc::ByteBuffer& request) {
  constexpr uint32_t kIdField = 3;
  constexpr int64_t kMaxIdBytes = 4096;
  std::string id;
  const absl::StatusOr<WireMessage> message = SlicesOf(request);
  if (!message.ok()) return id;
  WireReader reader(message->slices);
  uint32_t field = 0;
  WireType type{};
  while (!reader.AtEnd() && reader.ReadTag(&field, &type)) {
    const bool is_id = field == kIdField && type == WireType::kLength;
    if (is_id ? !reader.ReadString(kMaxIdBytes, &id) : !reader.SkipValue(type)) break;
  }
  return id;
}

}  // namespace octet::server
