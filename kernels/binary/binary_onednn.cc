// Binary by oneDNN: f32 and 16-bit floats, operands that it broadcasts without its reference loop.
#include "base/status.h"
#include "kernels/binary/binary_reference.h"
#include "kernels/onednn.h"

namespace octet::kernels {
namespace {

absl::StatusOr<dnnl::algorithm> AlgorithmOf(BinaryKind kind) {
  switch (kind) {
    case BinaryKind::kAdd:
      return dnnl::algorithm::binary_add;
    case BinaryKind::kSub:
      return dnnl::algorithm::binary_sub;
    case BinaryKind::kMul:
      return dnnl::algorithm::binary_mul;
    case BinaryKind::kDiv:
      return dnnl::algorithm::binary_div;
    case BinaryKind::kMax:
      return dnnl::algorithm::binary_max;
    case BinaryKind::kMin:
      return dnnl::algorithm::binary_min;
    default:
      return absl::UnimplementedError(absl::StrCat("no algorithm for ", NameOf(kind)));
  }
}

// oneDNN wants equal ranks: leading dimensions of 1 are added. Channels-last operands have dst's
// rank already.
TensorSpec WithRank(TensorSpec spec, const TensorSpec& dst) {
  if (spec.shape.size() != dst.shape.size()) spec.layout = Layout::kPlain;
  while (spec.shape.size() < dst.shape.size()) spec.shape.insert(spec.shape.begin(), 1);
  return spec;
}

bool IsFloatOf(const TensorSpec& s, DType dtype) { return s.dtype == dtype && !s.quant; }

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateBinaryOneDnn(const BinaryParams& params,
                                                           const KernelEnv&) {
  OCTET_ASSIGN_OR_RETURN(const dnnl::algorithm algorithm, AlgorithmOf(params.kind));
  for (const TensorSpec* s : {&params.a, &params.b, &params.dst}) {
    if (!IsFloatOf(*s, DType::kF32) && !IsFloatOf(*s, DType::kBF16) &&
        !IsFloatOf(*s, DType::kF16)) {
      return absl::UnimplementedError("an operand is no float");
    }
  }
  if (params.a.shape != params.dst.shape)
    return absl::UnimplementedError("the first operand broadcasts");
  if (!params.post_ops.empty()) return absl::UnimplementedError("post-ops");
  if (NumElements(params.dst.shape) == 0) return absl::UnimplementedError("empty");
  OCTET_ASSIGN_OR_RETURN(const dnnl::memory::desc a, DnnlDesc(params.a));
  OCTET_ASSIGN_OR_RETURN(const dnnl::memory::desc b, DnnlDesc(WithRank(params.b, params.dst)));
  OCTET_ASSIGN_OR_RETURN(const dnnl::memory::desc dst, DnnlDesc(params.dst));
  DnnlKernelParts parts;
  dnnl::binary::primitive_desc pd;
  OCTET_RETURN_IF_ERROR(DnnlCall("binary", [&] {
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    pd = dnnl::binary::primitive_desc(CpuEngine(), algorithm, a, b, dst, attr);
    parts.primitive = dnnl::binary(pd);
  }));
  const std::string name = ImplName(pd);
  if (IsReferenceImpl(name))
    return absl::UnimplementedError(absl::StrCat("oneDNN has only ", name));
  parts.implementation = absl::StrCat("onednn:", name);
  parts.arguments = {{DNNL_ARG_SRC_0, DnnlArgument::From::kSrc, 0, a},
                     {DNNL_ARG_SRC_1, DnnlArgument::From::kSrc, 1, b},
                     {DNNL_ARG_DST, DnnlArgument::From::kDst, 0, dst},
                     {DNNL_ARG_SCRATCHPAD, DnnlArgument::From::kScratch, 0, pd.scratchpad_desc()}};
  parts.scratch_bytes = static_cast<int64_t>(pd.scratchpad_desc().get_size());
  return MakeDnnlKernel(std::move(parts));
}

}  // namespace octet::kernels
