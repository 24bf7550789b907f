// The static int8 scheme on a graph.
#include "compress/quantize_graph.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet::compress {
namespace {

using graph::Graph;
using graph::Node;
using graph::ValueId;

class Quantizer {
 public:
  Quantizer(const Graph& graph, const Regions& regions,
            const absl::flat_hash_map<ValueId, ValueStatistics>& statistics, const CompressOptions& options)
      : g_(graph), regions_(regions), statistics_(statistics), options_(options) {}

  absl::StatusOr<Graph> Run() {
    OCTET_RETURN_IF_ERROR(ChooseActivations());
    for (const QuantizedProduct& p : regions_.products) {
      OCTET_RETURN_IF_ERROR(QuantizeProduct(p));
    }
    FinishNodes();
    g_.RemoveDead();
    OCTET_RETURN_IF_ERROR(g_.Validate());
    return std::move(g_);
  }

 private:
  ValueId Root(ValueId id) const {
    while (regions_.same_as[static_cast<size_t>(id)] != graph::kNoValue) {
      id = regions_.same_as[static_cast<size_t>(id)];
    }
    return id;
  }

  absl::Status ChooseActivations() {
    for (ValueId id : regions_.values) {
      const ValueId root = Root(id);
      const auto it = statistics_.find(root);
      if (it == statistics_.end() || it->second.histogram.count() == 0) {
        return absl::InternalError(absl::StrCat("no statistics of '", g_.value(root).name, "'"));
      }
      if (!params_.contains(root)) {
        const Range range = ChooseRange(it->second.histogram, options_.ranges, options_.percentile);
        params_[root] = regions_.symmetric[static_cast<size_t>(root)] ? S8Params(range) : U8Params(range);
      }
      graph::Value& v = g_.value(id);
      v.quant = params_[root];
      v.dtype = regions_.symmetric[static_cast<size_t>(root)] ? DType::kS8 : DType::kU8;
    }
    return absl::OkStatus();
  }

  // The weights operand seen as [outer, channels, inner].
  struct Extents {
    int64_t outer = 1, channels = 1, inner = 1;
  };
  static Extents ExtentsOf(const Tensor& weights, int axis) {
    Extents e;
    for (size_t i = 0; i < weights.shape().size(); ++i) {
      const int64_t d = weights.shape()[i];
      if (static_cast<int>(i) < axis) e.outer *= d;
      if (static_cast<int>(i) == axis) e.channels = d;
      if (static_cast<int>(i) > axis) e.inner *= d;
    }
    return e;
  }

  absl::Status QuantizeProduct(const QuantizedProduct& p) {
    Node& node = g_.nodes[static_cast<size_t>(p.node)];
    const Tensor weights = *g_.value(node.inputs[1]).data;
    const std::vector<float> real = weights.ToF32();
    const Extents e = ExtentsOf(weights, p.weights_axis);
    const float src_scale = g_.value(p.src).quant->scale[0];
    std::vector<float> bias(static_cast<size_t>(e.channels), 0.0f);
    if (node.has_input(2)) bias = g_.value(node.inputs[2]).data->ToF32();
    if (node.op == "Gemm") {
      for (float& b : bias) b *= node.GetFloat("beta", 1.0f);
      node.attributes.erase("beta");
    }
    // ONNX's MatMul has no bias; of matrices a Gemm says the same with one, of higher ranks an Add follows, in reals.
    const bool real_bias = node.op == "MatMul" && g_.value(p.src).shape->size() != 2;
    const QuantizedWeights q =
        QuantizeWeights(real, e.outer, e.channels, e.inner, options_.weight_range,
                        real_bias ? std::vector<float>() : MinimumScaleForBias(bias, src_scale));
    if (options_.bias_correction == CompressOptions::BiasCorrection::kOn) CorrectBias(p, node, real, q, e, &bias);

    const std::string stem = g_.value(node.inputs[1]).name;
    const ValueId w = g_.AddConstant(g_.UniqueName(stem + "_s8"),
                                     Tensor::FromValues<int8_t>(DType::kS8, weights.shape(), q.values));
    g_.value(w).quant = QuantParams{q.scale, {}, p.weights_axis, 0};
    if (real_bias) {
      node.inputs[1] = w;
      if (std::all_of(bias.begin(), bias.end(), [](float b) { return b == 0; })) {
        node.inputs.resize(2);
        return absl::OkStatus();
      }
      node.inputs.resize(3, graph::kNoValue);
      node.inputs[2] = g_.AddConstant(g_.UniqueName(stem + "_bias"), Tensor::FromF32({e.channels}, bias));
      return absl::OkStatus();
    }
    std::vector<float> bias_scale = q.scale;
    for (float& s : bias_scale) s *= src_scale;
    const ValueId b = g_.AddConstant(
        g_.UniqueName(stem + "_bias_s32"),
        Tensor::FromValues<int32_t>(DType::kS32, {e.channels}, QuantizeBias(bias, src_scale, q.scale)));
    g_.value(b).quant = QuantParams{std::move(bias_scale), {}, 0, 0};
    node.inputs.resize(3, graph::kNoValue);
    node.inputs[1] = w;
    node.inputs[2] = b;
    if (node.op == "MatMul") node.op = "Gemm";
    return absl::OkStatus();
  }

