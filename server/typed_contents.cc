// Typed contents: one field per kind of element, packed or not.
#include "server/typed_contents.h"

#include <cstring>
#include <limits>
#include <utility>

#include "base/status.h"
#include "server/datatype.h"

namespace octet::server {
namespace {

constexpr absl::string_view kFieldNames[] = {"",
                                             "bool_contents",
                                             "int_contents",
                                             "int64_contents",
                                             "uint_contents",
                                             "uint64_contents",
                                             "fp32_contents",
                                             "fp64_contents",
                                             "bytes_contents"};

// Field of InferTensorContents that carries a datatype; 0: none.
uint32_t FieldOf(DType dtype) {
  switch (dtype) {
    case DType::kBool:
      return 1;
    case DType::kS8:
    case DType::kS16:
    case DType::kS32:
      return 2;
    case DType::kS64:
      return 3;
    case DType::kU8:
    case DType::kU16:
    case DType::kU32:
      return 4;
    case DType::kU64:
      return 5;
    case DType::kF32:
      return 6;
    case DType::kF64:
      return 7;
    default:
      return 0;
  }
}

class Decoder {
 public:
  Decoder(absl::string_view input, DType dtype, int64_t elements, std::byte* dst)
      : input_(input), dtype_(dtype), field_(FieldOf(dtype)), elements_(elements), dst_(dst) {}

  absl::Status Add(WireReader contents);
  absl::Status Finish() const {
    if (count_ != elements_) return WrongCount(absl::StrCat(count_));
    return absl::OkStatus();
  }

 private:
  absl::Status Malformed() const {
    return absl::InvalidArgumentError(
        absl::StrCat("input '", input_, "': malformed ", kFieldNames[field_]));
  }
  absl::Status WrongCount(absl::string_view got) const {
    return absl::InvalidArgumentError(absl::StrCat("input '", input_, "': ", kFieldNames[field_],
                                                   " holds ", got, " elements, its shape has ",
                                                   elements_));
  }
  absl::Status One(WireReader* reader);
  absl::Status StoreVarint(uint64_t value);
  absl::Status Signed(int64_t value, int64_t low, int64_t high) const;

  template <typename T>
  void Store(T value) {
    std::memcpy(dst_ + count_ * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
    ++count_;
  }

  absl::string_view input_;
  DType dtype_;
  uint32_t field_;
  int64_t elements_;
  std::byte* dst_;
  int64_t count_ = 0;
};

absl::Status Decoder::Add(WireReader contents) {
  while (!contents.AtEnd()) {
    uint32_t field = 0;
    WireType type{};
    if (!contents.ReadTag(&field, &type)) return Malformed();
    if (field == 0 || field > 8) {
      if (!contents.SkipValue(type)) return Malformed();
      continue;
    }
    if (field != field_) {
      return absl::InvalidArgumentError(absl::StrCat("input '", input_, "': ", kFieldNames[field],
                                                     " does not fit datatype ", WireNameOf(dtype_),
                                                     ", which takes ", kFieldNames[field_]));
    }
    if (type == WireType::kLength) {
      WireReader packed;
      if (!contents.ReadRange(&packed)) return Malformed();
      while (!packed.AtEnd()) OCTET_RETURN_IF_ERROR(One(&packed));
    } else {
      const WireType element = field == 6   ? WireType::kFixed32
                               : field == 7 ? WireType::kFixed64
                                            : WireType::kVarint;
      if (type != element) return Malformed();
      OCTET_RETURN_IF_ERROR(One(&contents));
    }
  }
  return absl::OkStatus();
}

absl::Status Decoder::One(WireReader* reader) {
  if (count_ == elements_) return WrongCount("more");
  if (dtype_ == DType::kF32) {
    uint32_t bits = 0;
    if (!reader->ReadFixed32(&bits)) return Malformed();
    Store(bits);
    return absl::OkStatus();
  }
  uint64_t value = 0;
  if (dtype_ == DType::kF64) {
    if (!reader->ReadFixed64(&value)) return Malformed();
    Store(value);
    return absl::OkStatus();
  }
  if (!reader->ReadVarint(&value)) return Malformed();
  return StoreVarint(value);
}

absl::Status Decoder::Signed(int64_t value, int64_t low, int64_t high) const {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("input '", input_, "': element ", count_, " is ",
                                                 value, ", outside the range of ",
                                                 WireNameOf(dtype_), " [", low, ", ", high, "]"));
}

absl::Status Decoder::StoreVarint(uint64_t value) {
  // int32 fields carry the low 32 bits of a sign-extended varint, uint32 fields the low 32 bits.
  const auto low_signed = static_cast<int64_t>(static_cast<int32_t>(static_cast<uint32_t>(value)));
  const auto low_unsigned = static_cast<int64_t>(static_cast<uint32_t>(value));
  switch (dtype_) {
    case DType::kBool:
      Store(static_cast<uint8_t>(value != 0));
      break;
    case DType::kS8:
      OCTET_RETURN_IF_ERROR(Signed(low_signed, -128, 127));
      Store(static_cast<int8_t>(low_signed));
      break;
    case DType::kS16:
      OCTET_RETURN_IF_ERROR(Signed(low_signed, -32768, 32767));
      Store(static_cast<int16_t>(low_signed));
      break;
    case DType::kS32:
      Store(static_cast<int32_t>(low_signed));
      break;
    case DType::kU8:
      OCTET_RETURN_IF_ERROR(Signed(low_unsigned, 0, 255));
      Store(static_cast<uint8_t>(low_unsigned));
      break;
    case DType::kU16:
      OCTET_RETURN_IF_ERROR(Signed(low_unsigned, 0, 65535));
      Store(static_cast<uint16_t>(low_unsigned));
      break;
    case DType::kU32:
      Store(static_cast<uint32_t>(low_unsigned));
      break;
    default:  // kS64, kU64
      Store(value);
      break;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Buffer> DecodeTypedContents(absl::string_view input, DType dtype, int64_t elements,
                                           absl::Span<const WireReader> contents) {
  if (FieldOf(dtype) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("input '", input, "': datatype ", WireNameOf(dtype),
                     " travels in raw_input_contents only, not in contents"));
  }
  OCTET_ASSIGN_OR_RETURN(Buffer buffer, Buffer::Allocate(elements * BytesOf(dtype)));
  Decoder decoder(input, dtype, elements, buffer.data());
  for (const WireReader& occurrence : contents) OCTET_RETURN_IF_ERROR(decoder.Add(occurrence));
  OCTET_RETURN_IF_ERROR(decoder.Finish());
  return buffer;
}

}  // namespace octet::server
