// What the plain kernels share: a C++ type for every element type, and kernels that may fail at run
// time.
//
// Plain kernels serve rare operators: readable loops over row-major operands, no vector code of
// their own. They are their own reference; their tests compare with values worked out from the
// operator's definition.
#ifndef OCTET_KERNELS_PLAIN_TYPED_H_
#define OCTET_KERNELS_PLAIN_TYPED_H_

#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/dtype.h"
#include "base/float16.h"
#include "kernels/kernel.h"

namespace octet::kernels {

// Elements of the 16-bit floats: read as float, written rounded to nearest even.
struct F16 {
  uint16_t bits = 0;
  F16() = default;
  explicit F16(float value) : bits(F16FromF32(value)) {}
  operator float() const { return F32FromF16(bits); }  // NOLINT: a number like float itself
};
struct BF16 {
  uint16_t bits = 0;
  BF16() = default;
  explicit BF16(float value) : bits(BF16FromF32(value)) {}
  operator float() const { return F32FromBF16(bits); }  // NOLINT
};

// The type that arithmetic on elements of T runs in: float for the 16-bit floats, else T itself.
template <typename T>
using ComputeType = std::conditional_t<std::is_same_v<T, F16> || std::is_same_v<T, BF16>, float, T>;

// Calls body(T{}) with the type of dtype's elements, bool as uint8_t, and returns its result. Types of
// less than 8 bits, which have no address of their own, are kUnimplemented naming `what`. Requires: body
// returns absl::Status or a StatusOr.
template <typename Body>
auto WithType(absl::string_view what, DType dtype, Body&& body) -> decltype(body(float{})) {
  switch (dtype) {
    case DType::kF32:
      return body(float{});
    case DType::kF64:
      return body(double{});
    case DType::kF16:
      return body(F16{});
    case DType::kBF16:
      return body(BF16{});
    case DType::kS8:
      return body(int8_t{});
    case DType::kU8:
    case DType::kBool:
      return body(uint8_t{});
    case DType::kS16:
      return body(int16_t{});
    case DType::kU16:
      return body(uint16_t{});
    case DType::kS32:
      return body(int32_t{});
    case DType::kU32:
      return body(uint32_t{});
    case DType::kS64:
      return body(int64_t{});
    case DType::kU64:
      return body(uint64_t{});
    case DType::kS4:
    case DType::kU4:
    case DType::kU2:
    case DType::kU1:
    case DType::kInvalid:
      break;
  }
  return absl::UnimplementedError(
      absl::StrCat(what, ": no kernel for elements of type ", NameOf(dtype)));
}

// The same for the float types only.
template <typename Body>
auto WithFloat(absl::string_view what, DType dtype, Body&& body) -> decltype(body(float{})) {
  switch (dtype) {
    case DType::kF32:
      return body(float{});
    case DType::kF64:
      return body(double{});
    case DType::kF16:
      return body(F16{});
    case DType::kBF16:
      return body(BF16{});
    default:
      return absl::UnimplementedError(absl::StrCat(what, ": no kernel for elements of type ",
                                                   NameOf(dtype), ", only for floats"));
  }
}

// MakeFunctionKernel for loops that meet bad values at run time (an index outside of its axis): the
// status is the inference's.
using CheckedRunFn = absl::AnyInvocable<absl::Status(const BindArgs&) const>;
std::unique_ptr<Kernel> MakeCheckedKernel(std::string implementation, int64_t scratch_bytes,
                                          CheckedRunFn run);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_TYPED_H_
