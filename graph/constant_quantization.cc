// Quantization of constants, element by element.
#include "graph/constant_quantization.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/buffer.h"
#include "base/status.h"
#include "graph/weight_levels.h"

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

  // Calls fn(i, At(i)) for i = 0..n-1 without dividing for each.
  template <typename F>
  void ForEach(int64_t n, F fn) const {
    if (size_ == 0) {
      for (int64_t i = 0; i < n; ++i) fn(i, size_t{0});
      return;
    }
    for (int64_t i = 0, along = 0, outer = 0; i < n; ++along) {
      if (along == size_) {
        along = 0;
        ++outer;
      }
      const int64_t at = blocked_ ? (outer * steps_ + along / block_) * inner_ : along;
      for (int64_t k = 0; k < inner_; ++k, ++i) fn(i, static_cast<size_t>(blocked_ ? at + k : at));
    }
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

// x[i] = f32(read(i) - zero_point) * scale, for i in order.
template <typename Read>
void FillInOrder(const QuantParams& quant, const ScaleIndex& index, int64_t n, Read read, float* x) {
  index.ForEach(n, [&](int64_t i, size_t at) {
    x[i] = static_cast<float>(read(i) - quant.zero_point_at(at)) * quant.scale[at];
  });
}

void FillReals(const Tensor& stored, const QuantParams& quant, const ScaleIndex& index, float* x) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(stored.data());
  const int64_t n = stored.num_elements();
  const int bits = BitsOf(stored.dtype());
  if (bits == 8) {
    const bool is_signed = stored.dtype() == DType::kS8;
    const auto read = [&](int64_t i) { return is_signed ? int64_t{static_cast<int8_t>(bytes[i])} : int64_t{bytes[i]}; };
    FillInOrder(quant, index, n, read, x);
    return;
  }
  if (bits > 8) {
    const std::vector<int64_t> q = stored.ToS64();
    FillInOrder(quant, index, n, [&](int64_t i) { return q[static_cast<size_t>(i)]; }, x);
    return;
  }
  // What each code stands for before zero point and scale.
  std::array<int64_t, 16> meaning{};
  for (int code = 0; code < 1 << bits; ++code) {
    const auto at = static_cast<size_t>(code);
    meaning[at] = stored.dtype() == DType::kS4 && code > 7 ? code - 16 : code;
    if (!quant.levels.empty()) meaning[at] = at < quant.levels.size() ? quant.levels[at] : 0;
  }
  const int per_byte = 8 / bits, mask = (1 << bits) - 1;
  const auto read = [&](int64_t i) {
    return meaning[static_cast<size_t>(bytes[i / per_byte] >> (i % per_byte * bits) & mask)];
  };
  FillInOrder(quant, index, n, read, x);
}

absl::Status FillVectors(const Tensor& stored, const QuantParams& quant, const ScaleIndex& index, float* x) {
  OCTET_ASSIGN_OR_RETURN(const VectorOrder order, VectorOrderOf(stored.shape(), quant));
  const auto* codes = reinterpret_cast<const uint8_t*>(stored.data());
  for (int64_t r = 0; r < order.rows; ++r) {
    for (int64_t p = 0; p < order.positions; ++p) {
      for (int64_t j = 0; j < order.inputs; j += quant.vector) {
        const int8_t* levels = quant.levels.data() + static_cast<ptrdiff_t>(*codes++) * quant.vector;
        const int64_t first = r * order.row_stride + j * order.input_stride + p;
        const float scale = quant.scale[index.At(first)];
        for (int64_t d = 0; d < quant.vector; ++d) {
          x[first + d * order.input_stride] = static_cast<float>(levels[d]) * scale;
        }
      }
    }
  }
  return absl::OkStatus();
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

absl::StatusOr<Tensor> DequantizeTensor(const Tensor& stored, const QuantParams& quant) {
  if (!quant.levels.empty()) OCTET_RETURN_IF_ERROR(CheckLevels(stored.dtype(), stored.shape(), quant));
  const auto index = ScaleIndex::Make(stored.shape(), quant);
  if (!index.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(quant.scale.size(), " scales along axis ", quant.axis,
                                                   " do not fit shape ", ShapeString(stored.shape())));
  }
  OCTET_ASSIGN_OR_RETURN(Buffer out, Buffer::Allocate(ByteSize(DType::kF32, stored.shape())));
  auto* x = reinterpret_cast<float*>(out.data());
  if (quant.vector > 1) {
    OCTET_RETURN_IF_ERROR(FillVectors(stored, quant, *index, x));
  } else {
    FillReals(stored, quant, *index, x);
  }
  return Tensor::FromBuffer(DType::kF32, stored.shape(), std::move(out));
}

}  // namespace octet::graph
