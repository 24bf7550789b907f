// Parsing of the Python literal in a .npy header, whole-file reading and writing.
#include "data/npy.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/status.h"
#include "data/sample_reader.h"

namespace octet::data {
namespace {

constexpr int64_t kMaxHeaderBytes = 64 << 10;

struct NamedType {
  absl::string_view descr;
  DType dtype;
};
constexpr NamedType kTypes[] = {
    {"<f4", DType::kF32}, {"<f8", DType::kF64}, {"<f2", DType::kF16}, {"|i1", DType::kS8},
    {"|u1", DType::kU8},  {"<i2", DType::kS16}, {"<u2", DType::kU16}, {"<i4", DType::kS32},
    {"<u4", DType::kU32}, {"<i8", DType::kS64}, {"<u8", DType::kU64}, {"|b1", DType::kBool},
};

absl::Status Invalid(absl::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat("not a usable .npy array: ", message));
}

// Reads the dictionary {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }, its keys in any
// order.
class HeaderParser {
 public:
  explicit HeaderParser(absl::string_view text) : text_(text) {}

  absl::StatusOr<NpyHeader> Parse() {
    if (!Take('{')) return Invalid("its header is no dictionary");
    while (!Take('}')) {
      OCTET_ASSIGN_OR_RETURN(const std::string key, String());
      if (!Take(':')) return Invalid(absl::StrCat("no value follows the key ", key));
      OCTET_RETURN_IF_ERROR(Value(key));
      if (Take(',')) continue;
      if (!Take('}')) return Invalid("its dictionary is not closed");
      break;
    }
    Skip();
    if (!text_.empty()) return Invalid("something follows its dictionary");
    if (descr_.empty() || order_.empty() || !has_shape_) {
      return Invalid("its header lacks 'descr', 'fortran_order' or 'shape'");
    }
    return Check();
  }

 private:
  void Skip() { text_ = absl::StripLeadingAsciiWhitespace(text_); }

  bool Take(char c) {
    Skip();
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    return true;
  }

  absl::StatusOr<std::string> String() {
    Skip();
    if (text_.empty() || (text_.front() != '\'' && text_.front() != '"')) {
      return Invalid("a string is expected in its header (structured types are not supported)");
    }
    const size_t end = text_.find(text_.front(), 1);
    if (end == absl::string_view::npos) return Invalid("a string in its header does not end");
    const std::string out(text_.substr(1, end - 1));
    text_.remove_prefix(end + 1);
    return out;
  }

  absl::Status Value(const std::string& key) {
    if (key == "descr" && descr_.empty()) {
      OCTET_ASSIGN_OR_RETURN(descr_, String());
      return absl::OkStatus();
    }
    if (key == "fortran_order" && order_.empty()) {
      Skip();
      const size_t end = std::min(text_.find_first_of(",} \n"), text_.size());
      order_ = std::string(text_.substr(0, end));
      text_.remove_prefix(end);
      if (order_ == "True" || order_ == "False") return absl::OkStatus();
      return Invalid(absl::StrCat("fortran_order is ", absl::CEscape(order_.substr(0, 32))));
    }
    if (key == "shape" && !has_shape_) return ShapeTuple();
    return Invalid(absl::StrCat("unknown or repeated key ", absl::CEscape(key.substr(0, 64))));
  }

