// Matrix functions in typed loops.
#include "kernels/plain/matrix.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/elements.h"
#include "kernels/plain/typed.h"

namespace octet::kernels {
namespace {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;

absl::Status CheckSame(absl::string_view what, const TensorSpec& src, const TensorSpec& dst,
                       size_t min_rank) {
  if (src.shape == dst.shape && src.dtype == dst.dtype && src.shape.size() >= min_rank)
    return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": ", NameOf(src.dtype), ShapeString(src.shape), " to ", NameOf(dst.dtype),
                   ShapeString(dst.shape), ", expected one form of rank ", min_rank, " or more"));
}

// The determinant of the n x n matrix `m`, which is destroyed.
double Determinant(double* m, int64_t n) {
  double det = 1;
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t r = k + 1; r < n; ++r) {
      if (std::fabs(m[r * n + k]) > std::fabs(m[pivot * n + k])) pivot = r;
    }
    if (m[pivot * n + k] == 0) return 0;
    if (pivot != k) {
      for (int64_t c = k; c < n; ++c) std::swap(m[pivot * n + c], m[k * n + c]);
      det = -det;
    }
    det *= m[k * n + k];
    for (int64_t r = k + 1; r < n; ++r) {
      const double factor = m[r * n + k] / m[k * n + k];
      for (int64_t c = k; c < n; ++c) m[r * n + c] -= factor * m[k * n + c];
    }
  }
  return det;
}

}  // namespace

Result CreateTrilu(const TriluParams& params, const KernelEnv&) {
  if (absl::Status s = CheckSame("trilu", params.src, params.dst, 2); !s.ok()) return s;
  return WithType("trilu", params.src.dtype, [&](auto t) -> Result {
    using T = decltype(t);
    return MakeFunctionKernel("plain", 0, [params](const BindArgs& args) {
      const T* src = static_cast<const T*>(args.src[0]);
      T* dst = static_cast<T*>(args.dst[0]);
      const int64_t k = params.has_k ? LoadInteger(DType::kS64, args.src[1], 0) : 0;
      const size_t rank = params.src.shape.size();
      const int64_t rows = params.src.shape[rank - 2], columns = params.src.shape[rank - 1];
      for (int64_t i = 0; i < NumElements(params.src.shape); ++i) {
        const int64_t c = i % columns, r = i / columns % rows;
        const bool kept = params.keep == Triangle::kUpper ? c - r >= k : c - r <= k;
        dst[i] = kept ? src[i] : T{};
      }
    });
  });
}

Result CreateEye(const EyeParams& params, const KernelEnv&) {
  if (params.dst.shape.size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("eye: result ", ShapeString(params.dst.shape), ", expected a matrix"));
  }
  return WithType("eye", params.dst.dtype, [&](auto t) -> Result {
    using T = decltype(t);
    return MakeFunctionKernel("plain", 0, [params](const BindArgs& args) {
      T* dst = static_cast<T*>(args.dst[0]);
      for (int64_t r = 0; r < params.dst.shape[0]; ++r) {
        for (int64_t c = 0; c < params.dst.shape[1]; ++c)
          *dst++ = T(static_cast<ComputeType<T>>(c - r == params.k ? 1 : 0));
      }
    });
  });
}

Result CreateDet(const DetParams& params, const KernelEnv&) {
  const Shape& shape = params.src.shape;
  const size_t rank = shape.size();
  if (rank < 2 || shape[rank - 1] != shape[rank - 2] || params.src.dtype != params.dst.dtype ||
      params.dst.shape != Shape(shape.begin(), shape.end() - 2)) {
    return absl::InvalidArgumentError(absl::StrCat("det: ", ShapeString(shape), " to ",
                                                   ShapeString(params.dst.shape),
                                                   ", expected square matrices"));
  }
  return WithFloat("det", params.src.dtype, [&](auto t) -> Result {
    using T = decltype(t);
    const int64_t n = shape[rank - 1], count = NumElements(params.dst.shape);
    return MakeFunctionKernel("plain", n * n * int64_t{sizeof(double)},
                              [n, count](const BindArgs& args) {
                                const T* src = static_cast<const T*>(args.src[0]);
                                T* dst = static_cast<T*>(args.dst[0]);
                                auto* matrix = static_cast<double*>(args.scratch);
                                for (int64_t i = 0; i < count; ++i) {
                                  for (int64_t k = 0; k < n * n; ++k)
                                    matrix[k] = static_cast<ComputeType<T>>(src[i * n * n + k]);
                                  dst[i] = T(static_cast<ComputeType<T>>(Determinant(matrix, n)));
                                }
                              });
  });
}

Result CreateHardmax(const HardmaxParams& params, const KernelEnv&) {
  if (absl::Status s = CheckSame("hardmax", params.src, params.dst, 1); !s.ok()) return s;
  const Shape& shape = params.src.shape;
  int64_t inner = 1;
  for (size_t i = static_cast<size_t>(params.axis) + 1; i < shape.size(); ++i) inner *= shape[i];
  const int64_t n = shape[static_cast<size_t>(params.axis)];
  const int64_t lines = n == 0 ? 0 : NumElements(shape) / n;
  return WithFloat("hardmax", params.src.dtype, [&](auto t) -> Result {
    using T = decltype(t);
    return MakeFunctionKernel("plain", 0, [inner, n, lines](const BindArgs& args) {
      for (int64_t line = 0; line < lines; ++line) {
        const int64_t base = line / inner * inner * n + line % inner;
        const T* src = static_cast<const T*>(args.src[0]) + base;
        T* dst = static_cast<T*>(args.dst[0]) + base;
        int64_t best = 0;
        for (int64_t i = 1; i < n; ++i) {
          if (static_cast<ComputeType<T>>(src[i * inner]) >
              static_cast<ComputeType<T>>(src[best * inner]))
            best = i;
        }
        for (int64_t i = 0; i < n; ++i)
          dst[i * inner] = T(static_cast<ComputeType<T>>(i == best ? 1 : 0));
      }
    });
  });
}

}  // namespace octet::kernels
