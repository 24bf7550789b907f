// Loops that move elements know only their size: one unsigned type for each.
#ifndef OCTET_KERNELS_MOVEMENT_SIZED_H_
#define OCTET_KERNELS_MOVEMENT_SIZED_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/dtype.h"

namespace octet::kernels {

// Calls body with a value of the unsigned type that has dtype's size. Requires: CheckSized(dtype).
template <typename Body>
auto WithSize(DType dtype, Body&& body) {
  switch (BitsOf(dtype)) {
    case 8:
      return body(uint8_t{});
    case 16:
      return body(uint16_t{});
    case 32:
      return body(uint32_t{});
    default:
      return body(uint64_t{});
  }
}

inline absl::Status CheckSized(absl::string_view what, DType dtype) {
  if (BitsOf(dtype) >= 8) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat(what, ": ", NameOf(dtype), " elements have no address of their own"));
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_MOVEMENT_SIZED_H_
