// Quantization of constants, element by element.
#include "graph/constant_quantization.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace octet::graph {
namespace {

// Index of the scale of each element: counts elements within one index of the axis.
class ScaleIndex {
 public:
  static std::optional<ScaleIndex> Make(const Shape& shape, const QuantParams& quant) {
    ScaleIndex out;
    if (quant.per_tensor()) {
      if (quant.scale.size() != 1) return std::nullopt;
      return out;
    }
    if (quant.axis >= static_cast<int>(shape.size())) return std::nullopt;
    const size_t axis = static_cast<size_t>(quant.axis);
    out.inner_ = NumElements(absl::MakeConstSpan(shape).subspan(axis + 1));
    out.size_ = shape[axis];
    out.block_ = std::max<int64_t>(quant.block, 1);
    out.steps_ = (out.size_ + out.block_ - 1) / out.block_;
    out.blocked_ = quant.block > 0;
    Shape scales = {out.size_};
    if (out.blocked_) {
      scales = shape;
      scales[axis] = out.steps_;
    }
    if (NumElements(scales) != static_cast<int64_t>(quant.scale.size())) return std::nullopt;
    return out;
  }

  size_t At(int64_t i) const {
    if (size_ == 0) return 0;
    const int64_t along = i / inner_ % size_;
    if (!blocked_) return static_cast<size_t>(along);
    const int64_t outer = i / inner_ / size_;
    return static_cast<size_t>((outer * steps_ + along / block_) * inner_ + i % inner_);
  }

 private:
  int64_t inner_ = 1, size_ = 0, block_ = 1, steps_ = 0;
  bool blocked_ = false;
};

struct Range {
  int64_t min, max;
};

Range RangeOf(DType dtype) {
  const int bits = BitsOf(dtype);
  const bool is_signed =
      dtype == DType::kS4 || dtype == DType::kS8 || dtype == DType::kS16 || dtype == DType::kS32;
  if (is_signed) return {-(int64_t{1} << (bits - 1)), (int64_t{1} << (bits - 1)) - 1};
  return {0, (int64_t{1} << bits) - 1};
}

Tensor Store(DType dtype, const Shape& shape, const std::vector<int64_t>& values) {
  const int bits = BitsOf(dtype);
  std::vector<uint8_t> bytes(static_cast<size_t>(ByteSize(dtype, shape)));
  for (size_t i = 0; i < values.size(); ++i) {
    const uint64_t value = static_cast<uint64_t>(values[i]);
    if (bits == 4) {
      bytes[i / 2] = static_cast<uint8_t>(bytes[i / 2] | (value & 15) << (i % 2 * 4));
      continue;
    }
    const size_t width = static_cast<size_t>(bits / 8);
    for (size_t b = 0; b < width; ++b)
      bytes[i * width + b] = static_cast<uint8_t>(value >> (8 * b));
  }
  const Tensor raw =
      Tensor::FromValues<uint8_t>(DType::kU8, Shape{static_cast<int64_t>(bytes.size())}, bytes);
  return Tensor(dtype, shape, raw.data(), std::make_shared<Tensor>(raw));
}

}  // namespace

std::optional<Tensor> QuantizeTensor(const Tensor& reals, DType dtype, const QuantParams& quant) {
  if (!IsInteger(dtype) || BitsOf(dtype) > 32) return std::nullopt;
  const auto index = ScaleIndex::Make(reals.shape(), quant);
  if (!index.has_value()) return std::nullopt;
  const Range range = RangeOf(dtype);
  const std::vector<float> x = reals.ToF32();
  std::vector<int64_t> stored(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t at = index->At(static_cast<int64_t>(i));
    // Division in f32 as ONNX Runtime does it; nearbyintf rounds half to even in the default mode.
    const double rounded = std::nearbyintf(x[i] / quant.scale[at]);
    const double shifted = rounded + quant.zero_point_at(at);
    const double low = static_cast<double>(range.min), high = static_cast<double>(range.max);
    stored[i] = std::isnan(shifted) ? quant.zero_point_at(at)
                                    : static_cast<int64_t>(std::clamp(shifted, low, high));
  }
  return Store(dtype, reals.shape(), stored);
}

std::optional<Tensor> DequantizeTensor(const Tensor& stored, const QuantParams& quant) {
  const auto index = ScaleIndex::Make(stored.shape(), quant);
  if (!index.has_value()) return std::nullopt;
  const std::vector<int64_t> q = stored.ToS64();
  std::vector<float> x(q.size());
  for (size_t i = 0; i < q.size(); ++i) {
    const size_t at = index->At(static_cast<int64_t>(i));
    x[i] = static_cast<float>(q[i] - quant.zero_point_at(at)) * quant.scale[at];
  }
  return Tensor::FromF32(stored.shape(), x);
}

}  // namespace octet::graph
