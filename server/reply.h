// The wire bytes of inference.ModelInferResponse, laid out once so that outputs are scattered
// straight into them.
#ifndef OCTET_SERVER_REPLY_H_
#define OCTET_SERVER_REPLY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/dtype.h"
#include "base/shape.h"
#include "server/request.h"

namespace octet::server {

struct ReplyOutput {
  absl::string_view name;
  DType dtype = DType::kInvalid;
  Shape shape;
};

struct ReplyHeader {
  absl::string_view model_name;     // as requested
  absl::string_view model_version;  // the one that answered
  absl::string_view id;
  absl::string_view variant;  // parameters["variant"]
};

// One block of memory; move-only. Thread-compatible.
class Reply {
 public:
  Reply() = default;

  // Writes everything but the raw outputs, whose bytes are undefined until written through raw(i).
  // Errors: kResourceExhausted when the message would exceed Protobuf's 2 GB.
  static absl::StatusOr<Reply> Create(const ReplyHeader& header,
                                      absl::Span<const ReplyOutput> outputs);

  absl::Span<std::byte> raw(size_t i) { return raw_[i]; }
  ByteSpan wire() const { return ByteSpan(data_.get(), static_cast<size_t>(size_bytes_)); }

  // Gives the block away: what wire() pointed at stays valid until the owner frees it with
  // delete[].
  std::unique_ptr<std::byte[]> Release() { return std::move(data_); }

 private:
  std::unique_ptr<std::byte[]> data_;
  int64_t size_bytes_ = 0;
  std::vector<absl::Span<std::byte>> raw_;
};

}  // namespace octet::server

#endif  // OCTET_SERVER_REPLY_H_
