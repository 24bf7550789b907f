// Einsum in plain loops: one walk over the summed dimensions per result.
#include "kernels/plain/einsum.h"

#include <vector>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/plain/typed.h"

namespace octet::kernels {
namespace {

template <typename C>
using Sum = typename std::conditional_t<std::is_integral_v<C>, std::make_unsigned<C>,
                                        std::type_identity<C>>::type;

// The product of all operands at their current offsets, summed along one run of the innermost
// summed dimension.
template <typename T>
auto RunSum(const std::vector<const T*>& src, const int64_t* offsets, const LoopNest& inner,
            int64_t count) {
  using S = Sum<ComputeType<T>>;
  S sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    S product = 1;
    for (size_t k = 0; k < src.size(); ++k) {
      const T& element = src[k][offsets[k] + i * inner.strides[k].back()];
      product = static_cast<S>(product * static_cast<S>(static_cast<ComputeType<T>>(element)));
    }
    sum = static_cast<S>(sum + product);
  }
  return sum;
}

template <typename T>
void Range(const LoopNest& outer, const LoopNest& inner, int64_t summed, const BindArgs& args,
           int64_t begin, int64_t end) {
  using S = Sum<ComputeType<T>>;
  const size_t operands = outer.strides.size();
  T* dst = static_cast<T*>(args.dst[0]) + begin;
  std::vector<const T*> base(operands), at(operands);
  for (size_t k = 0; k < operands; ++k) base[k] = static_cast<const T*>(args.src[k]);
  ForEachRun(outer, begin, end, [&](const int64_t* offsets, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      for (size_t k = 0; k < operands; ++k)
        at[k] = base[k] + offsets[k] + i * outer.strides[k].back();
      S sum = 0;
      ForEachRun(inner, 0, summed, [&](const int64_t* inner_offsets, int64_t run) {
        sum = static_cast<S>(sum + RunSum<T>(at, inner_offsets, inner, run));
      });
      *dst++ = static_cast<T>(static_cast<ComputeType<T>>(sum));
    }
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateEinsum(const EinsumParams& p, const KernelEnv&) {
  const size_t rank = p.result.size();
  std::vector<Shape> outer_strides, inner_strides;
  for (const Shape& strides : p.strides) {
    if (strides.size() != rank + p.summed.size()) {
      return absl::InvalidArgumentError(absl::StrCat("einsum: ", strides.size(), " strides for ",
                                                     rank + p.summed.size(), " dimensions"));
    }
    outer_strides.emplace_back(strides.begin(),
                               strides.begin() + static_cast<std::ptrdiff_t>(rank));
    inner_strides.emplace_back(strides.begin() + static_cast<std::ptrdiff_t>(rank), strides.end());
  }
  OCTET_RETURN_IF_ERROR(WithType("einsum", p.dtype, [](auto) { return absl::OkStatus(); }));
  const LoopNest outer = MergeLoops(p.result, outer_strides),
                 inner = MergeLoops(p.summed, inner_strides);
  const int64_t n = NumElements(p.result), summed = NumElements(p.summed);
  return MakeCheckedKernel("loops", 0, [=, dtype = p.dtype](const BindArgs& args) -> absl::Status {
    return WithType("einsum", dtype, [&](auto t) {
      RunParallel(args.parallel, n, 8192 / (summed + 1) + 1, [&](int64_t begin, int64_t end) {
        Range<decltype(t)>(outer, inner, summed, args, begin, end);
      });
      return absl::OkStatus();
    });
  });
}

}  // namespace octet::kernels
