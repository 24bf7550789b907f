// Activation by oneDNN's eltwise: f32 and 16-bit floats.
#include "base/status.h"
#include "kernels/activation/activation.h"
#include "kernels/elements.h"
#include "kernels/onednn_product.h"

namespace octet::kernels {
absl::StatusOr<std::unique_ptr<Kernel>> CreateActivationOneDnn(const ActivationParams& params,
                                                               const KernelEnv&) {
  OCTET_ASSIGN_OR_RETURN(const Eltwise f, EltwiseOf(params.activation));
  const DType dtype = params.src.dtype;
  const bool is_float = dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
  if (!is_float || params.dst.dtype != dtype)
    return absl::UnimplementedError("not from a float to itself");
  if (NumElements(params.dst.shape) == 0) return absl::UnimplementedError("empty");
  OCTET_ASSIGN_OR_RETURN(const dnnl::memory::desc desc, DnnlDesc(params.src));
  DnnlKernelParts parts;
  dnnl::eltwise_forward::primitive_desc pd;
  OCTET_RETURN_IF_ERROR(DnnlCall("eltwise", [&] {
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    pd = dnnl::eltwise_forward::primitive_desc(CpuEngine(), dnnl::prop_kind::forward_inference,
                                               f.algorithm, desc, desc, f.alpha, f.beta, attr);
    parts.primitive = dnnl::eltwise_forward(pd);
  }));
  const std::string name = ImplName(pd);
  if (IsReferenceImpl(name))
    return absl::UnimplementedError(absl::StrCat("oneDNN has only ", name));
  parts.implementation = absl::StrCat("onednn:", name);
  parts.arguments = {{DNNL_ARG_SRC, DnnlArgument::From::kSrc, 0, desc},
                     {DNNL_ARG_DST, DnnlArgument::From::kDst, 0, desc},
                     {DNNL_ARG_SCRATCHPAD, DnnlArgument::From::kScratch, 0, pd.scratchpad_desc()}};
  parts.scratch_bytes = static_cast<int64_t>(pd.scratchpad_desc().get_size());
  return MakeDnnlKernel(std::move(parts));
}

}  // namespace octet::kernels
