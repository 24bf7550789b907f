// Lowering of operators that sample, crop, unfold or pool images in ways that the common kernels do
// not have.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/builder.h"
#include "engine/lower.h"
#include "engine/windows.h"
#include "kernels/movement/movement.h"
#include "kernels/plain/deform_conv.h"
#include "kernels/plain/grid_sample.h"
#include "kernels/plain/regions.h"
#include "kernels/plain/windows.h"

namespace octet::engine {
namespace {

using graph::Node;
using kernels::Layout;
using kernels::TensorSpec;

TensorSpec OutputLike(Builder& b, const FusedNode& fused, const Location& src) {
  TensorSpec spec = src.spec;
  spec.shape = b.info(fused.output).shape;
  return spec;
}

// Emits a kernel with one result and binds it.
absl::Status EmitOne(Builder& b, const FusedNode& fused,
                     absl::StatusOr<std::unique_ptr<kernels::Kernel>> kernel,
                     std::vector<Location> src, const Location& dst, int64_t multiply_adds = 0) {
  OCTET_RETURN_IF_ERROR(kernel.status());
  b.Emit(*std::move(kernel), std::move(src), {dst}, &fused, multiply_adds);
  return b.Bind(fused.output, dst);
}

kernels::GridCorners CornersOf(const Node& node) {
  return node.GetInt("align_corners", 0) != 0 ? kernels::GridCorners::kAligned
                                              : kernels::GridCorners::kHalfPixel;
}

absl::Status LowerGridSample(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const std::vector<Location> src, RealOperands(b, node.inputs));
  using Params = kernels::GridSampleParams;
  Params params;
  const std::string mode = node.GetString("mode", "linear"),
                    padding = node.GetString("padding_mode", "zeros");
  params.mode = mode == "nearest" ? Params::Mode::kNearest
                : mode == "cubic" ? Params::Mode::kCubic
                                  : Params::Mode::kLinear;
  params.padding = padding == "border"       ? Params::Padding::kBorder
                   : padding == "reflection" ? Params::Padding::kReflection
                                             : Params::Padding::kZeros;
  params.corners = CornersOf(node);
  params.src = src[0].spec;
  params.grid = src[1].spec;
  params.dst = OutputLike(b, fused, src[0]);
  return EmitOne(b, fused, kernels::CreateGridSample(params, b.env()), src,
                 b.NewBuffer(params.dst));
}

absl::Status LowerAffineGrid(Builder& b, const FusedNode& fused) {
  OCTET_ASSIGN_OR_RETURN(const std::vector<Location> src, RealOperands(b, {fused.node->inputs[0]}));
  const kernels::AffineGridParams params{src[0].spec, OutputLike(b, fused, src[0]),
                                         CornersOf(*fused.node)};
  return EmitOne(b, fused, kernels::CreateAffineGrid(params, b.env()), src,
                 b.NewBuffer(params.dst));
}

// A pad of both signs: what is cut or added in front is half of the difference, rounded down.
absl::Status LowerCenterCropPad(Builder& b, const FusedNode& fused) {
  OCTET_ASSIGN_OR_RETURN(const Location src, MovableOperand(b, fused.node->inputs[0]));
  kernels::PadParams params;
  params.src = src.spec;
  params.dst = OutputLike(b, fused, src);
  for (size_t d = 0; d < params.src.shape.size(); ++d) {
    const int64_t from = params.src.shape[d], to = params.dst.shape[d];
    params.begin.push_back(to >= from ? (to - from) / 2 : -((from - to) / 2));
  }
  params.fill.assign(static_cast<size_t>(BytesOf(src.spec.dtype)), std::byte{0});
  if (src.spec.quant.has_value()) {
    const int32_t zero = src.spec.quant->zero_point_at(0);
    std::memcpy(params.fill.data(), &zero, std::min(params.fill.size(), sizeof(zero)));
  }
  return EmitOne(b, fused, kernels::CreatePad(params, b.env()), {src}, b.NewBuffer(params.dst));
}

absl::Status LowerCol2Im(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const std::vector<Location> src, NumberOperands(b, {node.inputs[0]}));
  kernels::Col2ImParams params;
  params.src = src[0].spec;
  params.dst = OutputLike(b, fused, src[0]);
  OCTET_ASSIGN_OR_RETURN(params.window.kernel, b.ConstantInts(node.inputs[2]));
  const size_t rank = params.window.kernel.size();
  params.window.strides = node.GetInts("strides", std::vector<int64_t>(rank, 1));
  params.window.dilations = node.GetInts("dilations", std::vector<int64_t>(rank, 1));
  const std::vector<int64_t> pads = node.GetInts("pads", std::vector<int64_t>(2 * rank, 0));
  if (pads.size() != 2 * rank) {
    return absl::InvalidArgumentError(absl::StrCat(pads.size(), " pads for ", rank, " dimensions"));
  }
  params.window.pads_begin.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(rank));
  params.pads_end.assign(pads.begin() + static_cast<std::ptrdiff_t>(rank), pads.end());
  return EmitOne(b, fused, kernels::CreateCol2Im(params, b.env()), src, b.NewBuffer(params.dst));
}

