// A product's weights as a matrix, float and quantized: what grids are fitted to and rounding methods work on.
//
// Rows are output channels. Columns are inputs in the order [kernel position][input channel]; a matrix product has one
// position. A group is `group` neighbouring input channels of one position that share a scale; the last of a position
// may be shorter. Of a convolution with conv_groups > 1, row r reads the inputs of group r / (rows / conv_groups).
#ifndef OCTET_COMPRESS_WEIGHT_MATRIX_H_
#define OCTET_COMPRESS_WEIGHT_MATRIX_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "compress/grid.h"
#include "graph/graph.h"

namespace octet::compress {

struct WeightMatrix {
  int64_t rows = 0;
  int64_t positions = 1;   // of the kernel: kh * kw
  int64_t inputs = 0;      // input channels of one conv group
  int64_t conv_groups = 1;
  std::vector<float> values;  // [rows, positions * inputs] row-major

  int64_t columns() const { return positions * inputs; }
};

// Which weights share a scale.
struct Granularity {
  enum class Kind : uint8_t { kTensor, kChannel, kGroup } kind = Kind::kChannel;
  int64_t group = 0;  // kGroup: input channels, a multiple of 8
};

struct QuantizedMatrix {
  Grid grid;
  Granularity granularity;
  int64_t rows = 0, positions = 1, inputs = 0, conv_groups = 1;
  std::vector<uint8_t> codes;  // index of the level; [rows, columns]; of vector grids [rows, columns / 4]
  std::vector<float> scale;    // [1], [rows] or [rows, positions, ceil(inputs / group)]
  std::vector<int32_t> zero;   // kAffine: one per scale, in levels; empty otherwise
  // Of distributions (compress/distribution.h): [rows, columns], steps in 8 or 4 bits as graph/draws.h says; empty otherwise.
  std::vector<int8_t> steps = {};
  int step_bits = 8;

  int64_t columns() const { return positions * inputs; }
  size_t ScaleIndex(int64_t row, int64_t column) const;
  // The real number that stands at [row, column]: scale * (level - zero).
  double Real(int64_t row, int64_t column) const;
  std::vector<float> Reals() const;  // [rows, columns]
};

// The weights of a Conv, Gemm or MatMul node with a constant f32 operand 1 (MatMul and Gemm: of rank 2).
WeightMatrix MatrixOf(const graph::Graph& graph, const graph::Node& node);

// Stored integers of an operand in the order of a WeightMatrix.
struct IntegerMatrix {
  int64_t columns = 0, inputs = 0;  // as of a WeightMatrix
  std::vector<int8_t> values;       // [rows, columns]
};
// Requires: `elements` in the order of `shape`, the weights of a Conv, Gemm or MatMul node.
IntegerMatrix InMatrixOrder(absl::Span<const int8_t> elements, const Shape& shape, const graph::Node& node);

// The operand of `node` that holds `matrix`, without name: dtype, shape, quant and data as base/quantization.h says.
// Integers in 5 to 8 bits are s8, in fewer bits s4; affine ones u4; all others u1, u2 or u4 codes with levels.
graph::Value ValueOf(const QuantizedMatrix& matrix, const graph::Graph& graph, const graph::Node& node);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_WEIGHT_MATRIX_H_
