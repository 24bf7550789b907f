// LRN: oneDNN's primitive for windows that are symmetric, plain loops for the others.
#include "kernels/normalize/lrn.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/onednn.h"
#include "kernels/onednn_product.h"

namespace octet::kernels {
namespace {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;

Result CreateOneDnn(const LrnParams& p, const KernelEnv&) {
  if (NumElements(p.src.shape) == 0) return absl::UnimplementedError("empty tensor");
  if (p.size % 2 == 0) return absl::UnimplementedError("oneDNN's windows are symmetric");
  if (p.src.shape.size() > 5) return absl::UnimplementedError("rank above 5");
  OCTET_ASSIGN_OR_RETURN(const dnnl::memory::desc desc, DnnlDesc(p.src));
  DnnlKernelParts parts;
  const absl::Status made = DnnlCall("lrn", [&] {
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::lrn_forward::primitive_desc pd(CpuEngine(), dnnl::prop_kind::forward_inference,
                                               dnnl::algorithm::lrn_across_channels, desc, desc, p.size, p.alpha, p.beta,
                                               p.bias, attr);
    parts.implementation = absl::StrCat("onednn:", ImplName(pd));
    parts.primitive = dnnl::lrn_forward(pd);
    parts.scratch_bytes = static_cast<int64_t>(pd.scratchpad_desc().get_size());
    parts.arguments = {{DNNL_ARG_SRC, DnnlArgument::From::kSrc, 0, desc},
                       {DNNL_ARG_DST, DnnlArgument::From::kDst, 0, desc},
                       {DNNL_ARG_SCRATCHPAD, DnnlArgument::From::kScratch, 0, pd.scratchpad_desc()}};
  });
  if (!made.ok()) return AsRefusal(made);
  if (IsReferenceImpl(parts.implementation)) return absl::UnimplementedError("oneDNN has only its reference");
  return MakeDnnlKernel(std::move(parts));
}

void Run(const LrnParams& p, const BindArgs& args) {
  const auto* src = static_cast<const float*>(args.src[0]);
  auto* dst = static_cast<float*>(args.dst[0]);
  const int64_t channels = p.src.shape[1];
  const int64_t step = StridesIn(p.src)[1];
  const Shape strides = StridesIn(p.src);
  Shape others = p.src.shape;
  others[1] = 1;
  ForEachIndex(others, [&](const Index& at) {
    const int64_t base = Offset(strides, at);
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t first = std::max<int64_t>(0, c - (p.size - 1) / 2);
      const int64_t last = std::min(channels - 1, c + p.size / 2);
      double squares = 0;
      for (int64_t i = first; i <= last; ++i) {
        const double x = src[base + i * step];
        squares += x * x;
      }
      const double power = std::pow(p.bias + p.alpha / static_cast<double>(p.size) * squares, p.beta);
      dst[base + c * step] = static_cast<float>(src[base + c * step] / power);
    }
  });
}

Result CreateReference(const LrnParams& params, const KernelEnv&) {
  return MakeFunctionKernel("reference", 0, [params](const BindArgs& args) { Run(params, args); });
}

}  // namespace

absl::Span<const Implementation<LrnParams>> LrnImplementations() {
  static constexpr Implementation<LrnParams> kList[] = {{"onednn", CreateOneDnn}, {"reference", CreateReference}};
  return kList;
}

Result CreateLrn(const LrnParams& p, const KernelEnv& env) {
  if (p.src.shape != p.dst.shape || !SameMemoryOrder(p.src, p.dst) || p.src.shape.size() < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("lrn: src ", ShapeString(p.src.shape), " and dst ", ShapeString(p.dst.shape),
                     " must have one shape and layout, of rank 2 or more"));
  }
  if (!IsPlainF32(p.src) || !IsPlainF32(p.dst)) return absl::InvalidArgumentError("lrn: src and dst must be f32");
  if (p.size < 1) return absl::InvalidArgumentError(absl::StrCat("lrn: size is ", p.size, ", expected at least 1"));
  return Select(LrnImplementations(), p, env);
}

}  // namespace octet::kernels
