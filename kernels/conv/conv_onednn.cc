// Conv by oneDNN's convolution primitive.
//
// Entry "onednn_codes": weights of less than 8 bits stay codes of the bytes that the primitive reads as s8 weights
// (conv_codes.h) and are decoded into scratch memory in front of every run (code_stream.h). Entry "onednn"
// takes such weights, too, unpacked to s8 for good.
//
// Weights are packed once per layout ("<id>/conv/<layout>"); later specialisations take over that
// layout. A plain source with a channels-last destination, which oneDNN computes by its reference
// only, is reordered in scratch memory first.
#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/parallel_for.h"
#include "base/status.h"
#include "kernels/code_stream.h"
#include "kernels/conv/conv.h"
#include "kernels/conv/conv_codes.h"
#include "kernels/elements.h"
#include "kernels/narrow_weights.h"
#include "kernels/onednn_product.h"

namespace octet::kernels {
namespace {

using Dims = dnnl::memory::dims;
using Tag = dnnl::memory::format_tag;

Dims Widened(const std::vector<int64_t>& list, int64_t less) {
  Dims out(list.begin(), list.end());
  for (int64_t& value : out) value -= less;
  return out;
}

// ONNX [O, C/groups, kernel...] as oneDNN wants it: [groups, O/groups, C/groups, kernel...] when
// grouped.
Dims WeightsDims(const ConvParams& p) {
  Dims dims(p.weights_shape.begin(), p.weights_shape.end());
  if (p.groups > 1) {
    dims[0] /= p.groups;
    dims.insert(dims.begin(), p.groups);
  }
  return dims;
}

Dims PlainStrides(const Dims& dims) {
  Dims strides(dims.size(), 1);
  for (size_t i = dims.size() - 1; i-- > 0;) strides[i] = strides[i + 1] * dims[i + 1];
  return strides;
}

// Everything but the source: descriptors, attributes and constants of one convolution.
struct ConvPlan {
  dnnl::memory::desc dst, bias, weights_any, weights_plain;
  dnnl::primitive_attr attr;
};

absl::StatusOr<ConvPlan> MakePlan(const ConvParams& p, ConstantArguments& constants,
                                  DnnlKernelParts& parts) {
  ConvPlan plan;
  OCTET_ASSIGN_OR_RETURN(plan.dst, DnnlDesc(p.dst));
  OCTET_ASSIGN_OR_RETURN(const auto type, DnnlType(p.weights_dtype));
  const Dims dims = WeightsDims(p);
  OCTET_RETURN_IF_ERROR(DnnlCall("conv weights", [&] {
    plan.weights_any = dnnl::memory::desc(dims, type, Tag::any);
    plan.weights_plain = dnnl::memory::desc(dims, type, PlainStrides(dims));
    plan.attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  }));
  dnnl::post_ops post_ops;
  OCTET_RETURN_IF_ERROR(AppendPostOps(p.post_ops, p.dst, post_ops));
  OCTET_RETURN_IF_ERROR(DnnlCall("conv post-ops", [&] { plan.attr.set_post_ops(post_ops); }));
  if (p.runtime_quant) {
    OCTET_RETURN_IF_ERROR(AddRuntimeQuant(*p.runtime_quant, parts, plan.attr));
  }
  if (p.src.quant || (p.runtime_quant && p.dst.dtype != DType::kS32)) {
    OCTET_RETURN_IF_ERROR(DnnlCall(
        "conv scales", [&] { plan.attr.set_scales_mask(DNNL_ARG_WEIGHTS, p.groups > 1 ? 3 : 1); }));
    OCTET_RETURN_IF_ERROR(constants.AddFloats(
        DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, p.weights.id, "conv_scales",
        FoldScales(*p.weights.quant, p.weights_shape[0],
                   p.src.quant ? p.src.quant->scale[0] : 1.0f)));
  }
  OCTET_RETURN_IF_ERROR(
      constants.AddQuantization(p.src, p.dst, p.weights.id, "conv_quant", plan.attr));
  if (p.bias.present()) {
    plan.bias = dnnl::memory::desc({p.weights_shape[0]}, dnnl::memory::data_type::f32, Tag::a);
    OCTET_RETURN_IF_ERROR(constants.AddBias({p.bias, "conv_bias", p.weights_shape[0], 1}));
  }
  return plan;
}

// The implementation to take instead of the first of oneDNN's list, as "<name>:" and a part of its instruction set;
// measured on ResNet-50's and MobileNetV2's layers on a Xeon of 2023, warm, at batch 1 and 8 (bench/README.md).
struct Preference {
  const char* name = "";
  const char* isa = "";
};

Preference PreferenceOf(const ConvParams& p, absl::string_view first) {
  const int64_t channels = p.weights_shape[1];
  const bool one_by_one = NumElements(p.weights_shape) == p.weights_shape[0] * channels;
  if (p.groups > 1) {
    const bool depthwise = p.groups == p.src.shape[1] && p.groups == p.weights_shape[0];
    // 10 to 15 % faster on f32 from 1 M multiply-adds on (smaller ones were not compared); not on 8 bits.
    const int64_t taps = NumElements(p.weights_shape) / p.weights_shape[0];
    const bool large = NumElements(p.dst.shape) * taps >= 1000000;
    if (depthwise && large && !p.src.quant && absl::StartsWith(first, "brdgmm_dw:"))
      return {"jit_dw:", "avx512_core"};
    return {};
  }
  if (!p.src.quant) {
    // 10 % on MobileNetV2's first expansion, 6 % on all of OSNet.
    const bool shallow = one_by_one && channels <= 16 && absl::StartsWith(first, "brgconv_1x1:avx512_core");
    return shallow ? Preference{"jit_1x1:", "avx512_core"} : Preference{};
  }
  if (absl::StrContains(first, "amx")) {
    // Tiles of 64 bytes of depth are mostly empty on few channels: 3x3 on 3 channels 108 us, by VNNI 41.
    if (channels <= 4 && !one_by_one) {
      const bool deep = NumElements(p.weights_shape) / p.weights_shape[0] > 64;
      return deep ? Preference{"jit:", "amx"} : Preference{"jit_int8:", "avx512_core_vnni"};
    }
    if (channels <= 16 && one_by_one) return {"brgconv_1x1:", "avx512_core_vnni"};
    return {};
  }
  // 15 % faster where the depth is 4,608, up to 10 % on small layers.
  if (!one_by_one && absl::StartsWith(first, "brg_conv_fwd:avx512_core_vnni")) return {"jit_int8:", "avx512_core_vnni"};
  return {};
}

// Moves `next`, which stands at the first implementation, to the preferred one; false when oneDNN has none such for
// these operands.
bool FindPreferred(const Preference& preference, dnnl::primitive_desc* next) {
  while (next->next_impl()) {
    const std::string name = next->impl_info_str();
    if (absl::StartsWith(name, preference.name) && absl::StrContains(name, preference.isa)) return true;
  }
  return false;
}

absl::StatusOr<dnnl::primitive_desc> MakePd(const ConvParams& p, const ConvPlan& plan,
                                            const dnnl::memory::desc& src,
                                            const dnnl::memory::desc& weights) {
  const auto make = [&]() -> dnnl::primitive_desc {
    return dnnl::convolution_forward::primitive_desc(
        CpuEngine(), dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, src,
        weights, plan.bias, plan.dst, Widened(p.strides, 0), Widened(p.dilations, 1),
        Widened(p.pads_begin, 0), Widened(p.pads_end, 0), plan.attr);
  };
  dnnl::primitive_desc pd;
  OCTET_RETURN_IF_ERROR(DnnlCall("convolution", [&] {
    pd = make();
    const Preference preference = PreferenceOf(p, pd.impl_info_str());
    if (preference.name[0] == '\0') return;
    dnnl::primitive_desc other = make();  // a copy would share the position in oneDNN's list, a clone has none
    if (FindPreferred(preference, &other)) pd = other;
  }));
  return pd;
}

// Runs `first` from src[0] into the front of the scratch memory and `second` from there; further sources are second's.
class ReorderedConv final : public Kernel {
 public:
  ReorderedConv(std::unique_ptr<Kernel> first, std::unique_ptr<Kernel> second, int64_t bytes)
      : Kernel(absl::StrCat(second->implementation(), " after a reorder of src")),
        first_(std::move(first)),
        second_(std::move(second)),
        offset_((bytes + Buffer::kAlignment - 1) / Buffer::kAlignment * Buffer::kAlignment) {}

