// Pool by oneDNN's pooling primitive.
//
// A change of quantization behind an average is a linear post-op, since averages commute with it:
//   dst = round(x * src_scale / dst_scale + dst_zero_point - src_zero_point * src_scale /
//   dst_scale),  x = mean of stored
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/onednn.h"
#include "kernels/pool/pool.h"

namespace octet::kernels {
namespace {

using Dims = dnnl::memory::dims;

// Padding behind the source that makes oneDNN's size formula give dst's shape (ceil_mode reaches
// past the declared pads).
Dims NeededPadsEnd(const PoolParams& p) {
  Dims out;
  for (size_t i = 0; i < p.kernel.size(); ++i) {
    const int64_t extent = (p.kernel[i] - 1) * p.dilations[i] + 1;
    const int64_t end = (p.dst.shape[i + 2] - 1) * p.strides[i] + extent;
    out.push_back(std::max<int64_t>(0, end - p.pads_begin[i] - p.src.shape[i + 2]));
  }
  return out;
}

absl::Status CheckPadding(const PoolParams& p, const Dims& pads_end) {
  if (p.kind != PoolParams::Kind::kAverageIncludePad) return absl::OkStatus();
  bool padded = false;
  for (size_t i = 0; i < pads_end.size(); ++i) {
    padded = padded || p.pads_begin[i] > 0 || pads_end[i] > 0;
    if (pads_end[i] > p.pads_end[i]) {
      return absl::UnimplementedError(
          "oneDNN divides by the whole window, also beyond the declared padding");
    }
  }
  if (padded && p.src.quant && p.src.quant->zero_point_at(0) != 0) {
    return absl::UnimplementedError(
        "oneDNN pads with the stored value 0, which is not the real 0 here");
  }
  return absl::OkStatus();
}

absl::Status AddRequantization(const PoolParams& p, dnnl::primitive_attr& attr) {
  if (p.src.quant == p.dst.quant) return absl::OkStatus();
  const double from = p.src.quant ? double{p.src.quant->scale[0]} : 1;
  const double to = p.dst.quant ? double{p.dst.quant->scale[0]} : 1;
  const double src_zero = p.src.quant ? p.src.quant->zero_point_at(0) : 0;
  const double dst_zero = p.dst.quant ? p.dst.quant->zero_point_at(0) : 0;
  return DnnlCall("pool", [&] {
    dnnl::post_ops post_ops;
    post_ops.append_eltwise(dnnl::algorithm::eltwise_linear, static_cast<float>(from / to),
                            static_cast<float>(dst_zero - src_zero * from / to));
    attr.set_post_ops(post_ops);
  });
}

dnnl::algorithm AlgorithmOf(PoolParams::Kind kind) {
  switch (kind) {
    case PoolParams::Kind::kMax:
      return dnnl::algorithm::pooling_max;
    case PoolParams::Kind::kAverage:
      return dnnl::algorithm::pooling_avg_exclude_padding;
    case PoolParams::Kind::kAverageIncludePad:
      return dnnl::algorithm::pooling_avg_include_padding;
  }
  return dnnl::algorithm::undef;
}

absl::StatusOr<std::unique_ptr<Kernel>> Create(const PoolParams& p) {
  if (NumElements(p.dst.shape) == 0) return absl::UnimplementedError("empty tensor");
  const Dims pads_end = NeededPadsEnd(p);
  OCTET_RETURN_IF_ERROR(CheckPadding(p, pads_end));
  OCTET_ASSIGN_OR_RETURN(const dnnl::memory::desc src, DnnlDesc(p.src));
  OCTET_ASSIGN_OR_RETURN(const dnnl::memory::desc dst, DnnlDesc(p.dst));
  dnnl::primitive_attr attr;
  OCTET_RETURN_IF_ERROR(AddRequantization(p, attr));
  Dims dilations(p.dilations.begin(), p.dilations.end());
  for (int64_t& dilation : dilations) --dilation;
  DnnlKernelParts parts;
  dnnl::pooling_forward::primitive_desc pd;
  OCTET_RETURN_IF_ERROR(DnnlCall("pool", [&] {
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    pd = dnnl::pooling_forward::primitive_desc(CpuEngine(), dnnl::prop_kind::forward_inference,
                                               AlgorithmOf(p.kind), src, dst, p.strides, p.kernel,
                                               dilations, p.pads_begin, pads_end, attr);
    parts.primitive = dnnl::pooling_forward(pd);
  }));
  parts.implementation = absl::StrCat("onednn:", ImplName(pd));
  parts.scratch_bytes = static_cast<int64_t>(pd.scratchpad_desc().get_size());
  parts.arguments = {{DNNL_ARG_SRC, DnnlArgument::From::kSrc, 0, src},
                     {DNNL_ARG_DST, DnnlArgument::From::kDst, 0, dst},
                     {DNNL_ARG_SCRATCHPAD, DnnlArgument::From::kScratch, 0, pd.scratchpad_desc()}};
  return MakeDnnlKernel(std::move(parts));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreatePoolOneDnn(const PoolParams& params,
                                                         const KernelEnv&) {
  absl::StatusOr<std::unique_ptr<Kernel>> kernel = Create(params);
  if (kernel.ok() || absl::IsResourceExhausted(kernel.status())) return kernel;
  return absl::UnimplementedError(kernel.status().message());
}

}  // namespace octet::kernels
