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

// Ownership of bytes [begin, begin + size_bytes) of a block that others own parts of, too: whoever drops the last copy
// gives the whole pages inside the range back to the system while the rest of the block lives on. So a model file that
// was read whole shrinks as its tensors are consumed. Requires: the range lies in the block, overlaps no other slice of
// it, and is never read again.
std::shared_ptr<const void> OwnSlice(std::shared_ptr<const Buffer> block, const std::byte* begin,
                                     int64_t size_bytes);

}  // namespace octet

#endif  // OCTET_BASE_BUFFER_H_
