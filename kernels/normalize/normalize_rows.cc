// Normalization of f32 by vector loops, src seen in memory order as [outer, reduced, inner]: the groups of inner = 1 are
// contiguous; else (channels-last InstanceNorm, Lp along an outer axis) columns of neighbouring groups are taken together.
#include <algorithm>
#include <cmath>

#include "kernels/elements.h"
#include "kernels/normalize/normalize.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/normalize/normalize_rows.cc"
#include "hwy/foreach_target.h"  // NOLINT: must come before highway.h
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace octet::kernels {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;

// Sum of term(x) over a row, in four accumulators.
template <typename Term>
HWY_INLINE float SumOf(const float* HWY_RESTRICT x, int64_t n, const Term& term) {
  const F d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a0 = hn::Add(a0, term(d, hn::LoadU(d, x + i)));
    a1 = hn::Add(a1, term(d, hn::LoadU(d, x + i + lanes)));
    a2 = hn::Add(a2, term(d, hn::LoadU(d, x + i + 2 * lanes)));
    a3 = hn::Add(a3, term(d, hn::LoadU(d, x + i + 3 * lanes)));
  }
  for (; i + lanes <= n; i += lanes) a0 = hn::Add(a0, term(d, hn::LoadU(d, x + i)));
  float sum = hn::ReduceSum(d, hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)));
  const hn::CappedTag<float, 1> one;
  for (; i < n; ++i) sum += hn::GetLane(term(one, hn::LoadU(one, x + i)));
  return sum;
}

float SumImpl(const float* x, int64_t n) {
  return SumOf(x, n, [](auto, auto v) HWY_ATTR { return v; });
}
float AbsImpl(const float* x, int64_t n) {
  return SumOf(x, n, [](auto, auto v) HWY_ATTR { return hn::Abs(v); });
}
float SquaresImpl(const float* x, int64_t n, float mean) {
  return SumOf(x, n, [mean](auto d, auto v) HWY_ATTR {
    const auto c = hn::Sub(v, hn::Set(d, mean));
    return hn::Mul(c, c);
  });
}

