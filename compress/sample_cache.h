// Samples kept in memory up to a bound, because compression reads them many times; and their digest.
#ifndef OCTET_COMPRESS_SAMPLE_CACHE_H_
#define OCTET_COMPRESS_SAMPLE_CACHE_H_

#include <optional>
#include <string>
#include <vector>

#include "data/sample_reader.h"

namespace octet::compress {

// Reads from `source`, which outlives it; the first samples that fit `max_bytes` are kept. Thread-compatible.
class SampleCache final : public data::SampleReader {
 public:
  SampleCache(data::SampleReader& source, int64_t max_bytes);
  int64_t size() const override { return source_.size(); }
  absl::StatusOr<data::Sample> Read(int64_t i) override;

  // SHA-256 over dtype, shape and bytes of the samples `indices`, in order. Errors: the reader's.
  absl::StatusOr<std::string> Digest(const std::vector<int64_t>& indices);

 private:
  data::SampleReader& source_;
  int64_t bytes_left_;
  std::vector<std::optional<data::Sample>> kept_;
};

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_SAMPLE_CACHE_H_
