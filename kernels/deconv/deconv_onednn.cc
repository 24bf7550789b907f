// Transposed convolution by oneDNN's deconvolution primitive; weights are packed once per layout ("<id>/deconv/<layout>").
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/deconv/deconv.h"
#include "kernels/elements.h"
#include "kernels/onednn_product.h"

namespace octet::kernels {
namespace {

using Dims = dnnl::memory::dims;
using Tag = dnnl::memory::format_tag;

// ONNX [C, O/groups, kernel...] as oneDNN names it: [groups,] O/groups, C/groups, kernel...
struct WeightsView {
  Dims dims, strides;

  explicit WeightsView(const DeconvParams& p) {
    int64_t taps = 1;
    for (size_t d = 2; d < p.weights_shape.size(); ++d) taps *= p.weights_shape[d];
    const int64_t outputs = p.weights_shape[1], channels = p.weights_shape[0] / p.groups;
    if (p.groups > 1) {
      dims.push_back(p.groups);
      strides.push_back(channels * outputs * taps);
    }
    dims.insert(dims.end(), {outputs, channels});
    strides.insert(strides.end(), {taps, outputs * taps});
    for (size_t d = 2; d < p.weights_shape.size(); ++d) {
      dims.push_back(p.weights_shape[d]);
      taps /= p.weights_shape[d];
      strides.push_back(taps);
    }
  }
};

absl::StatusOr<std::unique_ptr<Kernel>> Create(const DeconvParams& p, const KernelEnv& env) {
  ConstantArguments constants(env);
  dnnl::primitive_attr attr;
  dnnl::post_ops post_ops;
  OCTET_RETURN_IF_ERROR(AppendPostOps(p.post_ops, p.dst, post_ops));
  dnnl::memory::desc bias, any, plain;
  const WeightsView view(p);
  OCTET_RETURN_IF_ERROR(DnnlCall("deconvolution", [&] {
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    attr.set_post_ops(post_ops);
    any = dnnl::memory::desc(view.dims, dnnl::memory::data_type::f32, Tag::any);
    plain = dnnl::memory::desc(view.dims, dnnl::memory::data_type::f32, view.strides);
    if (p.has_bias) bias = dnnl::memory::desc({p.dst.shape[1]}, dnnl::memory::data_type::f32, Tag::a);
  }));
  OCTET_RETURN_IF_ERROR(constants.AddQuantization(p.src, p.dst, p.weights.id, "deconv_quant", attr));
  if (p.has_bias) OCTET_RETURN_IF_ERROR(constants.AddBias({p.bias, "deconv_bias", p.dst.shape[1], 1}));
  Dims dilates = p.dilations, ends;
  for (size_t i = 0; i < p.strides.size(); ++i) {
    --dilates[i];
    const int64_t span = (p.weights_shape[i + 2] - 1) * p.dilations[i] + 1;
    ends.push_back((p.src.shape[i + 2] - 1) * p.strides[i] + span - p.pads_begin[i] - p.dst.shape[i + 2]);
  }
  OCTET_ASSIGN_OR_RETURN(const dnnl::memory::desc src, DnnlDesc(p.src));
  OCTET_ASSIGN_OR_RETURN(const dnnl::memory::desc dst, DnnlDesc(p.dst));
  const std::string prefix = absl::StrCat(p.weights.id, "/deconv/");
  OCTET_ASSIGN_OR_RETURN(
      const dnnl::primitive_desc pd,
      ChooseWeightsLayout(constants.store(), prefix, any, p.weights.tensor,
                          [&](const dnnl::memory::desc& weights) -> absl::StatusOr<dnnl::primitive_desc> {
                            dnnl::primitive_desc made;
                            OCTET_RETURN_IF_ERROR(DnnlCall("deconvolution", [&] {
                              made = dnnl::deconvolution_forward::primitive_desc(
                                  CpuEngine(), dnnl::prop_kind::forward_inference,
                                  dnnl::algorithm::deconvolution_direct, src, weights, bias, dst, p.strides, dilates,
                                  p.pads_begin, ends, attr);
                            }));
                            return made;
                          }));
  if (IsReferenceImpl(ImplName(pd))) return absl::UnimplementedError("oneDNN has only its reference");
  const dnnl::memory::desc weights = pd.query_md(dnnl::query::weights_md);
  OCTET_ASSIGN_OR_RETURN(auto packed, PackWeights(constants.store(), prefix, p.weights.tensor, plain, weights));
  constants.Add(DNNL_ARG_WEIGHTS, weights, std::move(packed));
  DnnlKernelParts parts;
  parts.implementation = absl::StrCat("onednn:", ImplName(pd));
  const dnnl::memory::desc scratch = pd.query_md(dnnl::query::scratchpad_md);
  OCTET_RETURN_IF_ERROR(DnnlCall("deconvolution", [&] { parts.primitive = dnnl::primitive(pd); }));
  parts.scratch_bytes = static_cast<int64_t>(scratch.get_size());
  parts.arguments = {{DNNL_ARG_SRC, DnnlArgument::From::kSrc, 0, src},
                     {DNNL_ARG_DST, DnnlArgument::From::kDst, 0, dst},
                     {DNNL_ARG_SCRATCHPAD, DnnlArgument::From::kScratch, 0, scratch}};
  constants.MoveInto(parts);
  return MakeDnnlKernel(std::move(parts));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateDeconvOneDnn(const DeconvParams& params, const KernelEnv& env) {
  if (NumElements(params.src.shape) == 0 || NumElements(params.dst.shape) == 0) {
    return absl::UnimplementedError("empty tensor");
  }
  if (!params.weights.present() || (params.has_bias && !params.bias.present())) {
    return absl::UnimplementedError("weights or bias are computed");
  }
  absl::StatusOr<std::unique_ptr<Kernel>> kernel = Create(params, env);
  if (!kernel.ok()) return AsRefusal(kernel.status());
  return kernel;
}

}  // namespace octet::kernels
