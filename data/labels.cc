// Labels from IDX, .npy and text files.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/status.h"
#include "data/byte_source.h"
#include "data/idx.h"
#include "data/npy.h"
#include "data/sample_reader.h"

namespace octet::data {
namespace {

constexpr int64_t kMaxLabels = int64_t{1} << 28;

absl::StatusOr<std::vector<int64_t>> FromNpy(ByteSource& source) {
  OCTET_ASSIGN_OR_RETURN(const NpyHeader header, ReadNpyHeader(source));
  const int64_t count = NumElements(header.shape);
  const bool column = header.shape.size() == 2 && header.shape[1] == 1;
  if (!IsInteger(header.dtype) || (header.shape.size() != 1 && !column) || count > kMaxLabels) {
    return absl::InvalidArgumentError(absl::StrCat("labels are integers [N] or [N, 1], this is ",
                                                   NameOf(header.dtype), " ",
                                                   ShapeString(header.shape)));
  }
  OCTET_ASSIGN_OR_RETURN(const Tensor tensor, ReadNpyElements(source, header, 0, header.shape));
  return tensor.ToS64();
}

absl::StatusOr<std::vector<int64_t>> FromIdx(ByteSource& source) {
  OCTET_ASSIGN_OR_RETURN(const IdxHeader header, ReadIdxHeader(source));
  if (header.shape.size() != 1 || header.shape[0] > kMaxLabels) {
    return absl::InvalidArgumentError(
        absl::StrCat("labels are IDX of shape [N], this is ", ShapeString(header.shape)));
  }
  std::vector<std::byte> bytes(static_cast<size_t>(header.shape[0]));
  OCTET_RETURN_IF_ERROR(source.ReadAt(header.data_offset, absl::MakeSpan(bytes)));
  std::vector<int64_t> labels;
  labels.reserve(bytes.size());
  for (std::byte b : bytes) labels.push_back(std::to_integer<int64_t>(b));
  return labels;
}

// One integer per line, the last comma-separated column; a first line without one is a heading.
absl::StatusOr<std::vector<int64_t>> FromText(absl::string_view text) {
  std::vector<int64_t> labels;
  int64_t line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    const size_t comma = line.rfind(',');
    const absl::string_view cell = comma == absl::string_view::npos ? line : line.substr(comma + 1);
    int64_t label = 0;
    if (absl::SimpleAtoi(absl::StripAsciiWhitespace(cell), &label)) {
      labels.push_back(label);
    } else if (line_number > 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "line ", line_number, ": '", absl::CEscape(cell.substr(0, 40)), "' is no integer label"));
    }
  }
  return labels;
}

absl::StatusOr<std::vector<int64_t>> FromContent(ByteSource& source) {
  std::array<std::byte, 6> head = {};
  const int64_t known = source.size_bytes();
  const size_t n = known >= 0 && known < 6 ? static_cast<size_t>(known) : head.size();
  OCTET_RETURN_IF_ERROR(source.ReadAt(0, absl::MakeSpan(head).subspan(0, n)));
  if (absl::string_view(reinterpret_cast<const char*>(head.data()), n) == kNpyMagic) {
    return FromNpy(source);
  }
  if (HasIdxMagic(absl::MakeSpan(head).subspan(0, n))) return FromIdx(source);
  if (known < 0 || known > kMaxLabels) {
    return absl::InvalidArgumentError(
        absl::StrCat("a text file of labels above ", kMaxLabels, " bytes"));
  }
  std::string text(static_cast<size_t>(known), '\0');
  OCTET_RETURN_IF_ERROR(
      source.ReadAt(0, absl::MakeSpan(reinterpret_cast<std::byte*>(text.data()), text.size())));
  if (absl::StrContains(text, '\0')) {
    return absl::InvalidArgumentError("neither IDX, .npy nor text with one integer a line");
  }
  return FromText(text);
}

}  // namespace

absl::StatusOr<std::vector<int64_t>> ReadLabels(const std::string& path) {
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> source, OpenContent(path));
  auto labels = FromContent(*source);
  if (!labels.ok()) return Annotate(labels.status(), path);
  if (labels->empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": no labels"));
  return labels;
}

}  // namespace octet::data
