// Between a node's weights operand and its matrix form.
#include "compress/weight_matrix.h"

#include <algorithm>

#include "absl/log/check.h"
#include "graph/draws.h"

namespace octet::compress {
namespace {

// How an operand's elements lie in the matrix: element (row, position, input) of the matrix stands at
// row * row_stride + input * input_stride + position of the operand.
struct OperandLayout {
  int64_t rows = 0, positions = 1, inputs = 0;
  int64_t row_stride = 0, input_stride = 0;
  int row_axis = 0, input_axis = 1;
};

OperandLayout LayoutOf(const Shape& shape, const graph::Node& node) {
  OperandLayout l;
  if (node.op == "Conv") {
    for (size_t i = 2; i < shape.size(); ++i) l.positions *= shape[i];
    l.rows = shape[0];
    l.inputs = shape[1];
    l.row_stride = l.inputs * l.positions;
    l.input_stride = l.positions;
    return l;
  }
  CHECK_EQ(shape.size(), 2u);
  if (node.op == "Gemm" && node.GetInt("transB", 0) != 0) {
    l.rows = shape[0];
    l.inputs = shape[1];
    l.row_stride = l.inputs;
    l.input_stride = 1;
    return l;
  }
  l.rows = shape[1];
  l.inputs = shape[0];
  l.row_stride = 1;
  l.input_stride = l.rows;
  l.row_axis = 1;
  l.input_axis = 0;
  return l;
}

// Calls f(index in the operand, row, column) for every element.
template <typename F>
void ForEach(const OperandLayout& l, F f) {
  for (int64_t r = 0; r < l.rows; ++r) {
    for (int64_t p = 0; p < l.positions; ++p) {
      for (int64_t i = 0; i < l.inputs; ++i) {
        f(static_cast<size_t>(r * l.row_stride + i * l.input_stride + p), r, p * l.inputs + i);
      }
    }
  }
}

// Elements of `bits` bits, low bits first.
Tensor Pack(DType dtype, const Shape& shape, const std::vector<uint8_t>& values) {
  const int bits = BitsOf(dtype);
  const size_t per_byte = static_cast<size_t>(8 / bits);
  std::vector<uint8_t> bytes((values.size() + per_byte - 1) / per_byte, 0);
  for (size_t i = 0; i < values.size(); ++i) {
    const int code = values[i] & ((1 << bits) - 1);
    bytes[i / per_byte] = static_cast<uint8_t>(bytes[i / per_byte] | code << (i % per_byte * static_cast<size_t>(bits)));
  }
  Tensor flat = Tensor::FromValues<uint8_t>(DType::kU8, {static_cast<int64_t>(bytes.size())}, bytes);
  auto owner = std::make_shared<Tensor>(flat);
  return Tensor(dtype, shape, owner->data(), owner);
}

DType CodeType(int bits) { return bits == 1 ? DType::kU1 : bits == 2 ? DType::kU2 : DType::kU4; }

// Scales, and zero points, in the order that QuantParams wants for this operand.
void SetScales(const QuantizedMatrix& m, const OperandLayout& l, QuantParams* quant) {
  // Of vector codes the axis tells which way a matrix lies.
  if (m.granularity.kind == Granularity::Kind::kTensor && m.grid.vector > 1) {
    quant->scale.assign(static_cast<size_t>(l.rows), m.scale[0]);
    quant->axis = l.row_axis;
    return;
  }
  if (m.granularity.kind != Granularity::Kind::kGroup) {
    quant->scale = m.scale;
    quant->zero_point = m.zero;
    if (m.granularity.kind == Granularity::Kind::kChannel) quant->axis = l.row_axis;
    return;
  }
  quant->axis = l.input_axis;
  quant->block = m.granularity.group;
  const int64_t blocks = (l.inputs + quant->block - 1) / quant->block;
  quant->scale.resize(m.scale.size());
  quant->zero_point.resize(m.zero.size());
  for (int64_t r = 0; r < l.rows; ++r) {
    for (int64_t p = 0; p < l.positions; ++p) {
      for (int64_t b = 0; b < blocks; ++b) {
        const size_t to = static_cast<size_t>(l.row_axis == 0 ? (r * blocks + b) * l.positions + p : b * l.rows + r);
        const size_t from = m.ScaleIndex(r, p * l.inputs + b * quant->block);
        quant->scale[to] = m.scale[from];
        if (!m.zero.empty()) quant->zero_point[to] = m.zero[from];
      }
    }
  }
}

}  // namespace

size_t QuantizedMatrix::ScaleIndex(int64_t row, int64_t column) const {
  switch (granularity.kind) {
    case Granularity::Kind::kTensor:
      return 0;
    case Granularity::Kind::kChannel:
      return static_cast<size_t>(row);
    case Granularity::Kind::kGroup:
      break;
  }
  const int64_t blocks = (inputs + granularity.group - 1) / granularity.group;
  return static_cast<size_t>((row * positions + column / inputs) * blocks + column % inputs / granularity.group);
}

double QuantizedMatrix::Real(int64_t row, int64_t column) const {
  const size_t s = ScaleIndex(row, column);
  const int64_t v = grid.vector;
  const size_t code = codes[static_cast<size_t>((row * columns() + column) / v)];
  const int level = grid.levels[code * static_cast<size_t>(v) + static_cast<size_t>(column % v)];
  return static_cast<double>(scale[s]) * (level - (zero.empty() ? 0 : zero[s]));
}

std::vector<float> QuantizedMatrix::Reals() const {
  std::vector<float> out;
  out.reserve(static_cast<size_t>(rows * columns()));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns(); ++c) out.push_back(static_cast<float>(Real(r, c)));
  }
  return out;
}

