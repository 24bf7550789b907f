// Compression from file to file: what `octet compress` and the demo share.
#ifndef OCTET_CLI_COMPRESS_FILE_H_
#define OCTET_CLI_COMPRESS_FILE_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "compress/compress.h"
#include "compress/search.h"
#include "data/sample_reader.h"

namespace octet::cli {

struct CompressJob {
  std::string model, calibration, out;  // paths; out is written atomically; without calibration: data-free
  data::ImageOptions image;
  compress::DataFreeOptions data_free;
  compress::Recipe recipe;
  // Set: schemes are searched for a target, `recipe` says the rest; its file_bytes, keep and save are filled in.
  std::optional<compress::SearchOptions> search;
};

struct CompressedFile {
  compress::CompressReport report;
  compress::Recipe recipe;             // as applied
  int64_t float_bytes = 0, bytes = 0;  // of the files
  std::optional<compress::SearchResult> search;  // without the graph of its best result
};

// Imports the model, compresses it and writes the result with metadata that ties it to its source: ai.octet.format,
// ai.octet.recipe, ai.octet.source_sha256, ai.octet.variant and the measured agreement. A search writes each better
// result as soon as there is one, and its measurements to `out`.measured, from which it goes on when it is run again;
// they are removed when it ends.
absl::StatusOr<CompressedFile> CompressFile(const CompressJob& job, const compress::CompressOptions& options);

}  // namespace octet::cli

#endif  // OCTET_CLI_COMPRESS_FILE_H_
