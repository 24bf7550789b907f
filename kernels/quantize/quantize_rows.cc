// f32 <-> u8/s8/u16/s16, s32 -> f32 in one memory order, by rows: per tensor or per axis with long
// runs. 8 bits have vector loops.
#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/elements.h"
#include "kernels/quantize/quantize.h"
#include "kernels/rows.h"

namespace octet::kernels {
namespace {

constexpr int64_t kShortestRun = 8;  // elements under one scale; below, the reference is as good

using octet::kernels::DequantizeRow;  // of rows.h, beside the overloads below
using octet::kernels::QuantizeRow;

// Adding and taking away 1.5 x 2^23 rounds half to even where |x| < 2^22.
float Rounded(float x) {
  constexpr float kShift = 12582912.0f;
  return (x + kShift) - kShift;  // no -ffast-math: not simplified away
}

// As QuantizeRow of rows.h, for 16 bits.
template <typename Q>
void QuantizeRow16(const float* src, int64_t n, float scale, int32_t zero_point, Q* dst) {
  const auto least = static_cast<float>(int32_t{std::numeric_limits<Q>::min()} - zero_point);
  const auto largest = static_cast<float>(int32_t{std::numeric_limits<Q>::max()} - zero_point);
  for (int64_t i = 0; i < n; ++i) {
    const float steps = src[i] / scale;
    const float above = steps > least ? steps : least;  // NaN gives the least value, too
    dst[i] = static_cast<Q>(static_cast<int32_t>(Rounded(std::min(above, largest))) + zero_point);
  }
}
void QuantizeRow(const float* src, int64_t n, float scale, int32_t zero_point, uint16_t* dst) {
  QuantizeRow16(src, n, scale, zero_point, dst);
}
void QuantizeRow(const float* src, int64_t n, float scale, int32_t zero_point, int16_t* dst) {
  QuantizeRow16(src, n, scale, zero_point, dst);
}

template <typename Q>
void DequantizeRow(const Q* src, int64_t n, float scale, int32_t zero_point, float* dst) {
  for (int64_t i = 0; i < n; ++i) {
    dst[i] = scale * static_cast<float>(int64_t{src[i]} - zero_point);
  }
}

// Runs of `run` elements share one scale; run r has scale index (r % scales).
struct Grid {
  QuantParams quant;
  int64_t run = 0;

  // Calls body(begin, count, scale, zero_point) for the pieces of [begin, end).
  template <typename Body>
  void ForEachPiece(int64_t begin, int64_t end, const Body& body) const {
    while (begin < end) {
      const int64_t index = begin / run;
      const int64_t count = std::min((index + 1) * run, end) - begin;
      const auto c = static_cast<size_t>(index % static_cast<int64_t>(quant.scale.size()));
      body(begin, count, quant.scale[c], quant.zero_point_at(c));
      begin += count;
    }
  }
};

template <typename Q>
RunFn Dequantizer(Grid grid, int64_t n) {
  return [grid = std::move(grid), n](const BindArgs& args) {
    const auto* src = static_cast<const Q*>(args.src[0]);
    auto* dst = static_cast<float*>(args.dst[0]);
    RunParallel(args.parallel, n, kGrainBytes / 4, [&](int64_t begin, int64_t end) {
      grid.ForEachPiece(begin, end, [&](int64_t at, int64_t count, float scale, int32_t zero) {
        DequantizeRow(src + at, count, scale, zero, dst + at);
      });
    });
  };
}

template <typename Q>
RunFn Quantizer(Grid grid, int64_t n) {
  return [grid = std::move(grid), n](const BindArgs& args) {
    const auto* src = static_cast<const float*>(args.src[0]);
    auto* dst = static_cast<Q*>(args.dst[0]);
    RunParallel(args.parallel, n, kGrainBytes / 4, [&](int64_t begin, int64_t end) {
      grid.ForEachPiece(begin, end, [&](int64_t at, int64_t count, float scale, int32_t zero) {
        QuantizeRow(src + at, count, scale, zero, dst + at);
      });
    });
  };
}

template <typename Q>
RunFn Converter(bool to_real, Grid grid, int64_t n) {
  return to_real ? Dequantizer<Q>(std::move(grid), n) : Quantizer<Q>(std::move(grid), n);
}

absl::StatusOr<Grid> GridOf(const TensorSpec& spec) {
  const int64_t n = NumElements(spec.shape);
  if (spec.quant->per_tensor()) return Grid{*spec.quant, std::max<int64_t>(n, 1)};
  if (spec.quant->block > 0) return absl::UnimplementedError("blocked scales");
  const Shape strides = StridesIn(spec);
  const int64_t run = strides[static_cast<size_t>(spec.quant->axis)];
  if (run < kShortestRun) {
    return absl::UnimplementedError(absl::StrCat("only ", run, " neighbours share a scale"));
  }
  return Grid{*spec.quant, run};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateConvertRows(const ConvertParams& params,
                                                          const KernelEnv&) {
  const bool to_real = IsPlainF32(params.dst) && params.src.quant.has_value();
  const bool from_real = IsPlainF32(params.src) && params.dst.quant.has_value();
  if (!to_real && !from_real) return absl::UnimplementedError("not between f32 and quantized");
  const TensorSpec& stored = to_real ? params.src : params.dst;
  if (!SameMemoryOrder(params.src, params.dst))
    return absl::UnimplementedError("the order changes");
  absl::StatusOr<Grid> grid = GridOf(stored);
  if (!grid.ok()) return grid.status();
  const int64_t n = NumElements(stored.shape);
  RunFn run;
  switch (stored.dtype) {
    case DType::kU8:
      run = Converter<uint8_t>(to_real, *std::move(grid), n);
      break;
    case DType::kS8:
      run = Converter<int8_t>(to_real, *std::move(grid), n);
      break;
    case DType::kU16:
      run = Converter<uint16_t>(to_real, *std::move(grid), n);
      break;
    case DType::kS16:
      run = Converter<int16_t>(to_real, *std::move(grid), n);
      break;
    case DType::kS32:
      if (to_real) {
        run = Dequantizer<int32_t>(*std::move(grid), n);
        break;
      }
      [[fallthrough]];
    default:
      return absl::UnimplementedError(absl::StrCat("no rows of ", NameOf(stored.dtype)));
  }
  return MakeFunctionKernel("rows", 0, std::move(run));
}

}  // namespace octet::kernels
