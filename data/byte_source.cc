// Plain files, gz files and decompressed content by position.
#include "data/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet::data {
namespace {

class FileSource final : public ByteSource {
 public:
  FileSource(std::string path, int fd, int64_t offset, int64_t size)
      : path_(std::move(path)), fd_(fd), offset_(offset), size_(size) {}
  ~FileSource() override { close(fd_); }
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;

  int64_t size_bytes() const override { return size_; }

  absl::Status ReadAt(int64_t offset, absl::Span<std::byte> dst) override {
    const int64_t length = static_cast<int64_t>(dst.size());
    if (offset < 0 || offset > size_ || length > size_ - offset) return EndsEarly(offset + length);
    int64_t done = 0;
    while (done < length) {
      const ssize_t n = pread(fd_, dst.data() + done, static_cast<size_t>(length - done),
                              offset_ + offset + done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path_));
      if (n == 0) return EndsEarly(offset + length);  // it shrank since it was opened
      done += n;
    }
    return absl::OkStatus();
  }

 private:
  absl::Status EndsEarly(int64_t expected) const {
    return absl::DataLossError(
        absl::StrCat(path_, " has ", size_, " bytes, expected at least ", expected));
  }

  const std::string path_;
  const int fd_;
  const int64_t offset_;
  const int64_t size_;
};

class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}

  int64_t size_bytes() const override { return static_cast<int64_t>(bytes_.size()); }

  absl::Status ReadAt(int64_t offset, absl::Span<std::byte> dst) override {
    const int64_t length = static_cast<int64_t>(dst.size());
    if (offset < 0 || offset > size_bytes() || length > size_bytes() - offset) {
      return absl::DataLossError(absl::StrCat("the decompressed content has ", size_bytes(),
                                              " bytes, expected at least ", offset + length));
    }
    if (length > 0) std::memcpy(dst.data(), bytes_.data() + offset, dst.size());
    return absl::OkStatus();
  }

 private:
  const std::vector<std::byte> bytes_;
};

class StreamSource final : public ByteSource {
 public:
  explicit StreamSource(std::unique_ptr<ForwardStream> stream) : stream_(std::move(stream)) {}

  int64_t size_bytes() const override { return -1; }

  absl::Status ReadAt(int64_t offset, absl::Span<std::byte> dst) override {
    if (position_ < 0 || offset < position_) {
      OCTET_RETURN_IF_ERROR(stream_->Rewind());
      position_ = 0;
    }
    while (position_ < offset) {
      const int64_t step = std::min<int64_t>(offset - position_, skipped_.size());
      OCTET_RETURN_IF_ERROR(Fill(absl::MakeSpan(skipped_).subspan(0, static_cast<size_t>(step))));
    }
    return Fill(dst);
  }

 private:
  // A failed read leaves the position unknown (-1), so that the next one starts again.
  absl::Status Fill(absl::Span<std::byte> dst) {
    const int64_t start = std::exchange(position_, -1);
    OCTET_ASSIGN_OR_RETURN(const int64_t n, stream_->Read(dst));
    if (n < static_cast<int64_t>(dst.size())) {
      return absl::DataLossError(absl::StrCat("the decompressed content has ", start + n,
                                              " bytes, expected at least ", start + dst.size()));
    }
    position_ = start + n;
    return absl::OkStatus();
  }

  std::unique_ptr<ForwardStream> stream_;
  int64_t position_ = -1;
  std::array<std::byte, 64 << 10> skipped_;
};

class GzStream final : public ForwardStream {
 public:
  GzStream(std::string path, gzFile file) : path_(std::move(path)), file_(file) {}
  ~GzStream() override { gzclose_r(file_); }
  GzStream(const GzStream&) = delete;
  GzStream& operator=(const GzStream&) = delete;

  absl::Status Rewind() override { return gzrewind(file_) == 0 ? absl::OkStatus() : Error(); }

  absl::StatusOr<int64_t> Read(absl::Span<std::byte> dst) override {
    size_t done = 0;
    while (done < dst.size()) {
      const unsigned chunk = static_cast<unsigned>(std::min<size_t>(dst.size() - done, 1 << 30));
      const int n = gzread(file_, dst.data() + done, chunk);
      if (n < 0) return Error();
      if (n == 0) break;
      done += static_cast<size_t>(n);
    }
    // A gz file that is cut off reads as a short one: only the error state tells.
    int code = Z_OK;
    gzerror(file_, &code);
    if (code != Z_OK && code != Z_STREAM_END) return Error();
    return static_cast<int64_t>(done);
  }

 private:
  absl::Status Error() const {
    int code = Z_OK;
    const char* message = gzerror(file_, &code);
    return absl::DataLossError(
        absl::StrCat(path_, ": corrupt gz content: ",
                     code == Z_BUF_ERROR ? "it ends before the stream does" : message));
  }

  const std::string path_;
  const gzFile file_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ByteSource>> OpenFileSource(const std::string& path, int64_t offset,
                                                           int64_t length) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  struct stat st;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  const int64_t size = st.st_size;
  if (length < 0) length = size - offset;
  if (offset < 0 || offset > size || length > size - offset) {
    close(fd);
    return absl::DataLossError(absl::StrCat(path, " has ", size, " bytes, ", length,
                                            " from offset ", offset, " are expected"));
  }
  return std::make_unique<FileSource>(path, fd, offset, length);
}

absl::StatusOr<std::unique_ptr<ByteSource>> MakeSource(std::unique_ptr<ForwardStream> stream,
                                                       int64_t cache_bytes) {
  std::vector<std::byte> bytes;
  size_t done = 0;
  const size_t limit =
      static_cast<size_t>(cache_bytes) + 1;  // one more byte tells that it is longer
  while (done < limit) {
    bytes.resize(std::min(limit, std::max<size_t>(done * 2, 1 << 20)));
    OCTET_ASSIGN_OR_RETURN(const int64_t n, stream->Read(absl::MakeSpan(bytes).subspan(done)));
    done += static_cast<size_t>(n);
    if (done < bytes.size()) {
      bytes.resize(done);
      bytes.shrink_to_fit();
      return std::make_unique<MemorySource>(std::move(bytes));
    }
  }
  return std::make_unique<StreamSource>(std::move(stream));
}

absl::StatusOr<std::unique_ptr<ForwardStream>> OpenGzStream(const std::string& path) {
  gzFile file = gzopen(path.c_str(), "rbe");
  if (file == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  gzbuffer(file, 128 << 10);
  return std::make_unique<GzStream>(path, file);
}

absl::StatusOr<std::unique_ptr<ByteSource>> OpenContent(const std::string& path,
                                                        int64_t cache_bytes) {
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> file, OpenFileSource(path));
  std::array<std::byte, 2> magic = {};
  if (file->size_bytes() >= 2) OCTET_RETURN_IF_ERROR(file->ReadAt(0, absl::MakeSpan(magic)));
  if (magic != std::array{std::byte{0x1f}, std::byte{0x8b}}) return file;
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<ForwardStream> stream, OpenGzStream(path));
  return MakeSource(std::move(stream), cache_bytes);
}

}  // namespace octet::data
