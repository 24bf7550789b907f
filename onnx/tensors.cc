// Content of tensors: raw, typed or external.
#include "onnx/tensors.h"

#include <bit>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/shape.h"
#include "base/status.h"

namespace octet::onnx_io {
namespace {

static_assert(std::endian::native == std::endian::little, "raw_data is little-endian");

using ::onnx::TensorProto;

struct TypePair {
  int onnx;
  DType dtype;
};
constexpr TypePair kTypes[] = {
    {TensorProto::FLOAT, DType::kF32},   {TensorProto::DOUBLE, DType::kF64},
    {TensorProto::FLOAT16, DType::kF16}, {TensorProto::BFLOAT16, DType::kBF16},
    {TensorProto::INT8, DType::kS8},     {TensorProto::UINT8, DType::kU8},
    {TensorProto::INT16, DType::kS16},   {TensorProto::UINT16, DType::kU16},
    {TensorProto::INT32, DType::kS32},   {TensorProto::UINT32, DType::kU32},
    {TensorProto::INT64, DType::kS64},   {TensorProto::UINT64, DType::kU64},
    {TensorProto::BOOL, DType::kBool},   {TensorProto::INT4, DType::kS4},
    {TensorProto::UINT4, DType::kU4},
};

absl::StatusOr<Shape> ShapeOf(const TensorProto& proto) {
  if (proto.dims_size() > kMaxRank) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected at most ", kMaxRank, " dimensions, found ", proto.dims_size()));
  }
  return Shape(proto.dims().begin(), proto.dims().end());
}

// TensorProto field that may hold a type's elements one by one; 0 when there is none.
int TypedFieldOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return TensorProto::kFloatDataFieldNumber;
    case DType::kF64:
      return TensorProto::kDoubleDataFieldNumber;
    case DType::kS64:
      return TensorProto::kInt64DataFieldNumber;
    case DType::kU32:
    case DType::kU64:
      return TensorProto::kUint64DataFieldNumber;
    case DType::kInvalid:
      return 0;
    default:
      return TensorProto::kInt32DataFieldNumber;
  }
}

absl::Status CheckBools(DType dtype, const std::byte* data, int64_t n) {
  if (dtype != DType::kBool) return absl::OkStatus();
  for (int64_t i = 0; i < n; ++i) {
    if (std::to_integer<int>(data[i]) > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected 0 or 1 as BOOL, found ", std::to_integer<int>(data[i])));
    }
  }
  return absl::OkStatus();
}

// Varint elements of int32_data, int64_data and uint64_data, narrowed to the tensor's type. 4-bit
// types and 16-bit floats keep their bit patterns there.
absl::StatusOr<Tensor> FromVarints(DType dtype, const Shape& shape, int64_t bytes,
                                   absl::Span<const std::byte> content) {
  const int64_t width = BitsOf(dtype) == 4 ? 1 : BytesOf(dtype);
  OCTET_ASSIGN_OR_RETURN(const std::vector<uint64_t> values, DecodeVarints(content, bytes / width));
  OCTET_ASSIGN_OR_RETURN(Buffer buffer, Buffer::Allocate(bytes));
  for (size_t i = 0; i < values.size(); ++i) {
    std::memcpy(buffer.data() + static_cast<int64_t>(i) * width, &values[i],
                static_cast<size_t>(width));
  }
  OCTET_RETURN_IF_ERROR(CheckBools(dtype, buffer.data(), bytes));
  return Tensor::FromBuffer(dtype, shape, std::move(buffer));
}

absl::StatusOr<Tensor> FromContent(DType dtype, const Shape& shape, int64_t bytes,
                                   size_t index, TensorSource* source) {
  const TensorBytes& content = source->reduced->tensors[index];
  const int typed = TypedFieldOf(dtype);
  if (content.field != TensorProto::kRawDataFieldNumber && content.field != typed) {
    return absl::InvalidArgumentError(absl::StrCat("content of type ", NameOf(dtype),
                                                   " expected in field ", typed,
                                                   " or raw_data, found in field ", content.field));
  }
  const bool as_bytes = content.field == TensorProto::kRawDataFieldNumber ||
                        content.field == TensorProto::kFloatDataFieldNumber ||
                        content.field == TensorProto::kDoubleDataFieldNumber;
  if (!as_bytes) return FromVarints(dtype, shape, bytes, content.bytes);
  if (static_cast<int64_t>(content.bytes.size()) != bytes) {
    return absl::InvalidArgumentError(absl::StrCat("shape ", ShapeString(shape), " of ",
                                                   NameOf(dtype), " needs ", bytes,
                                                   " bytes, found ", content.bytes.size()));
  }
  OCTET_RETURN_IF_ERROR(CheckBools(dtype, content.bytes.data(), bytes));
  std::shared_ptr<const void>& slice = source->slices[index];
  if (slice == nullptr) slice = OwnSlice(source->file, content.bytes.data(), bytes);
  return Tensor(dtype, shape, content.bytes.data(), slice);
}