  int64_t scratch_bytes() const override {
    return offset_ + std::max(first_->scratch_bytes(), second_->scratch_bytes());
  }

  absl::StatusOr<BoundKernel> Bind(const BindArgs& args) const override {
    void* const middle = args.scratch;
    void* const rest = static_cast<std::byte*>(args.scratch) + offset_;
    std::vector<const void*> middle_src(args.src.begin(), args.src.end());
    middle_src[0] = middle;
    void* const middle_dst[] = {middle};
    OCTET_ASSIGN_OR_RETURN(BoundKernel first,
                           first_->Bind({args.src, middle_dst, rest, args.parallel}));
    OCTET_ASSIGN_OR_RETURN(BoundKernel second,
                           second_->Bind({middle_src, args.dst, rest, args.parallel}));
    return BoundKernel([first = std::move(first), second = std::move(second)]() mutable {
      const absl::Status status = first();
      return status.ok() ? second() : status;
    });
  }

 private:
  std::unique_ptr<Kernel> first_, second_;
  int64_t offset_;
};

absl::StatusOr<std::unique_ptr<Kernel>> MakeReorder(const dnnl::memory::desc& from,
                                                    const dnnl::memory::desc& to) {
  DnnlKernelParts parts;
  OCTET_RETURN_IF_ERROR(DnnlCall("reorder", [&] {
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    dnnl::reorder::primitive_desc pd(CpuEngine(), from, CpuEngine(), to, attr);
    parts.implementation = absl::StrCat("onednn:", ImplName(pd));
    parts.primitive = dnnl::reorder(pd);
    parts.scratch_bytes = static_cast<int64_t>(pd.scratchpad_desc().get_size());
    parts.arguments = {
        {DNNL_ARG_SRC, DnnlArgument::From::kSrc, 0, from},
        {DNNL_ARG_DST, DnnlArgument::From::kDst, 0, to},
        {DNNL_ARG_SCRATCHPAD, DnnlArgument::From::kScratch, 0, pd.scratchpad_desc()}};
  }));
  return MakeDnnlKernel(std::move(parts));
}

// Decodes weights into the front of the scratch memory and runs `conv`, which takes them as its last source.
class CodesConv final : public Kernel {
 public:
  CodesConv(std::unique_ptr<Kernel> conv, std::shared_ptr<const PackedWeights> codes)
      : Kernel(absl::StrCat(conv->implementation(), " of codes of ", Stream(*codes).Name())),
        conv_(std::move(conv)),
        codes_(std::move(codes)),
        offset_((Stream(*codes_).decoded_bytes() + Buffer::kAlignment - 1) / Buffer::kAlignment * Buffer::kAlignment) {}

