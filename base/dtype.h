// Element types of tensors, as ONNX and the Open Inference Protocol name them.
#ifndef OCTET_BASE_DTYPE_H_
#define OCTET_BASE_DTYPE_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace octet {

enum class DType : uint8_t {
  kInvalid = 0,
  kF32,
  kF64,
  kF16,
  kBF16,
  kS8,
  kU8,
  kS16,
  kU16,
  kS32,
  kU32,
  kS64,
  kU64,
  kBool,  // one byte, 0 or 1
  kS4,    // two per byte, low nibble first, as ONNX packs INT4
  kU4,
  kU2,    // four per byte, low bits first; ONNX has no such type: codes of domain ai.octet only
  kU1,    // eight per byte, low bit first; the same
};

// Bits of one element: 4 for kS4/kU4, 2 and 1 for kU2 and kU1, 0 for kInvalid.
int BitsOf(DType dtype);

// Bytes of one element. Requires: BitsOf(dtype) >= 8.
int64_t BytesOf(DType dtype);

// "f32", "u8", ...: used in messages, metrics and tables.
absl::string_view NameOf(DType dtype);

bool IsFloat(DType dtype);    // f32 f64 f16 bf16
bool IsInteger(DType dtype);  // signed and unsigned, without bool

}  // namespace octet

#endif  // OCTET_BASE_DTYPE_H_
