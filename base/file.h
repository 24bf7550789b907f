// Files read into anonymous memory (never left mapped: a file truncated under a mapping kills the process) and
// written so that a reader sees the old content or the new, never half of it.
#ifndef OCTET_BASE_FILE_H_
#define OCTET_BASE_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/buffer.h"

namespace octet {

inline constexpr int64_t kMaxFileBytes = int64_t{64} << 30;

// Whole content of a regular file. Errors, naming the path: kNotFound, kInvalidArgument (not a regular file or larger
// than max_bytes), kResourceExhausted, kDataLoss (it shrank while being read).
absl::StatusOr<std::shared_ptr<const Buffer>> ReadFile(const std::string& path,
                                                       int64_t max_bytes = kMaxFileBytes);

// `length` bytes from `offset`; errors as ReadFile, kDataLoss when the file ends before.
absl::StatusOr<std::shared_ptr<const Buffer>> ReadFileRange(const std::string& path, int64_t offset,
                                                            int64_t length);

// Writes to a temporary file beside `path`, syncs it, renames it over `path`. Errors: kPermissionDenied,
// kResourceExhausted (disk full), kInternal; no temporary file is left.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view content);

// Lower-case hexadecimal SHA-256 of bytes (FIPS 180-4): the digest that ties a compressed file to its original.
std::string Sha256Hex(absl::Span<const std::byte> bytes);

}  // namespace octet

#endif  // OCTET_BASE_FILE_H_
