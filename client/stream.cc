// Client::Stream: calls in flight, answers in order.
#include <deque>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "client/client.h"

namespace octet::client {
namespace {

struct Waiting {
  absl::Notification answered;
  absl::StatusOr<InferResult> result = absl::UnknownError("not answered");
};

}  // namespace

absl::Status Client::Stream(absl::FunctionRef<std::optional<PreparedRequest>()> next, int in_flight,
                            absl::FunctionRef<void(absl::StatusOr<InferResult>)> answer) {
  if (in_flight < 1) return absl::InvalidArgumentError(absl::StrCat("in_flight must be at least 1, got ", in_flight));
  // Shared with the callbacks, which come on threads of gRPC.
  std::deque<std::shared_ptr<Waiting>> waiting;
  auto take_first = [&] {
    waiting.front()->answered.WaitForNotification();
    answer(std::move(waiting.front()->result));
    waiting.pop_front();
  };
  while (const std::optional<PreparedRequest> request = next()) {
    if (waiting.size() == static_cast<size_t>(in_flight)) take_first();
    auto slot = std::make_shared<Waiting>();
    waiting.push_back(slot);
    InferAsync(*request, [slot](absl::StatusOr<InferResult> result) {
      slot->result = std::move(result);
      slot->answered.Notify();
    });
  }
  while (!waiting.empty()) take_first();
  return absl::OkStatus();
}

}  // namespace octet::client