  absl::Status ShapeTuple() {
    has_shape_ = true;
    if (!Take('(')) return Invalid("its shape is no tuple");
    while (!Take(')')) {
      Skip();
      const size_t end = std::min(text_.find_first_not_of("0123456789"), text_.size());
      int64_t dim = 0;
      if (!absl::SimpleAtoi(text_.substr(0, end), &dim)) {
        return Invalid("a dimension of its shape is no integer in [0, 2^63)");
      }
      text_.remove_prefix(end);
      Take('L');  // Python 2 wrote (3L, 4L)
      shape_.push_back(dim);
      if (shape_.size() > static_cast<size_t>(kMaxRank)) {
        return Invalid(absl::StrCat("it has more than ", kMaxRank, " dimensions"));
      }
      if (Take(',')) continue;
      if (!Take(')')) return Invalid("its shape is not closed");
      break;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<NpyHeader> Check() {
    NpyHeader header;
    for (const NamedType& type : kTypes) {
      // One-byte types have no byte order: numpy writes '|', others write '<'.
      if (descr_ == type.descr || (type.descr[0] == '|' && descr_.size() == 3 && descr_[0] == '<' &&
                                   type.descr.substr(1) == absl::string_view(descr_).substr(1))) {
        header.dtype = type.dtype;
      }
    }
    if (header.dtype == DType::kInvalid) {
      return Invalid(absl::StrCat("type '", absl::CEscape(descr_.substr(0, 32)),
                                  "' is not a little-endian float, integer or bool"));
    }
    if (order_ == "True" && shape_.size() > 1) {
      return Invalid("it is in Fortran order; save numpy.ascontiguousarray(x)");
    }
    OCTET_RETURN_IF_ERROR(CheckedByteSize(header.dtype, shape_).status());
    header.shape = shape_;
    return header;
  }

  absl::string_view text_;
  std::string descr_, order_;
  bool has_shape_ = false;
  Shape shape_;
};

absl::Status ReadText(ByteSource& source, int64_t offset, int64_t length, std::string* out) {
  out->resize(static_cast<size_t>(length));
  return source.ReadAt(offset,
                       absl::MakeSpan(reinterpret_cast<std::byte*>(out->data()), out->size()));
}

absl::string_view DescrOf(DType dtype) {
  for (const NamedType& type : kTypes) {
    if (type.dtype == dtype) return type.descr;
  }
  return "";
}

// The tensor in a type that numpy has: bf16 as f32, 4-bit integers in 8 bits. Exact.
Tensor ToNumpyType(const Tensor& tensor) {
  if (tensor.dtype() == DType::kBF16) return Tensor::FromF32(tensor.shape(), tensor.ToF32());
  if (tensor.dtype() != DType::kS4 && tensor.dtype() != DType::kU4) return tensor;
  const std::vector<int64_t> values = tensor.ToS64();
  std::vector<uint8_t> bytes(values.size());
  std::transform(values.begin(), values.end(), bytes.begin(),
                 [](int64_t v) { return static_cast<uint8_t>(v); });
  return Tensor::FromValues<uint8_t>(tensor.dtype() == DType::kS4 ? DType::kS8 : DType::kU8,
                                     tensor.shape(), bytes);
}

}  // namespace

absl::StatusOr<NpyHeader> ReadNpyHeader(ByteSource& source) {
  std::string text;
  OCTET_RETURN_IF_ERROR(ReadText(source, 0, 10, &text));
  if (absl::string_view(text).substr(0, 6) != kNpyMagic)
    return Invalid("no \\x93NUMPY at its start");
  const auto byte = [&](size_t i) { return static_cast<int64_t>(static_cast<uint8_t>(text[i])); };
  const int64_t version = byte(6);
  if (version < 1 || version > 3) return Invalid(absl::StrCat("version ", version));
  int64_t length = byte(8) | byte(9) << 8;
  int64_t start = 10;
  if (version > 1) {
    start = 12;
    OCTET_RETURN_IF_ERROR(ReadText(source, 0, start, &text));
    length = byte(8) | byte(9) << 8 | byte(10) << 16 | byte(11) << 24;
  }
  if (length > kMaxHeaderBytes) {
    return Invalid(
        absl::StrCat("its header has ", length, " bytes, the limit is ", kMaxHeaderBytes));
  }
  OCTET_RETURN_IF_ERROR(ReadText(source, start, length, &text));
  OCTET_ASSIGN_OR_RETURN(NpyHeader header, HeaderParser(text).Parse());
  header.data_offset = start + length;
  const int64_t held = source.size_bytes() - header.data_offset;
  const int64_t expected = ByteSize(header.dtype, header.shape);
  if (source.size_bytes() >= 0 && held != expected) {
    const std::string message =
        absl::StrCat("shape ", ShapeString(header.shape), " of ", NameOf(header.dtype), " needs ",
                     expected, " bytes, the file holds ", held);
    return held < expected ? absl::DataLossError(message) : Invalid(message);
  }
  return header;
}

absl::StatusOr<Tensor> ReadNpyElements(ByteSource& source, const NpyHeader& header, int64_t first,
                                       Shape shape) {
  const int64_t bytes = ByteSize(header.dtype, shape);
  OCTET_ASSIGN_OR_RETURN(Buffer buffer, Buffer::Allocate(bytes));
  OCTET_RETURN_IF_ERROR(source.ReadAt(header.data_offset + first * BytesOf(header.dtype),
                                      absl::MakeSpan(buffer.data(), static_cast<size_t>(bytes))));
  if (header.dtype == DType::kBool) {
    for (int64_t i = 0; i < bytes; ++i) {
      if (buffer.data()[i] != std::byte{0}) buffer.data()[i] = std::byte{1};
    }
  }
  return Tensor::FromBuffer(header.dtype, std::move(shape), std::move(buffer));
}

std::string NpyHeaderBytes(DType dtype, const Shape& shape) {
  std::string text =
      absl::StrCat("{'descr': '", DescrOf(dtype), "', 'fortran_order': False, 'shape': (",
                   absl::StrJoin(shape, ", "), shape.size() == 1 ? ",), }" : "), }");
  // numpy aligns the data to 64 bytes: 10 before the text, a line feed after it.
  text.append((64 - (10 + text.size() + 1) % 64) % 64, ' ');
  text.push_back('\n');
  std::string out(kNpyMagic);
  out.push_back(1);
  out.push_back(0);
  out.push_back(static_cast<char>(text.size() & 0xff));
  out.push_back(static_cast<char>(text.size() >> 8));
  return out + text;
}

absl::StatusOr<Tensor> ReadNpy(const std::string& path) {
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> source, OpenContent(path));
  auto header = ReadNpyHeader(*source);
  if (!header.ok()) return Annotate(header.status(), path);
  auto tensor = ReadNpyElements(*source, *header, 0, header->shape);
  if (!tensor.ok()) return Annotate(tensor.status(), path);
  return tensor;
}

absl::Status WriteNpy(const std::string& path, const Tensor& tensor) {
  if (!tensor.valid())
    return absl::InvalidArgumentError(absl::StrCat(path, ": no tensor to write"));
  const Tensor stored = ToNumpyType(tensor);
  std::string content = NpyHeaderBytes(stored.dtype(), stored.shape());
  content.append(reinterpret_cast<const char*>(stored.data()),
                 static_cast<size_t>(stored.size_bytes()));
  return WriteFileAtomically(path, content);
}

}  // namespace octet::data
