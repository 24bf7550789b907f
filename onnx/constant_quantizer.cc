// Rounding constants onto an integer grid.
#include "onnx/constant_quantizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "base/status.h"

namespace octet::onnx_io {
namespace {

// Index of the scale that element `i` uses: elements are [outer, dim, inner] around the axis.
struct ScaleIndex {
  int64_t inner = 1, dim = 1, block = 1, blocks = 1;
  bool per_tensor = true, blocked = false;

  ScaleIndex(const Shape& shape, const QuantParams& params) : per_tensor(params.per_tensor()) {
    if (per_tensor) return;
    dim = std::max<int64_t>(shape[static_cast<size_t>(params.axis)], 1);
    for (size_t d = static_cast<size_t>(params.axis) + 1; d < shape.size(); ++d) inner *= shape[d];
    blocked = params.block > 0;
    if (blocked) {
      block = params.block;
      blocks = (dim - 1) / block + 1;
    }
  }

  size_t At(int64_t i) const {
    if (per_tensor) return 0;
    const int64_t along = i / inner % dim;
    if (!blocked) return static_cast<size_t>(along);
    const int64_t outer = i / inner / dim;
    return static_cast<size_t>((outer * blocks + along / block) * inner + i % inner);
  }
};

int64_t Least(DType dtype) {
  const bool is_signed =
      dtype == DType::kS8 || dtype == DType::kS16 || dtype == DType::kS32 || dtype == DType::kS4;
  return is_signed ? -(int64_t{1} << (BitsOf(dtype) - 1)) : 0;
}

}  // namespace

absl::StatusOr<Tensor> QuantizeConstant(const Tensor& x, DType dtype, const QuantParams& params) {
  const std::vector<float> reals = x.ToF32();
  OCTET_ASSIGN_OR_RETURN(Buffer buffer, Buffer::Allocate(ByteSize(dtype, x.shape())));
  const ScaleIndex index(x.shape(), params);
  const int64_t least = Least(dtype);
  const int64_t largest = least + (int64_t{1} << BitsOf(dtype)) - 1;
  const size_t width = BitsOf(dtype) == 4 ? 0 : static_cast<size_t>(BytesOf(dtype));
  for (size_t i = 0; i < reals.size(); ++i) {
    const size_t c = index.At(static_cast<int64_t>(i));
    const double zero = params.zero_point_at(c);
    // The quotient is a float, as the operator's text has it; the sum is exact in double.
    const double q = static_cast<double>(std::nearbyint(reals[i] / params.scale[c])) + zero;
    const double clamped =
        std::isnan(q) ? zero
                      : std::clamp(q, static_cast<double>(least), static_cast<double>(largest));
    const int64_t stored = static_cast<int64_t>(clamped);
    if (width > 0) {
      std::memcpy(buffer.data() + i * width, &stored, width);
    } else {
      buffer.data()[i / 2] |= static_cast<std::byte>((stored & 15) << (i % 2 == 0 ? 0 : 4));
    }
  }
  return Tensor::FromBuffer(dtype, x.shape(), std::move(buffer));
}

}  // namespace octet::onnx_io
