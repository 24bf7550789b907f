// Products in typed loops, outputs shared among the team.
#include "kernels/plain/products.h"

#include <cmath>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/plain/typed.h"

namespace octet::kernels {
namespace {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
constexpr int64_t kGrain = 1 << 16;  // multiply-adds worth a thread

absl::Status Validate(const PlainConvParams& p) {
  const size_t rank = p.src.shape.size();
  const bool ranks = rank >= 3 && p.weights.shape.size() == rank && p.dst.shape.size() == rank &&
                     p.strides.size() == rank - 2 && p.dilations.size() == rank - 2 &&
                     p.pads_begin.size() == rank - 2;
  const bool channels = ranks && p.groups > 0 && p.weights.shape[0] % p.groups == 0 &&
                        p.weights.shape[1] * p.groups == p.src.shape[1] &&
                        p.dst.shape[1] == p.weights.shape[0] && p.dst.shape[0] == p.src.shape[0];
  if (channels && p.src.dtype == p.weights.dtype && p.src.dtype == p.dst.dtype)
    return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("conv: ", NameOf(p.src.dtype), ShapeString(p.src.shape), " with ",
                   NameOf(p.weights.dtype), ShapeString(p.weights.shape), " in ", p.groups,
                   " groups to ", NameOf(p.dst.dtype), ShapeString(p.dst.shape)));
}

// One output element of a convolution: `at` is its multi-index.
template <typename T>
double ConvElement(const PlainConvParams& p, const T* src, const T* weights,
                   absl::Span<const int64_t> at) {
  const size_t rank = p.src.shape.size();
  const int64_t channels = p.weights.shape[1];
  const int64_t group = at[1] / (p.weights.shape[0] / p.groups);
  const Shape strides = StridesOf(p.src.shape);
  const T* image = src + at[0] * strides[0] + group * channels * strides[1];
  const T* row = weights + at[1] * NumElements(absl::MakeConstSpan(p.weights.shape).subspan(1));
  double sum = 0;
  for (int64_t c = 0; c < channels; ++c) {
    ForEachIndex(absl::MakeConstSpan(p.weights.shape).subspan(2), [&](const Index& k) {
      int64_t offset = c * strides[1];
      bool inside = true;
      for (size_t d = 0; d + 2 < rank; ++d) {
        const int64_t x = at[d + 2] * p.strides[d] - p.pads_begin[d] + k[d] * p.dilations[d];
        inside = inside && x >= 0 && x < p.src.shape[d + 2];
        offset += x * strides[d + 2];
      }
      const double w = static_cast<ComputeType<T>>(*row++);
      if (inside) sum += static_cast<double>(static_cast<ComputeType<T>>(image[offset])) * w;
    });
  }
  return sum;
}

// The sum in the type that T's products are exact or rounded in.
template <typename T>
using Sum = std::conditional_t<std::is_integral_v<T>, uint64_t, double>;

template <typename T>
Sum<T> Widen(T x) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<uint64_t>(x);  // modulo 2^64: the low bits of products are those of T
  } else {
    return static_cast<double>(static_cast<ComputeType<T>>(x));
  }
}

template <typename T>
T Narrow(Sum<T> sum, float alpha) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(sum);
  } else {
    return static_cast<T>(static_cast<ComputeType<T>>(sum * static_cast<double>(alpha)));
  }
}

struct MatmulPlan {
  int64_t m, n, k;
  int64_t a_row, a_step, b_column, b_step;    // strides in elements
  std::vector<int64_t> a_offsets, b_offsets;  // of each matrix of dst
  float alpha;
};

absl::StatusOr<MatmulPlan> PlanMatmul(const PlainMatmulParams& p) {
  using Transpose = PlainMatmulParams::Transpose;
  const auto bad = [&] {
    return absl::InvalidArgumentError(absl::StrCat(
        "matmul: ", NameOf(p.a.dtype), ShapeString(p.a.shape), " by ", NameOf(p.b.dtype),
        ShapeString(p.b.shape), " to ", NameOf(p.dst.dtype), ShapeString(p.dst.shape)));
  };
  if (p.a.shape.size() < 2 || p.b.shape.size() < 2 || p.a.dtype != p.b.dtype ||
      p.a.dtype != p.dst.dtype)
    return bad();
  const bool ta = p.transpose_a == Transpose::kYes, tb = p.transpose_b == Transpose::kYes;
  Shape a = p.a.shape, b = p.b.shape;
  const int64_t a_columns = a.back(), b_columns = b.back();
  if (ta) std::swap(a[a.size() - 1], a[a.size() - 2]);
  if (tb) std::swap(b[b.size() - 1], b[b.size() - 2]);
  const Shape a_batch(a.begin(), a.end() - 2), b_batch(b.begin(), b.end() - 2);
  OCTET_ASSIGN_OR_RETURN(const Shape batch, BroadcastShapes(a_batch, b_batch));
  Shape want = batch;
  want.push_back(a[a.size() - 2]);
  want.push_back(b.back());
  if (a.back() != b[b.size() - 2] || want != p.dst.shape) return bad();
  MatmulPlan plan;
  plan.m = a[a.size() - 2];
  plan.k = a.back();
  plan.n = b.back();
  plan.a_row = ta ? 1 : a_columns;
  plan.a_step = ta ? a_columns : 1;
  plan.b_column = tb ? b_columns : 1;
  plan.b_step = tb ? 1 : b_columns;
  plan.alpha = p.alpha;
  const auto offset_of = [&](const Index& at, const Shape& own, int64_t size) {
    const Shape strides = StridesOf(own);
    int64_t offset = 0;
    for (size_t d = 0; d < own.size(); ++d) {
      if (own[d] != 1) offset += at[batch.size() - own.size() + d] * strides[d];
    }
    return offset * size;
  };
  ForEachIndex(batch, [&](const Index& at) {
    plan.a_offsets.push_back(offset_of(at, a_batch, plan.m * plan.k));
    plan.b_offsets.push_back(offset_of(at, b_batch, plan.k * plan.n));
  });
  return plan;
}

