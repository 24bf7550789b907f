// Transposes of quantized constants, done on the stored integers: weights that a file stores the other way round stay
// weights.
#include <cstddef>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graph/rewrites.h"

namespace octet::graph {
namespace {

// For each element of the transposed tensor, in order, its index in the original.
std::vector<int64_t> SourceOrder(const Shape& shape, const std::vector<int64_t>& perm) {
  const size_t rank = shape.size();
  Shape strides(rank, 1), to(rank), step(rank);
  for (size_t d = rank; d-- > 1;) strides[d - 1] = strides[d] * shape[d];
  for (size_t d = 0; d < rank; ++d) {
    to[d] = shape[static_cast<size_t>(perm[d])];
    step[d] = strides[static_cast<size_t>(perm[d])];
  }
  std::vector<int64_t> order(static_cast<size_t>(NumElements(shape)));
  Shape at(rank, 0);
  int64_t from = 0;
  for (int64_t& index : order) {
    index = from;
    for (size_t d = rank; d-- > 0;) {
      from += step[d];
      if (++at[d] < to[d]) break;
      from -= step[d] * to[d];
      at[d] = 0;
    }
  }
  return order;
}

Shape Permuted(const Shape& shape, const std::vector<int64_t>& perm) {
  Shape out;
  for (int64_t d : perm) out.push_back(shape[static_cast<size_t>(d)]);
  return out;
}

template <typename T>
std::vector<T> Reordered(const std::vector<T>& values, const std::vector<int64_t>& order) {
  std::vector<T> out;
  out.reserve(order.size());
  for (int64_t i : order) out.push_back(values[static_cast<size_t>(i)]);
  return out;
}

Tensor TransposedTensor(const Tensor& from, const std::vector<int64_t>& perm) {
  const std::vector<int64_t> order = SourceOrder(from.shape(), perm);
  const auto bits = static_cast<size_t>(BitsOf(from.dtype()));
  const Shape shape = Permuted(from.shape(), perm);
  auto bytes = std::make_shared<std::vector<std::byte>>(static_cast<size_t>(from.size_bytes()));
  for (size_t i = 0; i < order.size(); ++i) {
    const auto source = static_cast<size_t>(order[i]);
    if (bits == 8) {
      (*bytes)[i] = from.data()[source];
      continue;
    }
    const std::byte mask{static_cast<uint8_t>((1 << bits) - 1)};
    const std::byte code = (from.data()[source * bits / 8] >> (source * bits % 8)) & mask;
    (*bytes)[i * bits / 8] |= code << (i * bits % 8);
  }
  const std::byte* data = bytes->data();
  return Tensor(from.dtype(), shape, data, std::move(bytes));
}

QuantParams TransposedQuant(QuantParams quant, const Shape& shape, const std::vector<int64_t>& perm) {
  if (quant.per_tensor()) return quant;
  if (quant.block > 0) {
    Shape blocks = shape;
    int64_t& along = blocks[static_cast<size_t>(quant.axis)];
    along = along / quant.block + (along % quant.block != 0);
    const std::vector<int64_t> order = SourceOrder(blocks, perm);
    quant.scale = Reordered(quant.scale, order);
    if (!quant.zero_point.empty()) quant.zero_point = Reordered(quant.zero_point, order);
  }
  for (size_t d = 0; d < perm.size(); ++d) {
    if (perm[d] == quant.axis) {
      quant.axis = static_cast<int>(d);
      break;
    }
  }
  return quant;
}

// The permutation of a Transpose of a quantized constant of at most 8 bits, or nothing.
std::vector<int64_t> PermOf(const Graph& graph, const Node& node) {
  if (!node.domain.empty() || node.op != "Transpose" || graph.IsOutput(node.outputs[0])) return {};
  const Value &from = graph.value(node.inputs[0]), &to = graph.value(node.outputs[0]);
  if (!from.is_constant() || !from.quant.has_value() || BitsOf(from.dtype) > 8 || to.quant.has_value()) return {};
  if (from.quant->vector > 1) return {};  // the order of its codes is tied to its shape
  const size_t rank = from.data->shape().size();
  std::vector<int64_t> reversed(rank);
  std::iota(reversed.rbegin(), reversed.rend(), 0);
  std::vector<int64_t> perm = node.GetInts("perm", reversed);
  std::vector<bool> seen(rank, false);
  if (perm.size() != rank || from.data->num_elements() == 0) return {};
  for (int64_t d : perm) {
    if (d < 0 || d >= static_cast<int64_t>(rank) || seen[static_cast<size_t>(d)]) return {};
    seen[static_cast<size_t>(d)] = true;
  }
  return perm;
}

}  // namespace

void TransposeQuantizedConstants(Graph* graph) {
  const std::vector<bool> captured = graph->Captured();
  bool changed = false;
  for (Node& node : graph->nodes) {
    const std::vector<int64_t> perm = PermOf(*graph, node);
    if (perm.empty() || captured[static_cast<size_t>(node.outputs[0])]) continue;
    const Value from = graph->value(node.inputs[0]);
    Value& to = graph->value(node.outputs[0]);
    to.data = TransposedTensor(*from.data, perm);
    to.dtype = from.dtype;
    to.shape = to.data->shape();
    to.quant = TransposedQuant(*from.quant, from.data->shape(), perm);
    node.outputs.clear();
    changed = true;
  }
  if (!changed) return;
  std::erase_if(graph->nodes, [](const Node& node) { return node.outputs.empty(); });
  graph->RemoveDead();
}

}  // namespace octet::graph
