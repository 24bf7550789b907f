// Fits, rounds and replaces the weights of one product.
#include "compress/quantize_product.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "compress/bias.h"
#include "compress/distribution.h"
#include "compress/error_feedback.h"
#include "compress/fit_grid.h"
#include "compress/gram_error.h"
#include "compress/learned_rounding.h"
#include "compress/refit_scales.h"
#include "compress/stochastic_rounding.h"
#include "graph/draws.h"

namespace octet::compress {
namespace {

using graph::Graph;
using graph::Node;
using graph::ValueId;

ScaleMethod MethodOf(const LayerScheme& s) {
  switch (s.scale()) {
    case LayerScheme::MAXIMUM:
      return ScaleMethod::kMaximum;
    case LayerScheme::KQUANT:
      return ScaleMethod::kKQuant;
    case LayerScheme::HQQ:
      return ScaleMethod::kHqq;
    default:
      return ScaleMethod::kMse;
  }
}

// A matrix product whose source stays f32 runs in 8 bits row by row only with blocked scales: one block is a channel.
Granularity GranularityOf(const LayerScheme& s, const WeightMatrix& w, const Node& node) {
  using Kind = Granularity::Kind;
  if (s.group() < 0) return {Kind::kTensor, 0};
  if (s.group() > 0) return {Kind::kGroup, s.group()};
  const bool rows = s.activations() == LayerScheme::DYNAMIC && node.op != "Conv" && w.inputs % 8 == 0;
  return rows ? Granularity{Kind::kGroup, w.inputs} : Granularity{Kind::kChannel, 0};
}

bool IsIntegerSource(const Graph& g, const Node& node) { return g.value(node.inputs[0]).quant.has_value(); }

// ONNX Runtime, and the engine, fuse a bias of s32 whose scale is the product's; only scales per channel or tensor have one.
bool TakesIntegerBias(const Graph& g, const Node& node, const QuantizedMatrix& m) {
  return IsIntegerSource(g, node) && m.grid.kind == GridKind::kInteger && m.grid.bits > 4 &&
         m.granularity.kind != Granularity::Kind::kGroup &&
         (node.op != "MatMul" || g.value(node.inputs[0]).shape->size() == 2);
}

void SetBias(const Product& product, const std::vector<float>& bias, bool integer, const std::vector<float>& scale,
             Graph* g) {
  Node& node = ProducerOf(*g, product.output);
  const bool zeros = std::all_of(bias.begin(), bias.end(), [](float b) { return b == 0; });
  node.attributes.erase("beta");
  if (zeros && !integer) {
    if (node.inputs.size() > 2) node.inputs.resize(2);
    return;
  }
  const std::string stem = absl::StrCat(g->value(product.output).name, "_bias");
  const int64_t n = static_cast<int64_t>(bias.size());
  ValueId id;
  if (integer) {
    const float src_scale = g->value(node.inputs[0]).quant->scale[0];
    std::vector<float> bias_scale = scale;
    for (float& s : bias_scale) s *= src_scale;
    id = g->AddConstant(g->UniqueName(stem + "_s32"),
                        Tensor::FromValues<int32_t>(DType::kS32, {n}, QuantizeBias(bias, src_scale, scale)));
    const int axis = bias_scale.size() == 1 ? -1 : 0;
    g->value(id).quant = QuantParams{std::move(bias_scale), {}, axis, 0};
  } else {
    id = g->AddConstant(g->UniqueName(stem), Tensor::FromF32({n}, bias));
  }
  node.inputs.resize(3, graph::kNoValue);
  node.inputs[2] = id;
  // ONNX's MatMul has no bias; of matrices a Gemm says the same with one (of higher ranks: SplitMatMulBias).
  if (node.op == "MatMul" && g->value(node.inputs[0]).shape->size() == 2) node.op = "Gemm";
}

// Codes, then scales and codes in turn, by what the bias leaves of an error.
absl::Status Learn(const WeightMatrix& weights, const ProductInputs& inputs, const FitOptions& fitted, QuantizedMatrix* m) {
  const Moments moments = inputs.bias == ProductInputs::Bias::kCorrected ? Centred(*inputs.moments) : *inputs.moments;
  ErrorFeedbackOptions feedback;
  feedback.threads = inputs.threads;
  feedback.order = ErrorFeedbackOptions::Order::kActivation;
  OCTET_RETURN_IF_ERROR(RoundWithErrorFeedback(weights, moments, feedback, m));
  LearnedRoundingOptions learned;
  learned.threads = inputs.threads;
  OCTET_RETURN_IF_ERROR(RoundLearned(weights, moments, learned, m));
  RefitScalesOptions refit;
  refit.form = fitted.form;
  refit.minimum_scale = fitted.minimum_scale;
  refit.threads = inputs.threads;
  return RefitScales(weights, moments, refit, m);
}

}  // namespace

absl::StatusOr<QuantizedMatrix> QuantizeWeights(const Graph& graph, const Product& product, const LayerScheme& scheme,
                                                const ProductInputs& inputs) {
  const Node& node = ProducerOf(graph, product.output);
  const WeightMatrix own = MatrixOf(graph, node);
  const WeightMatrix& weights = inputs.target != nullptr ? *inputs.target : own;
  OCTET_ASSIGN_OR_RETURN(const Grid grid, MakeGrid(scheme.grid()));
  FitOptions options;
  options.method = MethodOf(scheme);
  options.form = scheme.multiples() ? ScaleForm::kMultiples : ScaleForm::kF32;
  options.seed = inputs.seed;
  std::vector<float> importance, minimum;
  if (scheme.weighted() && inputs.moments != nullptr) {
    importance = Importance(*inputs.moments);
    options.importance = importance;
  }
  const Granularity granularity = GranularityOf(scheme, weights, node);
  if (granularity.kind != Granularity::Kind::kGroup && IsIntegerSource(graph, node)) {
    minimum = MinimumScaleForBias(BiasOf(graph, node, weights.rows), graph.value(node.inputs[0]).quant->scale[0]);
    options.minimum_scale = minimum;
  }
  const auto named = [&](const absl::Status& status) { return Annotate(status, product.name); };
  absl::StatusOr<QuantizedMatrix> m = FitGrid(weights, grid, granularity, options);
  if (!m.ok()) return named(m.status());
  absl::Status rounded;
  switch (scheme.rounding()) {
    case LayerScheme::ERROR_FEEDBACK:
    case LayerScheme::ERROR_FEEDBACK_ORDERED: {
      ErrorFeedbackOptions feedback;
      feedback.threads = inputs.threads;
      feedback.order = scheme.rounding() == LayerScheme::ERROR_FEEDBACK ? ErrorFeedbackOptions::Order::kNatural
                                                                        : ErrorFeedbackOptions::Order::kActivation;
      rounded = RoundWithErrorFeedback(weights, *inputs.moments, feedback, &*m);
      break;
    }
    case LayerScheme::LEARNED: {
      rounded = Learn(weights, inputs, options, &*m);
      break;
    }
    case LayerScheme::STOCHASTIC: {
      StochasticRoundingOptions stochastic;
      stochastic.seed = inputs.seed;
      stochastic.stream = graph::StreamOf(node.name);
      stochastic.draws = std::max(scheme.draws(), 1);
      rounded = RoundStochastically(weights, inputs.moments, stochastic, &*m);
      break;
    }
    default:
      break;
  }
  if (rounded.ok() && scheme.has_distribution()) {
    DistributionOptions distribution;
    distribution.samples = scheme.distribution().samples();
    if (scheme.distribution().bits() != 0) distribution.bits = scheme.distribution().bits();
    distribution.threads = inputs.threads;
    rounded = FitDistribution(weights, *inputs.moments, distribution, &*m);
  }
  if (!rounded.ok()) return named(rounded);
  return m;
}

std::vector<float> BiasOf(const Graph& graph, const Node& node, int64_t rows) {
  std::vector<float> bias(static_cast<size_t>(rows), 0.0f);
  if (!node.has_input(2)) return bias;
  const graph::Value& value = graph.value(node.inputs[2]);
  const std::vector<float> stored = value.data->ToF32();
  for (size_t i = 0; i < bias.size(); ++i) {
    const float scale = value.quant.has_value() ? value.quant->scale[value.quant->per_tensor() ? 0 : i] : 1.0f;
    bias[i] = stored[i] * scale * (node.op == "Gemm" ? node.GetFloat("beta", 1.0f) : 1.0f);
  }
  return bias;
}

void ReplaceWeights(const Product& product, const QuantizedMatrix& weights, const std::vector<float>& bias,
                    Graph* graph) {
  Node& node = ProducerOf(*graph, product.output);
  graph::Value value = ValueOf(weights, *graph, node);
  value.name = graph->UniqueName(absl::StrCat(graph->value(node.inputs[1]).name, "_", weights.grid.name));
  const bool integer = TakesIntegerBias(*graph, node, weights);
  const ValueId id = graph->AddValue(std::move(value));
  ProducerOf(*graph, product.output).inputs[1] = id;
  SetBias(product, bias, integer, weights.scale, graph);
}

void ReplaceBias(const Product& product, const std::vector<float>& bias, Graph* graph) {
  const Node& node = ProducerOf(*graph, product.output);
  const bool integer = node.has_input(2) && graph->value(node.inputs[2]).quant.has_value();
  SetBias(product, bias, integer, integer ? graph->value(node.inputs[1]).quant->scale : std::vector<float>(), graph);
}

}  // namespace octet::compress
