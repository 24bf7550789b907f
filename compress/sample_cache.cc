// A bounded cache in front of a reader.
#include "compress/sample_cache.h"

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"

namespace octet::compress {

SampleCache::SampleCache(data::SampleReader& source, int64_t max_bytes)
    : source_(source), bytes_left_(max_bytes), kept_(static_cast<size_t>(source.size())) {}

absl::StatusOr<data::Sample> SampleCache::Read(int64_t i) {
  std::optional<data::Sample>& kept = kept_[static_cast<size_t>(i)];
  if (kept.has_value()) return *kept;
  OCTET_ASSIGN_OR_RETURN(data::Sample sample, source_.Read(i));
  int64_t bytes = 0;
  for (const Tensor& t : sample.inputs) bytes += t.size_bytes();
  if (bytes <= bytes_left_) {
    bytes_left_ -= bytes;
    kept = sample;
  }
  return sample;
}

absl::StatusOr<std::string> SampleCache::Digest(const std::vector<int64_t>& indices) {
  std::string digests;
  for (int64_t i : indices) {
    OCTET_ASSIGN_OR_RETURN(const data::Sample sample, Read(i));
    for (const Tensor& t : sample.inputs) {
      absl::StrAppend(&digests, NameOf(t.dtype()), ShapeString(t.shape()),
                      Sha256Hex({t.data(), static_cast<size_t>(t.size_bytes())}));
    }
  }
  return Sha256Hex({reinterpret_cast<const std::byte*>(digests.data()), digests.size()});
}

}  // namespace octet::compress
