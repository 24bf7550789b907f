// Lowering of normalizations whose groups follow from the shape: Instance, Group, Lp, mean-variance and local response.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/builder.h"
#include "engine/lower.h"
#include "kernels/normalize/lrn.h"
#include "kernels/normalize/normalize.h"

namespace octet::engine {
namespace {

using graph::Node;
using kernels::Layout;
using kernels::NormalizeKind;
using kernels::NormalizeParams;

// What is normalized, as its kernel sees it: a view of the value in f32 (f64 stays).
absl::StatusOr<Location> Source(Builder& b, graph::ValueId id, bool plain) {
  OCTET_ASSIGN_OR_RETURN(const Location l, b.Get(id));
  const DType dtype = l.spec.dtype == DType::kF64 ? DType::kF64 : DType::kF32;
  return b.GetAs(id, plain ? Layout::kPlain : l.spec.layout, dtype, std::nullopt);
}

// A vector of scales or shifts, seen in `shape`.
absl::StatusOr<Location> Factor(Builder& b, graph::ValueId id, DType dtype, const Shape& shape) {
  OCTET_ASSIGN_OR_RETURN(const Location l, b.GetAs(id, Layout::kPlain, dtype, std::nullopt));
  if (NumElements(l.spec.shape) != NumElements(shape)) {
    return absl::InvalidArgumentError(absl::StrCat("operand '", b.graph().value(id).name, "' has shape ",
                                                   ShapeString(l.spec.shape), ", expected ", NumElements(shape),
                                                   " elements"));
  }
  return Builder::View(l, shape, Layout::kPlain);
}

// Emits the kernel on `src` (perhaps a view) and binds its result in the node's own shape.
absl::Status Emit(Builder& b, const FusedNode& fused, NormalizeParams params, const std::vector<Location>& sources) {
  params.src = params.dst = sources[0].spec;
  if (sources.size() > 1) params.scale = sources[1].spec;
  if (sources.size() > 2) params.shift = sources[2].spec;
  const Location dst = b.NewBuffer(params.dst);
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel, kernels::CreateNormalize(params, b.env()));
  b.Emit(std::move(kernel), sources, {dst}, &fused);
  return b.Bind(fused.output, Builder::View(dst, b.info(fused.output).shape, dst.spec.layout));
}

absl::Status LowerInstance(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location src, Source(b, node.inputs[0], /*plain=*/false));
  NormalizeParams params;
  params.epsilon = node.GetFloat("epsilon", 1e-5f);
  Shape channels(src.spec.shape.size(), 1);
  channels[1] = src.spec.shape[1];
  for (int d = 2; d < static_cast<int>(channels.size()); ++d) params.axes.push_back(d);
  OCTET_ASSIGN_OR_RETURN(const Location scale, Factor(b, node.inputs[1], src.spec.dtype, channels));
  OCTET_ASSIGN_OR_RETURN(const Location shift, Factor(b, node.inputs[2], src.spec.dtype, channels));
  return Emit(b, fused, params, {src, scale, shift});
}

absl::Status LowerGroup(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location src, Source(b, node.inputs[0], /*plain=*/true));
  const Shape& shape = src.spec.shape;
  const int64_t groups = node.GetInt("num_groups", 1), within = shape[1] / groups;
  const int64_t spatial = NumElements(absl::MakeConstSpan(shape).subspan(2));
  NormalizeParams params;
  params.epsilon = node.GetFloat("epsilon", 1e-5f);
  params.axes = {2, 3};
  OCTET_ASSIGN_OR_RETURN(const Location scale, Factor(b, node.inputs[1], src.spec.dtype, {1, groups, within, 1}));
  OCTET_ASSIGN_OR_RETURN(const Location shift, Factor(b, node.inputs[2], src.spec.dtype, {1, groups, within, 1}));
  return Emit(b, fused, params,
              {Builder::View(src, {shape[0], groups, within, spatial}, Layout::kPlain), scale, shift});
}

absl::Status LowerMeanVariance(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location src, Source(b, node.inputs[0], /*plain=*/false));
  NormalizeParams params;
  params.kind = NormalizeKind::kMvn;
  params.epsilon = 1e-9f;
  const auto rank = static_cast<int64_t>(src.spec.shape.size());
  for (int64_t axis : node.GetInts("axes", {0, 2, 3})) {
    if (axis < -rank || axis >= rank) {
      return absl::InvalidArgumentError(absl::StrCat("axis ", axis, " of an input of rank ", rank));
    }
    params.axes.push_back(static_cast<int>(axis < 0 ? axis + rank : axis));
  }
  std::sort(params.axes.begin(), params.axes.end());
  return Emit(b, fused, params, {src});
}

absl::Status LowerLp(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location src, Source(b, node.inputs[0], /*plain=*/false));
  const int64_t p = node.GetInt("p", 2);
  if (p != 1 && p != 2) return absl::InvalidArgumentError(absl::StrCat("attribute 'p' is ", p, ", expected 1 or 2"));
  NormalizeParams params;
  params.kind = p == 1 ? NormalizeKind::kL1 : NormalizeKind::kL2;
  OCTET_ASSIGN_OR_RETURN(const int axis, AxisOf(node, "axis", -1, src.spec.shape.size()));
  params.axes = {axis};
  return Emit(b, fused, params, {src});
}

absl::Status LowerLrn(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location src, b.GetF32(node.inputs[0]));
  kernels::LrnParams params;
  params.src = params.dst = src.spec;
  params.size = node.GetInt("size", 0);
  params.alpha = node.GetFloat("alpha", 1e-4f);
  params.beta = node.GetFloat("beta", 0.75f);
  params.bias = node.GetFloat("bias", 1.0f);
  const Location dst = b.NewBuffer(params.dst);
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel, kernels::CreateLrn(params, b.env()));
  b.Emit(std::move(kernel), {src}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

}  // namespace

void AddNormalizeRules(LowerTable* table) {
  table->Add("InstanceNormalization", LowerInstance);
  table->Add("GroupNormalization", LowerGroup);
  table->Add("LRN", LowerLrn);
  table->Add("LpNormalization", LowerLp);
  table->Add("MeanVarianceNormalization", LowerMeanVariance);
}

}  // namespace octet::engine