absl::Status LowerDeformConv(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  std::vector<graph::ValueId> ids;
  for (graph::ValueId id : node.inputs) {
    if (id != graph::kNoValue) ids.push_back(id);
  }
  OCTET_ASSIGN_OR_RETURN(const std::vector<Location> src, RealOperands(b, ids));
  kernels::DeformConvParams params;
  params.src = src[0].spec;
  params.weights = src[1].spec;
  params.offset = src[2].spec;
  if (node.has_input(3)) params.bias = src[3].spec;
  if (node.has_input(4)) params.mask = src.back().spec;
  params.dst = OutputLike(b, fused, src[0]);
  params.groups = node.GetInt("group", 1);
  params.offset_groups = node.GetInt("offset_group", 1);
  const std::vector<int64_t> strides = node.GetInts("strides", {1, 1}),
                             dilations = node.GetInts("dilations", {1, 1});
  const std::vector<int64_t> pads = node.GetInts("pads", {0, 0, 0, 0});
  if (strides.size() != 2 || dilations.size() != 2 || pads.size() != 4) {
    return absl::UnimplementedError(
        "strides, dilations or pads for another number of spatial dimensions than 2");
  }
  for (size_t d = 0; d < 2; ++d) {
    params.strides[d] = strides[d];
    params.dilations[d] = dilations[d];
    params.pads_begin[d] = pads[d];
  }
  const int64_t work = NumElements(params.dst.shape) * NumElements(params.weights.shape) /
                       std::max<int64_t>(params.weights.shape[0], 1);
  return EmitOne(b, fused, kernels::CreateDeformConv(params, b.env()), src, b.NewBuffer(params.dst),
                 work);
}

absl::Status LowerRoiAlign(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(std::vector<Location> src,
                         RealOperands(b, {node.inputs[0], node.inputs[1]}));
  OCTET_ASSIGN_OR_RETURN(const Location images, b.GetPlain(node.inputs[2]));
  src.push_back(images);
  using Params = kernels::RoiAlignParams;
  Params params;
  params.src = src[0].spec;
  params.regions = src[1].spec;
  params.images = images.spec;
  params.dst = OutputLike(b, fused, src[0]);
  const std::string mode = node.GetString("mode", "avg");
  if (mode != "avg" && mode != "max")
    return absl::InvalidArgumentError(absl::StrCat("mode '", mode, "'"));
  params.mode = mode == "max" ? Params::Mode::kMax : Params::Mode::kAverage;
  params.coordinates =
      node.GetString("coordinate_transformation_mode", "half_pixel") == "half_pixel"
          ? Params::Coordinates::kHalfPixel
          : Params::Coordinates::kOutputHalfPixel;
  params.sampling = node.GetInt("sampling_ratio", 0);
  params.scale = node.GetFloat("spatial_scale", 1);
  return EmitOne(b, fused, kernels::CreateRoiAlign(params, b.env()), src, b.NewBuffer(params.dst));
}

absl::Status LowerMaxRoiPool(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const std::vector<Location> src, RealOperands(b, node.inputs));
  const kernels::MaxRoiPoolParams params{src[0].spec, src[1].spec, OutputLike(b, fused, src[0]),
                                         node.GetFloat("spatial_scale", 1)};
  return EmitOne(b, fused, kernels::CreateMaxRoiPool(params, b.env()), src,
                 b.NewBuffer(params.dst));
}

kernels::SlidingWindow Sliding(const Window& w) {
  return {w.kernel, w.strides, w.dilations, w.pads_begin};
}

absl::Status LowerLpPool(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const std::vector<Location> src, RealOperands(b, node.inputs));
  kernels::LpPoolParams params;
  params.src = src[0].spec;
  params.dst = OutputLike(b, fused, src[0]);
  params.p = node.GetInt("p", 2);
  Window window = GlobalWindow(params.src.shape);
  if (node.op == "LpPool") {
    const std::vector<int64_t> kernel = node.GetInts("kernel_shape");
    OCTET_ASSIGN_OR_RETURN(window, WindowOf(node, params.src.shape, params.dst.shape, kernel));
  }
  params.window = Sliding(window);
  return EmitOne(b, fused, kernels::CreateLpPool(params, b.env()), src, b.NewBuffer(params.dst));
}

