// Element access and loop nests.
#include "kernels/elements.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/float16.h"

namespace octet::kernels {
namespace {

// Calls body with a value of the C++ type that stores dtype. Requires: not f16, bf16 or less than 8 bits (their
// callers decode).
template <typename Body>
auto WithStorage(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kF32:
      return body(float{});
    case DType::kF64:
      return body(double{});
    case DType::kS8:
      return body(int8_t{});
    case DType::kS16:
      return body(int16_t{});
    case DType::kU16:
      return body(uint16_t{});
    case DType::kS32:
      return body(int32_t{});
    case DType::kU32:
      return body(uint32_t{});
    case DType::kS64:
      return body(int64_t{});
    case DType::kU64:
      return body(uint64_t{});
    default:
      return body(uint8_t{});  // u8, bool
  }
}

template <typename T>
T LoadAs(const void* data, int64_t index) {
  T value;
  std::memcpy(&value, static_cast<const std::byte*>(data) + index * int64_t{sizeof(T)}, sizeof(T));
  return value;
}

template <typename T>
void StoreAs(void* data, int64_t index, T value) {
  std::memcpy(static_cast<std::byte*>(data) + index * int64_t{sizeof(T)}, &value, sizeof(T));
}

// Elements that share bytes: 1, 2 or 4 bits, low bits first.
bool SharesBytes(DType dtype) { return BitsOf(dtype) < 8; }

int LoadBits(DType dtype, const void* data, int64_t index) {
  const int bits = BitsOf(dtype), per_byte = 8 / bits;
  const int byte = static_cast<const uint8_t*>(data)[index / per_byte];
  const int code = byte >> (index % per_byte * bits) & ((1 << bits) - 1);
  return dtype == DType::kS4 && code >= 8 ? code - 16 : code;
}

void StoreBits(DType dtype, void* data, int64_t index, int64_t value) {
  const int bits = BitsOf(dtype), per_byte = 8 / bits;
  const int shift = static_cast<int>(index % per_byte) * bits, mask = ((1 << bits) - 1) << shift;
  uint8_t& byte = static_cast<uint8_t*>(data)[index / per_byte];
  byte = static_cast<uint8_t>((byte & ~mask) | (static_cast<int>(value) << shift & mask));
}

template <typename T>
T SaturateTo(double value) {
  if (std::isnan(value)) return 0;
  // max() of 64-bit types rounds up to a power of two in double, so >= is right for all.
  if (value >= static_cast<double>(std::numeric_limits<T>::max()))
    return std::numeric_limits<T>::max();
  if (value <= static_cast<double>(std::numeric_limits<T>::lowest())) {
    return std::numeric_limits<T>::lowest();
  }
  return static_cast<T>(value);
}

}  // namespace

void RunParallel(ParallelFor* parallel, int64_t n, int64_t grain,
                 absl::FunctionRef<void(int64_t, int64_t)> body) {
  if (n <= 0) return;
  if (parallel == nullptr) {
    body(0, n);
  } else {
    parallel->Run(n, std::max<int64_t>(grain, 1), body);
  }
}

absl::InlinedVector<int, 6> MemoryOrder(const TensorSpec& spec) {
  const int rank = static_cast<int>(spec.shape.size());
  absl::InlinedVector<int, 6> order;
  const bool channels_last = spec.layout == Layout::kChannelsLast && rank >= 3;
  for (int d = 0; d < rank; ++d) {
    if (!channels_last || d != 1) order.push_back(d);
  }
  if (channels_last) order.push_back(1);
  return order;
}

Shape StridesIn(const TensorSpec& spec) {
  Shape strides(spec.shape.size(), 1);
  const absl::InlinedVector<int, 6> order = MemoryOrder(spec);
  int64_t step = 1;
  for (size_t i = order.size(); i-- > 0;) {
    strides[static_cast<size_t>(order[i])] = step;
    step *= spec.shape[static_cast<size_t>(order[i])];
  }
  return strides;
}

bool SameMemoryOrder(const TensorSpec& a, const TensorSpec& b) {
  const Shape sa = StridesIn(a), sb = StridesIn(b);
  for (size_t d = 0; d < sa.size(); ++d) {
    if (a.shape[d] > 1 && sa[d] != sb[d]) return false;
  }
  return true;
}

