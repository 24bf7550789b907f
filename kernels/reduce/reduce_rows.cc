// Reductions of neighbouring axes, src seen as [outer, reduced, inner]: f32 by vector rows (along
// lines when inner = 1, line by line into the results otherwise); sum and mean of 8-bit lines
// exactly, in integers.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/reduce/reduce_reference.h"
#include "kernels/rows.h"

namespace octet::kernels {
namespace {

struct View {
  int64_t outer = 1, reduced = 1, inner = 1;
};

absl::StatusOr<View> ViewOf(const ReduceParams& p) {
  View view;
  enum class Part { kOuter, kReduced, kInner } part = Part::kOuter;
  for (size_t d = 0; d < p.src.shape.size(); ++d) {
    const int64_t size = p.src.shape[d];
    if (size == 1) continue;
    if (std::count(p.axes.begin(), p.axes.end(), static_cast<int>(d)) > 0) {
      if (part == Part::kInner)
        return absl::UnimplementedError("the reduced axes are no neighbours");
      part = Part::kReduced;
      view.reduced *= size;
    } else {
      if (part == Part::kReduced) part = Part::kInner;
      (part == Part::kOuter ? view.outer : view.inner) *= size;
    }
  }
  return view;
}

bool HasRows(ReduceKind kind) {
  return kind == ReduceKind::kSum || kind == ReduceKind::kMean || kind == ReduceKind::kMax ||
         kind == ReduceKind::kMin || kind == ReduceKind::kSumSquare || kind == ReduceKind::kL2 ||
         kind == ReduceKind::kLogSum;
}

bool IsOfSquares(ReduceKind kind) {
  return kind == ReduceKind::kSumSquare || kind == ReduceKind::kL2;
}

// What turns the accumulated value into the result.
float Finish(ReduceKind kind, float acc, int64_t n) {
  switch (kind) {
    case ReduceKind::kMean:
      return acc / static_cast<float>(n);
    case ReduceKind::kL2:
      return std::sqrt(acc);
    case ReduceKind::kLogSum:
      return std::log(acc);
    default:
      return acc;
  }
}

float ReduceDense(ReduceKind kind, const float* src, int64_t n) {
  if (kind == ReduceKind::kMax) return MaxRow(src, n);
  if (kind == ReduceKind::kMin) return MinRow(src, n);
  return Finish(kind, IsOfSquares(kind) ? SumSquaresRow(src, n) : SumRow(src, n), n);
}

// Accumulates `n` lines of `width` elements, `step` apart, into dst.
void ReduceLines(ReduceKind kind, const float* src, int64_t n, int64_t step, int64_t width,
                 float* dst) {
  const RowOp op = kind == ReduceKind::kMax   ? RowOp::kMax
                   : kind == ReduceKind::kMin ? RowOp::kMin
                                              : RowOp::kAdd;
  if (IsOfSquares(kind)) {
    BinaryRow(RowOp::kMul, src, src, width, dst);
  } else {
    std::copy_n(src, width, dst);
  }
  for (int64_t i = 1; i < n; ++i) {
    const float* line = src + i * step;
    if (IsOfSquares(kind)) {
      for (int64_t j = 0; j < width; ++j) dst[j] += line[j] * line[j];
    } else {
      BinaryRow(op, dst, line, width, dst);
    }
  }
  if (kind == ReduceKind::kMean || kind == ReduceKind::kL2 || kind == ReduceKind::kLogSum) {
    for (int64_t j = 0; j < width; ++j) dst[j] = Finish(kind, dst[j], n);
  }
}

RunFn F32Run(ReduceKind kind, const View& v) {
  return [kind, v](const BindArgs& args) {
    const auto* src = static_cast<const float*>(args.src[0]);
    auto* dst = static_cast<float*>(args.dst[0]);
    const int64_t grain = kGrainBytes / 4 / v.reduced + 1;
    if (v.inner == 1) {
      RunParallel(args.parallel, v.outer, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          dst[i] = ReduceDense(kind, src + i * v.reduced, v.reduced);
      });
      return;
    }
    RunParallel(args.parallel, v.outer * v.inner, grain, [&](int64_t begin, int64_t end) {
      while (begin < end) {
        const int64_t o = begin / v.inner, column = begin % v.inner;
        const int64_t width = std::min(v.inner - column, end - begin);
        ReduceLines(kind, src + o * v.reduced * v.inner + column, v.reduced, v.inner, width,
                    dst + begin);
        begin += width;
      }
    });
  };
}

// real = scale * (sum of stored - n * zero_point), divided by n for the mean: no rounding before
// the last.
template <typename Q>
RunFn QuantizedRun(const ReduceParams& p, const View& v) {
  return [p, v](const BindArgs& args) {
    const auto* src = static_cast<const Q*>(args.src[0]);
    const int64_t zeros = v.reduced * p.src.quant->zero_point_at(0);
    const double factor = static_cast<double>(p.src.quant->scale[0]) /
                          (p.kind == ReduceKind::kMean ? static_cast<double>(v.reduced) : 1.0);
    RunParallel(args.parallel, v.outer, kGrainBytes / v.reduced + 1,
                [&](int64_t begin, int64_t end) {
                  for (int64_t i = begin; i < end; ++i) {
                    int64_t sum = 0;
                    for (int64_t k = 0; k < v.reduced; ++k) sum += src[i * v.reduced + k];
                    StoreReal(p.dst, args.dst[0], i, factor * static_cast<double>(sum - zeros));
                  }
                });
  };
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateReduceRows(const ReduceParams& params,
                                                         const KernelEnv&) {
  if (!HasRows(params.kind)) return absl::UnimplementedError("no vector loop for this reduction");
  absl::StatusOr<View> view = ViewOf(params);
  if (!view.ok()) return view.status();
  if (NumElements(params.src.shape) == 0) return absl::UnimplementedError("empty");
  if (IsPlainF32(params.src) && IsPlainF32(params.dst)) {
    return MakeFunctionKernel("rows", 0, F32Run(params.kind, *view));
  }
  const bool linear = params.kind == ReduceKind::kSum || params.kind == ReduceKind::kMean;
  if (!IsQuantized8(params.src) || !linear || view->inner != 1) {
    return absl::UnimplementedError("neither f32 nor the sum or mean of 8-bit lines");
  }
  return MakeFunctionKernel("rows", 0,
                            params.src.dtype == DType::kU8 ? QuantizedRun<uint8_t>(params, *view)
                                                           : QuantizedRun<int8_t>(params, *view));
}

}  // namespace octet::kernels
