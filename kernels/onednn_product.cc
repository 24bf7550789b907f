// Attributes, packed weights and constant vectors of oneDNN products.
#include "kernels/onednn_product.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/product_reference.h"

namespace octet::kernels {
namespace {

using dnnl::algorithm;

// FNV-1a: keys must be equal for equal values and (in practice) differ for others.
uint64_t Fingerprint(const void* data, size_t bytes) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < bytes; ++i) {
    hash = (hash ^ static_cast<const uint8_t*>(data)[i]) * 0x100000001b3u;
  }
  return hash;
}

template <typename T>
absl::StatusOr<std::shared_ptr<const PackedWeights>> StoreVector(WeightStore& store, int id,
                                                                 absl::string_view role,
                                                                 const std::vector<T>& values) {
  const size_t bytes = values.size() * sizeof(T);
  const auto pack = [&]() -> absl::StatusOr<PackedWeights> {
    PackedWeights packed;
    OCTET_ASSIGN_OR_RETURN(packed.data, Buffer::Allocate(static_cast<int64_t>(bytes)));
    std::memcpy(packed.data.data(), values.data(), bytes);
    packed.layout = "vector";
    return packed;
  };
  return store.GetOrPack(
      absl::StrFormat("%d/%s/%016x", id, role, Fingerprint(values.data(), bytes)), pack);
}

template <typename T>
dnnl::memory::desc VectorDesc(size_t n) {
  return dnnl::memory::desc(
      {static_cast<int64_t>(n)},
      std::is_same_v<T, float> ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::s32,
      dnnl::memory::dims{1});
}

// The integer that `bound` is rounded to in dst's grid, without saturation.
double Rounded(double bound, const TensorSpec& dst) {
  return std::nearbyint(bound / dst.quant->scale[0]) + dst.quant->zero_point_at(0);
}

}  // namespace

absl::StatusOr<Eltwise> EltwiseOf(const Activation& a) {
  switch (a.kind) {
    case ActivationKind::kRelu:
      return Eltwise{algorithm::eltwise_relu, 0, 0};
    case ActivationKind::kLeakyRelu:
      return Eltwise{algorithm::eltwise_relu, a.alpha, 0};
    case ActivationKind::kClip:
      return Eltwise{algorithm::eltwise_clip, a.alpha, a.beta};
    case ActivationKind::kSigmoid:
      return Eltwise{algorithm::eltwise_logistic};
    case ActivationKind::kTanh:
      return Eltwise{algorithm::eltwise_tanh};
    case ActivationKind::kHardSigmoid:
      return Eltwise{algorithm::eltwise_hardsigmoid, a.alpha, a.beta};
    case ActivationKind::kHardSwish:
      return Eltwise{algorithm::eltwise_hardswish, a.alpha, a.beta};
    case ActivationKind::kElu:
      return Eltwise{algorithm::eltwise_elu, a.alpha, 0};
    case ActivationKind::kGelu:
      return Eltwise{algorithm::eltwise_gelu_erf};
    case ActivationKind::kGeluTanh:
      return Eltwise{algorithm::eltwise_gelu_tanh};
    case ActivationKind::kSwish:
      return Eltwise{algorithm::eltwise_swish, a.alpha, 0};
    case ActivationKind::kExp:
      return Eltwise{algorithm::eltwise_exp};
    case ActivationKind::kLog:
      return Eltwise{algorithm::eltwise_log};
    case ActivationKind::kSqrt:
      return Eltwise{algorithm::eltwise_sqrt};
    case ActivationKind::kAbs:
      return Eltwise{algorithm::eltwise_abs};
    case ActivationKind::kNeg:
      return Eltwise{algorithm::eltwise_linear, -1, 0};
    case ActivationKind::kReciprocal:
      return Eltwise{algorithm::eltwise_pow, 1, -1};
    case ActivationKind::kRound:
      return Eltwise{algorithm::eltwise_round};
    case ActivationKind::kSoftplus:
      return Eltwise{algorithm::eltwise_soft_relu, 1, 0};
    case ActivationKind::kMish:
      return Eltwise{algorithm::eltwise_mish};
    case ActivationKind::kLinear:
      return Eltwise{algorithm::eltwise_linear, a.alpha, a.beta};
    default:
      return absl::UnimplementedError(
          absl::StrCat("oneDNN has no element function ", NameOf(a.kind)));
  }
}

