// One ModelStreamInfer call: every message is an inference of its own, batched with all others of the server; answers
// come in the order of the requests.
//
// An inference that fails is answered by error_message, with the request's id and, as parameters of infer_response,
// "octet-code" and "octet-reason"; the stream goes on. At most kMaxInFlight messages are between their arrival and the
// departure of their answers: beyond that the stream is not read, and HTTP/2's flow control stops the client. The
// stream ends with OK when the client has closed its side and all is answered; with UNAVAILABLE when the server drains,
// after what it has read is answered. When the client cancels, or the call's deadline passes, what waits is cancelled.
#ifndef OCTET_SERVER_STREAM_CALL_H_
#define OCTET_SERVER_STREAM_CALL_H_

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "server/inference.h"

namespace octet::server {

class StreamCall;

// The streams of a server that are open. Thread-safe.
class OpenStreams {
 public:
  // Ends all streams, and those to come at once, as StreamCall says; does not wait.
  void Drain();

 private:
  friend class StreamCall;
  bool Add(StreamCall* stream);  // whether it is to drain
  void Remove(StreamCall* stream);

  absl::Mutex mu_;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  absl::flat_hash_set<StreamCall*> streams_ ABSL_GUARDED_BY(mu_);
};

// Owned by itself: gRPC's OnDone deletes it. Thread-safe.
class StreamCall final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  static constexpr size_t kMaxInFlight = 64;

  // `environment` and `open` outlive the call.
  static StreamCall* Start(const InferEnvironment& environment, grpc::CallbackServerContext* context,
                           OpenStreams* open);

  void Drain();

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  struct Message {
    Message(const InferEnvironment& environment, absl::Time deadline) : inference(environment, deadline) {}
    Inference inference;
    bool started = false;                    // Inference::Start has returned
    std::optional<grpc::ByteBuffer> answer;  // when it is there
  };

  StreamCall(const InferEnvironment& environment, grpc::CallbackServerContext* context, OpenStreams* open)
      : environment_(environment), context_(context), open_(open) {}

  void Answer(Message* message, grpc::ByteBuffer answer);
  // Starts the reads and writes that can be started. Returns what the caller is to Finish with, without the lock, and
  // touches nothing after.
  std::optional<grpc::Status> Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Continue();  // Advance and what it asks for

  const InferEnvironment& environment_;
  grpc::CallbackServerContext* const context_;
  OpenStreams* const open_;
  grpc::ByteBuffer request_;  // of the read under way

  absl::Mutex mu_;
  std::deque<std::shared_ptr<Message>> messages_ ABSL_GUARDED_BY(mu_);  // oldest first
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;  // the first of messages_
  enum class End : uint8_t { kNone, kClosed, kDraining, kCancelled } end_ ABSL_GUARDED_BY(mu_) = End::kNone;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace octet::server

#endif  // OCTET_SERVER_STREAM_CALL_H_
