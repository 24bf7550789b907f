// Upper bounds from file sizes, against the limit.
#include "server/memory_admission.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet::server {

namespace fs = std::filesystem;

int64_t LoadPeakBytes(const std::string& path) {
  std::error_code ec;
  const uintmax_t own = fs::file_size(path, ec);
  if (ec) return 0;
  auto bytes = static_cast<int64_t>(own);
  for (const auto& item : fs::directory_iterator(fs::path(path).parent_path(), ec)) {
    // Which of them this file names is only known when it is read; other variants are no external data.
    if (item.path().extension() == ".onnx" || !item.is_regular_file(ec)) continue;
    if (const uintmax_t size = item.file_size(ec); !ec) bytes += static_cast<int64_t>(size);
  }
  return 2 * bytes;
}

int64_t LoadHeadroomBytes(int64_t limit_bytes) { return limit_bytes / 16; }

absl::Status AdmitLoad(const std::string& path, int64_t peak, int64_t resident, int64_t limit) {
  if (limit <= 0) return absl::OkStatus();
  const int64_t headroom = LoadHeadroomBytes(limit);
  if (resident + peak + headroom <= limit) return absl::OkStatus();
  return WithReason(
      absl::ResourceExhaustedError(absl::StrCat(
          path, " takes up to ", peak, " bytes to load; the process holds ", resident, " and keeps ", headroom,
          " free, the limit is ", limit, ": raise the memory limit, serve fewer models or a smaller variant")),
      "memory_limit");
}

}  // namespace octet::server
