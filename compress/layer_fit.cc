// One layer at a time.
#include "compress/layer_fit.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "compress/bias.h"
#include "compress/gram_error.h"
#include "graph/draws.h"

namespace octet::compress {
namespace {

using graph::Graph;
using graph::ValueId;

constexpr double kTargetDamping = 0.01;  // where the scheme says nothing; as of rounding

std::string NoteOf(const Product& product, const LayerScheme& scheme, const LocalFitReport& report) {
  return absl::StrFormat("%s: local reparameterisation moved %d of %d channels; error behind the activation, on rows held "
                         "aside, of the mean of %g samples %.3f -> %.3f %%, of the most probable codes %.3f -> %.3f %%",
                         product.name, report.improved, report.channels, scheme.distribution().samples(),
                         100 * report.samples_before, 100 * report.samples_after, 100 * report.mode_before,
                         100 * report.mode_after);
}

LocalFitOptions LocalOptionsOf(const LayerScheme& scheme, int threads) {
  const LayerScheme::Distribution::Local& local = scheme.distribution().local();
  LocalFitOptions options;
  options.samples = scheme.distribution().samples();
  if (local.steps() > 0) options.steps = local.steps();
  if (local.learning_rate() > 0) options.learning_rate = local.learning_rate();
  options.entropy = local.entropy();
  options.threads = threads;
  return options;
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
                           const MomentOptions& options, uint64_t seed, Graph* working, std::string* note) {
  const graph::Node& node = reference.nodes[static_cast<size_t>(product.node)];
  const WeightMatrix own = MatrixOf(reference, node);
  ProductInputs inputs;
  inputs.seed = seed;
  inputs.threads = options.threads;
  PairedMoments paired;
  const Graph before = Truncate(reference, {product.output}), after = Truncate(*working, {product.output});
  const ProductPair pair = {ProducerIndex(before, product.output), ProducerIndex(after, product.output)};
  OCTET_RETURN_IF_ERROR(
      CollectPairedMoments(before, after, {pair}, samples, indices, options, [&](size_t, PairedMoments m) {
        paired = std::move(m);
        return absl::OkStatus();
      }));
  inputs.moments = &paired.changed;
  // Without a Gram matrix there is nothing to correct with.
  WeightMatrix target = own;
  if (!paired.cross.empty()) {
    // The bias below is right on average; learned rounding counts on it, and so may its target.
    const Means means = scheme.rounding() == LayerScheme::LEARNED ? Means::kCentred : Means::kPlain;
    const double damping = scheme.target_damping() > 0 ? scheme.target_damping() : kTargetDamping;
    OCTET_ASSIGN_OR_RETURN(target, CorrectedTarget(own, paired, damping, means));
    inputs.target = &target;
  }
  OCTET_ASSIGN_OR_RETURN(QuantizedMatrix weights, QuantizeWeights(*working, product, scheme, inputs));
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
  if (scheme.distribution().has_local()) {
    const std::vector<float> own_bias = BiasOf(reference, node, product.rows);
    RowOptions rows;
    rows.threads = options.threads;
    if (const int most = scheme.distribution().local().rows(); most > 0) rows.max_rows = most;
    OCTET_ASSIGN_OR_RETURN(const LayerRows collected, CollectRows(before, after, pair, own, own_bias, samples, indices, rows));
    LocalFitOptions fit = LocalOptionsOf(scheme, options.threads);
    fit.seed = seed;
    fit.stream = graph::StreamOf(node.name);
    OCTET_ASSIGN_OR_RETURN(const LocalFitReport report,
                           FitLocally(collected, ClampBehind(reference, product), target, fit, &weights, &bias));
    *note = NoteOf(product, scheme, report);
  }
  ReplaceWeights(product, weights, bias, working);
  return absl::OkStatus();
}

Clamp ClampBehind(const Graph& graph, const Product& product) {
  Clamp clamp;
  if (product.result == product.output) return clamp;
  const graph::Node& next = ProducerOf(graph, product.result);
  if (next.op == "Relu") clamp.low = 0;
  if (next.op != "Clip") return clamp;
  double* bounds[] = {&clamp.low, &clamp.high};
  for (size_t i = 0; i < 2; ++i) {
    if (!next.has_input(i + 1)) continue;
    const Tensor* bound = graph.ConstantInput(next, i + 1);
    if (bound == nullptr || bound->num_elements() != 1) return {};
    *bounds[i] = bound->ToF32()[0];
  }
  return clamp;
}

}  // namespace octet::compress