  int64_t scratch_bytes() const override { return offset_ + conv_->scratch_bytes(); }

  absl::StatusOr<BoundKernel> Bind(const BindArgs& args) const override {
    auto* const weights = static_cast<std::byte*>(args.scratch);
    std::vector<const void*> src(args.src.begin(), args.src.end());
    src.push_back(weights);
    OCTET_ASSIGN_OR_RETURN(BoundKernel conv, conv_->Bind({src, args.dst, weights + offset_, args.parallel}));
    return BoundKernel([codes = codes_, parallel = args.parallel, weights, conv = std::move(conv)]() mutable {
      DecodeStream(Stream(*codes), codes->data.data(), parallel, weights);
      return conv();
    });
  }

 private:
  static const CodeStream& Stream(const PackedWeights& codes) {
    return std::any_cast<const ConvCodes&>(codes.detail).stream;
  }

  std::unique_ptr<Kernel> conv_;
  std::shared_ptr<const PackedWeights> codes_;
  int64_t offset_;
};

// How many sources the caller binds.
int Sources(const ConvParams& p) {
  return p.runtime_quant ? 1 + (p.runtime_quant->scale >= 0) + (p.runtime_quant->zero_point >= 0) : 1;
}

// Weights of less than 8 bits behind a convolution that is described as one of s8 weights.
struct NarrowConv {
  TensorSpec weights;
  ChannelScales scales;
};

// A convolution up to the choice of its primitive: nothing is packed yet.
struct Prepared {
  explicit Prepared(const KernelEnv& env) : constants(env) {}

