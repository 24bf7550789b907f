// Indices from files and requests: their types, and the search for the first one outside of its
// axis. Internal to kernels/plain.
#ifndef OCTET_KERNELS_PLAIN_INDEX_CHECKS_H_
#define OCTET_KERNELS_PLAIN_INDEX_CHECKS_H_

#include <atomic>
#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/dtype.h"

namespace octet::kernels {

inline absl::Status CheckIndexType(absl::string_view what, DType dtype) {
  if (dtype == DType::kS32 || dtype == DType::kS64) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": indices are ", NameOf(dtype), ", not s32 or s64"));
}

// Calls body with a value of the index type. Requires: CheckIndexType.
template <typename Body>
auto WithIndex(DType dtype, Body&& body) {
  if (dtype == DType::kS32) return body(int32_t{});
  return body(int64_t{});
}

// Position on an axis of `size` for `index`, or -1 when it is outside.
inline int64_t ResolveIndex(int64_t index, int64_t size) {
  if (index < 0) index += size;
  return index >= 0 && index < size ? index : -1;
}

inline absl::Status OutsideError(absl::string_view what, int64_t index, int64_t element,
                                 int64_t size) {
  return absl::InvalidArgumentError(absl::StrCat(what, ": index ", index, " (element ", element,
                                                 ") is outside [-", size, ", ", size, ")"));
}

// The smallest element with a bad index, found by several threads. Thread-safe.
class FirstBad {
 public:
  void Note(int64_t element) {
    int64_t seen = element_.load(std::memory_order_relaxed);
    while (element < seen &&
           !element_.compare_exchange_weak(seen, element, std::memory_order_relaxed)) {
    }
  }
  bool none() const { return element() == kNone; }
  int64_t element() const { return element_.load(std::memory_order_relaxed); }

 private:
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  std::atomic<int64_t> element_{kNone};
};

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_INDEX_CHECKS_H_
