// Two observers side by side, matched by names.
#include "compress/layer_errors.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "compress/compare.h"
#include "compress/compress.h"
#include "compress/observe.h"
#include "compress/products.h"
#include "graph/constant_quantization.h"

namespace octet::compress {
namespace {

using graph::Graph;
using graph::ValueId;

constexpr size_t kBins = 64;

// What compressors call the integers that stand for value x: Octet and PyTorch x itself, ONNX Runtime the others.
constexpr const char* kSuffixes[] = {"", "_quantized", "_QuantizeLinear_Output"};

void Widen(ValueHistogram* histogram, absl::Span<const float> values) {
  for (float v : values) {
    if (!std::isfinite(v)) continue;
    histogram->low = std::min<double>(histogram->low, v);
    histogram->high = std::max<double>(histogram->high, v);
  }
}

void Count(ValueHistogram* histogram, absl::Span<const float> values) {
  if (histogram->counts.empty()) histogram->counts.resize(kBins);
  const double span = std::max(histogram->high - histogram->low, 1e-30);
  for (float v : values) {
    if (!std::isfinite(v)) continue;
    const double bin = (v - histogram->low) / span * static_cast<double>(kBins);
    ++histogram->counts[static_cast<size_t>(std::clamp(bin, 0.0, static_cast<double>(kBins - 1)))];
  }
}

// The reals of a node's constant operand 1; empty where it has none.
absl::StatusOr<std::vector<float>> WeightsOf(const Graph& graph, const graph::Node& node) {
  if (!node.has_input(1) || !graph.value(node.inputs[1]).is_constant()) return std::vector<float>();
  const graph::Value& weights = graph.value(node.inputs[1]);
  if (!weights.quant.has_value()) {
    return weights.dtype == DType::kF32 ? weights.data->ToF32() : std::vector<float>();
  }
  OCTET_ASSIGN_OR_RETURN(const Tensor reals, graph::DequantizeTensor(*weights.data, *weights.quant));
  return reals.ToF32();
}

// The computed value of a variant that stands for the reference's value of this name.
std::optional<ValueId> Find(const absl::flat_hash_map<std::string, ValueId>& names, const std::string& name) {
  std::optional<ValueId> found;
  for (const char* suffix : kSuffixes) {
    // The last one wins: what later layers read is the rounded value where both exist.
    if (const auto it = names.find(absl::StrCat(name, suffix)); it != names.end()) found = it->second;
  }
  return found;
}

// One compressed graph while it is compared.
struct Side {
  std::unique_ptr<Observer> observer;
  std::vector<int> observed_of;  // per layer: index among the observed values, or -1
  std::vector<double> signal, noise;
};

absl::StatusOr<Side> MakeSide(const Graph& reference, const std::vector<Product>& products, const Graph& variant,
                              size_t index, int threads, std::vector<LayerComparison>* layers) {
  const std::vector<int> producers = variant.Producers();
  absl::flat_hash_map<std::string, ValueId> names;
  for (size_t i = 0; i < variant.values.size(); ++i) {
    if (producers[i] >= 0) names[variant.values[i].name] = static_cast<ValueId>(i);
  }
  Side side;
  std::vector<ValueId> observed;
  for (size_t l = 0; l < products.size(); ++l) {
    side.observed_of.push_back(-1);
    const std::optional<ValueId> result = Find(names, reference.value(products[l].result).name);
    if (result.has_value() &&
        (variant.value(*result).quant.has_value() || variant.value(*result).dtype == DType::kF32)) {
      side.observed_of.back() = static_cast<int>(observed.size());
      observed.push_back(*result);
    }
    std::optional<ValueId> output = Find(names, reference.value(products[l].output).name);
    if (!output.has_value()) output = result;  // the activation function went into the range of the rounded value
    if (!output.has_value()) continue;
    const graph::Node& node = variant.nodes[static_cast<size_t>(producers[static_cast<size_t>(*output)])];
    OCTET_ASSIGN_OR_RETURN(const std::vector<float> weights, WeightsOf(variant, node));
    ValueHistogram& histogram = (*layers)[l].variants[index].weights;
    if (!weights.empty()) Count(&histogram, weights);
  }
  side.signal.resize(products.size());
  side.noise.resize(products.size());
  OCTET_ASSIGN_OR_RETURN(side.observer, Observer::Create(variant, observed, threads));
  return side;
}

// Adds the last run of both observers.
void AddRun(const Observer& reference, size_t index, Side* side, std::vector<LayerComparison>* layers) {
  for (size_t l = 0; l < layers->size(); ++l) {
    if (side->observed_of[l] < 0) continue;
    const absl::Span<const float> a = reference.observed(l);
    const absl::Span<const float> b = side->observer->observed(static_cast<size_t>(side->observed_of[l]));
    // Where data decides sizes, those of the compressed network may differ: then it is as wrong as zeros.
    const bool same = a.size() == b.size();
    for (size_t i = 0; i < a.size(); ++i) {
      const double x = a[i], d = x - (same ? b[i] : 0);
      side->signal[l] += x * x;
      side->noise[l] += d * d;
    }
    Count(&(*layers)[l].variants[index].activations, b);
  }
}

}  // namespace

absl::StatusOr<std::vector<LayerComparison>> CompareLayers(const Graph& raw_reference,
                                                           absl::Span<const Graph* const> variants,
                                                           data::SampleReader& samples,
                                                           absl::Span<const int64_t> indices, int threads,
                                                           const std::function<absl::Status()>& step) {
  OCTET_ASSIGN_OR_RETURN(const Graph reference, Prepare(raw_reference));
  const std::vector<Product> products = FindProducts(reference);
  std::vector<LayerComparison> layers;
  if (products.empty() || indices.empty()) return layers;
  std::vector<ValueId> observed;
  for (const Product& product : products) {
    LayerComparison layer;
    layer.node = product.name;
    layer.op = product.op;
    layer.weights_elements = product.weights_elements;
    OCTET_ASSIGN_OR_RETURN(const std::vector<float> weights,
                           WeightsOf(reference, ProducerOf(reference, product.output)));
    Widen(&layer.weights, weights);
    Count(&layer.weights, weights);
    layer.variants.resize(variants.size());
    for (VariantLayer& v : layer.variants) v.weights = {layer.weights.low, layer.weights.high, {}};
    layers.push_back(std::move(layer));
    observed.push_back(product.result);
  }
  OCTET_ASSIGN_OR_RETURN(const auto observer, Observer::Create(reference, observed, threads));
  std::vector<Side> sides;
  for (size_t v = 0; v < variants.size(); ++v) {
    OCTET_ASSIGN_OR_RETURN(Side side, MakeSide(reference, products, *variants[v], v, threads, &layers));
    sides.push_back(std::move(side));
  }
  // Ranges come first, so that all histograms of a layer have the same bins.
  for (int64_t i : indices) {
    OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples.Read(i));
    OCTET_RETURN_IF_ERROR(observer->Run(sample));
    for (size_t l = 0; l < layers.size(); ++l) Widen(&layers[l].activations, observer->observed(l));
  }
  for (LayerComparison& layer : layers) {
    for (VariantLayer& v : layer.variants) v.activations = {layer.activations.low, layer.activations.high, {}};
  }
  for (int64_t i : indices) {
    OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples.Read(i));
    OCTET_RETURN_IF_ERROR(observer->Run(sample));
    for (size_t l = 0; l < layers.size(); ++l) Count(&layers[l].activations, observer->observed(l));
    for (size_t v = 0; v < sides.size(); ++v) {
      OCTET_RETURN_IF_ERROR(sides[v].observer->Run(sample));
      AddRun(*observer, v, &sides[v], &layers);
    }
    if (step) OCTET_RETURN_IF_ERROR(step());
  }
  for (size_t v = 0; v < sides.size(); ++v) {
    for (size_t l = 0; l < layers.size(); ++l) {
      layers[l].variants[v].sqnr_db = sides[v].observed_of[l] < 0 ? NAN : SqnrDb(sides[v].signal[l], sides[v].noise[l]);
    }
  }
  return layers;
}

}  // namespace octet::compress