  void CorrectBias(const QuantizedProduct& p, const Node& node, const std::vector<float>& real,
                   const QuantizedWeights& q, const Extents& e, std::vector<float>* bias) const {
    const auto it = statistics_.find(p.src);
    if (it == statistics_.end()) return;
    const std::vector<double> means = it->second.ChannelMeans();
    if (means.empty()) return;
    // Position of a weight -> its input channel: Conv [O, C/g, k..], Gemm [N, K] or [K, N].
    const int64_t groups = node.GetInt("group", 1);
    const bool conv = node.op == "Conv";
    const int64_t taps = conv ? Taps(*g_.value(node.inputs[1]).data) : 1;
    const int64_t in_group = conv ? e.inner / taps : 0;
    for (int64_t o = 0; o < e.outer; ++o) {
      for (int64_t c = 0; c < e.channels; ++c) {
        double shift = 0;
        for (int64_t i = 0; i < e.inner; ++i) {
          const auto index = static_cast<size_t>((o * e.channels + c) * e.inner + i);
          const int64_t channel = !conv                  ? (p.weights_axis == 0 ? i : o)
                                  : (c / (e.channels / groups)) * in_group + i / taps;
          if (static_cast<size_t>(channel) >= means.size()) return;
          const double rounded = static_cast<double>(q.values[index]) * q.scale[static_cast<size_t>(c)];
          shift += (real[index] - rounded) * means[static_cast<size_t>(channel)];
        }
        (*bias)[static_cast<size_t>(c)] += static_cast<float>(shift);
      }
    }
  }

  static int64_t Taps(const Tensor& weights) {
    int64_t taps = 1;
    for (size_t i = 2; i < weights.shape().size(); ++i) taps *= weights.shape()[i];
    return taps;
  }

  // A value that stays real is read by some through a quantized copy; the Quantize that makes it.
  Node MakeCopy(const Regions::Copy& copy) {
    graph::Value quantized = g_.value(copy.value);
    quantized.name = g_.UniqueName(absl::StrCat(quantized.name, quantized.dtype == DType::kS8 ? "_s8" : "_u8"));
    quantized.dim_names.clear();
    const ValueId id = g_.AddValue(std::move(quantized));
    g_.value(copy.value).quant.reset();
    g_.value(copy.value).dtype = DType::kF32;
    for (int reader : copy.readers) {
      for (ValueId& read : g_.nodes[static_cast<size_t>(reader)].inputs) {
        if (read == copy.value) read = id;
      }
    }
    Node n;
    n.op = "Quantize";
    n.inputs = {copy.value};
    n.outputs = {id};
    return n;
  }

  // Puts copies behind their sources and biases of higher rank behind their products.
  void FinishNodes() {
    absl::flat_hash_map<ValueId, Node> copies;
    std::vector<Node> nodes;
    for (const Regions::Copy& copy : regions_.copies) copies[copy.value] = MakeCopy(copy);
    for (ValueId input : g_.inputs) {
      if (const auto it = copies.find(input); it != copies.end()) nodes.push_back(it->second);
    }
    for (size_t i = 0; i < g_.nodes.size(); ++i) {
      Node& node = g_.nodes[i];
      const std::vector<ValueId> outputs = node.outputs;
      if (node.op == "MatMul" && node.domain.empty() && node.has_input(2)) {
        graph::Value product = g_.value(outputs[0]);
        product.name = g_.UniqueName(product.name + "_product");
        product.quant.reset();
        product.dtype = DType::kF32;
        product.dim_names.clear();
        const ValueId id = g_.AddValue(std::move(product));
        Node add;
        add.op = "Add";
        add.inputs = {id, node.inputs[2]};
        add.outputs = outputs;
        node.inputs.resize(2);
        node.outputs = {id};
        nodes.push_back(std::move(node));
        nodes.push_back(std::move(add));
      } else {
        nodes.push_back(std::move(node));
      }
      for (ValueId id : outputs) {
        if (const auto it = copies.find(id); it != copies.end()) nodes.push_back(it->second);
      }
    }
    g_.nodes = std::move(nodes);
  }

  Graph g_;
  const Regions& regions_;
  const absl::flat_hash_map<ValueId, ValueStatistics>& statistics_;
  const CompressOptions& options_;
  absl::flat_hash_map<ValueId, QuantParams> params_;
};

}  // namespace

absl::StatusOr<Graph> QuantizeGraph(const Graph& graph, const Regions& regions,
                                    const absl::flat_hash_map<ValueId, ValueStatistics>& statistics,
                                    const CompressOptions& options) {
  return Quantizer(graph, regions, statistics, options).Run();
}

}  // namespace octet::compress
