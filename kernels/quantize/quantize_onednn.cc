// Convert by oneDNN's reorder: layout changes, alone or together with (re)quantization per tensor.
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/onednn.h"
#include "kernels/quantize/quantize.h"

namespace octet::kernels {
namespace {

bool IsReal(const TensorSpec& s) {
  return !s.quant && (s.dtype == DType::kF32 || s.dtype == DType::kF16 || s.dtype == DType::kBF16);
}

// Scale and zero point of one side, and where their arguments go.
void AddQuant(const TensorSpec& spec, int which, dnnl::primitive_attr& attr,
              DnnlKernelParts& parts) {
  if (!spec.quant) return;
  const dnnl::memory::dims one{1};
  const auto add = [&](int arg, auto value, dnnl::memory::data_type type) {
    auto owner = std::make_shared<decltype(value)>(value);
    parts.arguments.push_back({arg | which, DnnlArgument::From::kConstant,
                               static_cast<int>(parts.constants.size()),
                               dnnl::memory::desc(one, type, dnnl::memory::dims{1})});
    parts.constants.push_back(owner.get());
    parts.owners.push_back(std::move(owner));
  };
  attr.set_scales_mask(which, 0);
  add(DNNL_ARG_ATTR_SCALES, spec.quant->scale[0], dnnl::memory::data_type::f32);
  if (spec.quant->zero_point_at(0) != 0) {
    attr.set_zero_points_mask(which, 0);
    add(DNNL_ARG_ATTR_ZERO_POINTS, spec.quant->zero_point_at(0), dnnl::memory::data_type::s32);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateConvertOneDnn(const ConvertParams& params,
                                                            const KernelEnv&) {
  const bool move_only =
      params.src.dtype == params.dst.dtype && params.src.quant == params.dst.quant;
  const auto is_side = [](const TensorSpec& s) { return IsReal(s) || IsQuantized8(s); };
  if (!move_only && !(is_side(params.src) && is_side(params.dst))) {
    return absl::UnimplementedError("neither a move nor between floats and per-tensor 8 bits");
  }
  if (!move_only && params.dst.quant && params.dst.quant->zero_point_at(0) % 2 != 0) {
    // It rounds x / scale + zero_point: half to even then depends on the zero point's parity.
    return absl::UnimplementedError("ties would round to odd with an odd zero point");
  }
  if (NumElements(params.src.shape) == 0) return absl::UnimplementedError("empty");
  OCTET_ASSIGN_OR_RETURN(const dnnl::memory::desc src, DnnlDesc(params.src));
  OCTET_ASSIGN_OR_RETURN(const dnnl::memory::desc dst, DnnlDesc(params.dst));
  DnnlKernelParts parts;
  dnnl::reorder::primitive_desc pd;
  OCTET_RETURN_IF_ERROR(DnnlCall("reorder", [&] {
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (!move_only) {
      AddQuant(params.src, DNNL_ARG_SRC, attr, parts);
      AddQuant(params.dst, DNNL_ARG_DST, attr, parts);
    }
    pd = dnnl::reorder::primitive_desc(CpuEngine(), src, CpuEngine(), dst, attr);
    parts.primitive = dnnl::reorder(pd);
  }));
  const std::string name = ImplName(pd);
  if (IsReferenceImpl(name))
    return absl::UnimplementedError(absl::StrCat("oneDNN has only ", name));
  parts.implementation = absl::StrCat("onednn:", name);
  parts.arguments.push_back({DNNL_ARG_SRC, DnnlArgument::From::kSrc, 0, src});
  parts.arguments.push_back({DNNL_ARG_DST, DnnlArgument::From::kDst, 0, dst});
  parts.arguments.push_back(
      {DNNL_ARG_SCRATCHPAD, DnnlArgument::From::kScratch, 0, pd.scratchpad_desc()});
  parts.scratch_bytes = static_cast<int64_t>(pd.scratchpad_desc().get_size());
  return MakeDnnlKernel(std::move(parts));
}

}  // namespace octet::kernels
