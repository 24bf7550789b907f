// Rows of a layer's inputs in a changed graph, each with what the reference graph's layer gives there: what fits that
// cannot live on second moments (compress/local_reparameterization.h) descend on.
#ifndef OCTET_COMPRESS_COLLECT_ROWS_H_
#define OCTET_COMPRESS_COLLECT_ROWS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "compress/collect_moments.h"
#include "compress/weight_matrix.h"
#include "data/sample_reader.h"
#include "graph/graph.h"

namespace octet::compress {

// With x the inputs of an output position in the reference, x' those in the changed graph, W and b the reference's weights:
struct LayerRows {
  int64_t count = 0;       // output positions
  int64_t held_aside = 0;  // the last so many, of samples of their own: to judge a fit by
  int64_t columns = 0, conv_groups = 1, outputs = 0;
  std::vector<std::vector<float>> src;  // x', per conv group [count, columns]; columns as in compress/weight_matrix.h
  std::vector<float> target;            // W x + b, [count, outputs]: in front of an activation

  // Row i of conv group g.
  const float* Src(int64_t g, int64_t i) const { return src[static_cast<size_t>(g)].data() + i * columns; }
  float Target(int64_t i, int64_t output) const { return target[static_cast<size_t>(i * outputs + output)]; }
};

struct RowOptions {
  int64_t max_rows = 16384;
  int64_t max_bytes = int64_t{128} << 20;  // of src and target: fewer rows where columns are many
  double held_aside = 0.25;                // share of the samples
  int threads = 1;
};

// The same number of positions of every sample, at pseudo-random places (the same in every run); with more samples than
// rows, evenly spaced samples. `weights` and `bias` are those of the reference's product.
// Errors: kInvalidArgument (fewer than 2 samples, weights of another shape, inputs that are not finite, named), those of
// reader and engine.
absl::StatusOr<LayerRows> CollectRows(const graph::Graph& reference, const graph::Graph& changed, const ProductPair& product,
                                      const WeightMatrix& weights, absl::Span<const float> bias, data::SampleReader& samples,
                                      const std::vector<int64_t>& indices, const RowOptions& options);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_COLLECT_ROWS_H_