// y[i] = (x[i] - mean) * inverse * scale[i * scale_step] + shift[i * shift_step]; steps are 0 or 1.
void ApplyImpl(const float* x, int64_t n, float mean, float inverse, const float* scale, int64_t scale_step,
               const float* shift, int64_t shift_step, float* y) {
  const auto body = [&](auto d, int64_t i) HWY_ATTR {
    const auto g = scale_step != 0 ? hn::LoadU(d, scale + i) : hn::Set(d, *scale);
    const auto b = shift_step != 0 ? hn::LoadU(d, shift + i) : hn::Set(d, *shift);
    const auto c = hn::Mul(hn::Sub(hn::LoadU(d, x + i), hn::Set(d, mean)), hn::Set(d, inverse));
    hn::StoreU(hn::MulAdd(c, g, b), d, y + i);
  };
  const auto lanes = static_cast<int64_t>(hn::Lanes(F()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(F(), i);
  for (; i < n; ++i) body(hn::CappedTag<float, 1>(), i);
}

// The same with a mean and an inverse deviation per element.
void ApplyColumnsImpl(const float* x, int64_t n, const float* mean, const float* inverse, const float* scale,
                      int64_t scale_step, const float* shift, int64_t shift_step, float* y) {
  const auto body = [&](auto d, int64_t i) HWY_ATTR {
    const auto g = scale_step != 0 ? hn::LoadU(d, scale + i) : hn::Set(d, *scale);
    const auto b = shift_step != 0 ? hn::LoadU(d, shift + i) : hn::Set(d, *shift);
    const auto c = hn::Mul(hn::Sub(hn::LoadU(d, x + i), hn::LoadU(d, mean + i)), hn::LoadU(d, inverse + i));
    hn::StoreU(hn::MulAdd(c, g, b), d, y + i);
  };
  const auto lanes = static_cast<int64_t>(hn::Lanes(F()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(F(), i);
  for (; i < n; ++i) body(hn::CappedTag<float, 1>(), i);
}

// acc[j] += |x[j]|, or (x[j] - mean[j])^2.
void AddAbsImpl(const float* HWY_RESTRICT x, int64_t n, float* HWY_RESTRICT acc) {
  for (int64_t j = 0; j < n; ++j) acc[j] += std::fabs(x[j]);
}
void AddSquaresImpl(const float* HWY_RESTRICT x, int64_t n, const float* HWY_RESTRICT mean, float* HWY_RESTRICT acc) {
  for (int64_t j = 0; j < n; ++j) acc[j] += (x[j] - mean[j]) * (x[j] - mean[j]);
}
void AddImpl(const float* HWY_RESTRICT x, int64_t n, float* HWY_RESTRICT acc) {
  for (int64_t j = 0; j < n; ++j) acc[j] += x[j];
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octet::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octet::kernels {

HWY_EXPORT(SumImpl);
HWY_EXPORT(AbsImpl);
HWY_EXPORT(SquaresImpl);
HWY_EXPORT(ApplyImpl);
HWY_EXPORT(ApplyColumnsImpl);
HWY_EXPORT(AddImpl);
HWY_EXPORT(AddAbsImpl);
HWY_EXPORT(AddSquaresImpl);

namespace {

constexpr int64_t kColumns = 64;  // groups taken together when they lie side by side

struct View {
  int64_t outer = 1, reduced = 1, inner = 1;
};

absl::StatusOr<View> ViewOf(const NormalizeParams& p) {
  View view;
  enum class Part : uint8_t { kOuter, kReduced, kInner } part = Part::kOuter;
  for (int d : MemoryOrder(p.src)) {
    const int64_t size = p.src.shape[static_cast<size_t>(d)];
    if (size == 1) continue;
    if (std::count(p.axes.begin(), p.axes.end(), d) > 0) {
      if (part == Part::kInner) return absl::UnimplementedError("the normalized axes are no neighbours in memory");
      part = Part::kReduced;
      view.reduced *= size;
    } else {
      if (part == Part::kReduced) part = Part::kInner;
      (part == Part::kOuter ? view.outer : view.inner) *= size;
    }
  }
  return view;
}

// 1 / deviation (or norm) from the sum of squares around the mean, or of absolute values.
float Inverse(NormalizeKind kind, float sum, int64_t n, float epsilon) {
  const float average = sum / static_cast<float>(n);
  switch (kind) {
    case NormalizeKind::kDeviation:
    case NormalizeKind::kRms:
      return 1 / std::sqrt(average + epsilon);
    case NormalizeKind::kMvn:
      return 1 / (std::sqrt(average) + epsilon);
    case NormalizeKind::kL1:
      return sum == 0 ? 0 : 1 / sum;
    case NormalizeKind::kL2:
      return sum == 0 ? 0 : 1 / std::sqrt(sum);
  }
  return 0;
}

bool HasMean(NormalizeKind kind) { return kind == NormalizeKind::kDeviation || kind == NormalizeKind::kMvn; }

// One binding: operands and where the factors of an element lie.
struct Rows {
  NormalizeKind kind;
  float epsilon;
  View view;
  LoopNest nest;  // operands: src, scale, shift (absent ones: one element)

  struct Pointers {
    const float* src;
    const float* scale;
    const float* shift;
    float* dst;
    float* mean;
    float* inverse;
  };

  // Calls body(position, count, scale, shift) for runs of elements [begin, end).
  template <typename Body>
  void ForRuns(const Pointers& at, int64_t begin, int64_t end, const Body& body) const {
    int64_t position = begin;
    ForEachRun(nest, begin, end, [&](const int64_t* offsets, int64_t count) {
      body(position, count, at.scale + offsets[1], at.shift + offsets[2]);
      position += count;
    });
  }

  void RunGroup(const Pointers& at, int64_t group) const {
    const int64_t n = view.reduced, begin = group * n;
    const float* x = at.src + begin;
    const float mean = HasMean(kind) ? HWY_DYNAMIC_DISPATCH(SumImpl)(x, n) / static_cast<float>(n) : 0;
    const float sum =
        kind == NormalizeKind::kL1 ? HWY_DYNAMIC_DISPATCH(AbsImpl)(x, n) : HWY_DYNAMIC_DISPATCH(SquaresImpl)(x, n, mean);
    const float inverse = Inverse(kind, sum, n, epsilon);
    if (at.mean != nullptr) at.mean[group] = mean;
    if (at.inverse != nullptr) at.inverse[group] = inverse;
    ForRuns(at, begin, begin + n, [&](int64_t from, int64_t count, const float* scale, const float* shift) {
      HWY_DYNAMIC_DISPATCH(ApplyImpl)
      (at.src + from, count, mean, inverse, scale, nest.strides[1].back(), shift, nest.strides[2].back(), at.dst + from);
    });
  }

  // Groups [column, column + width) of one outer index: width <= kColumns.
  void RunColumns(const Pointers& at, int64_t outer, int64_t column, int64_t width) const {
    float mean[kColumns] = {}, inverse[kColumns] = {};
    const int64_t first = outer * view.reduced * view.inner + column;
    const auto line = [&](int64_t k) { return first + k * view.inner; };
    const auto n = static_cast<float>(view.reduced);
    if (HasMean(kind)) {
      for (int64_t k = 0; k < view.reduced; ++k) HWY_DYNAMIC_DISPATCH(AddImpl)(at.src + line(k), width, mean);
      for (int64_t j = 0; j < width; ++j) mean[j] /= n;
    }
    for (int64_t k = 0; k < view.reduced; ++k) {
      if (kind == NormalizeKind::kL1) {
        HWY_DYNAMIC_DISPATCH(AddAbsImpl)(at.src + line(k), width, inverse);
      } else {
        HWY_DYNAMIC_DISPATCH(AddSquaresImpl)(at.src + line(k), width, mean, inverse);
      }
    }
    for (int64_t j = 0; j < width; ++j) inverse[j] = Inverse(kind, inverse[j], view.reduced, epsilon);
    for (int64_t k = 0; k < view.reduced; ++k) {
      ForRuns(at, line(k), line(k) + width, [&](int64_t from, int64_t count, const float* scale, const float* shift) {
        const int64_t j = from - line(k);
        HWY_DYNAMIC_DISPATCH(ApplyColumnsImpl)
        (at.src + from, count, mean + j, inverse + j, scale, nest.strides[1].back(), shift, nest.strides[2].back(),
         at.dst + from);
      });
    }
    for (int64_t j = 0; j < width; ++j) {
      if (at.mean != nullptr) at.mean[outer * view.inner + column + j] = mean[j];
      if (at.inverse != nullptr) at.inverse[outer * view.inner + column + j] = inverse[j];
    }
  }

  void Run(const Pointers& at, ParallelFor* parallel) const {
    const int64_t grain = kGrainBytes / 4 / std::max<int64_t>(view.reduced, 1) + 1;
    if (view.inner == 1) {
      RunParallel(parallel, view.outer, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) RunGroup(at, i);
      });
      return;
    }
    const int64_t pieces = (view.inner + kColumns - 1) / kColumns;
    RunParallel(parallel, view.outer * pieces, grain / kColumns + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t column = i % pieces * kColumns;
        RunColumns(at, i / pieces, column, std::min(kColumns, view.inner - column));
      }
    });
  }
};

bool IsUnitStep(const LoopNest& nest, size_t operand) {
  const int64_t step = nest.strides[operand].back();
  return step == 0 || step == 1 || nest.dims.back() == 1;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateNormalizeRows(const NormalizeParams& p, const KernelEnv&) {
  if (NumElements(p.src.shape) == 0) return absl::UnimplementedError("empty");
  if (!IsPlainF32(p.src) || !IsPlainF32(p.dst)) return absl::UnimplementedError("src and dst are not both f32");
  TensorSpec one;
  one.shape = Shape(p.src.shape.size(), 1);
  for (const auto* factor : {&p.scale, &p.shift}) {
    if (*factor && (*factor)->dtype != DType::kF32) return absl::UnimplementedError("scale or shift is not f32");
  }
  const TensorSpec& scale = p.scale ? *p.scale : one;
  const TensorSpec& shift = p.shift ? *p.shift : one;
  const absl::StatusOr<View> view = ViewOf(p);
  if (!view.ok()) return view.status();
  const bool moments = p.mean || p.inverse_deviation;
  if (moments && MemoryOrder(p.src) != MemoryOrder(TensorSpec{DType::kF32, p.src.shape, Layout::kPlain, {}})) {
    return absl::UnimplementedError("mean and deviation of a channels-last src");
  }
  const TensorSpec* const operands[] = {&p.src, &scale, &shift};
  Rows rows{p.kind, p.epsilon, *view, BroadcastNest(operands, p.dst)};
  if (!IsUnitStep(rows.nest, 1) || !IsUnitStep(rows.nest, 2)) return absl::UnimplementedError("scale or shift is strided");
  return MakeFunctionKernel(
      "rows", 0,
      [rows = std::move(rows), has_scale = p.scale.has_value(), has_shift = p.shift.has_value(),
       has_mean = p.mean.has_value(), has_inverse = p.inverse_deviation.has_value()](const BindArgs& args) {
        static constexpr float kOne = 1, kZero = 0;
        size_t src = 0, dst = 0;
        Rows::Pointers at{};
        at.src = static_cast<const float*>(args.src[src++]);
        at.scale = has_scale ? static_cast<const float*>(args.src[src++]) : &kOne;
        at.shift = has_shift ? static_cast<const float*>(args.src[src++]) : &kZero;
        at.dst = static_cast<float*>(args.dst[dst++]);
        at.mean = has_mean ? static_cast<float*>(args.dst[dst++]) : nullptr;
        at.inverse = has_inverse ? static_cast<float*>(args.dst[dst++]) : nullptr;
        rows.Run(at, args.parallel);
      });
}

}  // namespace octet::kernels
#endif  // HWY_ONCE