  ConstantArguments constants;
  DnnlKernelParts parts;
  ConvPlan plan;
  std::string prefix;                 // of the keys of packed weights
  dnnl::memory::desc outer_src, src;  // that of the caller, that of the primitive
  dnnl::primitive_desc pd;
};

absl::StatusOr<Prepared> Prepare(const ConvParams& p, const KernelEnv& env, const NarrowConv* codes) {
  if (NumElements(p.src.shape) == 0 || NumElements(p.dst.shape) == 0) {
    return absl::UnimplementedError("empty tensor");
  }
  Prepared out(env);
  OCTET_ASSIGN_OR_RETURN(out.plan, MakePlan(p, out.constants, out.parts));
  out.prefix = absl::StrCat(p.weights.id, codes != nullptr ? "/conv_codes/" : "/conv/");
  const auto choose = [&](const dnnl::memory::desc& src) {
    return (codes != nullptr ? ChooseConvCodesLayout : ChooseWeightsLayout)(
        out.constants.store(), out.prefix, out.plan.weights_any, p.weights.tensor,
        [&](const auto& weights) { return MakePd(p, out.plan, src, weights); });
  };
  OCTET_ASSIGN_OR_RETURN(out.outer_src, DnnlDesc(p.src));
  out.src = out.outer_src;
  absl::StatusOr<dnnl::primitive_desc> pd = choose(out.src);
  // A reordered source has no operands beside it.
  if (!p.runtime_quant && p.src.layout != p.dst.layout && (!pd.ok() || IsReferenceImpl(ImplName(*pd)))) {
    TensorSpec moved = p.src;
    moved.layout = p.dst.layout;
    OCTET_ASSIGN_OR_RETURN(out.src, DnnlDesc(moved));
    pd = choose(out.src);
  }
  OCTET_RETURN_IF_ERROR(pd.status());
  out.pd = *pd;
  return out;
}

absl::StatusOr<std::shared_ptr<const PackedWeights>> CodesOf(const ConvParams& p, const NarrowConv& codes, Prepared& prepared) {
  const dnnl::memory::desc weights = prepared.pd.query_md(dnnl::query::weights_md);
  return prepared.constants.store().GetOrPack(absl::StrCat(prepared.prefix, LayoutString(weights)), [&] {
    return PackConvCodes(codes.weights, codes.scales, p.weights.tensor, prepared.plan.weights_plain, weights);
  });
}

absl::StatusOr<std::unique_ptr<Kernel>> Create(const ConvParams& p, const KernelEnv& env, const NarrowConv* codes = nullptr) {
  OCTET_ASSIGN_OR_RETURN(Prepared prepared, Prepare(p, env, codes));
  auto& [constants, parts, plan, prefix, outer_src, src, pd] = prepared;
  if (codes != nullptr && !p.weights.tensor.valid() && IsReferenceImpl(ImplName(pd))) {
    // The layout of the codes falls to the reference for these shapes, 1,000 times slower, and the codes are gone: from here
    // on the weights exist a second time, in 8 bits.
    ConvParams s8 = p;
    OCTET_ASSIGN_OR_RETURN(s8.weights.tensor, DecodedConvCodes(constants.store(), prefix, plan.weights_plain, p.weights_shape));
    return Create(s8, env);
  }
  const dnnl::memory::desc weights = pd.query_md(dnnl::query::weights_md);
  std::shared_ptr<const PackedWeights> packed;
  if (codes == nullptr) {
    OCTET_ASSIGN_OR_RETURN(packed, PackWeights(constants.store(), prefix, p.weights.tensor, plan.weights_plain, weights));
    constants.Add(DNNL_ARG_WEIGHTS, weights, packed);
  } else {
    OCTET_ASSIGN_OR_RETURN(packed, CodesOf(p, *codes, prepared));
    if (std::any_cast<const ConvCodes&>(packed->detail).desc != weights) {
      return absl::UnimplementedError("codes are packed in a layout that prints alike");
    }
    parts.arguments.push_back({DNNL_ARG_WEIGHTS, DnnlArgument::From::kSrc, Sources(p), weights});
  }

  parts.implementation = absl::StrCat("onednn:", ImplName(pd));
  const dnnl::memory::desc scratch = pd.query_md(dnnl::query::scratchpad_md);
  OCTET_RETURN_IF_ERROR(DnnlCall("convolution", [&] { parts.primitive = dnnl::primitive(pd); }));
  parts.scratch_bytes = static_cast<int64_t>(scratch.get_size());
  parts.arguments.push_back({DNNL_ARG_SRC, DnnlArgument::From::kSrc, 0, src});
  parts.arguments.push_back({DNNL_ARG_DST, DnnlArgument::From::kDst, 0, plan.dst});
  parts.arguments.push_back({DNNL_ARG_SCRATCHPAD, DnnlArgument::From::kScratch, 0, scratch});
  constants.MoveInto(parts);
  auto kernel = MakeDnnlKernel(std::move(parts));
  if (src != outer_src) {
    OCTET_ASSIGN_OR_RETURN(auto reorder, MakeReorder(outer_src, src));
    kernel = std::make_unique<ReorderedConv>(std::move(reorder), std::move(kernel), p.src.size_bytes());
  }
  if (codes == nullptr) return kernel;
  return std::make_unique<CodesConv>(std::move(kernel), std::move(packed));
}

// Below this much work a second thread costs more to wake than it saves, and with the blocking for one thread small
// batches accept the layout of large ones (measured on AMX: 1x1 over 16 rows wants another layout on two threads).
constexpr int64_t kOneThreadMultiplyAdds = int64_t{1} << 20;

int64_t MultiplyAdds(const ConvParams& p) {
  return NumElements(p.weights_shape) * (NumElements(p.dst.shape) / std::max<int64_t>(p.dst.shape[1], 1));
}

// oneDNN fixes the threads of a primitive when it is created.
class TeamScope {
 public:
  explicit TeamScope(int threads) : before_(CurrentTeamSize()) { SetTeamSize(threads); }
  ~TeamScope() { SetTeamSize(before_); }
  TeamScope(const TeamScope&) = delete;
  TeamScope& operator=(const TeamScope&) = delete;

