// Zip entries as byte sources, through minizip.
#include "data/npz.h"

#include <minizip/unzip.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet::data {
namespace {

constexpr int kStored = 0;

struct CloseZip {
  void operator()(void* zip) const { unzClose(zip); }
};
using Zip = std::unique_ptr<void, CloseZip>;

absl::Status Corrupt(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("corrupt zip content: ", what));
}

// One deflated entry; opened by the first Read.
class DeflatedStream final : public ForwardStream {
 public:
  DeflatedStream(Zip zip, unz64_file_pos position, int64_t size)
      : zip_(std::move(zip)), position_(position), size_(size) {}

  absl::Status Rewind() override {
    unzCloseCurrentFile(zip_.get());
    open_ = ended_ = false;
    return absl::OkStatus();
  }

  absl::StatusOr<int64_t> Read(absl::Span<std::byte> dst) override {
    if (ended_) return 0;
    if (!open_) {
      if (unzGoToFilePos64(zip_.get(), &position_) != UNZ_OK ||
          unzOpenCurrentFile(zip_.get()) != UNZ_OK) {
        return Corrupt("an entry's header");
      }
      open_ = true;
      done_ = 0;
    }
    size_t got = 0;
    while (got < dst.size()) {
      const unsigned chunk = static_cast<unsigned>(std::min<size_t>(dst.size() - got, 1 << 30));
      const int n = unzReadCurrentFile(zip_.get(), dst.data() + got, chunk);
      if (n < 0) return Corrupt("a deflated entry");
      if (n == 0) {
        ended_ = true;
        break;
      }
      got += static_cast<size_t>(n);
    }
    done_ += static_cast<int64_t>(got);
    if (ended_) {
      open_ = false;
      const bool intact = unzCloseCurrentFile(zip_.get()) == UNZ_OK;  // it compares the CRC
      if (!intact || done_ != size_) return Corrupt("an entry's checksum or size");
    }
    return static_cast<int64_t>(got);
  }

 private:
  Zip zip_;
  unz64_file_pos position_;
  const int64_t size_;
  int64_t done_ = 0;
  bool open_ = false, ended_ = false;
};

// The entry that `zip` stands on.
absl::StatusOr<NpzEntry> OpenEntry(const std::string& path, void* zip, int64_t* cache_bytes) {
  unz_file_info64 info;
  char name[512];
  if (unzGetCurrentFileInfo64(zip, &info, name, sizeof(name) - 1, nullptr, 0, nullptr, 0) !=
      UNZ_OK) {
    return Corrupt("its directory");
  }
  name[std::min<size_t>(info.size_filename, sizeof(name) - 1)] = '\0';
  NpzEntry entry;
  entry.name = name;
  if (!absl::EndsWith(entry.name, ".npy")) {
    return absl::InvalidArgumentError(
        absl::StrCat("entry '", absl::CEscape(entry.name), "' is no .npy array"));
  }
  entry.name.resize(entry.name.size() - 4);
  const std::string label = absl::StrCat("entry '", absl::CEscape(entry.name), "'");
  if ((info.flag & 1) != 0) return absl::InvalidArgumentError(absl::StrCat(label, " is encrypted"));
  if (info.compression_method != kStored && info.compression_method != Z_DEFLATED) {
    return absl::InvalidArgumentError(
        absl::StrCat(label, " uses compression method ", info.compression_method, ", not 0 or 8"));
  }
  if (info.uncompressed_size > (uint64_t{1} << 60)) return Corrupt(absl::StrCat(label, "'s size"));
  const int64_t size = static_cast<int64_t>(info.uncompressed_size);
  if (info.compression_method == kStored) {
    if (info.compressed_size != info.uncompressed_size || unzOpenCurrentFile(zip) != UNZ_OK) {
      return Corrupt(label);
    }
    const int64_t offset = static_cast<int64_t>(unzGetCurrentFileZStreamPos64(zip));
    unzCloseCurrentFile(zip);
    OCTET_ASSIGN_OR_RETURN(entry.source, OpenFileSource(path, offset, size));
    return entry;
  }
  unz64_file_pos position;
  if (unzGetFilePos64(zip, &position) != UNZ_OK) return Corrupt("its directory");
  Zip own(unzOpen64(path.c_str()));
  if (own == nullptr) return Corrupt("its directory");
  auto source = MakeSource(std::make_unique<DeflatedStream>(std::move(own), position, size),
                           size <= *cache_bytes ? size : 0);
  if (!source.ok()) return Annotate(source.status(), label);
  entry.source = *std::move(source);
  if (entry.source->size_bytes() >= 0) *cache_bytes -= size;
  return entry;
}

}  // namespace

absl::StatusOr<std::vector<NpzEntry>> OpenNpz(const std::string& path, int64_t cache_bytes) {
  const Zip zip(unzOpen64(path.c_str()));
  if (zip == nullptr) {
    return absl::DataLossError(absl::StrCat(path, ": no zip directory, the file is cut off"));
  }
  std::vector<NpzEntry> entries;
  int code = unzGoToFirstFile(zip.get());
  for (; code == UNZ_OK; code = unzGoToNextFile(zip.get())) {
    auto entry = OpenEntry(path, zip.get(), &cache_bytes);
    if (!entry.ok()) return Annotate(entry.status(), path);
    for (const NpzEntry& other : entries) {
      if (other.name != entry->name) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": entry '", absl::CEscape(entry->name), "' appears twice"));
    }
    entries.push_back(*std::move(entry));
    if (static_cast<int>(entries.size()) > kMaxNpzEntries) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": more than ", kMaxNpzEntries, " arrays"));
    }
  }
  if (code != UNZ_END_OF_LIST_OF_FILE) {
    return absl::DataLossError(absl::StrCat(path, ": corrupt zip directory"));
  }
  return entries;
}

}  // namespace octet::data