double LoadNumber(DType dtype, const void* data, int64_t index) {
  if (SharesBytes(dtype)) return LoadBits(dtype, data, index);
  if (dtype == DType::kF16) return F32FromF16(LoadAs<uint16_t>(data, index));
  if (dtype == DType::kBF16) return F32FromBF16(LoadAs<uint16_t>(data, index));
  return WithStorage(dtype,
                     [&](auto t) { return static_cast<double>(LoadAs<decltype(t)>(data, index)); });
}

int64_t LoadInteger(DType dtype, const void* data, int64_t index) {
  if (SharesBytes(dtype)) return LoadBits(dtype, data, index);
  if (IsFloat(dtype)) return SaturateTo<int64_t>(LoadNumber(dtype, data, index));
  return WithStorage(
      dtype, [&](auto t) { return static_cast<int64_t>(LoadAs<decltype(t)>(data, index)); });
}

void StoreNumber(DType dtype, void* data, int64_t index, double value) {
  if (dtype == DType::kBool) {
    StoreAs<uint8_t>(data, index, value != 0);
  } else if (SharesBytes(dtype)) {
    const auto [lo, hi] = IntegerRange(dtype);
    StoreBits(dtype, data, index, std::clamp(SaturateTo<int64_t>(value), lo, hi));
  } else if (dtype == DType::kF16) {
    StoreAs(data, index, F16FromF32(static_cast<float>(value)));
  } else if (dtype == DType::kBF16) {
    StoreAs(data, index, BF16FromF32(static_cast<float>(value)));
  } else {
    WithStorage(dtype, [&](auto t) {
      using T = decltype(t);
      if constexpr (std::is_floating_point_v<T>) {
        StoreAs(data, index, static_cast<T>(value));
      } else {
        StoreAs(data, index, SaturateTo<T>(value));
      }
    });
  }
}

void StoreInteger(DType dtype, void* data, int64_t index, int64_t value) {
  if (dtype == DType::kBool) {
    StoreAs<uint8_t>(data, index, value != 0);
  } else if (SharesBytes(dtype)) {
    StoreBits(dtype, data, index, value);
  } else if (IsFloat(dtype)) {
    StoreNumber(dtype, data, index, static_cast<double>(value));
  } else {
    WithStorage(dtype, [&](auto t) { StoreAs(data, index, static_cast<decltype(t)>(value)); });
  }
}

void CopyElement(DType dtype, const void* src, int64_t src_index, void* dst, int64_t dst_index) {
  if (SharesBytes(dtype)) {
    StoreBits(dtype, dst, dst_index, LoadBits(dtype, src, src_index));
    return;
  }
  const int64_t bytes = BytesOf(dtype);
  std::memcpy(static_cast<std::byte*>(dst) + dst_index * bytes,
              static_cast<const std::byte*>(src) + src_index * bytes, static_cast<size_t>(bytes));
}

std::pair<int64_t, int64_t> IntegerRange(DType dtype) {
  if (dtype == DType::kS4) return {-8, 7};
  if (dtype == DType::kU4) return {0, 15};
  if (dtype == DType::kBool) return {0, 1};
  if (dtype == DType::kU64) return {0, std::numeric_limits<int64_t>::max()};
  const int bits = BitsOf(dtype);
  const bool is_signed =
      dtype == DType::kS8 || dtype == DType::kS16 || dtype == DType::kS32 || dtype == DType::kS64;
  if (!is_signed) return {0, (int64_t{1} << bits) - 1};
  if (bits == 64) return {std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()};
  return {-(int64_t{1} << (bits - 1)), (int64_t{1} << (bits - 1)) - 1};
}

int64_t Quantize(float real, float scale, int32_t zero_point, DType dtype) {
  const auto [lo, hi] = IntegerRange(dtype);
  // The quotient is rounded to f32 as ONNX Runtime does: a tie there is a tie here.
  const double q = std::nearbyint(static_cast<double>(real / scale)) + zero_point;
  if (!(q > static_cast<double>(lo))) return lo;
  if (q >= static_cast<double>(hi)) return hi;
  return static_cast<int64_t>(q);
}

