// One layer at a time.
#include "compress/layer_fit.h"

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "compress/bias.h"
#include "compress/gram_error.h"

namespace octet::compress {
namespace {

using graph::Graph;
using graph::ValueId;

constexpr double kDamping = 0.01;  // of the corrected target, as of rounding

}  // namespace

MomentOptions MomentOptionsOf(const Recipe& recipe, const CompressOptions& options) {
  MomentOptions out;
  out.threads = options.threads;
  if (recipe.calibration().positions() > 0) out.max_positions_per_sample = recipe.calibration().positions();
  out.progress = options.progress;
  return out;
}

Graph Truncate(Graph graph, const std::vector<ValueId>& ids) {
  graph.outputs = ids;
  graph.RemoveDead();
  graph.outputs.clear();
  return graph;
}

absl::Status CompressLayer(const Graph& reference, const Product& product, const LayerScheme& scheme,
                           data::SampleReader& samples, const std::vector<int64_t>& indices,
                           const MomentOptions& options, uint64_t seed, Graph* working) {
  const graph::Node& node = reference.nodes[static_cast<size_t>(product.node)];
  const WeightMatrix own = MatrixOf(reference, node);
  ProductInputs inputs;
  inputs.seed = seed;
  inputs.threads = options.threads;
  PairedMoments paired;
  const Graph before = Truncate(reference, {product.output}), after = Truncate(*working, {product.output});
  OCTET_RETURN_IF_ERROR(CollectPairedMoments(
      before, after, {{ProducerIndex(before, product.output), ProducerIndex(after, product.output)}}, samples, indices, options,
      [&](size_t, PairedMoments m) {
        paired = std::move(m);
        return absl::OkStatus();
      }));
  inputs.moments = &paired.changed;
  // Without a Gram matrix there is nothing to correct with.
  WeightMatrix target = own;
  if (!paired.cross.empty()) {
    OCTET_ASSIGN_OR_RETURN(target, CorrectedTarget(own, paired, kDamping));
    inputs.target = &target;
  }
  OCTET_ASSIGN_OR_RETURN(const QuantizedMatrix weights, QuantizeWeights(*working, product, scheme, inputs));
  // The mean of the float result: W E[x] - W' E[x'].
  std::vector<float> bias = BiasOf(reference, node, product.rows);
  const std::vector<float> shift = MeanShift(own, weights, paired.changed.mean);
  const int64_t columns = own.columns(), rows_in_group = std::max<int64_t>(own.rows / own.conv_groups, 1);
  for (int64_t r = 0; r < own.rows; ++r) {
    double moved = shift[static_cast<size_t>(r)];
    for (int64_t c = 0; c < columns; ++c) {
      const auto at = static_cast<size_t>(r / rows_in_group * columns + c);
      moved += own.values[static_cast<size_t>(r * columns + c)] * (paired.reference_mean[at] - paired.changed.mean[at]);
    }
    bias[static_cast<size_t>(r)] += static_cast<float>(moved);
  }
  ReplaceWeights(product, weights, bias, working);
  return absl::OkStatus();
}

}  // namespace octet::compress
