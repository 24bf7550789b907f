// Samples from a folder: one image or one .npy file each.
#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"
#include "data/image.h"
#include "data/readers.h"

namespace octet::data {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxFiles = 10'000'000;

enum class Kind : uint8_t { kOther, kImage, kNpy };

Kind KindOf(const fs::path& path) {
  const std::string extension = absl::AsciiStrToLower(path.extension().string());
  if (extension == ".jpg" || extension == ".jpeg" || extension == ".png") return Kind::kImage;
  return extension == ".npy" ? Kind::kNpy : Kind::kOther;
}

class FileListReader final : public SampleReader {
 public:
  FileListReader(std::vector<std::string> paths, Kind kind, const ImageOptions& options)
      : paths_(std::move(paths)), kind_(kind), options_(options) {}

  int64_t size() const override { return static_cast<int64_t>(paths_.size()); }

  absl::StatusOr<Sample> Read(int64_t i) override {
    if (i < 0 || i >= size()) {
      return absl::InvalidArgumentError(absl::StrCat("sample ", i, " of ", size()));
    }
    const std::string& path = paths_[static_cast<size_t>(i)];
    OCTET_ASSIGN_OR_RETURN(Tensor tensor,
                           kind_ == Kind::kImage ? ReadImage(path) : ReadArray(path));
    return Sample{path, {std::move(tensor)}};
  }

 private:
  absl::StatusOr<Tensor> ReadImage(const std::string& path) const {
    OCTET_ASSIGN_OR_RETURN(const auto bytes, ReadFile(path, kMaxSampleBytes));
    auto image = DecodeImage({bytes->data(), static_cast<size_t>(bytes->size_bytes())});
    if (!image.ok()) return Annotate(image.status(), path);
    auto tensor = ImageToTensor(*std::move(image), options_);
    return tensor.ok() ? std::move(tensor) : Annotate(tensor.status(), path);
  }

  static absl::StatusOr<Tensor> ReadArray(const std::string& path) {
    OCTET_ASSIGN_OR_RETURN(Tensor tensor, ReadNpy(path));
    if (tensor.num_elements() == 0) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": an empty array"));
    }
    return AsModelInput(std::move(tensor));
  }

  const std::vector<std::string> paths_;
  const Kind kind_;
  const ImageOptions options_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SampleReader>> OpenFolder(const std::string& path,
                                                         const ImageOptions& options) {
  std::vector<std::string> paths;
  Kind kind = Kind::kOther;
  std::error_code error;
  fs::recursive_directory_iterator it(path, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    const Kind found = KindOf(it->path());
    std::error_code ignored;  // a dangling link is no sample
    if (found == Kind::kOther || !it->is_regular_file(ignored)) continue;
    if (kind != Kind::kOther && found != kind) {
      return absl::InvalidArgumentError(absl::StrCat(path, " mixes images and .npy files (",
                                                     paths[0], ", ", it->path().string(), ")"));
    }
    kind = found;
    paths.push_back(it->path().string());
    if (paths.size() > kMaxFiles) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " holds more than ", kMaxFiles, " files"));
    }
  }
  if (error) {
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot list ", path));
  }
  if (paths.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": no samples (.jpg, .jpeg, .png or .npy files)"));
  }
  std::sort(paths.begin(), paths.end());
  return std::make_unique<FileListReader>(std::move(paths), kind, options);
}

std::unique_ptr<SampleReader> OpenImageFile(const std::string& path, const ImageOptions& options) {
  return std::make_unique<FileListReader>(std::vector<std::string>{path}, Kind::kImage, options);
}

}  // namespace octet::data
