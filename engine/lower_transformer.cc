// Lowering of layer normalization and fused attention.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/builder.h"
#include "engine/lower.h"
#include "kernels/attention/attention.h"
#include "kernels/layer_norm/layer_norm.h"

namespace octet::engine {
namespace {

using graph::Node;
using kernels::Layout;
using kernels::TensorSpec;

// Plain, as 8-bit integers where it is stored so, else as f32 reals.
absl::StatusOr<Location> RealsOrInt8(Builder& b, graph::ValueId id) {
  OCTET_ASSIGN_OR_RETURN(const Location l, b.GetPlain(id));
  const bool int8 = l.spec.quant.has_value() && l.spec.quant->per_tensor() &&
                    (l.spec.dtype == DType::kU8 || l.spec.dtype == DType::kS8);
  return int8 ? absl::StatusOr<Location>(l) : b.GetPlainF32(id);
}

// A vector operand with one element per normalized element.
absl::StatusOr<Location> Parameter(Builder& b, graph::ValueId id, int64_t row, absl::string_view what) {
  OCTET_ASSIGN_OR_RETURN(const Location l, b.GetPlainF32(id));
  if (NumElements(l.spec.shape) == row) return l;
  return absl::UnimplementedError(absl::StrCat(what, " of shape ", ShapeString(l.spec.shape), " for rows of ", row,
                                               " elements: one number per element is supported"));
}

absl::Status LowerLayerNorm(Builder& b, const FusedNode& fused) {
  using Wanted = kernels::LayerNormParams::Wanted;
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location x, RealsOrInt8(b, node.inputs[0]));
  const Shape& shape = x.spec.shape;
  const auto rank = static_cast<int64_t>(shape.size());
  int64_t axis = node.GetInt("axis", -1);
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) {
    return absl::InvalidArgumentError(absl::StrCat("axis ", node.GetInt("axis", -1), " of an input of rank ", rank));
  }
  kernels::LayerNormParams params;
  params.form = node.op == "RMSNormalization" ? kernels::LayerNormParams::Form::kRms
                                              : kernels::LayerNormParams::Form::kLayer;
  params.row = NumElements(absl::MakeConstSpan(shape).subspan(static_cast<size_t>(axis)));
  params.epsilon = node.GetFloat("epsilon", 1e-5f);
  params.src = x.spec;
  params.dst = b.OutputSpec(node.outputs[0], Layout::kPlain);
  if (!params.dst.quant.has_value()) params.dst.dtype = DType::kF32;
  std::vector<Location> src = {x};
  OCTET_ASSIGN_OR_RETURN(src.emplace_back(), Parameter(b, node.inputs[1], params.row, "a scale"));
  if (node.has_input(2)) {
    OCTET_ASSIGN_OR_RETURN(src.emplace_back(), Parameter(b, node.inputs[2], params.row, "a bias"));
    params.bias = Wanted::kYes;
  }
  std::vector<Location> dst = {b.NewBuffer(params.dst)};
  if (fused.copy != graph::kNoValue) {
    params.copy = b.OutputSpec(fused.copy, Layout::kPlain);
    dst.push_back(b.NewBuffer(*params.copy));
  }
  std::vector<graph::ValueId> moments;
  for (size_t i : {size_t{1}, size_t{2}}) {
    if (i >= node.outputs.size() || node.outputs[i] == graph::kNoValue) continue;
    (i == 1 ? params.mean : params.inverse_deviation) = Wanted::kYes;
    TensorSpec spec = b.OutputSpec(node.outputs[i], Layout::kPlain);
    spec.quant.reset();
    spec.dtype = DType::kF32;
    dst.push_back(b.NewBuffer(spec));
    moments.push_back(node.outputs[i]);
  }
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel, kernels::CreateLayerNorm(params, b.env()));
  b.Emit(std::move(kernel), std::move(src), dst, &fused);
  OCTET_RETURN_IF_ERROR(b.Bind(node.outputs[0], dst[0]));
  if (fused.copy != graph::kNoValue) OCTET_RETURN_IF_ERROR(b.Bind(fused.copy, dst[1]));
  for (size_t i = 0; i < moments.size(); ++i) {
    OCTET_RETURN_IF_ERROR(b.Bind(moments[i], dst[dst.size() - moments.size() + i]));
  }
  return absl::OkStatus();
}