double LoadReal(const TensorSpec& spec, const void* data, int64_t index) {
  if (!spec.quant) return LoadNumber(spec.dtype, data, index);
  return Dequantize(LoadInteger(spec.dtype, data, index), spec.quant->scale[0],
                    spec.quant->zero_point_at(0));
}

void StoreReal(const TensorSpec& spec, void* data, int64_t index, double real) {
  if (!spec.quant) {
    StoreNumber(spec.dtype, data, index, real);
  } else {
    StoreInteger(spec.dtype, data, index,
                 Quantize(static_cast<float>(real), spec.quant->scale[0],
                          spec.quant->zero_point_at(0), spec.dtype));
  }
}

absl::Status ValidateQuant(const TensorSpec& spec) {
  if (!spec.quant) return absl::OkStatus();
  const QuantParams& q = *spec.quant;
  if (!IsInteger(spec.dtype)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "quantization parameters on ", NameOf(spec.dtype), ", which is no integer type"));
  }
  int64_t want = 1;
  if (!q.per_tensor()) {
    if (q.axis >= static_cast<int>(spec.shape.size())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "quantization axis ", q.axis, " is outside shape ", ShapeString(spec.shape)));
    }
    const auto axis = static_cast<size_t>(q.axis);
    want = spec.shape[axis];
    if (q.block > 0) {
      Shape scales = spec.shape;
      scales[axis] = (scales[axis] + q.block - 1) / q.block;
      want = NumElements(scales);
    }
  }
  if (static_cast<int64_t>(q.scale.size()) != want ||
      (!q.zero_point.empty() && q.zero_point.size() != q.scale.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat(q.scale.size(), " scales and ", q.zero_point.size(), " zero points for shape ",
                     ShapeString(spec.shape), ", which needs ", want));
  }
  return absl::OkStatus();
}

bool IsQuantized8(const TensorSpec& spec) {
  return (spec.dtype == DType::kU8 || spec.dtype == DType::kS8) && spec.quant.has_value() &&
         spec.quant->per_tensor();
}

bool IsPlainF32(const TensorSpec& spec) { return spec.dtype == DType::kF32 && !spec.quant; }

LoopNest MergeLoops(absl::Span<const int64_t> dims, absl::Span<const Shape> strides) {
  LoopNest nest;
  nest.strides.resize(strides.size());
  for (size_t d = 0; d < dims.size(); ++d) {
    if (dims[d] == 1) continue;
    bool merge = !nest.dims.empty();
    for (size_t k = 0; merge && k < strides.size(); ++k) {
      merge = nest.strides[k].back() == strides[k][d] * dims[d];
    }
    if (merge) {
      nest.dims.back() *= dims[d];
    } else {
      nest.dims.push_back(dims[d]);
    }
    for (size_t k = 0; k < strides.size(); ++k) {
      if (merge) nest.strides[k].pop_back();
      nest.strides[k].push_back(strides[k][d]);
    }
  }
  if (nest.dims.empty()) {
    nest.dims.push_back(1);
    for (Shape& s : nest.strides) s.push_back(1);
  }
  return nest;
}

LoopNest BroadcastNest(absl::Span<const TensorSpec* const> operands, const TensorSpec& dst) {
  const absl::InlinedVector<int, 6> order = MemoryOrder(dst);
  Shape dims;
  for (int d : order) dims.push_back(dst.shape[static_cast<size_t>(d)]);
  std::vector<Shape> strides;
  for (const TensorSpec* operand : operands) {
    const Shape own = StridesIn(*operand);
    const int lead = static_cast<int>(dst.shape.size()) - static_cast<int>(operand->shape.size());
    Shape walked;
    for (int d : order) {
      const int i = d - lead;
      const bool still = i < 0 || operand->shape[static_cast<size_t>(i)] == 1;
      walked.push_back(still ? 0 : own[static_cast<size_t>(i)]);
    }
    strides.push_back(std::move(walked));
  }
  return MergeLoops(dims, strides);
}

}  // namespace octet::kernels
