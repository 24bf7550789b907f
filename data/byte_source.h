// Bytes of a file, compressed or not, by position: what lets one reader serve plain, gz and zip
// content.
#ifndef OCTET_DATA_BYTE_SOURCE_H_
#define OCTET_DATA_BYTE_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace octet::data {

// Decompressed content up to this size is kept in memory; longer content is decompressed again as
// it is read.
inline constexpr int64_t kCacheBytes = int64_t{256} << 20;

// Random access to a fixed sequence of bytes. Thread-compatible.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // -1 when only reading to the end would tell.
  virtual int64_t size_bytes() const = 0;
  // Fills dst from `offset`. Errors: kDataLoss when the content ends before or is corrupt.
  virtual absl::Status ReadAt(int64_t offset, absl::Span<std::byte> dst) = 0;
};

// A decompressor that only goes forward. Thread-compatible.
class ForwardStream {
 public:
  virtual ~ForwardStream() = default;
  virtual absl::Status Rewind() = 0;
  // Bytes read, fewer than dst.size() only at the end. Errors: kDataLoss for corrupt or cut off
  // content.
  virtual absl::StatusOr<int64_t> Read(absl::Span<std::byte> dst) = 0;
};

// `length` bytes of a regular file from `offset`; -1: to its end. The file stays open.
// Errors, naming the path: kNotFound, kInvalidArgument (not a regular file), kDataLoss (it is
// shorter).
absl::StatusOr<std::unique_ptr<ByteSource>> OpenFileSource(const std::string& path,
                                                           int64_t offset = 0, int64_t length = -1);

// The content of a forward stream: decompressed once into memory if it fits in cache_bytes, else
// read as a stream, where ascending offsets cost one pass and a step back starts again from the
// beginning. Errors as the stream's.
absl::StatusOr<std::unique_ptr<ByteSource>> MakeSource(std::unique_ptr<ForwardStream> stream,
                                                       int64_t cache_bytes = kCacheBytes);

absl::StatusOr<std::unique_ptr<ForwardStream>> OpenGzStream(const std::string& path);

// The content of a file: of the gz stream when it starts with gzip's magic number, else of the file
// itself.
absl::StatusOr<std::unique_ptr<ByteSource>> OpenContent(const std::string& path,
                                                        int64_t cache_bytes = kCacheBytes);

}  // namespace octet::data

#endif  // OCTET_DATA_BYTE_SOURCE_H_
