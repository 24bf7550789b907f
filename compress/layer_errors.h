// Layer by layer: how compressed forms of one network differ from it inside, in results and in weights.
#ifndef OCTET_COMPRESS_LAYER_ERRORS_H_
#define OCTET_COMPRESS_LAYER_ERRORS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/sample_reader.h"
#include "graph/graph.h"

namespace octet::compress {

// Counts of values in equal bins of [low, high]; values outside count in the outermost bins. Empty: not known.
struct ValueHistogram {
  double low = 0, high = 0;
  std::vector<int64_t> counts;
};

// A layer of one compressed form.
struct VariantLayer {
  double sqnr_db = 0;  // of the layer's result, everything before it compressed too; NaN where no value has its name
  ValueHistogram weights, activations;  // same bins as the reference's
};

// A product of the reference with a constant matrix, and what became of it.
struct LayerComparison {
  std::string node, op;
  int64_t weights_elements = 0;
  ValueHistogram weights, activations;  // of the reference; activations are its results behind an activation function
  std::vector<VariantLayer> variants;   // in the order of the call
};

// Runs the float graph and its variants, as files hold them, on the samples `indices`; layers are matched by the names
// of their results, which compressors keep. In execution order; empty when the reference has no float product. `step`,
// when set, is called after each sample; an error it returns ends the comparison. Memory: one sample's results of all
// graphs, and all graphs' weights. Errors: reader's and engine's.
absl::StatusOr<std::vector<LayerComparison>> CompareLayers(const graph::Graph& reference,
                                                           absl::Span<const graph::Graph* const> variants,
                                                           data::SampleReader& samples,
                                                           absl::Span<const int64_t> indices, int threads,
                                                           const std::function<absl::Status()>& step);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_LAYER_ERRORS_H_