// The file a location names: relative, without "..", and inside the folder after symbolic links are
// resolved.
absl::StatusOr<std::string> ResolveLocation(const std::string& folder,
                                            const std::string& location) {
  namespace fs = std::filesystem;
  const auto refuse = [&](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("external data location '", absl::CHexEscape(location), "' ", why,
                     ", expected a relative path inside the model's folder"));
  };
  if (location.empty() || location.find('\0') != std::string::npos || location.size() > 4096) {
    return refuse("is empty, too long or holds a NUL");
  }
  const fs::path relative(location);
  if (relative.is_absolute()) return refuse("is absolute");
  for (const fs::path& part : relative) {
    if (part == "..") return refuse("leaves the folder");
  }
  std::error_code error;
  const fs::path root = fs::canonical(folder.empty() ? fs::path(".") : fs::path(folder), error);
  if (error) return absl::NotFoundError(absl::StrCat("folder '", folder, "': ", error.message()));
  const fs::path target = fs::canonical(root / relative, error);
  if (error) {
    return absl::NotFoundError(
        absl::StrCat("external data '", absl::CHexEscape(location), "': ", error.message()));
  }
  const fs::path inside = target.lexically_relative(root);
  if (inside.empty() || *inside.begin() == "..") return refuse("is a link that leaves the folder");
  return target.string();
}

absl::StatusOr<Tensor> FromExternal(const TensorProto& proto, DType dtype, const Shape& shape,
                                    int64_t bytes, TensorSource* source) {
  if (source->folder.empty()) {
    return absl::InvalidArgumentError("external data in a model that is not read from a file");
  }
  std::string location;
  int64_t offset = 0, length = bytes;
  for (const auto& entry : proto.external_data()) {
    if (entry.key() == "location") location = entry.value();
    const bool number = entry.key() == "offset" || entry.key() == "length";
    int64_t* target = entry.key() == "offset" ? &offset : &length;
    if (number && !absl::SimpleAtoi(entry.value(), target)) {
      return absl::InvalidArgumentError(absl::StrCat("external data ", entry.key(), " '",
                                                     absl::CHexEscape(entry.value()),
                                                     "' is not a number"));
    }
  }
  OCTET_ASSIGN_OR_RETURN(const std::string path, ResolveLocation(source->folder, location));
  if (length != bytes || offset < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("shape ", ShapeString(shape), " of ", NameOf(dtype), " needs ", bytes,
                     " bytes, found external data of ", length, " at offset ", offset));
  }
  if (bytes > source->max_external_bytes - source->external_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("external data above the limit of ", source->max_external_bytes, " bytes"));
  }
  source->external_bytes += bytes;
  OCTET_ASSIGN_OR_RETURN(std::shared_ptr<const Buffer> content, ReadFileRange(path, offset, bytes));
  OCTET_RETURN_IF_ERROR(CheckBools(dtype, content->data(), bytes));
  const std::byte* begin = content->data();
  return Tensor(dtype, shape, begin, std::move(content));
}

}  // namespace

DType DTypeFromOnnx(int64_t data_type) {
  for (const TypePair& pair : kTypes) {
    if (pair.onnx == data_type) return pair.dtype;
  }
  return DType::kInvalid;
}

int DTypeToOnnx(DType dtype) {
  for (const TypePair& pair : kTypes) {
    if (pair.dtype == dtype) return pair.onnx;
  }
  return TensorProto::UNDEFINED;
}

std::string OnnxTypeName(int64_t data_type) {
  if (data_type < 0 || data_type > INT32_MAX ||
      !TensorProto::DataType_IsValid(static_cast<int>(data_type))) {
    return absl::StrCat("type ", data_type);
  }
  return absl::StrCat(TensorProto::DataType_Name(static_cast<TensorProto::DataType>(data_type)),
                      " (", data_type, ")");
}

absl::StatusOr<Tensor> LoadTensor(const TensorProto& proto, TensorSource* source) {
  const DType dtype = DTypeFromOnnx(proto.data_type());
  if (dtype == DType::kInvalid) {
    return absl::UnimplementedError(
        absl::StrCat("tensors of ", OnnxTypeName(proto.data_type()), " are not supported"));
  }
  OCTET_ASSIGN_OR_RETURN(const Shape shape, ShapeOf(proto));
  OCTET_ASSIGN_OR_RETURN(const int64_t bytes, CheckedByteSize(dtype, shape));
  if (proto.data_location() == TensorProto::EXTERNAL) {
    return FromExternal(proto, dtype, shape, bytes, source);
  }
  if (proto.raw_data().empty()) {
    if (bytes != 0) {
      return absl::InvalidArgumentError(absl::StrCat("shape ", ShapeString(shape), " of ",
                                                     NameOf(dtype), " needs ", bytes,
                                                     " bytes, found none"));
    }
    OCTET_ASSIGN_OR_RETURN(Buffer nothing, Buffer::Allocate(0));
    return Tensor::FromBuffer(dtype, shape, std::move(nothing));
  }
  OCTET_ASSIGN_OR_RETURN(const size_t index,
                         TensorIndex(proto.raw_data(), source->reduced->tensors.size()));
  return FromContent(dtype, shape, bytes, index, source);
}

}  // namespace octet::onnx_io