bool SaturationGives(const Activation& a, const TensorSpec& dst) {
  if (!IsQuantized8(dst)) return false;
  const auto [lowest, highest] = IntegerRange(dst.dtype);
  if (a.kind == ActivationKind::kRelu) return Rounded(0, dst) <= static_cast<double>(lowest);
  // Below the lower bound both saturate at the lowest value, above the upper one at the highest,
  // between nothing differs.
  return a.kind == ActivationKind::kClip && Rounded(a.alpha, dst) <= static_cast<double>(lowest) &&
         Rounded(a.beta, dst) >= static_cast<double>(highest);
}

absl::Status AppendPostOps(absl::Span<const PostOp> post_ops, const TensorSpec& dst,
                           dnnl::post_ops& out) {
  for (size_t i = 0; i < post_ops.size(); ++i) {
    const PostOp& op = post_ops[i];
    if (op.kind == PostOp::Kind::kActivation) {
      if (i + 1 == post_ops.size() && SaturationGives(op.activation, dst)) continue;
      OCTET_ASSIGN_OR_RETURN(const Eltwise e, EltwiseOf(op.activation));
      OCTET_RETURN_IF_ERROR(
          DnnlCall("post-op", [&] { out.append_eltwise(e.algorithm, e.alpha, e.beta); }));
      continue;
    }
    OCTET_ASSIGN_OR_RETURN(const dnnl::memory::data_type type, DnnlType(op.residual.dtype));
    const auto& quant = op.residual.quant;
    OCTET_RETURN_IF_ERROR(DnnlCall("residual", [&] {
      out.append_sum(quant ? quant->scale[0] : 1.0f, quant ? quant->zero_point_at(0) : 0, type);
    }));
  }
  return absl::OkStatus();
}

ConstantArguments::ConstantArguments(const KernelEnv& env)
    : own_(env.weights == nullptr ? std::make_unique<WeightStore>() : nullptr),
      store_(env.weights == nullptr ? own_.get() : env.weights) {}

void ConstantArguments::Add(int dnnl_arg, const dnnl::memory::desc& desc,
                            std::shared_ptr<const PackedWeights> packed) {
  arguments_.push_back(
      {dnnl_arg, DnnlArgument::From::kConstant, static_cast<int>(constants_.size()), desc});
  constants_.push_back(packed->data.data());
  owners_.push_back(std::move(packed));
}

absl::Status ConstantArguments::AddFloats(int dnnl_arg, int id, absl::string_view role,
                                          std::vector<float> values) {
  OCTET_ASSIGN_OR_RETURN(auto packed, StoreVector(*store_, id, role, values));
  Add(dnnl_arg, VectorDesc<float>(values.size()), std::move(packed));
  return absl::OkStatus();
}

absl::Status ConstantArguments::AddInt(int dnnl_arg, int id, absl::string_view role,
                                       int32_t value) {
  OCTET_ASSIGN_OR_RETURN(auto packed, StoreVector(*store_, id, role, std::vector<int32_t>{value}));
  Add(dnnl_arg, VectorDesc<int32_t>(1), std::move(packed));
  return absl::OkStatus();
}

