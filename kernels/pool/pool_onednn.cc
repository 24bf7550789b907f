// Pool by oneDNN's pooling primitive: f32, and 8-bit storage where source and result share their parameters.
#include <algorithm>
#include <utility>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/onednn.h"
#include "kernels/pool/pool_lists.h"

namespace octet::kernels {
namespace {

// Averages of stored integers are averages of reals as long as no padding (stored 0, not the zero point) is counted.
absl::Status Accepts(const PoolParams& p) {
  const bool padded = std::any_of(p.pads_begin.begin(), p.pads_begin.end(), [](int64_t v) { return v != 0; }) ||
                      std::any_of(p.pads_end.begin(), p.pads_end.end(), [](int64_t v) { return v != 0; });
  if (p.src.quant.has_value() || p.dst.quant.has_value()) {
    if (p.src.quant != p.dst.quant || p.src.dtype != p.dst.dtype) {
      return absl::UnimplementedError("source and result have different quantization");
    }
    if (p.kind == PoolParams::Kind::kAverageIncludePad && padded && p.src.quant->zero_point_at(0) != 0) {
      return absl::UnimplementedError("counts padding with a zero point");
    }
  }
  if (!IsQuantized8(p.src) && !IsPlainF32(p.src)) return absl::UnimplementedError("storage type");
  if (NumElements(p.src.shape) == 0 || NumElements(p.dst.shape) == 0) return absl::UnimplementedError("empty tensor");
  for (size_t d = 0; d < p.kernel.size(); ++d) {
    // A window that lies in padding alone: oneDNN refuses or gives its smallest value.
    const int64_t extent = (p.kernel[d] - 1) * p.dilations[d] + 1;
    if (p.pads_begin[d] >= extent || p.pads_end[d] >= extent) {
      return absl::UnimplementedError("padding as wide as the window");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreatePoolOneDnn(const PoolParams& p, const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(Accepts(p));
  OCTET_ASSIGN_OR_RETURN(const dnnl::memory::desc src, DnnlDesc(p.src));
  OCTET_ASSIGN_OR_RETURN(const dnnl::memory::desc dst, DnnlDesc(p.dst));
  const dnnl::algorithm algorithm = p.kind == PoolParams::Kind::kMax       ? dnnl::algorithm::pooling_max
                                    : p.kind == PoolParams::Kind::kAverage ? dnnl::algorithm::pooling_avg_exclude_padding
                                                                           : dnnl::algorithm::pooling_avg_include_padding;
  using Dims = dnnl::memory::dims;
  Dims dilations;
  for (int64_t d : p.dilations) dilations.push_back(d - 1);
  DnnlKernelParts parts;
  OCTET_RETURN_IF_ERROR(DnnlCall("pooling", [&] {
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::pooling_forward::primitive_desc pd(
        CpuEngine(), dnnl::prop_kind::forward_inference, algorithm, src, dst, Dims(p.strides.begin(), p.strides.end()),
        Dims(p.kernel.begin(), p.kernel.end()), dilations, Dims(p.pads_begin.begin(), p.pads_begin.end()),
        Dims(p.pads_end.begin(), p.pads_end.end()), attr);
    parts.implementation = "onednn:" + ImplName(pd);
    parts.primitive = dnnl::pooling_forward(pd);
    parts.scratch_bytes = static_cast<int64_t>(pd.scratchpad_desc().get_size());
    using From = DnnlArgument::From;
    parts.arguments = {{DNNL_ARG_SRC, From::kSrc, 0, src},
                       {DNNL_ARG_DST, From::kDst, 0, dst},
                       {DNNL_ARG_SCRATCHPAD, From::kScratch, 0, pd.scratchpad_desc()}};
  }));
  return MakeDnnlKernel(std::move(parts));
}

}  // namespace octet::kernels
