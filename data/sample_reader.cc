// Telling what a path holds, by its first bytes.
#include "data/sample_reader.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "data/byte_source.h"
#include "data/idx.h"
#include "data/image.h"
#include "data/npy.h"
#include "data/npz.h"
#include "data/readers.h"

namespace octet::data {
namespace {

// The arrays in the order of the model's inputs; others in the file are ignored.
absl::StatusOr<std::vector<ArrayInput>> MatchInputs(const std::string& path,
                                                    std::vector<NpzEntry> entries,
                                                    const std::vector<std::string>& input_names) {
  std::vector<ArrayInput> arrays;
  if (entries.size() == 1 && input_names.size() <= 1) {
    arrays.push_back({std::move(entries[0].name), std::move(entries[0].source)});
    return arrays;
  }
  for (const std::string& input : input_names) {
    const auto found = std::find_if(entries.begin(), entries.end(),
                                    [&](const NpzEntry& e) { return e.name == input; });
    if (found == entries.end() || found->source == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": no array for the model's input '", input, "', the file has ",
                       absl::StrJoin(entries, ", ", [](std::string* out, const NpzEntry& e) {
                         absl::StrAppend(out, "'", absl::CEscape(e.name), "'");
                       })));
    }
    arrays.push_back({input, std::move(found->source)});
  }
  if (arrays.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", entries.size(), " arrays and no input names to choose by"));
  }
  return arrays;
}

absl::Status CheckOneInput(const std::string& path, const std::vector<std::string>& input_names) {
  if (input_names.size() <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": the model has ", input_names.size(),
                                                 " inputs (", absl::StrJoin(input_names, ", "),
                                                 "), which only a .npz file can feed"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SampleReader>> OpenSamples(
    const std::string& path, const ImageOptions& options,
    const std::vector<std::string>& input_names) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    OCTET_RETURN_IF_ERROR(CheckOneInput(path, input_names));
    return OpenFolder(path, options);
  }
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> content, OpenContent(path));
  std::array<std::byte, 8> head = {};
  const int64_t known = content->size_bytes();
  const size_t n = known >= 0 && known < 8 ? static_cast<size_t>(known) : head.size();
  OCTET_RETURN_IF_ERROR(content->ReadAt(0, absl::MakeSpan(head).subspan(0, n)));
  const absl::string_view text(reinterpret_cast<const char*>(head.data()), n);
  if (text.substr(0, 4) == "PK\x03\x04") {
    OCTET_ASSIGN_OR_RETURN(std::vector<NpzEntry> entries, OpenNpz(path));
    OCTET_ASSIGN_OR_RETURN(std::vector<ArrayInput> arrays,
                           MatchInputs(path, std::move(entries), input_names));
    return OpenArrays(path, std::move(arrays));
  }
  OCTET_RETURN_IF_ERROR(CheckOneInput(path, input_names));
  if (text.substr(0, kNpyMagic.size()) == kNpyMagic) {
    std::vector<ArrayInput> arrays;
    arrays.push_back({"", std::move(content)});
    return OpenArrays(path, std::move(arrays));
  }
  const absl::Span<const std::byte> bytes(head.data(), n);
  if (HasIdxMagic(bytes)) return OpenIdxImages(path, std::move(content), options);
  if (HasImageMagic(bytes)) return OpenImageFile(path, options);
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": unknown format; samples are .npy, .npz, IDX (plain or gz), .jpg, .png or a folder"));
}

}  // namespace octet::data