absl::Status ConstantArguments::AddBias(const Bias& bias) {
  const auto pack = [&]() -> absl::StatusOr<PackedWeights> {
    const std::vector<double> reals = BiasReals(bias.constant, bias.constant.tensor.ToF64());
    PackedWeights packed;
    OCTET_ASSIGN_OR_RETURN(packed.data, Buffer::Allocate(bias.n * int64_t{sizeof(float)}));
    auto* out = reinterpret_cast<float*>(packed.data.data());
    for (size_t i = 0; i < static_cast<size_t>(bias.n); ++i) {
      out[i] = static_cast<float>(reals[reals.size() == 1 ? 0 : i] * bias.factor);
    }
    packed.layout = "f32";
    return packed;
  };
  OCTET_ASSIGN_OR_RETURN(
      auto packed,
      store_->GetOrPack(
          absl::StrCat(bias.constant.id, "/", bias.role, "/", bias.n, "x", bias.factor), pack));
  dnnl::memory::dims dims(static_cast<size_t>(bias.rank), 1), strides = dims;
  dims.back() = bias.n;
  for (size_t d = 0; d + 1 < strides.size(); ++d) strides[d] = bias.n;
  Add(DNNL_ARG_BIAS, dnnl::memory::desc(dims, dnnl::memory::data_type::f32, strides),
      std::move(packed));
  return absl::OkStatus();
}

absl::Status ConstantArguments::AddQuantization(const TensorSpec& src, const TensorSpec& dst,
                                                int id, absl::string_view role,
                                                dnnl::primitive_attr& attr) {
  const auto add_zero_point = [&](int which, const TensorSpec& spec) -> absl::Status {
    if (!spec.quant || spec.quant->zero_point_at(0) == 0) return absl::OkStatus();
    OCTET_RETURN_IF_ERROR(DnnlCall("zero point", [&] { attr.set_zero_points_mask(which, 0); }));
    return AddInt(DNNL_ARG_ATTR_ZERO_POINTS | which, id, role, spec.quant->zero_point_at(0));
  };
  OCTET_RETURN_IF_ERROR(add_zero_point(DNNL_ARG_SRC, src));
  OCTET_RETURN_IF_ERROR(add_zero_point(DNNL_ARG_DST, dst));
  if (!dst.quant) return absl::OkStatus();
  OCTET_RETURN_IF_ERROR(DnnlCall("dst scale", [&] { attr.set_scales_mask(DNNL_ARG_DST, 0); }));
  return AddFloats(DNNL_ARG_ATTR_SCALES | DNNL_ARG_DST, id, role, {dst.quant->scale[0]});
}

absl::Status AddRuntimeQuant(const RuntimeQuant& quant, DnnlKernelParts& parts,
                             dnnl::primitive_attr& attr) {
  return DnnlCall("quantization at run time", [&] {
    if (quant.scale >= 0) {
      attr.set_scales_mask(DNNL_ARG_SRC, 0);
      parts.arguments.push_back({DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC, DnnlArgument::From::kSrc,
                                 quant.scale, VectorDesc<float>(1)});
    }
    if (quant.zero_point >= 0) {
      attr.set_zero_points_mask(DNNL_ARG_SRC, 0);
      parts.arguments.push_back({DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC,
                                 DnnlArgument::From::kSrc, quant.zero_point,
                                 VectorDesc<int32_t>(1)});
    }
  });
}

void ConstantArguments::MoveInto(DnnlKernelParts& parts) {
  parts.arguments.insert(parts.arguments.end(), arguments_.begin(), arguments_.end());
  parts.owners = std::move(owners_);
  parts.constants = std::move(constants_);
}

std::vector<float> FoldScales(const QuantParams& weights, int64_t n, float factor) {
  std::vector<float> scales(static_cast<size_t>(n));
  for (size_t i = 0; i < scales.size(); ++i) {
    scales[i] = weights.scale[weights.per_tensor() ? 0 : i] * factor;
  }
  return scales;
}

