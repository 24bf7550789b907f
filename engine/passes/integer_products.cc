// ConvInteger and MatMulInteger, with the scaling that exporters write behind them, as integer products.
//
//   MatMulInteger(a, w, za, zw) -> Cast f32 -> Mul (scales, in one or two steps, any order) -> Add (bias)
//
// Source of the pattern: ONNX Runtime, quantize_dynamic.
#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/passes/passes.h"
#include "graph/rewrites.h"

namespace octet::engine {
namespace {

using graph::Graph;
using graph::kNoValue;
using graph::Node;
using graph::Value;
using graph::ValueId;

// What follows the integers: nodes that disappear, and what they say.
struct Tail {
  std::vector<int> nodes;
  ValueId out = kNoValue;
  ValueId computed_scale = kNoValue;
  std::vector<float> scale;  // one, or one per output channel
  std::vector<float> bias;   // empty, or one per output channel
};

class Fuser {
 public:
  explicit Fuser(Graph* g) : g_(*g), consumers_(g->Consumers()), producers_(g->Producers()) {}

  void Run() {
    std::vector<Made> made;  // at the place of the last node of its pattern
    const size_t count = g_.nodes.size();
    std::vector<bool> gone(count, false);
    for (size_t i = 0; i < count; ++i) {
      const Node& node = g_.nodes[i];
      if (!node.domain.empty() || (node.op != "MatMulInteger" && node.op != "ConvInteger")) continue;
      std::optional<Made> product = Product(i, &gone);
      if (product.has_value()) made.push_back(*std::move(product));
    }
    if (made.empty()) return;
    std::vector<Node> nodes;
    for (size_t i = 0; i < count; ++i) {
      for (Made& m : made) {
        if (m.at == i) std::move(m.nodes.begin(), m.nodes.end(), std::back_inserter(nodes));
      }
      if (!gone[i]) nodes.push_back(std::move(g_.nodes[i]));
    }
    g_.nodes = std::move(nodes);
    g_.RemoveDead();
  }

 private:
  struct Made {
    size_t at;  // position of the node that they replace
    std::vector<Node> nodes;
  };

  // Output channels of the weights, or 0 when the pass cannot read them.
  int64_t Channels(const Node& node) const {
    const Tensor* w = g_.ConstantInput(node, 1);
    if (w == nullptr || w->data() == nullptr) return 0;
    if (w->dtype() != DType::kS8 && w->dtype() != DType::kU8) return 0;
    if (node.op == "ConvInteger") return w->shape().size() >= 3 ? w->shape()[0] : 0;
    return w->shape().size() >= 2 ? w->shape().back() : 0;
  }

  std::optional<Made> Product(size_t i, std::vector<bool>* gone) {
    const Node node = g_.nodes[i];  // a copy: values are added below
    const int64_t channels = Channels(node);
    if (channels == 0) return std::nullopt;
    std::vector<int32_t> zeros;
    if (node.has_input(3)) {
      const Tensor* z = g_.ConstantInput(node, 3);
      if (z == nullptr || (z->num_elements() != 1 && z->num_elements() != channels)) return std::nullopt;
      for (int64_t v : z->ToS64()) zeros.push_back(static_cast<int32_t>(v));
    }
    Tail tail = FollowTail(node, channels);
    const bool followed = !tail.nodes.empty();
    if (tail.scale.empty()) tail.scale = {1.0f};
    const ValueId weights = Weights(node, std::move(zeros), std::move(tail.scale));
    // Zero points that no kernel subtracts are corrected in f32, also behind a bare accumulator.
    const std::vector<int32_t>& z = g_.value(weights).quant->zero_point;
    const bool corrected = (node.op == "ConvInteger" || z.size() > 1) &&
                           std::any_of(z.begin(), z.end(), [](int32_t zero) { return zero != 0; });
    Made made{followed ? static_cast<size_t>(tail.nodes.back()) : i, {}};
    Node product;
    product.op = node.op == "ConvInteger" ? "DynamicConv" : "DynamicMatMul";
    product.name = node.name;
    product.attributes = node.attributes;
    product.outputs = {followed ? tail.out : node.outputs[0]};
    ValueId scale = tail.computed_scale, bias = kNoValue;
    if (scale == kNoValue && (followed || corrected)) scale = AddF32("one", Tensor::FromF32({}, {1.0f}));
    if (!tail.bias.empty()) bias = AddF32("bias", Tensor::FromF32({channels}, tail.bias));
    product.inputs = {node.inputs[0], weights, scale, node.has_input(2) ? node.inputs[2] : kNoValue, bias};
    while (product.inputs.back() == kNoValue) product.inputs.pop_back();
    made.nodes.push_back(std::move(product));
    if (corrected && !followed) made.nodes.push_back(CastOf(node, &made.nodes[0]));
    (*gone)[i] = true;
    for (int n : tail.nodes) (*gone)[static_cast<size_t>(n)] = true;
    return made;
  }

  // The Cast to s32 of an f32 product that stands for integer `node`.
  Node CastOf(const Node& node, Node* product) {
    Value real = g_.value(node.outputs[0]);
    real.name = g_.UniqueName(absl::StrCat(real.name, "_f32"));
    real.dtype = DType::kF32;
    product->outputs[0] = g_.AddValue(std::move(real));
    constexpr int64_t kOnnxInt32 = 6;
    return Node{"Cast", "", node.name, {product->outputs[0]}, {node.outputs[0]}, {{"to", kOnnxInt32}}};
  }

