// Softplus from Highway's exponential and logarithm: oneDNN's is off by 6e-6 where the result is
// small.
//
//   softplus(x) = max(x, 0) + log1p(exp(-|x|))
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/activation/activation_math.cc"
#include "hwy/foreach_target.h"  // NOLINT: must come before highway.h
#include "hwy/highway.h"

#include "hwy/contrib/math/math-inl.h"
#include "kernels/activation/activation.h"
#include "kernels/elements.h"

HWY_BEFORE_NAMESPACE();
namespace octet::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename D>
HWY_INLINE hn::Vec<D> Softplus(D d, hn::Vec<D> x) {
  const auto tail = hn::CallLog1p(d, hn::CallExp(d, hn::Neg(hn::Abs(x))));
  const auto y = hn::Add(hn::Max(x, hn::Zero(d)), tail);
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

void SoftplusRow(const float* src, int64_t n, float* dst) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(Softplus(d, hn::LoadU(d, src + i)), d, dst + i);
  const hn::CappedTag<float, 1> one;
  for (; i < n; ++i) hn::StoreU(Softplus(one, hn::LoadU(one, src + i)), one, dst + i);
}

}  // namespace HWY_NAMESPACE
}  // namespace octet::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octet::kernels {

HWY_EXPORT(SoftplusRow);

absl::StatusOr<std::unique_ptr<Kernel>> CreateActivationMath(const ActivationParams& params,
                                                             const KernelEnv&) {
  if (params.activation.kind != ActivationKind::kSoftplus || !IsPlainF32(params.src) ||
      !IsPlainF32(params.dst)) {
    return absl::UnimplementedError("only softplus of f32");
  }
  return MakeFunctionKernel(
      "highway", 0, [n = NumElements(params.dst.shape)](const BindArgs& args) {
        const auto* src = static_cast<const float*>(args.src[0]);
        auto* dst = static_cast<float*>(args.dst[0]);
        RunParallel(args.parallel, n, kGrainBytes / 16, [&](int64_t begin, int64_t end) {
          HWY_DYNAMIC_DISPATCH(SoftplusRow)(src + begin, end - begin, dst + begin);
        });
      });
}

}  // namespace octet::kernels
#endif  // HWY_ONCE
