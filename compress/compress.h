// Compression of a float graph: calibration, int8 scheme, bias correction, and the report of what it cost.
//
//   graph -> Prepare (constants and BatchNormalization folded) -> FindRegions -> ranges from calibration samples
//         -> u8 activations, s8 weights per channel, s32 bias -> compared with the float graph on held-back samples
#ifndef OCTET_COMPRESS_COMPRESS_H_
#define OCTET_COMPRESS_COMPRESS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "compress/ranges.h"
#include "compress/weights.h"
#include "data/sample_reader.h"
#include "graph/graph.h"

namespace octet::compress {

// What one progress line says: a stage and how far it is.
struct Progress {
  std::string stage;
  int64_t done = 0, total = 0;
};

struct CompressOptions {
  std::string scheme = "int8";           // the only one so far
  RangeMethod ranges = RangeMethod::kMse;
  double percentile = 0.99999;           // kPercentile: share of values kept
  WeightRange weight_range = WeightRange::kMse;
  enum class BiasCorrection : uint8_t { kOff, kOn } bias_correction = BiasCorrection::kOn;
  std::vector<std::string> keep_float;   // names of nodes that stay f32
  double held_back = 0.2;                // share of the samples that is only compared on (at least one)
  int64_t max_samples = 0;               // 0: all
  int threads = 1;
  std::function<void(const Progress&)> progress;  // may be empty
};

// One product that became int8.
struct LayerReport {
  std::string node, op;
  int64_t weights_elements = 0;
  double sqnr_db = 0;  // of its result against the float network's, everything before it quantized too
};

// How a network's output differs from the float one's over the held-back samples.
struct OutputReport {
  std::string name;
  double top1_agreement = 0;  // share of rows (last axis) with the same largest element
  double sqnr_db = 0;
  double cosine = 0;          // mean over samples
};

struct CompressReport {
  int64_t calibration_samples = 0, held_back_samples = 0;
  std::vector<LayerReport> layers;  // worst SQNR first
  std::vector<OutputReport> outputs;
  int64_t float_weights_bytes = 0, weights_bytes = 0;  // as stored: f32 against s8 + scales + s32 bias
};

struct CompressResult {
  graph::Graph graph;  // values with quant; export it with onnx/export.h
  CompressReport report;
};

// Errors: kInvalidArgument (no samples, unknown scheme, a sample of wrong shape or with NaN or Inf, named; a graph that
// is quantized already or has nothing to quantize), errors of the reader and the engine.
absl::StatusOr<CompressResult> Compress(const graph::Graph& graph, data::SampleReader& samples,
                                        const CompressOptions& options);

// Folds constants, frees a batch fixed at 1, folds BatchNormalization: the float graph that is compressed and compared.
absl::StatusOr<graph::Graph> Prepare(graph::Graph graph);

// "scheme=int8 ranges=mse weights=mse bias_correction=on samples=80": recorded in the file's metadata.
std::string RecipeString(const CompressOptions& options, int64_t calibration_samples);

// 10 log10(sum reference^2 / sum (reference - found)^2); 200 when equal.
double SqnrDb(double signal, double noise);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_COMPRESS_H_
