// Owned memory for weights and activations: 64-byte aligned, large blocks mapped directly so that freeing them
// returns the pages to the system at once instead of leaving them in the heap.
#ifndef OCTET_BASE_BUFFER_H_
#define OCTET_BASE_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace octet {

// A fixed block of memory; move-only. Thread-compatible.
class Buffer {
 public:
  static constexpr int64_t kAlignment = 64;
  static constexpr int64_t kMapThreshold = 256 << 10;  // blocks from this size on are mapped (zeroed by the system)

  Buffer() = default;
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // Zero-filled block of `bytes` bytes. Errors: kResourceExhausted, naming the size.
  static absl::StatusOr<Buffer> Allocate(int64_t bytes);

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  int64_t size_bytes() const { return size_bytes_; }

 private:
  void Release();

  std::byte* data_ = nullptr;
  int64_t size_bytes_ = 0;
};

}  // namespace octet

#endif  // OCTET_BASE_BUFFER_H_
