// CumSum in plain loops; lanes are shared out among threads.
#include "kernels/plain/cum_sum.h"

#include <algorithm>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/plain/index_checks.h"
#include "kernels/plain/typed.h"

namespace octet::kernels {
namespace {

// Unsigned where the elements are integers, so that overflow wraps.
template <typename T>
struct Accumulator {
  using C = ComputeType<T>;
  using Type = typename std::conditional_t<std::is_integral_v<C>, std::make_unsigned<C>,
                                           std::type_identity<C>>::type;
};

template <typename T>
void Lanes(const CumSumParams& p, size_t axis, const T* src, T* dst, int64_t begin, int64_t end) {
  using A = typename Accumulator<T>::Type;
  const absl::Span<const int64_t> shape = p.src.shape;
  const int64_t size = shape[axis], inner = NumElements(shape.subspan(axis + 1));
  const bool reverse = p.direction == CumSumParams::Direction::kReverse;
  const bool exclusive = p.start == CumSumParams::Start::kExclusive;
  constexpr int64_t kBlock = 64;  // lanes side by side in memory
  for (int64_t lane = begin; lane < end;) {
    const int64_t count = std::min({kBlock, end - lane, inner - lane % inner});
    const int64_t base = lane / inner * size * inner + lane % inner;
    A sum[kBlock] = {};
    for (int64_t j = 0; j < size; ++j) {
      const int64_t at = base + (reverse ? size - 1 - j : j) * inner;
      for (int64_t i = 0; i < count; ++i) {
        const A value = static_cast<A>(static_cast<ComputeType<T>>(src[at + i]));
        const A with = static_cast<A>(sum[i] + value);
        dst[at + i] = static_cast<T>(static_cast<ComputeType<T>>(exclusive ? sum[i] : with));
        sum[i] = with;
      }
    }
    lane += count;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateCumSum(const CumSumParams& p, const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckIndexType("cumulative sum", p.axis.dtype));
  OCTET_RETURN_IF_ERROR(
      WithType("cumulative sum", p.src.dtype, [](auto) { return absl::OkStatus(); }));
  if (NumElements(p.axis.shape) != 1 || p.src.shape.empty() || p.src.quant.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat("cumulative sum: axis of shape ",
                                                   ShapeString(p.axis.shape), " for ",
                                                   ShapeString(p.src.shape)));
  }
  return MakeCheckedKernel("lanes", 0, [p](const BindArgs& args) -> absl::Status {
    const auto rank = static_cast<int64_t>(p.src.shape.size());
    const int64_t index = LoadInteger(p.axis.dtype, args.src[1], 0);
    const int64_t axis = ResolveIndex(index, rank);
    if (axis < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("cumulative sum: axis ", index, " is outside [-", rank, ", ", rank, ")"));
    }
    const int64_t size = p.src.shape[static_cast<size_t>(axis)];
    const int64_t lanes = size == 0 ? 0 : NumElements(p.src.shape) / size;
    return WithType("cumulative sum", p.src.dtype, [&](auto t) {
      using T = decltype(t);
      RunParallel(args.parallel, lanes, kGrainBytes / 4 / (size + 1) + 1,
                  [&](int64_t begin, int64_t end) {
                    Lanes(p, static_cast<size_t>(axis), static_cast<const T*>(args.src[0]),
                          static_cast<T*>(args.dst[0]), begin, end);
                  });
      return absl::OkStatus();
    });
  });
}

}  // namespace octet::kernels
