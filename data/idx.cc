// The IDX header.
#include "data/idx.h"

#include <array>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet::data {
namespace {
constexpr int kUnsignedByte = 8;
}  // namespace

bool HasIdxMagic(absl::Span<const std::byte> head) {
  return head.size() >= 4 && head[0] == std::byte{0} && head[1] == std::byte{0} &&
         head[2] >= std::byte{8} && head[2] <= std::byte{14} && head[3] >= std::byte{1} &&
         head[3] <= std::byte{kMaxRank};
}

absl::StatusOr<IdxHeader> ReadIdxHeader(ByteSource& source) {
  std::array<std::byte, 4> magic;
  OCTET_RETURN_IF_ERROR(source.ReadAt(0, absl::MakeSpan(magic)));
  if (!HasIdxMagic(magic)) return absl::InvalidArgumentError("no IDX magic number at its start");
  if (std::to_integer<int>(magic[2]) != kUnsignedByte) {
    return absl::InvalidArgumentError(absl::StrCat(
        "IDX element type ", std::to_integer<int>(magic[2]), " is not 8 (unsigned bytes)"));
  }
  const int rank = std::to_integer<int>(magic[3]);
  std::array<std::byte, 4 * kMaxRank> dims;
  OCTET_RETURN_IF_ERROR(
      source.ReadAt(4, absl::MakeSpan(dims).subspan(0, static_cast<size_t>(4 * rank))));
  IdxHeader header;
  header.data_offset = 4 + 4 * rank;
  for (int i = 0; i < rank; ++i) {
    int64_t dim = 0;
    for (int b = 0; b < 4; ++b) dim = dim << 8 | std::to_integer<int64_t>(dims[4 * i + b]);
    header.shape.push_back(dim);
  }
  OCTET_ASSIGN_OR_RETURN(const int64_t expected, CheckedNumElements(header.shape));
  const int64_t held = source.size_bytes() - header.data_offset;
  if (source.size_bytes() >= 0 && held != expected) {
    const std::string message = absl::StrCat("shape ", ShapeString(header.shape), " needs ",
                                             expected, " bytes, the content holds ", held);
    return held < expected ? absl::DataLossError(message) : absl::InvalidArgumentError(message);
  }
  return header;
}

}  // namespace octet::data
