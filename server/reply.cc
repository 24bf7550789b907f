// Sizes first, then one pass of writing.
#include "server/reply.h"

#include <new>

#include "base/status.h"
#include "server/datatype.h"
#include "server/wire.h"

namespace octet::server {
namespace {

constexpr int64_t kMaxMessageBytes = (int64_t{1} << 31) - 1;

int64_t StringSize(absl::string_view value) {
  return value.empty() ? 0 : LengthFieldSize(static_cast<int64_t>(value.size()));
}

int64_t ShapePayload(const Shape& shape) {
  int64_t bytes = 0;
  for (int64_t dim : shape) bytes += VarintSize(static_cast<uint64_t>(dim));
  return bytes;
}

int64_t OutputPayload(const ReplyOutput& output) {
  return StringSize(output.name) + StringSize(WireNameOf(output.dtype)) +
         (output.shape.empty() ? 0 : LengthFieldSize(ShapePayload(output.shape)));
}

// The entry {"variant": InferParameter{string_param}}.
int64_t ParameterPayload(absl::string_view value) {
  return LengthFieldSize(static_cast<int64_t>(value.size()));
}
int64_t EntryPayload(absl::string_view value) {
  return StringSize("variant") + LengthFieldSize(ParameterPayload(value));
}

std::byte* PutNonEmpty(std::byte* at, uint32_t field, absl::string_view value) {
  return value.empty() ? at : PutString(at, field, value);
}

}  // namespace

absl::StatusOr<Reply> Reply::Create(const ReplyHeader& header,
                                    absl::Span<const ReplyOutput> outputs) {
  int64_t size = StringSize(header.model_name) + StringSize(header.model_version) +
                 StringSize(header.id) + LengthFieldSize(EntryPayload(header.variant));
  for (const ReplyOutput& output : outputs) {
    OCTET_ASSIGN_OR_RETURN(const int64_t bytes, CheckedByteSize(output.dtype, output.shape));
    if (bytes > kMaxMessageBytes - size) size = kMaxMessageBytes;
    size += LengthFieldSize(OutputPayload(output)) + LengthFieldSize(bytes);
    if (size > kMaxMessageBytes) {
      return WithReason(absl::ResourceExhaustedError(absl::StrCat(
                            "the response would exceed 2 GB with output '", output.name, "'")),
                        "message_too_large");
    }
  }
  Reply reply;
  reply.data_.reset(new (std::nothrow) std::byte[static_cast<size_t>(size)]);
  if (reply.data_ == nullptr) {
    return WithReason(
        absl::ResourceExhaustedError(absl::StrCat("no memory for a response of ", size, " bytes")),
        "memory_limit");
  }
  reply.size_bytes_ = size;
  std::byte* at = reply.data_.get();
  at = PutNonEmpty(at, 1, header.model_name);
  at = PutNonEmpty(at, 2, header.model_version);
  at = PutNonEmpty(at, 3, header.id);
  at = PutLengthHeader(at, 4, EntryPayload(header.variant));
  at = PutString(at, 1, "variant");
  at = PutLengthHeader(at, 2, ParameterPayload(header.variant));
  at = PutString(at, 3, header.variant);
  for (const ReplyOutput& output : outputs) {
    at = PutLengthHeader(at, 5, OutputPayload(output));
    at = PutNonEmpty(at, 1, output.name);
    at = PutNonEmpty(at, 2, WireNameOf(output.dtype));
    if (output.shape.empty()) continue;
    at = PutLengthHeader(at, 3, ShapePayload(output.shape));
    for (int64_t dim : output.shape) at = PutVarint(at, static_cast<uint64_t>(dim));
  }
  for (const ReplyOutput& output : outputs) {
    const int64_t bytes = ByteSize(output.dtype, output.shape);
    at = PutLengthHeader(at, 6, bytes);
    reply.raw_.emplace_back(at, static_cast<size_t>(bytes));
    at += bytes;
  }
  return reply;
}

}  // namespace octet::server