absl::Status LowerMaxUnpool(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const std::vector<Location> src, RealOperands(b, {node.inputs[0]}));
  OCTET_ASSIGN_OR_RETURN(const Location places, b.GetPlain(node.inputs[1]));
  kernels::MaxUnpoolParams params{src[0].spec, places.spec, OutputLike(b, fused, src[0]),
                                  src[0].spec.shape};
  const std::vector<int64_t> kernel = node.GetInts("kernel_shape");
  const size_t rank = kernel.size();
  const std::vector<int64_t> strides = node.GetInts("strides", std::vector<int64_t>(rank, 1));
  const std::vector<int64_t> pads = node.GetInts("pads", std::vector<int64_t>(2 * rank, 0));
  for (size_t d = 0; d < rank; ++d) {  // shape inference has checked the numbers of entries
    int64_t& dim = params.inferred[d + 2];
    dim = (dim - 1) * strides[d] + kernel[d] - pads[d] - pads[d + rank];
  }
  return EmitOne(b, fused, kernels::CreateMaxUnpool(params, b.env()), {src[0], places},
                 b.NewBuffer(params.dst));
}

}  // namespace

absl::Status LowerMaxPoolIndex(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location src, MovableOperand(b, node.inputs[0]));
  const graph::ValueId known =
      node.outputs[0] != graph::kNoValue ? node.outputs[0] : node.outputs[1];
  kernels::MaxPoolIndexParams params;
  params.src = src.spec;
  params.dst = src.spec;
  params.dst.shape = b.info(known).shape;
  const std::vector<int64_t> kernel = node.GetInts("kernel_shape");
  OCTET_ASSIGN_OR_RETURN(const Window window,
                         WindowOf(node, params.src.shape, params.dst.shape, kernel));
  params.window = Sliding(window);
  using Order = kernels::MaxPoolIndexParams::Order;
  params.order = node.GetInt("storage_order", 0) != 0 ? Order::kColumnMajor : Order::kRowMajor;
  const Location dst = b.NewBuffer(params.dst);
  TensorSpec place_spec;
  place_spec.dtype = DType::kS64;
  place_spec.shape = params.dst.shape;
  const Location places = b.NewBuffer(place_spec);
  OCTET_ASSIGN_OR_RETURN(auto made, kernels::CreateMaxPoolIndex(params, b.env()));
  b.Emit(std::move(made), {src}, {dst, places}, &fused);
  OCTET_RETURN_IF_ERROR(b.Bind(node.outputs[1], places));
  return node.outputs[0] == graph::kNoValue ? absl::OkStatus() : b.Bind(node.outputs[0], dst);
}

absl::StatusOr<std::vector<Location>> RealOperands(Builder& b,
                                                   absl::Span<const graph::ValueId> ids) {
  bool same = true;
  DType first = DType::kInvalid;
  for (graph::ValueId id : ids) {
    OCTET_ASSIGN_OR_RETURN(const Location l, b.Get(id));
    if (first == DType::kInvalid) first = l.spec.dtype;
    same = same && !l.spec.quant.has_value() && IsFloat(l.spec.dtype) && l.spec.dtype == first;
  }
  std::vector<Location> out;
  for (graph::ValueId id : ids) {
    OCTET_ASSIGN_OR_RETURN(Location l, same ? b.GetPlain(id) : b.GetPlainF32(id));
    out.push_back(std::move(l));
  }
  return out;
}

absl::StatusOr<std::vector<Location>> NumberOperands(Builder& b,
                                                     absl::Span<const graph::ValueId> ids) {
  for (graph::ValueId id : ids) {
    OCTET_ASSIGN_OR_RETURN(const Location l, b.Get(id));
    if (l.spec.quant.has_value()) return RealOperands(b, ids);
  }
  std::vector<Location> out;
  for (graph::ValueId id : ids) {
    OCTET_ASSIGN_OR_RETURN(Location l, b.GetPlain(id));
    out.push_back(std::move(l));
  }
  return out;
}

void AddSamplingRules(LowerTable* table) {
  table->Add("AffineGrid", LowerAffineGrid);
  table->Add("CenterCropPad", LowerCenterCropPad);
  table->Add("Col2Im", LowerCol2Im);
  table->Add("DeformConv", LowerDeformConv);
  table->Add("GlobalLpPool", LowerLpPool);
  table->Add("GridSample", LowerGridSample);
  table->Add("LpPool", LowerLpPool);
  table->Add("MaxRoiPool", LowerMaxRoiPool);
  table->Add("MaxUnpool", LowerMaxUnpool);
  table->Add("RoiAlign", LowerRoiAlign);
}

}  // namespace octet::engine