namespace {

// True when the stored elements are those that were packed: not where oneDNN halves the weights of
// s8 sources, which it does without VNNI and shows by the compensation behind them.
bool CanUnpack(const dnnl::memory::desc& packed) {
  return HasVnni() || !absl::StrContains(LayoutString(packed), '+');
}

// Offset in elements of the element at `index` (logical) in a blocked layout.
int64_t BlockedOffset(const dnnl::memory::dims& strides, const dnnl::memory::dims& blocks,
                      const dnnl::memory::dims& block_dims, dnnl::memory::dims index) {
  int64_t offset = 0, inner_stride = 1;
  for (size_t i = blocks.size(); i-- > 0;) {
    int64_t& x = index[static_cast<size_t>(block_dims[i])];
    offset += x % blocks[i] * inner_stride;
    x /= blocks[i];
    inner_stride *= blocks[i];
  }
  for (size_t d = 0; d < index.size(); ++d) offset += index[d] * strides[d];
  return offset;
}

// Copies a packed tensor into a plain layout; oneDNN itself takes apart only copies without
// compensation.
void Unpack(const dnnl::memory::desc& packed, const std::byte* from,
            const dnnl::memory::desc& plain, std::byte* to) {
  const size_t bytes = dnnl::memory::data_type_size(packed.get_data_type());
  const dnnl::memory::dims strides = packed.get_strides(), blocks = packed.get_inner_blks(),
                           block_dims = packed.get_inner_idxs(),
                           plain_strides = plain.get_strides();
  ForEachIndex(packed.get_dims(), [&](const Index& at) {
    const int64_t offset = BlockedOffset(strides, blocks, block_dims, {at.begin(), at.end()});
    std::memcpy(to + static_cast<size_t>(Offset(plain_strides, at)) * bytes,
                from + static_cast<size_t>(offset) * bytes, bytes);
  });
}

absl::Status Reorder(const dnnl::memory::desc& from_desc, const std::byte* from_data,
                     const dnnl::memory::desc& to_desc, std::byte* to_data) {
  return DnnlCall("packing weights", [&] {
    dnnl::memory from(from_desc, CpuEngine(), const_cast<std::byte*>(from_data));
    dnnl::memory to(to_desc, CpuEngine(), to_data);
    dnnl::stream stream(CpuEngine());
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
  });
}

// Plain weights: a copy of `tensor`, or of the first packed copy under `prefix` once the tensor has
// been released.
absl::StatusOr<Buffer> PlainWeights(const WeightStore& store, absl::string_view prefix,
                                    const Tensor& tensor, const dnnl::memory::desc& plain) {
  OCTET_ASSIGN_OR_RETURN(Buffer out, Buffer::Allocate(static_cast<int64_t>(plain.get_size())));
  if (tensor.valid()) {
    std::memcpy(out.data(), tensor.data(), static_cast<size_t>(tensor.size_bytes()));
    return out;
  }
  const std::shared_ptr<const PackedWeights> first = store.FindFirst(prefix);
  const auto* desc = first == nullptr ? nullptr : std::any_cast<dnnl::memory::desc>(&first->detail);
  if (desc == nullptr || desc->get_dims() != plain.get_dims() || !CanUnpack(*desc)) {
    return absl::UnimplementedError("the weights were released after packing");
  }
  Unpack(*desc, first->data.data(), plain, out.data());
  return out;
}

}  // namespace

absl::StatusOr<dnnl::primitive_desc> ChooseWeightsLayout(const WeightStore& store,
                                                         absl::string_view prefix,
                                                         const dnnl::memory::desc& any,
                                                         const Tensor& tensor, MakePd make) {
  OCTET_ASSIGN_OR_RETURN(dnnl::primitive_desc free, make(any));
  const std::shared_ptr<const PackedWeights> first = store.FindFirst(prefix);
  if (first == nullptr) return free;
  const auto* desc = std::any_cast<dnnl::memory::desc>(&first->detail);
  if (desc == nullptr || *desc == free.query_md(dnnl::query::weights_md)) return free;
  absl::StatusOr<dnnl::primitive_desc> shared = make(*desc);
  if (!shared.ok()) return free;
  // Memory comes first: another layout is packed only where the shared one would fall to the
  // reference.
  const bool slow = IsReferenceImpl(ImplName(*shared)) && !IsReferenceImpl(ImplName(free));
  return slow && (tensor.valid() || CanUnpack(*desc)) ? free : *shared;
}

