// One layer at a time.
#include "compress/layer_fit.h"

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "compress/gram_error.h"

namespace octet::compress {
namespace {

using graph::Graph;
using graph::ValueId;

int IndexOf(const Graph& g, ValueId output) {
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    const auto& outputs = g.nodes[i].outputs;
    if (std::find(outputs.begin(), outputs.end(), output) != outputs.end()) return static_cast<int>(i);
  }
  return -1;
}

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
  ProductInputs inputs;
  inputs.seed = seed;
  inputs.threads = options.threads;
  Moments moments;
  if (NeedsMoments(scheme)) {
    const Graph before = Truncate(*working, {product.output});
    OCTET_RETURN_IF_ERROR(CollectMoments(before, {IndexOf(before, product.output)}, samples, indices, options,
                                         [&](size_t, Moments m) {
                                           moments = std::move(m);
                                           return absl::OkStatus();
                                         }));
    inputs.moments = &moments;
  }
  OCTET_ASSIGN_OR_RETURN(const QuantizedMatrix weights, QuantizeWeights(*working, product, scheme, inputs));
  std::vector<float> bias = BiasOf(reference, node, product.rows);
  if (inputs.moments != nullptr) {
    const std::vector<float> shift = BiasShift(MatrixOf(reference, node), weights, moments);
    for (size_t i = 0; i < bias.size(); ++i) bias[i] += shift[i];
  }
  ReplaceWeights(product, weights, bias, working);
  return absl::OkStatus();
}

}  // namespace octet::compress
