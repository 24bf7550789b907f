// Compression from file to file: what `octet compress` and the demo share.
#ifndef OCTET_CLI_COMPRESS_FILE_H_
#define OCTET_CLI_COMPRESS_FILE_H_

#include <string>

#include "absl/status/statusor.h"
#include "compress/compress.h"
#include "data/sample_reader.h"

namespace octet::cli {

struct CompressedFile {
  compress::CompressReport report;
  int64_t float_bytes = 0, bytes = 0;  // of the files
};

// Imports `model`, compresses it with samples of `calibration` and writes `out` atomically, with metadata that ties it
// to its source: ai.octet.format, ai.octet.recipe, ai.octet.source_sha256, ai.octet.variant and the measured agreement.
absl::StatusOr<CompressedFile> CompressFile(const std::string& model, const std::string& calibration,
                                            const data::ImageOptions& image, const std::string& out,
                                            const compress::CompressOptions& options);

}  // namespace octet::cli

#endif  // OCTET_CLI_COMPRESS_FILE_H_
