// Bounded reading of Protobuf wire format from a message that may lie in several slices, and sizes
// for writing it.
#ifndef OCTET_SERVER_WIRE_H_
#define OCTET_SERVER_WIRE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/request.h"

namespace octet::server {

enum class WireType : uint8_t { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };

// A cursor over a range of a message: a value, cheap to copy. Every method returns false, and
// leaves the cursor unusable, when the bytes break the format or the range ends early.
// Thread-compatible. Does not own the slices.
class WireReader {
 public:
  WireReader() = default;
  explicit WireReader(absl::Span<const ByteSpan> slices);

  bool AtEnd() const { return remaining_ == 0; }
  int64_t remaining() const { return remaining_; }
  int64_t offset() const { return offset_; }  // from the start of the whole message

  // Groups (wire types 3 and 4), unknown wire types and field number 0 are refused.
  bool ReadTag(uint32_t* field, WireType* type);
  bool ReadVarint(uint64_t* value);
  bool ReadFixed32(uint32_t* value);
  bool ReadFixed64(uint64_t* value);

  // A length-delimited value: as a cursor of its own, as a copy (at most max_bytes, UTF-8), or as
  // pieces in place.
  bool ReadRange(WireReader* range);
  bool ReadString(int64_t max_bytes, std::string* value);
  bool ReadPieces(std::vector<ByteSpan>* pieces, int64_t* size_bytes);

  // Skips the value of a field that we do not know.
  bool SkipValue(WireType type);

  // Copies the next `bytes` bytes. Requires: bytes <= remaining().
  void CopyTo(std::byte* dst, int64_t bytes);

 private:
  bool Take(std::byte* dst, int64_t bytes);
  void Advance(int64_t bytes);

  absl::Span<const ByteSpan> slices_;
  size_t slice_ = 0;
  size_t position_ = 0;  // in slices_[slice_]
  int64_t remaining_ = 0;
  int64_t offset_ = 0;
};

bool IsValidUtf8(absl::string_view text);

// Writes wire format into memory that was sized with the functions below.
int64_t VarintSize(uint64_t value);
inline int64_t LengthFieldSize(int64_t payload_bytes) {  // field numbers below 16
  return 1 + VarintSize(static_cast<uint64_t>(payload_bytes)) + payload_bytes;
}
std::byte* PutVarint(std::byte* dst, uint64_t value);
std::byte* PutLengthHeader(std::byte* dst, uint32_t field, int64_t payload_bytes);
std::byte* PutString(std::byte* dst, uint32_t field, absl::string_view value);

}  // namespace octet::server

#endif  // OCTET_SERVER_WIRE_H_
