// Aligned and mapped memory blocks.
#include "base/buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace octet {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

// Anonymous memory, nullptr when there is none. Blocks of a huge page or more start at one and ask for them: walking
// weights with 4 KB pages is bound by address translation (24 instead of 36 GB/s from DRAM on a Xeon of 2023). The rest
// behind the last whole huge page keeps small pages, so that no memory is taken that nobody asked for.
void* Map(size_t bytes) {
  const bool huge = bytes >= kHugePage;
  const size_t room = huge ? bytes + kHugePage : bytes;
  void* p = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  if (!huge) return p;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto start = reinterpret_cast<uintptr_t>(p), end = start + (room + page - 1) / page * page;
  const uintptr_t begin = (start + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t tail = (begin + bytes + page - 1) / page * page;
  if (begin > start) munmap(p, begin - start);
  if (end > tail) munmap(reinterpret_cast<void*>(tail), end - tail);
  madvise(reinterpret_cast<void*>(begin), bytes / kHugePage * kHugePage, MADV_HUGEPAGE);  // where the kernel has them
  return reinterpret_cast<void*>(begin);
}

}  // namespace

Buffer::~Buffer() { Release(); }

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    Release();
    data_ = std::exchange(other.data_, nullptr);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
  }
  return *this;
}

void Buffer::Release() {
  if (data_ == nullptr) return;
  if (size_bytes_ >= kMapThreshold) {
    munmap(data_, static_cast<size_t>(size_bytes_));
  } else {
    std::free(data_);
  }
  data_ = nullptr;
}

absl::StatusOr<Buffer> Buffer::Allocate(int64_t bytes) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("buffer of ", bytes, " bytes"));
  }
  Buffer buffer;
  buffer.size_bytes_ = bytes;
  if (bytes >= kMapThreshold) {
    buffer.data_ = static_cast<std::byte*>(Map(static_cast<size_t>(bytes)));
  } else {
    const size_t rounded = (static_cast<size_t>(bytes) + kAlignment) / kAlignment * kAlignment;
    void* p = std::aligned_alloc(kAlignment, rounded);
    if (p != nullptr) {
      std::memset(p, 0, rounded);
      buffer.data_ = static_cast<std::byte*>(p);
    }
  }
  if (buffer.data_ == nullptr) {
    buffer.size_bytes_ = 0;
    return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", bytes, " bytes"));
  }
  return buffer;
}

std::shared_ptr<const void> OwnSlice(std::shared_ptr<const Buffer> block, const std::byte* begin,
                                     int64_t size_bytes) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto from = (reinterpret_cast<uintptr_t>(begin) + page - 1) / page * page;
  const auto to = (reinterpret_cast<uintptr_t>(begin) + static_cast<uintptr_t>(size_bytes)) / page * page;
  if (block->size_bytes() < Buffer::kMapThreshold || from >= to) return block;
  return {static_cast<const void*>(begin), [block = std::move(block), from, to](const void*) {
            // A private anonymous mapping: the pages are zero when they are touched again. Failure costs memory only.
            madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
          }};
}

}  // namespace octet
