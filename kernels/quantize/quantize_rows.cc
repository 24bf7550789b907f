// f32 <-> u8/s8 in one memory order, by vector rows: per tensor, or dequantization per axis with
// long runs.
#include "kernels/elements.h"
#include "kernels/quantize/quantize.h"
#include "kernels/rows.h"

namespace octet::kernels {
namespace {

constexpr int64_t kShortestRun = 8;  // elements under one scale; below, the reference is as good

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
  if (stored.dtype != DType::kU8 && stored.dtype != DType::kS8) {
    return absl::UnimplementedError(absl::StrCat(NameOf(stored.dtype), " is neither u8 nor s8"));
  }
  if (!SameMemoryOrder(params.src, params.dst))
    return absl::UnimplementedError("the order changes");
  absl::StatusOr<Grid> grid = GridOf(stored);
  if (!grid.ok()) return grid.status();
  const int64_t n = NumElements(stored.shape);
  const bool is_u8 = stored.dtype == DType::kU8;
  RunFn run = to_real ? (is_u8 ? Dequantizer<uint8_t>(*std::move(grid), n)
                               : Dequantizer<int8_t>(*std::move(grid), n))
                      : (is_u8 ? Quantizer<uint8_t>(*std::move(grid), n)
                               : Quantizer<int8_t>(*std::move(grid), n));
  return MakeFunctionKernel("rows", 0, std::move(run));
}

}  // namespace octet::kernels
