// Schemes chosen by measurement: every layer's candidates are measured (noise at the output, bytes, seconds in this
// engine), an allocation is found for the target, verified on held-back samples, and repaired while it misses.
#ifndef OCTET_COMPRESS_SEARCH_H_
#define OCTET_COMPRESS_SEARCH_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "compress/compress.h"
#include "proto/compression_recipe.pb.h"

namespace octet::compress {

using compression::v1::Measurements;

// What the result must keep; unlimited where not given.
struct Target {
  double max_bytes = std::numeric_limits<double>::infinity();    // of the file
  double max_drop = std::numeric_limits<double>::infinity();     // points of top-1 agreement lost, of 100
  double max_seconds = std::numeric_limits<double>::infinity();  // of one run at batch 1
  double min_sqnr_db = -std::numeric_limits<double>::infinity(); // of output 0
};

// "bytes<=2MB", "drop<=0.5", "latency<=3ms", "sqnr>=25", joined by commas. Units: B KB MB GB (powers of 1000), us ms s.
// Errors: kInvalidArgument naming the term.
absl::StatusOr<Target> ParseTarget(absl::string_view text);

// A whole network that was compressed and measured.
struct Trial {
  std::string label;   // "int8", "mix 3"
  double bytes = 0, seconds = 0;
  double drop = 0;     // points of top-1 agreement; NaN without classes
  double sqnr_db = 0;  // of output 0
  bool meets = false;  // the target
};

// Why a layer has the scheme it has.
struct LayerChoice {
  std::string node, scheme, reason;
};

struct SearchOptions {
  Target target;
  std::vector<std::string> candidates = {"int8", "int4", "ternary"};  // beside f32; schemes of compress/recipe.h
  absl::Duration time_limit = absl::InfiniteDuration();  // measuring and trying stop then; what is begun is finished
  int64_t noise_samples = 8;  // held-back samples on which single layers are measured
  // Bytes of the file that a result becomes, and of the float file; without: of the graph's constants.
  std::function<absl::StatusOr<int64_t>(const CompressResult&)> file_bytes;
  int64_t float_bytes = 0;
  // Called with each result that is better than those before: write it, and nothing is lost. May be empty.
  std::function<absl::Status(const CompressResult&, const Trial&)> keep;
  // Called with all measurements after each layer: write them, and the search can be resumed. May be empty.
  std::function<absl::Status(const Measurements&)> save;
};

struct SearchResult {
  CompressResult best;  // meets the target, or misses it least
  Trial trial;          // of best
  std::vector<Trial> trials;
  std::vector<LayerChoice> layers;
  double float_seconds = 0, float_bytes = 0;
};

// `measured`: of an earlier search, or empty. Without any limit in the target: the fastest network whose top-1 agreement
// drops by at most 0.5 points, or whose SQNR is at least 30 dB where there are no classes.
// When the work is stopped (CompressOptions::stop) after a first result, that result is returned.
// Errors: those of Compressor; kInvalidArgument for unknown candidates.
absl::StatusOr<SearchResult> Search(const graph::Graph& graph, data::SampleReader& samples, const Recipe& base,
                                    const CompressOptions& compress, const SearchOptions& options,
                                    Measurements measured);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_SEARCH_H_