// Extents and strides of an operand in logical order: batch..., two matrix dimensions.
struct Logical {
  Shape shape, strides;
};

Logical LogicalOf(const Shape& stored, const std::vector<int64_t>& perm) {
  const Shape dense = StridesOf(stored);
  Logical l;
  for (int64_t d : perm) {
    l.shape.push_back(stored[static_cast<size_t>(d)]);
    l.strides.push_back(dense[static_cast<size_t>(d)]);
  }
  return l;
}

// Four strides of an operand that broadcasts to `full` (batch, heads, rows, columns).
kernels::AttentionStrides StridesTo(const Logical& l, const std::array<int64_t, 4>& full) {
  kernels::AttentionStrides strides{};
  for (size_t i = 0; i < l.shape.size(); ++i) {
    const size_t at = 4 - l.shape.size() + i;
    strides[at] = l.shape[i] == 1 && full[at] != 1 ? 0 : l.strides[i];
  }
  return strides;
}

absl::Status LowerAttention(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  std::vector<Location> src;
  for (size_t i = 0; i < 3; ++i) {
    OCTET_ASSIGN_OR_RETURN(src.emplace_back(), RealsOrInt8(b, node.inputs[i]));
  }
  const Logical q = LogicalOf(src[0].spec.shape, node.GetInts("q_perm"));
  Logical k = LogicalOf(src[1].spec.shape, node.GetInts("k_perm"));
  const Logical v = LogicalOf(src[2].spec.shape, node.GetInts("v_perm"));
  const size_t rank = q.shape.size();
  // The kernel reads keys by rows.
  std::swap(k.shape[rank - 1], k.shape[rank - 2]);
  std::swap(k.strides[rank - 1], k.strides[rank - 2]);
  kernels::AttentionParams p;
  p.y.spec = b.OutputSpec(fused.output, Layout::kPlain);
  if (!p.y.spec.quant.has_value()) p.y.spec.dtype = DType::kF32;
  const Logical y = LogicalOf(p.y.spec.shape, node.GetInts("y_perm"));
  p.batch = rank == 4 ? y.shape[0] : 1;
  p.heads = y.shape[rank - 3];
  p.queries = q.shape[rank - 2];
  p.keys = k.shape[rank - 2];
  p.depth = q.shape[rank - 1];
  p.values = v.shape[rank - 1];
  p.q = {src[0].spec, StridesTo(q, {p.batch, p.heads, p.queries, p.depth})};
  p.k = {src[1].spec, StridesTo(k, {p.batch, p.heads, p.keys, p.depth})};
  p.v = {src[2].spec, StridesTo(v, {p.batch, p.heads, p.keys, p.values})};
  p.y.strides = StridesTo(y, {p.batch, p.heads, p.queries, p.values});
  if (node.has_input(3)) {
    OCTET_ASSIGN_OR_RETURN(src.emplace_back(), b.GetPlainF32(node.inputs[3]));
    Logical mask{src[3].spec.shape, StridesOf(src[3].spec.shape)};
    p.mask = kernels::AttentionOperand{src[3].spec, StridesTo(mask, {p.batch, p.heads, p.queries, p.keys})};
  }
  p.scale = node.GetFloat("scale", 1);
  if (node.Has("p_scale")) {
    p.probabilities = kernels::AttentionParams::Rounding{
        node.GetInt("p_signed", 0) != 0 ? DType::kS8 : DType::kU8, node.GetFloat("p_scale", 1),
        static_cast<int32_t>(node.GetInt("p_zero_point", 0))};
  }
  const Location dst = b.NewBuffer(p.y.spec);
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel, kernels::CreateAttention(p, b.env()));
  const int64_t multiply_adds = p.batch * p.heads * p.queries * p.keys * (p.depth + p.values);
  b.Emit(std::move(kernel), std::move(src), {dst}, &fused, multiply_adds);
  return b.Bind(fused.output, dst);
}

}  // namespace

void AddTransformerRules(LowerTable* table) {
  table->Add("LayerNormalization", LowerLayerNorm);
  table->Add("RMSNormalization", LowerLayerNorm);
  table->Add("FusedAttention", LowerAttention);
}

}  // namespace octet::engine