  ValueId AddF32(const char* stem, Tensor tensor) {
    return g_.AddConstant(g_.UniqueName(stem), std::move(tensor));
  }

  // The weights as s8 with quant.
  ValueId Weights(const Node& node, std::vector<int32_t> zeros, std::vector<float> scale) {
    Value w = g_.value(node.inputs[1]);
    w.name = g_.UniqueName(absl::StrCat(w.name, "_s8"));
    const size_t count = std::max(scale.size(), zeros.size());
    if (scale.size() < count) scale.assign(count, scale[0]);
    if (zeros.size() < count) zeros.assign(count, zeros.empty() ? 0 : zeros[0]);
    w.quant = QuantParams{std::move(scale), std::move(zeros), -1, 0};
    if (count > 1) w.quant->axis = node.op == "ConvInteger" ? 0 : static_cast<int>(w.data->shape().size()) - 1;
    if (w.dtype == DType::kU8) graph::MakeSigned(&w);
    return g_.AddValue(std::move(w));
  }

  // The only reader of `id`, or -1.
  int OnlyReader(ValueId id) const {
    const std::vector<int>& readers = consumers_[static_cast<size_t>(id)];
    return readers.size() == 1 && !g_.IsOutput(id) ? readers[0] : -1;
  }

  // A constant with one element, or one per channel along the result's channel axis.
  std::optional<std::vector<float>> PerChannel(ValueId id, size_t rank, size_t axis, int64_t channels) const {
    const Value& v = g_.value(id);
    if (!v.is_constant() || v.quant.has_value() || v.dtype != DType::kF32) return std::nullopt;
    const Shape& shape = v.data->shape();
    if (shape.size() > rank) return std::nullopt;
    if (NumElements(shape) == 1) return v.data->ToF32();
    for (size_t d = 0; d < shape.size(); ++d) {
      if (shape[d] != (rank - shape.size() + d == axis ? channels : 1)) return std::nullopt;
    }
    return v.data->ToF32();
  }

  bool IsScalar(ValueId id) const {
    const Value& v = g_.value(id);
    return !v.is_constant() && !v.quant.has_value() && v.dtype == DType::kF32 && v.shape.has_value() &&
           (v.shape->empty() || *v.shape == Shape{1});
  }

  // Multiplies the tail's scales by operand `id`; false when it is no scale.
  bool TakeScale(ValueId id, size_t rank, size_t axis, int64_t channels, Tail* tail) const {
    if (const auto constant = PerChannel(id, rank, axis, channels)) {
      if (tail->scale.empty()) tail->scale = {1.0f};
      if (tail->scale.size() < constant->size()) tail->scale.assign(constant->size(), tail->scale[0]);
      for (size_t c = 0; c < tail->scale.size(); ++c) {
        tail->scale[c] *= (*constant)[constant->size() == 1 ? 0 : c];
      }
      return true;
    }
    if (IsScalar(id) && tail->computed_scale == kNoValue) {
      tail->computed_scale = id;
      return true;
    }
    const int producer = producers_[static_cast<size_t>(id)];
    if (producer < 0) return false;
    const Node& mul = g_.nodes[static_cast<size_t>(producer)];
    return mul.domain.empty() && mul.op == "Mul" && TakeScale(mul.inputs[0], rank, axis, channels, tail) &&
           TakeScale(mul.inputs[1], rank, axis, channels, tail);
  }

  Tail FollowTail(const Node& node, int64_t channels) const {
    Tail tail;
    const auto& shape = g_.value(node.outputs[0]).shape;
    const int cast = OnlyReader(node.outputs[0]);
    if (!shape.has_value() || shape->size() < 2 || cast < 0) return tail;
    const size_t rank = shape->size(), axis = node.op == "ConvInteger" ? 1 : rank - 1;
    const Node& to = g_.nodes[static_cast<size_t>(cast)];
    if (!to.domain.empty() || to.op != "Cast" || g_.value(to.outputs[0]).dtype != DType::kF32) return tail;
    tail.nodes = {cast};
    tail.out = to.outputs[0];
    while (true) {
      const int next = OnlyReader(tail.out);
      if (next < 0) return tail;
      const Node& op = g_.nodes[static_cast<size_t>(next)];
      if (!op.domain.empty() || op.inputs.size() != 2 || op.inputs[0] == op.inputs[1]) return tail;
      const ValueId other = op.inputs[op.inputs[0] == tail.out ? 1 : 0];
      if (op.op == "Mul") {
        Tail scaled = tail;
        if (!TakeScale(other, rank, axis, channels, &scaled)) return tail;
        tail = std::move(scaled);
      } else if (op.op == "Add") {
        auto bias = PerChannel(other, rank, axis, channels);
        if (!bias.has_value()) return tail;
        if (bias->size() == 1) bias->assign(static_cast<size_t>(channels), (*bias)[0]);
        tail.bias = *std::move(bias);
      } else {
        return tail;
      }
      tail.nodes.push_back(next);
      tail.out = op.outputs[0];
      if (!tail.bias.empty()) return tail;
    }
  }

  Graph& g_;
  const std::vector<std::vector<int>> consumers_;
  const std::vector<int> producers_;
};

}  // namespace

void FuseIntegerProducts(Graph* graph) { Fuser(graph).Run(); }

}  // namespace octet::engine
