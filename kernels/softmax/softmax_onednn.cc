// Softmax by oneDNN.
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/onednn.h"
#include "kernels/softmax/softmax.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateSoftmaxOneDnn(const SoftmaxParams& params,
                                                            const KernelEnv&) {
  if (!IsPlainF32(params.src) || !IsPlainF32(params.dst))
    return absl::UnimplementedError("not f32");
  if (NumElements(params.src.shape) == 0) return absl::UnimplementedError("empty");
  OCTET_ASSIGN_OR_RETURN(const dnnl::memory::desc desc, DnnlDesc(params.src));
  const dnnl::algorithm algorithm = params.form == SoftmaxParams::Form::kSoftmax
                                        ? dnnl::algorithm::softmax_accurate
                                        : dnnl::algorithm::softmax_log;
  DnnlKernelParts parts;
  dnnl::softmax_forward::primitive_desc pd;
  OCTET_RETURN_IF_ERROR(DnnlCall("softmax", [&] {
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    pd = dnnl::softmax_forward::primitive_desc(CpuEngine(), dnnl::prop_kind::forward_inference,
                                               algorithm, desc, desc, params.axis, attr);
    parts.primitive = dnnl::softmax_forward(pd);
  }));
  // Its reference loop is kept: vectorised where lines are dense, and in parallel, unlike ours.
  parts.implementation = absl::StrCat("onednn:", ImplName(pd));
  parts.arguments = {{DNNL_ARG_SRC, DnnlArgument::From::kSrc, 0, desc},
                     {DNNL_ARG_DST, DnnlArgument::From::kDst, 0, desc},
                     {DNNL_ARG_SCRATCHPAD, DnnlArgument::From::kScratch, 0, pd.scratchpad_desc()}};
  parts.scratch_bytes = static_cast<int64_t>(pd.scratchpad_desc().get_size());
  return MakeDnnlKernel(std::move(parts));
}

}  // namespace octet::kernels