absl::StatusOr<std::shared_ptr<const PackedWeights>> PackWeights(WeightStore& store,
                                                                 absl::string_view prefix,
                                                                 const Tensor& tensor,
                                                                 const dnnl::memory::desc& plain,
                                                                 const dnnl::memory::desc& packed) {
  const auto pack = [&]() -> absl::StatusOr<PackedWeights> {
    PackedWeights out;
    OCTET_ASSIGN_OR_RETURN(out.data, Buffer::Allocate(static_cast<int64_t>(packed.get_size())));
    const bool aligned =
        tensor.valid() && reinterpret_cast<uintptr_t>(tensor.data()) % alignof(float) == 0;
    Buffer
        own;  // a slice of a file need not be aligned for its type; a released tensor is unpacked
    if (!aligned) {
      OCTET_ASSIGN_OR_RETURN(own, PlainWeights(store, prefix, tensor, plain));
    }
    OCTET_RETURN_IF_ERROR(
        Reorder(plain, aligned ? tensor.data() : own.data(), packed, out.data.data()));
    out.layout = LayoutString(packed);
    out.detail = packed;
    return out;
  };
  // Two layouts may print alike (flags that oneDNN does not show): the first free key whose
  // descriptor is equal.
  const std::string key = absl::StrCat(prefix, LayoutString(packed));
  for (int copy = 0;; ++copy) {
    OCTET_ASSIGN_OR_RETURN(auto stored,
                           store.GetOrPack(copy == 0 ? key : absl::StrCat(key, "#", copy), pack));
    if (std::any_cast<const dnnl::memory::desc&>(stored->detail) == packed) return stored;
  }
}

absl::StatusOr<Buffer> UnpackedWeights(const dnnl::memory::desc& packed, const std::byte* weights,
                                       const dnnl::memory::desc& plain) {
  if (packed.get_dims() != plain.get_dims() || !CanUnpack(packed)) {
    return absl::UnimplementedError("the weights were released after packing");
  }
  OCTET_ASSIGN_OR_RETURN(Buffer out, Buffer::Allocate(static_cast<int64_t>(plain.get_size())));
  Unpack(packed, weights, plain, out.data());
  return out;
}

absl::StatusOr<Buffer> ReorderedWeights(const dnnl::memory::desc& plain, const std::byte* weights,
                                        const dnnl::memory::desc& packed) {
  OCTET_ASSIGN_OR_RETURN(Buffer out, Buffer::Allocate(static_cast<int64_t>(packed.get_size())));
  OCTET_RETURN_IF_ERROR(Reorder(plain, weights, packed, out.data()));
  return out;
}

int64_t PaddedBytes(const dnnl::memory::desc& desc) {
  int64_t bytes = static_cast<int64_t>(dnnl::memory::data_type_size(desc.get_data_type()));
  for (int64_t dim : desc.get_padded_dims()) bytes *= dim;
  return bytes;
}

std::string LayoutString(const dnnl::memory::desc& desc) {
  const dnnl::memory::dims strides = desc.get_strides(), blocks = desc.get_inner_blks(),
                           indices = desc.get_inner_idxs();
  std::vector<int> order(static_cast<size_t>(desc.get_ndims()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return strides[static_cast<size_t>(a)] > strides[static_cast<size_t>(b)];
  });
  std::string out;
  for (int d : order) {
    const bool blocked = std::find(indices.begin(), indices.end(), d) != indices.end();
    out += static_cast<char>((blocked ? 'A' : 'a') + d);
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    absl::StrAppend(&out, blocks[i], std::string(1, static_cast<char>('a' + indices[i])));
  }
  const int64_t extra = static_cast<int64_t>(desc.get_size()) - PaddedBytes(desc);
  if (extra > 0) absl::StrAppend(&out, "+", extra);
  return out;
}

bool HasVnni() {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  constexpr auto kAvx2Vnni = static_cast<unsigned>(dnnl::cpu_isa::avx2_vnni);
  constexpr auto kAvx512Vnni = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_vnni);
  return (isa & kAvx2Vnni) == kAvx2Vnni || (isa & kAvx512Vnni) == kAvx512Vnni;
}

absl::Status AsRefusal(const absl::Status& status) {
  if (status.ok() || absl::IsResourceExhausted(status)) return status;
  return absl::UnimplementedError(status.message());
}

}  // namespace octet::kernels
