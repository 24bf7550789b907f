// The raw callbacks of ModelStreamInfer.
//
// StartRead and StartWrite are called under the lock: gRPC runs their reactions on threads of its own, never inside the
// call. Finish is not: OnDone, which deletes the stream, may follow at once.
#include "server/stream_call.h"

#include <array>
#include <string>
#include <utility>

#include "proto/grpc_service.pb.h"
#include "server/grpc_status.h"

namespace octet::server {
namespace {

constexpr char kDraining[] = "the server is draining; retry elsewhere or later";

grpc::Slice SliceOf(const std::string& bytes) { return grpc::Slice(bytes.data(), bytes.size()); }

// ModelStreamInferResponse around the wire bytes of a ModelInferResponse, which are not copied.
grpc::ByteBuffer Wrap(const grpc::Slice& response) {
  std::string header(1, static_cast<char>(2 << 3 | 2));  // field 2, length-delimited
  size_t rest = response.size();
  for (; rest >= 0x80; rest >>= 7) header += static_cast<char>(rest | 0x80);
  header += static_cast<char>(rest);
  const std::array<grpc::Slice, 2> slices = {SliceOf(header), response};
  return grpc::ByteBuffer(slices.data(), slices.size());
}

grpc::ByteBuffer WrapError(const absl::Status& status, std::string id) {
  inference::ModelStreamInferResponse response;
  response.set_error_message(std::string(status.message()));
  inference::ModelInferResponse* infer = response.mutable_infer_response();
  infer->set_id(std::move(id));
  (*infer->mutable_parameters())["octet-code"].set_string_param(absl::StatusCodeToString(status.code()));
  (*infer->mutable_parameters())["octet-reason"].set_string_param(std::string(ReasonOf(status)));
  const grpc::Slice slice = SliceOf(response.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace

void OpenStreams::Drain() {
  const absl::MutexLock lock(&mu_);
  draining_ = true;
  for (StreamCall* stream : streams_) stream->Drain();  // which Remove keeps alive until here
}

bool OpenStreams::Add(StreamCall* stream) {
  const absl::MutexLock lock(&mu_);
  streams_.insert(stream);
  return draining_;
}

void OpenStreams::Remove(StreamCall* stream) {
  const absl::MutexLock lock(&mu_);
  streams_.erase(stream);
}

StreamCall* StreamCall::Start(const InferEnvironment& environment, grpc::CallbackServerContext* context,
                              OpenStreams* open) {
  auto* call = new StreamCall(environment, context, open);
  if (open->Add(call)) {
    call->Drain();
    return call;
  }
  call->Continue();
  return call;
}

void StreamCall::Continue() {
  std::optional<grpc::Status> end;
  {
    const absl::MutexLock lock(&mu_);
    end = Advance();
  }
  if (end.has_value()) Finish(*end);
}

std::optional<grpc::Status> StreamCall::Advance() {
  if (finished_) return std::nullopt;
  if (end_ == End::kCancelled && !writing_) {
    std::erase_if(messages_, [](const std::shared_ptr<Message>& m) { return m->answer.has_value(); });
  }
  if (!writing_ && !messages_.empty() && messages_.front()->answer.has_value()) {
    writing_ = true;
    StartWrite(&*messages_.front()->answer);
  }
  if (!reading_ && end_ == End::kNone && messages_.size() < kMaxInFlight) {
    reading_ = true;
    StartRead(&request_);
  }
  if (end_ == End::kNone || !messages_.empty()) return std::nullopt;
  finished_ = true;
  if (end_ == End::kCancelled) return grpc::Status::CANCELLED;
  return end_ == End::kDraining ? ToGrpc(absl::UnavailableError(kDraining), context_) : grpc::Status::OK;
}

void StreamCall::OnReadDone(bool ok) {
  std::shared_ptr<Message> message;
  grpc::ByteBuffer request;
  {
    const absl::MutexLock lock(&mu_);
    reading_ = false;
    if (!ok && end_ == End::kNone) end_ = End::kClosed;
    if (ok && !finished_ && end_ != End::kCancelled) {
      request.Swap(&request_);
      message = std::make_shared<Message>(environment_, absl::FromChrono(context_->deadline()));
      messages_.push_back(message);
    }
  }
  if (message != nullptr) {
    message->inference.Start(request, [this, message = message.get(), request](absl::StatusOr<grpc::Slice> answer) {
      Answer(message, answer.ok() ? Wrap(*answer) : WrapError(answer.status(), RequestId(request)));
    });
    bool cancel = false;
    {
      const absl::MutexLock lock(&mu_);
      message->started = true;
      cancel = end_ == End::kCancelled;
    }
    if (cancel) message->inference.Cancel();
  }
  Continue();
}

void StreamCall::Answer(Message* message, grpc::ByteBuffer answer) {
  std::optional<grpc::Status> end;
  {
    // One lock for both: another thread may end the stream once the answer can be seen.
    const absl::MutexLock lock(&mu_);
    message->answer = std::move(answer);
    end = Advance();
  }
  if (end.has_value()) Finish(*end);
}

void StreamCall::OnWriteDone(bool ok) {
  std::shared_ptr<Message> sent;  // destroyed without the lock
  {
    const absl::MutexLock lock(&mu_);
    writing_ = false;
    sent = std::move(messages_.front());
    messages_.pop_front();
  }
  sent.reset();
  ok ? Continue() : OnCancel();
}

void StreamCall::OnCancel() {
  std::vector<std::shared_ptr<Message>> waiting;
  {
    const absl::MutexLock lock(&mu_);
    end_ = End::kCancelled;
    for (const std::shared_ptr<Message>& m : messages_) {
      if (m->started && !m->answer.has_value()) waiting.push_back(m);
    }
  }
  for (const std::shared_ptr<Message>& m : waiting) m->inference.Cancel();
  Continue();
}

void StreamCall::Drain() {
  std::optional<grpc::Status> end;
  {
    const absl::MutexLock lock(&mu_);
    if (end_ == End::kNone) end_ = End::kDraining;
    end = Advance();
  }
  if (end.has_value()) Finish(*end);
}

void StreamCall::OnDone() {
  open_->Remove(this);
  delete this;
}

}  // namespace octet::server
