// Casts without quantization in one memory order: typed loops.
#include <cmath>
#include <limits>
#include <type_traits>

#include "base/float16.h"
#include "kernels/elements.h"
#include "kernels/quantize/quantize.h"

namespace octet::kernels {
namespace {

struct Bool {
  uint8_t value;
};
struct F16 {
  uint16_t bits;
};
struct BF16 {
  uint16_t bits;
};

template <typename S>
auto Decode(S value) {
  if constexpr (std::is_same_v<S, F16>) {
    return F32FromF16(value.bits);
  } else if constexpr (std::is_same_v<S, BF16>) {
    return F32FromBF16(value.bits);
  } else if constexpr (std::is_same_v<S, Bool>) {
    return value.value;
  } else {
    return value;
  }
}

template <typename D, typename V>
D Encode(V value) {
  if constexpr (std::is_same_v<D, F16>) {
    return {F16FromF32(static_cast<float>(value))};
  } else if constexpr (std::is_same_v<D, BF16>) {
    return {BF16FromF32(static_cast<float>(value))};
  } else if constexpr (std::is_same_v<D, Bool>) {
    return {static_cast<uint8_t>(value != 0)};
  } else if constexpr (std::is_floating_point_v<V> && std::is_integral_v<D>) {
    // The limits are powers of two less one: their f32/f64 neighbour above is 2^k, where saturation
    // begins.
    if (std::isnan(value)) return 0;
    if (value >= static_cast<V>(std::numeric_limits<D>::max()))
      return std::numeric_limits<D>::max();
    if (value <= static_cast<V>(std::numeric_limits<D>::min()))
      return std::numeric_limits<D>::min();
    return static_cast<D>(value);
  } else {
    return static_cast<D>(value);
  }
}

template <typename S, typename D>
void CastRow(const void* src, void* dst, int64_t begin, int64_t end) {
  const S* s = static_cast<const S*>(src);
  D* d = static_cast<D*>(dst);
  for (int64_t i = begin; i < end; ++i) d[i] = Encode<D>(Decode(s[i]));
}

using CastFn = void (*)(const void*, void*, int64_t, int64_t);

template <typename S>
CastFn CastFrom(DType dst) {
  switch (dst) {
    case DType::kF32:
      return CastRow<S, float>;
    case DType::kF64:
      return CastRow<S, double>;
    case DType::kF16:
      return CastRow<S, F16>;
    case DType::kBF16:
      return CastRow<S, BF16>;
    case DType::kS8:
      return CastRow<S, int8_t>;
    case DType::kU8:
      return CastRow<S, uint8_t>;
    case DType::kS32:
      return CastRow<S, int32_t>;
    case DType::kS64:
      return CastRow<S, int64_t>;
    case DType::kBool:
      return CastRow<S, Bool>;
    default:
      return nullptr;
  }
}

CastFn FindCast(DType src, DType dst) {
  switch (src) {
    case DType::kF32:
      return CastFrom<float>(dst);
    case DType::kF64:
      return CastFrom<double>(dst);
    case DType::kF16:
      return CastFrom<F16>(dst);
    case DType::kBF16:
      return CastFrom<BF16>(dst);
    case DType::kS8:
      return CastFrom<int8_t>(dst);
    case DType::kU8:
      return CastFrom<uint8_t>(dst);
    case DType::kS32:
      return CastFrom<int32_t>(dst);
    case DType::kS64:
      return CastFrom<int64_t>(dst);
    case DType::kBool:
      return CastFrom<Bool>(dst);
    default:
      return nullptr;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateConvertCast(const ConvertParams& params,
                                                          const KernelEnv&) {
  if (params.src.quant || params.dst.quant) return absl::UnimplementedError("quantized");
  if (!SameMemoryOrder(params.src, params.dst))
    return absl::UnimplementedError("the order changes");
  const CastFn cast = FindCast(params.src.dtype, params.dst.dtype);
  if (cast == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat("no loop from ", NameOf(params.src.dtype), " to ", NameOf(params.dst.dtype)));
  }
  const int64_t n = NumElements(params.dst.shape);
  return MakeFunctionKernel("cast", 0, [cast, n](const BindArgs& args) {
    RunParallel(args.parallel, n, kGrainBytes / 4,
                [&](int64_t begin, int64_t end) { cast(args.src[0], args.dst[0], begin, end); });
  });
}

}  // namespace octet::kernels