WeightMatrix MatrixOf(const graph::Graph& graph, const graph::Node& node) {
  const Tensor& weights = *graph.value(node.inputs[1]).data;
  const OperandLayout l = LayoutOf(weights.shape(), node);
  WeightMatrix m{l.rows, l.positions, l.inputs, node.op == "Conv" ? node.GetInt("group", 1) : 1, {}};
  const std::vector<float> reals = weights.ToF32();
  m.values.resize(reals.size());
  ForEach(l, [&](size_t from, int64_t r, int64_t c) {
    m.values[static_cast<size_t>(r * m.columns() + c)] = reals[from];
  });
  return m;
}

IntegerMatrix InMatrixOrder(absl::Span<const int8_t> elements, const Shape& shape, const graph::Node& node) {
  const OperandLayout l = LayoutOf(shape, node);
  IntegerMatrix m{l.positions * l.inputs, l.inputs, std::vector<int8_t>(elements.size())};
  ForEach(l, [&](size_t from, int64_t r, int64_t c) {
    m.values[static_cast<size_t>(r * m.columns + c)] = elements[from];
  });
  return m;
}

graph::Value ValueOf(const QuantizedMatrix& m, const graph::Graph& graph, const graph::Node& node) {
  const Shape shape = graph.value(node.inputs[1]).data->shape();
  const OperandLayout l = LayoutOf(shape, node);
  const Grid& grid = m.grid;
  graph::Value value;
  value.shape = shape;
  value.quant.emplace();
  SetScales(m, l, &*value.quant);
  if (grid.vector > 1) {
    // The matrix's order is the stored order of vector codes.
    value.quant->levels = grid.levels;
    value.quant->vector = grid.vector;
    value.dtype = DType::kU2;
    Tensor codes = Tensor::FromValues<uint8_t>(DType::kU8, {static_cast<int64_t>(m.codes.size())}, m.codes);
    auto owner = std::make_shared<Tensor>(codes);
    value.data = Tensor(DType::kU2, shape, owner->data(), owner);
    return value;
  }
  std::vector<uint8_t> elements(m.codes.size());
  const bool integers = grid.kind == GridKind::kInteger && grid.bits > 2;
  const bool affine = grid.kind == GridKind::kAffine;
  ForEach(l, [&](size_t to, int64_t r, int64_t c) {
    const uint8_t code = m.codes[static_cast<size_t>(r * m.columns() + c)];
    elements[to] = integers || affine ? static_cast<uint8_t>(grid.levels[code]) : code;
  });
  if (!m.steps.empty()) {
    const DType type = m.step_bits == 4 ? DType::kS4 : DType::kS8;
    std::vector<uint8_t> steps(m.steps.size());
    ForEach(l, [&](size_t to, int64_t r, int64_t c) {
      steps[to] = static_cast<uint8_t>(m.steps[static_cast<size_t>(r * m.columns() + c)]);
    });
    value.alternatives = graph::Alternatives{Pack(type, shape, steps), graph::StreamOf(node.name)};
  }
  if (integers && grid.bits > 4) {
    value.dtype = DType::kS8;
    value.data = Tensor::FromValues<uint8_t>(DType::kS8, shape, elements);
    return value;
  }
  value.dtype = integers ? DType::kS4 : affine ? DType::kU4 : CodeType(grid.bits);
  if (!integers && !affine) value.quant->levels = grid.levels;
  value.data = Pack(value.dtype, shape, elements);
  return value;
}

}  // namespace octet::compress
