// Constant weights whose codes are indices into a table of levels (QuantParams::levels): their rules and the order of
// vector codes.
#ifndef OCTET_GRAPH_WEIGHT_LEVELS_H_
#define OCTET_GRAPH_WEIGHT_LEVELS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "base/quantization.h"
#include "base/shape.h"
#include "base/tensor.h"

namespace octet::graph {

// How the reals of vector codes lie in the operand: code j of row r, position p stands for the elements
//   r * row_stride + (4 j + d) * input_stride + p,   d = 0..3
// and is byte (r * positions + p) * inputs / 4 + j of the stored ones.
struct VectorOrder {
  int64_t rows = 0, positions = 1, inputs = 0;
  int64_t row_stride = 0, input_stride = 0;
  int row_axis = 0, input_axis = 1;
};

// Of a matrix the quant's axis tells [N, K] from [K, N]: it is the rows' without blocks, the inputs' with them. Tensors
// of higher rank are [O, I, k...].
// Errors: kInvalidArgument when shape and axis say no order, inputs or block are no multiples of the vector.
absl::StatusOr<VectorOrder> VectorOrderOf(const Shape& shape, const QuantParams& quant);

// Whether type, shape, scales and levels of weights agree (base/quantization.h). Requires: quant.levels is not empty.
// Errors: kInvalidArgument that names the rule.
absl::Status CheckLevels(DType dtype, const Shape& shape, const QuantParams& quant);

// Whether every code, those that only fill up the last byte included, has a level. Requires: CheckLevels is OK.
absl::Status CheckCodes(const Tensor& codes, const QuantParams& quant);

}  // namespace octet::graph

#endif  // OCTET_GRAPH_WEIGHT_LEVELS_H_
