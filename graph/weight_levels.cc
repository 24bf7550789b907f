// Rules of weights with levels.
#include "graph/weight_levels.h"

#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet::graph {
namespace {

constexpr size_t kVectors = 256;  // a code of four weights is a byte

template <typename... Words>
absl::Status Refused(const Words&... words) {
  return absl::InvalidArgumentError(absl::StrCat(words...));
}

absl::Status CheckScales(const Shape& shape, const QuantParams& quant) {
  for (float s : quant.scale) {
    if (!std::isfinite(s) || s <= 0) return Refused("scale: expected positive finite numbers, found ", s);
  }
  int64_t expected = 1;
  if (!quant.per_tensor()) {
    const auto axis = static_cast<size_t>(quant.axis);
    if (axis >= shape.size()) return Refused("scales along axis ", quant.axis, " of shape ", ShapeString(shape));
    expected = shape[axis];
    if (quant.block > 0) {
      Shape blocks = shape;
      blocks[axis] = shape[axis] / quant.block + (shape[axis] % quant.block != 0);
      expected = NumElements(blocks);
    }
  }
  if (quant.block < 0 || (quant.block > 0 && quant.per_tensor())) {
    return Refused("block ", quant.block, " along axis ", quant.axis);
  }
  if (expected == static_cast<int64_t>(quant.scale.size())) return absl::OkStatus();
  return Refused("expected ", expected, " scales for shape ", ShapeString(shape), ", found ", quant.scale.size());
}

}  // namespace

absl::StatusOr<VectorOrder> VectorOrderOf(const Shape& shape, const QuantParams& quant) {
  VectorOrder order;
  const int rank = static_cast<int>(shape.size());
  if (rank < 2) return Refused("vector codes of shape ", ShapeString(shape), ", expected rank 2 or more");
  if (rank == 2) {
    if (quant.axis != 0 && quant.axis != 1) {
      return Refused("vector codes of a matrix with scales along axis ", quant.axis,
                     ", expected 0 or 1, which tells [N, K] from [K, N]");
    }
    order.row_axis = quant.block == 0 ? quant.axis : 1 - quant.axis;
    order.input_axis = 1 - order.row_axis;
  } else if (!quant.per_tensor() && quant.axis != (quant.block == 0 ? 0 : 1)) {
    return Refused("vector codes of shape ", ShapeString(shape), " with scales along axis ", quant.axis,
                   ", expected output channels (0) or blocks of input channels (1)");
  }
  for (int d = 2; d < rank; ++d) order.positions *= shape[static_cast<size_t>(d)];
  order.rows = shape[static_cast<size_t>(order.row_axis)];
  order.inputs = shape[static_cast<size_t>(order.input_axis)];
  order.row_stride = order.row_axis == 0 ? order.inputs * order.positions : 1;
  order.input_stride = order.row_axis == 0 ? order.positions : order.rows;
  if (order.inputs % quant.vector != 0 || quant.block % quant.vector != 0) {
    return Refused("vectors of ", quant.vector, " on ", order.inputs, " input channels in blocks of ", quant.block,
                   ", expected multiples");
  }
  return order;
}

absl::Status CheckLevels(DType dtype, const Shape& shape, const QuantParams& quant) {
  const size_t count = quant.levels.size();
  if (!quant.zero_point.empty()) return Refused("levels beside zero points");
  if (quant.vector == 4) {
    if (dtype != DType::kU2) return Refused("vectors of 4 stored as ", NameOf(dtype), ", expected u2");
    if (count != 4 * kVectors) return Refused("expected ", 4 * kVectors, " levels of vectors, found ", count);
    OCTET_RETURN_IF_ERROR(VectorOrderOf(shape, quant).status());
  } else if (quant.vector != 1) {
    return Refused("vectors of ", quant.vector, ", expected 1 or 4");
  } else {
    if (dtype != DType::kU1 && dtype != DType::kU2 && dtype != DType::kU4) {
      return Refused("levels of codes in ", NameOf(dtype), ", expected u1, u2 or u4");
    }
    const size_t most = size_t{1} << BitsOf(dtype);
    if (count > most) return Refused("expected at most ", most, " levels of ", NameOf(dtype), ", found ", count);
  }
  if (shape.empty()) return Refused("levels of a scalar");
  return CheckScales(shape, quant);
}

absl::Status CheckCodes(const Tensor& codes, const QuantParams& quant) {
  const int bits = BitsOf(codes.dtype());
  const int count = static_cast<int>(quant.levels.size());
  if (quant.vector != 1 || count == 1 << bits || codes.data() == nullptr) return absl::OkStatus();
  // By byte: the highest code in it.
  std::array<int, 256> highest{};
  for (int byte = 0; byte < 256; ++byte) {
    for (int shift = 0; shift < 8; shift += bits) {
      const int code = byte >> shift & ((1 << bits) - 1);
      if (code > highest[static_cast<size_t>(byte)]) highest[static_cast<size_t>(byte)] = code;
    }
  }
  for (int64_t i = 0; i < codes.size_bytes(); ++i) {
    const int code = highest[std::to_integer<size_t>(codes.data()[i])];
    if (code >= count) return Refused("byte ", i, " holds code ", code, " of ", count, " levels");
  }
  return absl::OkStatus();
}

}  // namespace octet::graph
