// Reading and writing whole files.
#include "base/file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet {
namespace {

absl::Status Errno(absl::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", path));
}

// Opens a regular file and tells its size.
absl::StatusOr<int> OpenRegular(const std::string& path, int64_t* size) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Errno("cannot open", path);
  struct stat st;
  if (fstat(fd, &st) != 0) {
    const absl::Status status = Errno("cannot stat", path);
    close(fd);
    return status;
  }
  if (!S_ISREG(st.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  *size = st.st_size;
  return fd;
}

absl::StatusOr<std::shared_ptr<const Buffer>> ReadAt(int fd, const std::string& path,
                                                     int64_t offset, int64_t length) {
  OCTET_ASSIGN_OR_RETURN(Buffer buffer, Buffer::Allocate(length));
  // A model's tensors are given back one by one (OwnSlice): a huge page is returned only as a whole.
  if (length >= Buffer::kMapThreshold) madvise(buffer.data(), static_cast<size_t>(length), MADV_NOHUGEPAGE);
  int64_t done = 0;
  while (done < length) {
    const ssize_t n = pread(fd, buffer.data() + done,
                            static_cast<size_t>(std::min<int64_t>(length - done, 1 << 30)),
                            offset + done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Errno("cannot read", path);
    if (n == 0) {
      return absl::DataLossError(absl::StrCat(path, " ends at byte ", offset + done, ", expected ",
                                              offset + length));
    }
    done += n;
  }
  return std::make_shared<const Buffer>(std::move(buffer));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Buffer>> ReadFile(const std::string& path, int64_t max_bytes) {
  int64_t size = 0;
  OCTET_ASSIGN_OR_RETURN(const int fd, OpenRegular(path, &size));
  absl::Cleanup closer = [fd] { close(fd); };
  if (size > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has ", size, " bytes, the limit is ", max_bytes));
  }
  return ReadAt(fd, path, 0, size);
}

absl::StatusOr<std::shared_ptr<const Buffer>> ReadFileRange(const std::string& path, int64_t offset,
                                                            int64_t length) {
  int64_t size = 0;
  OCTET_ASSIGN_OR_RETURN(const int fd, OpenRegular(path, &size));
  absl::Cleanup closer = [fd] { close(fd); };
  if (offset < 0 || length < 0 || offset > size || length > size - offset) {
    return absl::DataLossError(absl::StrCat(path, " has ", size, " bytes, bytes ", offset, " to ",
                                            offset, " + ", length, " are asked for"));
  }
  return ReadAt(fd, path, offset, length);
}

absl::Status WriteFileAtomically(const std::string& path, absl::string_view content) {
  const std::string temporary = absl::StrCat(path, ".tmp.", getpid());
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return Errno("cannot create", temporary);
  absl::Cleanup cleanup = [&] { unlink(temporary.c_str()); };
  while (!content.empty()) {
    const ssize_t n = write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const absl::Status status = Errno("cannot write", temporary);
      close(fd);
      return status;
    }
    content.remove_prefix(static_cast<size_t>(n));
  }
  const bool synced = fsync(fd) == 0;
  const bool closed = close(fd) == 0;
  if (!synced || !closed) return Errno("cannot write", temporary);
  if (rename(temporary.c_str(), path.c_str()) != 0) return Errno("cannot rename to", path);
  std::move(cleanup).Cancel();
  return absl::OkStatus();
}

std::string Sha256Hex(absl::Span<const std::byte> bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  EVP_Digest(bytes.data(), bytes.size(), digest, &length, EVP_sha256(), nullptr);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), length));
}

}  // namespace octet
