// Table of element types.
#include "base/dtype.h"

namespace octet {

int BitsOf(DType dtype) {
  switch (dtype) {
    case DType::kInvalid:
      return 0;
    case DType::kU1:
      return 1;
    case DType::kU2:
      return 2;
    case DType::kS4:
    case DType::kU4:
      return 4;
    case DType::kS8:
    case DType::kU8:
    case DType::kBool:
      return 8;
    case DType::kF16:
    case DType::kBF16:
    case DType::kS16:
    case DType::kU16:
      return 16;
    case DType::kF32:
    case DType::kS32:
    case DType::kU32:
      return 32;
    case DType::kF64:
    case DType::kS64:
    case DType::kU64:
      return 64;
  }
  return 0;
}

int64_t BytesOf(DType dtype) { return BitsOf(dtype) / 8; }

absl::string_view NameOf(DType dtype) {
  switch (dtype) {
    case DType::kInvalid:
      return "invalid";
    case DType::kF32:
      return "f32";
    case DType::kF64:
      return "f64";
    case DType::kF16:
      return "f16";
    case DType::kBF16:
      return "bf16";
    case DType::kS8:
      return "s8";
    case DType::kU8:
      return "u8";
    case DType::kS16:
      return "s16";
    case DType::kU16:
      return "u16";
    case DType::kS32:
      return "s32";
    case DType::kU32:
      return "u32";
    case DType::kS64:
      return "s64";
    case DType::kU64:
      return "u64";
    case DType::kBool:
      return "bool";
    case DType::kS4:
      return "s4";
    case DType::kU4:
      return "u4";
    case DType::kU2:
      return "u2";
    case DType::kU1:
      return "u1";
  }
  return "invalid";
}

bool IsFloat(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF64 || dtype == DType::kF16 ||
         dtype == DType::kBF16;
}

bool IsInteger(DType dtype) {
  return dtype != DType::kInvalid && dtype != DType::kBool && !IsFloat(dtype);
}

}  // namespace octet