template <typename T>
void MultiplyRow(const MatmulPlan& plan, int64_t row, const BindArgs& args) {
  const auto batch = static_cast<size_t>(row / plan.m);
  const T* a =
      static_cast<const T*>(args.src[0]) + plan.a_offsets[batch] + row % plan.m * plan.a_row;
  const T* b = static_cast<const T*>(args.src[1]) + plan.b_offsets[batch];
  T* dst = static_cast<T*>(args.dst[0]) + row * plan.n;
  for (int64_t n = 0; n < plan.n; ++n) {
    Sum<T> sum = 0;
    for (int64_t k = 0; k < plan.k; ++k) {
      sum += Widen<T>(a[k * plan.a_step]) * Widen<T>(b[k * plan.b_step + n * plan.b_column]);
    }
    dst[n] = Narrow<T>(sum, plan.alpha);
  }
}

template <typename T>
void NormalizeChannels(const PlainBatchNormParams& p, const BindArgs& args, int64_t begin,
                       int64_t end) {
  const int64_t channels = p.src.shape[1];
  const int64_t plane = NumElements(absl::MakeConstSpan(p.src.shape).subspan(2));
  const auto parameter = [&](size_t i, int64_t c) {
    return static_cast<double>(static_cast<const T*>(args.src[i])[c]);
  };
  for (int64_t i = begin; i < end; ++i) {
    const int64_t c = i % channels;
    const double factor = parameter(1, c) / std::sqrt(parameter(4, c) + p.epsilon);
    const T* src = static_cast<const T*>(args.src[0]) + i * plane;
    T* dst = static_cast<T*>(args.dst[0]) + i * plane;
    for (int64_t k = 0; k < plane; ++k) {
      dst[k] = static_cast<T>((static_cast<double>(src[k]) - parameter(3, c)) * factor +
                              parameter(2, c));
    }
  }
}

}  // namespace

Result CreatePlainConv(const PlainConvParams& params, const KernelEnv&) {
  if (absl::Status s = Validate(params); !s.ok()) return s;
  return WithFloat("conv", params.src.dtype, [&](auto t) -> Result {
    using T = decltype(t);
    const int64_t n = NumElements(params.dst.shape);
    const int64_t work = NumElements(absl::MakeConstSpan(params.weights.shape).subspan(1)) + 1;
    return MakeFunctionKernel("plain", 0, [params, n, work](const BindArgs& args) {
      RunParallel(args.parallel, n, kGrain / work + 1, [&](int64_t begin, int64_t end) {
        const Shape strides = StridesOf(params.dst.shape);
        Shape at = params.dst.shape;
        for (int64_t i = begin; i < end; ++i) {
          for (size_t d = 0; d < at.size(); ++d) at[d] = i / strides[d] % params.dst.shape[d];
          double sum = ConvElement<T>(params, static_cast<const T*>(args.src[0]),
                                      static_cast<const T*>(args.src[1]), at);
          if (params.has_bias)
            sum += static_cast<ComputeType<T>>(static_cast<const T*>(args.src[2])[at[1]]);
          static_cast<T*>(args.dst[0])[i] = static_cast<T>(static_cast<ComputeType<T>>(sum));
        }
      });
    });
  });
}

Result CreatePlainMatmul(const PlainMatmulParams& params, const KernelEnv&) {
  OCTET_ASSIGN_OR_RETURN(MatmulPlan plan, PlanMatmul(params));
  return WithType("matmul", params.dst.dtype, [&](auto t) -> Result {
    using T = decltype(t);
    const int64_t rows = plan.m * static_cast<int64_t>(plan.a_offsets.size());
    return MakeFunctionKernel("plain", 0, [plan = std::move(plan), rows](const BindArgs& args) {
      RunParallel(args.parallel, rows, kGrain / (plan.n * plan.k + 1) + 1,
                  [&](int64_t begin, int64_t end) {
                    for (int64_t row = begin; row < end; ++row) MultiplyRow<T>(plan, row, args);
                  });
    });
  });
}

Result CreatePlainBatchNorm(const PlainBatchNormParams& params, const KernelEnv&) {
  if (params.src.shape != params.dst.shape || params.src.dtype != params.dst.dtype ||
      params.src.shape.size() < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("batch normalization: ", ShapeString(params.src.shape), " to ",
                     ShapeString(params.dst.shape)));
  }
  const auto make = [&](auto t) -> Result {
    using T = decltype(t);
    return MakeFunctionKernel("plain", 0, [params](const BindArgs& args) {
      RunParallel(
          args.parallel, params.src.shape[0] * params.src.shape[1], 16,
          [&](int64_t begin, int64_t end) { NormalizeChannels<T>(params, args, begin, end); });
    });
  };
  if (params.src.dtype == DType::kF32) return make(float{});
  if (params.src.dtype == DType::kF64) return make(double{});
  return absl::UnimplementedError(
      absl::StrCat("batch normalization of ", NameOf(params.src.dtype)));
}

}  // namespace octet::kernels