 private:
  int before_;
};

absl::StatusOr<std::unique_ptr<Kernel>> CreateForTeam(const ConvParams& params, const KernelEnv& env,
                                                      const NarrowConv* codes = nullptr) {
  if (env.threads > 1 && MultiplyAdds(params) < kOneThreadMultiplyAdds) {
    const TeamScope alone(1);
    absl::StatusOr<std::unique_ptr<Kernel>> kernel = Create(params, env, codes);
    // The brgemm implementations keep the thread count they were made for; others may ask for the team's at run time.
    if (kernel.ok() && absl::StartsWith((*kernel)->implementation(), "onednn:br")) return kernel;
  }
  absl::StatusOr<std::unique_ptr<Kernel>> kernel = Create(params, env, codes);
  if (!kernel.ok()) return AsRefusal(kernel.status());
  return kernel;
}

// The convolution as one of s8 weights, and what its weights are instead.
struct NarrowAsS8 {
  ConvParams s8;
  NarrowConv codes;
};
absl::StatusOr<NarrowAsS8> AsS8(const ConvParams& params) {
  if (!IsNarrow(params.weights_dtype)) return absl::UnimplementedError("the weights have 8 bits or more");
  // Without VNNI oneDNN packs halves of the weights for s8 sources.
  if (!HasVnni()) return absl::UnimplementedError("no VNNI here");
  NarrowAsS8 out{params, {{params.weights_dtype, params.weights_shape, Layout::kPlain, params.weights.quant}, {}}};
  OCTET_ASSIGN_OR_RETURN(out.codes.scales, FactorScales(out.codes.weights));
  out.s8.weights_dtype = DType::kS8;
  out.s8.weights.quant = QuantParams{out.codes.scales.scale, {}, 0, 0, {}, 1};
  return out;
}

const void* ConstantOf(const DnnlKernelParts& parts, int dnnl_arg) {
  for (const DnnlArgument& argument : parts.arguments) {
    if (argument.dnnl_arg == dnnl_arg) return parts.constants[static_cast<size_t>(argument.index)];
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateConvOneDnn(const ConvParams& params, const KernelEnv& env) {
  if (!IsNarrow(params.weights_dtype)) return CreateForTeam(params, env);
  OCTET_ASSIGN_OR_RETURN(const ConvParams s8, ConvOfS8(params));
  return CreateForTeam(s8, env);
}

absl::StatusOr<std::unique_ptr<Kernel>> CreateConvOneDnnCodes(const ConvParams& params, const KernelEnv& env) {
  OCTET_ASSIGN_OR_RETURN(const NarrowAsS8 narrow, AsS8(params));
  return CreateForTeam(narrow.s8, env, &narrow.codes);
}

absl::StatusOr<ConvCodesOperands> OneDnnConvCodes(const ConvParams& params, const KernelEnv& env) {
  OCTET_ASSIGN_OR_RETURN(const NarrowAsS8 narrow, AsS8(params));
  std::optional<TeamScope> alone;  // as CreateForTeam: both must want the same layout
  if (env.threads > 1 && MultiplyAdds(params) < kOneThreadMultiplyAdds) alone.emplace(1);
  absl::StatusOr<Prepared> prepared = Prepare(narrow.s8, env, &narrow.codes);
  if (!prepared.ok()) return AsRefusal(prepared.status());
  ConvCodesOperands out;
  out.codes = prepared->constants.store().FindFirst(prepared->prefix);
  if (out.codes == nullptr) {
    OCTET_ASSIGN_OR_RETURN(out.codes, CodesOf(narrow.s8, narrow.codes, *prepared));
  }
  DnnlKernelParts parts;
  prepared->constants.MoveInto(parts);
  out.scales = static_cast<const float*>(ConstantOf(parts, DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS));
  out.bias = static_cast<const float*>(ConstantOf(parts, DNNL_ARG_BIAS));
  out.owners = std::move(parts.owners);
  return out;
}

}  // namespace octet::kernels
