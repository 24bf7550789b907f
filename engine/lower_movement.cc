// Lowering of operators that move elements: views where the bytes stay, copies where they do not.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/builder.h"
#include "engine/lower.h"
#include "graph/constant_quantization.h"
#include "kernels/concat/concat.h"
#include "kernels/movement/movement.h"
#include "kernels/quantize/quantize.h"
#include "kernels/resize/resize.h"

namespace octet::engine {
namespace {

using graph::Node;
using kernels::Layout;
using kernels::TensorSpec;

// dst keeps the storage of src; Bind converts when the graph wants another.
Location SameForm(Builder& b, const Location& src, const Shape& shape, Layout layout) {
  TensorSpec spec = src.spec;
  spec.shape = shape;
  spec.layout = LayoutIsTrivial(shape) ? Layout::kPlain : layout;
  return b.NewBuffer(spec);
}

absl::Status LowerView(Builder& b, const FusedNode& fused) {
  OCTET_ASSIGN_OR_RETURN(const Location src, MovableOperand(b, fused.node->inputs[0]));
  return b.Bind(fused.output, Builder::View(src, b.info(fused.output).shape, Layout::kPlain));
}

absl::Status LowerIdentity(Builder& b, const FusedNode& fused) {
  OCTET_ASSIGN_OR_RETURN(const Location src, b.Get(fused.node->inputs[0]));
  return b.Bind(fused.output, src);
}

absl::Status EmitCopy(Builder& b, const FusedNode& fused, graph::ValueId output, const Location& src,
                      Shape strides, int64_t offset) {
  const Shape& shape = b.info(output).shape;
  const Location dst = SameForm(b, src, shape, Layout::kPlain);
  kernels::StridedCopyParams params{src.spec.dtype, shape, std::move(strides), offset};
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreateStridedCopy(params, b.env()));
  b.Emit(std::move(kernel), {src}, {dst}, &fused);
  return b.Bind(output, dst);
}

// [0, 2, 3, .., 1]: what channels-last memory already is; [0, r-1, 1, ..]: the reverse.
bool IsToChannelsLast(const std::vector<int64_t>& perm) {
  if (perm.size() < 3 || perm[0] != 0 || perm.back() != 1) return false;
  for (size_t i = 1; i + 1 < perm.size(); ++i) {
    if (perm[i] != static_cast<int64_t>(i) + 1) return false;
  }
  return true;
}

bool IsFromChannelsLast(const std::vector<int64_t>& perm) {
  if (perm.size() < 3 || perm[0] != 0 || perm[1] != static_cast<int64_t>(perm.size()) - 1) return false;
  for (size_t i = 2; i < perm.size(); ++i) {
    if (perm[i] != static_cast<int64_t>(i) - 1) return false;
  }
  return true;
}

absl::Status LowerTranspose(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(Location src, b.Get(node.inputs[0]));
  const size_t rank = src.spec.shape.size();
  std::vector<int64_t> reversed(rank);
  std::iota(reversed.rbegin(), reversed.rend(), 0);
  const std::vector<int64_t> perm = node.GetInts("perm", reversed);
  if (perm.size() != rank) {
    return absl::InvalidArgumentError(
        absl::StrCat("perm has ", perm.size(), " entries, the input has rank ", rank));
  }
  const Shape& shape = b.info(fused.output).shape;
  const bool movable = !src.spec.quant.has_value() || src.spec.quant->per_tensor();
  if (movable && src.spec.layout == Layout::kChannelsLast && IsToChannelsLast(perm)) {
    return b.Bind(fused.output, Builder::View(src, shape, Layout::kPlain));
  }
  if (movable && src.spec.layout == Layout::kPlain && IsFromChannelsLast(perm) && rank <= 5) {
    return b.Bind(fused.output, Builder::View(src, shape, Layout::kChannelsLast));
  }
  OCTET_ASSIGN_OR_RETURN(src, MovableOperand(b, node.inputs[0]));
  const Shape from = StridesOf(src.spec.shape);
  Shape strides;
  for (int64_t axis : perm) strides.push_back(from[static_cast<size_t>(axis)]);
  return EmitCopy(b, fused, fused.output, src, std::move(strides), 0);
}

absl::Status LowerSlice(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location src, MovableOperand(b, node.inputs[0]));
  const Shape& shape = src.spec.shape;
  OCTET_ASSIGN_OR_RETURN(const std::vector<int64_t> starts, b.ConstantInts(node.inputs[1]));
  std::vector<int64_t> axes(starts.size()), steps(starts.size(), 1);
  std::iota(axes.begin(), axes.end(), 0);
  if (node.has_input(3)) {
    OCTET_ASSIGN_OR_RETURN(axes, b.ConstantInts(node.inputs[3]));
  }
  if (node.has_input(4)) {
    OCTET_ASSIGN_OR_RETURN(steps, b.ConstantInts(node.inputs[4]));
  }
  const Shape& out = b.info(fused.output).shape;
  Shape strides = StridesOf(shape);
  int64_t offset = 0;
  for (size_t i = 0; i < starts.size(); ++i) {
    const auto axis = static_cast<size_t>(axes[i] < 0 ? axes[i] + static_cast<int64_t>(shape.size())
                                                      : axes[i]);
    const int64_t dim = shape[axis];
    if (out[axis] == 0) continue;  // nothing is read
    int64_t start = starts[i] < 0 ? std::max<int64_t>(starts[i], -dim) + dim : starts[i];
    start = std::clamp<int64_t>(start, 0, steps[i] < 0 ? dim - 1 : dim);
    offset += start * strides[axis];
    strides[axis] = out[axis] == 1 ? 0 : strides[axis] * steps[i];  // a single element may have any step
  }
  return EmitCopy(b, fused, fused.output, src, std::move(strides), offset);
}

absl::Status LowerSplit(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location src, MovableOperand(b, node.inputs[0]));
  int64_t axis = node.GetInt("axis", 0);
  if (axis < 0) axis += static_cast<int64_t>(src.spec.shape.size());
  const Shape strides = StridesOf(src.spec.shape);
  int64_t offset = 0;
  for (graph::ValueId output : node.outputs) {
    if (output == graph::kNoValue) continue;
    OCTET_RETURN_IF_ERROR(EmitCopy(b, fused, output, src, strides, offset));
    offset += b.info(output).shape[static_cast<size_t>(axis)] * strides[static_cast<size_t>(axis)];
  }
  return absl::OkStatus();
}

absl::Status LowerExpand(Builder& b, const FusedNode& fused) {
  OCTET_ASSIGN_OR_RETURN(const Location src, MovableOperand(b, fused.node->inputs[0]));
  const Shape& out = b.info(fused.output).shape;
  const Shape from = StridesOf(src.spec.shape);
  Shape strides(out.size(), 0);
  for (size_t i = 0; i < src.spec.shape.size(); ++i) {
    if (src.spec.shape[i] != 1) strides[out.size() - src.spec.shape.size() + i] = from[i];
  }
  return EmitCopy(b, fused, fused.output, src, std::move(strides), 0);
}

absl::Status LowerTile(Builder& b, const FusedNode& fused) {
  OCTET_ASSIGN_OR_RETURN(const Location src, MovableOperand(b, fused.node->inputs[0]));
  // [d0, d1] tiled by (r0, r1) is [r0, d0, r1, d1] with stride 0 along the r's.
  const Shape& in = src.spec.shape;
  const Shape& out = b.info(fused.output).shape;
  const Shape from = StridesOf(in);
  Shape shape, strides;
  for (size_t i = 0; i < in.size(); ++i) {
    shape.push_back(in[i] == 0 ? 0 : out[i] / in[i]);
    strides.push_back(0);
    shape.push_back(in[i]);
    strides.push_back(from[i]);
  }
  const Location dst = SameForm(b, src, out, Layout::kPlain);
  OCTET_ASSIGN_OR_RETURN(
      std::unique_ptr<kernels::Kernel> kernel,
      kernels::CreateStridedCopy({src.spec.dtype, shape, strides, 0}, b.env()));
  b.Emit(std::move(kernel), {src}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::Status LowerConcat(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  kernels::ConcatParams params;
  std::vector<Location> src;
  Layout layout = Layout::kPlain;
  for (graph::ValueId id : node.inputs) {
    OCTET_ASSIGN_OR_RETURN(const Location l, b.Get(id));
    if (l.spec.layout == Layout::kChannelsLast) layout = Layout::kChannelsLast;
  }
  params.dst = b.OutputSpec(fused.output, layout);
  const bool reals = params.dst.quant.has_value() || IsFloat(params.dst.dtype);
  for (graph::ValueId id : node.inputs) {
    OCTET_ASSIGN_OR_RETURN(Location l, b.Get(id));
    // Parts keep 8-bit storage when the result has it; otherwise they are brought to the result's type.
    const bool keep = !reals || (params.dst.quant.has_value() && l.spec.quant.has_value() &&
                                 l.spec.quant->per_tensor() && l.spec.dtype == params.dst.dtype);
    if (keep) {
      OCTET_ASSIGN_OR_RETURN(l, b.GetLayout(id, layout));
    } else {
      OCTET_ASSIGN_OR_RETURN(l, b.GetAs(id, layout, params.dst.dtype, params.dst.quant));
    }
    // Parts whose own order is trivial (one channel) are in this layout, too.
    l.spec.layout = params.dst.layout;
    params.parts.push_back(l.spec);
    src.push_back(std::move(l));
  }
  int64_t axis = node.GetInt("axis", 0);
  if (axis < 0) axis += static_cast<int64_t>(params.dst.shape.size());
  params.axis = static_cast<int>(axis);
  const Location dst = b.NewBuffer(params.dst);
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreateConcat(params, b.env()));
  b.Emit(std::move(kernel), std::move(src), {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::Status LowerGather(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location data, MovableOperand(b, node.inputs[0]));
  OCTET_ASSIGN_OR_RETURN(const Location indices, b.GetPlain(node.inputs[1]));
  const Location dst = SameForm(b, data, b.info(fused.output).shape, Layout::kPlain);
  int64_t axis = node.GetInt("axis", 0);
  if (axis < 0) axis += static_cast<int64_t>(data.spec.shape.size());
  OCTET_ASSIGN_OR_RETURN(
      std::unique_ptr<kernels::Kernel> kernel,
      kernels::CreateGather({data.spec, indices.spec, dst.spec, static_cast<int>(axis)}, b.env()));
  b.Emit(std::move(kernel), {data, indices}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::Status LowerWhere(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location condition, b.GetPlain(node.inputs[0]));
  const TensorSpec own = b.OutputSpec(fused.output, Layout::kPlain);
  TensorSpec spec = own;
  if (own.quant.has_value()) {
    spec.quant.reset();
    spec.dtype = DType::kF32;
  }
  OCTET_ASSIGN_OR_RETURN(const Location x,
                         b.GetAs(node.inputs[1], Layout::kPlain, spec.dtype, std::nullopt));
  OCTET_ASSIGN_OR_RETURN(const Location y,
                         b.GetAs(node.inputs[2], Layout::kPlain, spec.dtype, std::nullopt));
  const Location dst = b.NewBuffer(spec);
  OCTET_ASSIGN_OR_RETURN(
      std::unique_ptr<kernels::Kernel> kernel,
      kernels::CreateWhere({condition.spec, x.spec, y.spec, dst.spec}, b.env()));
  b.Emit(std::move(kernel), {condition, x, y}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

// The pad value as one stored element of `spec`; empty when it is computed.
absl::StatusOr<std::vector<std::byte>> FillElement(Builder& b, const Node& node,
                                                   const TensorSpec& spec) {
  std::vector<std::byte> fill(static_cast<size_t>(BytesOf(spec.dtype)));
  if (spec.quant.has_value()) {
    float real = 0;
    if (node.has_input(2)) {
      // Unimplemented when computed: the caller then pads reals.
      OCTET_ASSIGN_OR_RETURN(const std::vector<float> value, b.ConstantFloats(node.inputs[2]));
      if (!value.empty()) real = value[0];
    }
    if (real != 0) return absl::UnimplementedError("a pad value other than 0 on 8-bit storage");
    const int32_t zero = spec.quant->zero_point_at(0);
    std::memcpy(fill.data(), &zero, 1);
    return fill;
  }
  if (!node.has_input(2)) return fill;
  OCTET_ASSIGN_OR_RETURN(const Location value,
                         b.GetAs(node.inputs[2], Layout::kPlain, spec.dtype, std::nullopt));
  if (value.constant == nullptr) return std::vector<std::byte>();  // computed: an operand of the kernel
  std::memcpy(fill.data(), value.constant->data.data(), fill.size());
  return fill;
}

absl::Status LowerPad(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(Location src, MovableOperand(b, node.inputs[0]));
  kernels::PadParams params;
  const std::string mode = node.GetString("mode", "constant");
  using Mode = kernels::PadParams::Mode;
  if (mode != "constant" && mode != "reflect" && mode != "edge" && mode != "wrap") {
    return absl::InvalidArgumentError(absl::StrCat("mode '", mode, "'"));
  }
  params.mode = mode == "constant"  ? Mode::kConstant
                : mode == "reflect" ? Mode::kReflect
                : mode == "edge"    ? Mode::kEdge
                                    : Mode::kWrap;
  const size_t rank = src.spec.shape.size();
  OCTET_ASSIGN_OR_RETURN(const std::vector<int64_t> pads, b.ConstantInts(node.inputs[1]));
  params.begin.assign(rank, 0);
  if (node.has_input(3)) {
    OCTET_ASSIGN_OR_RETURN(const std::vector<int64_t> axes, b.ConstantInts(node.inputs[3]));
    for (size_t i = 0; i < axes.size(); ++i) {
      params.begin[static_cast<size_t>(axes[i] < 0 ? axes[i] + static_cast<int64_t>(rank) : axes[i])] =
          pads[i];
    }
  } else {
    params.begin.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(rank));
  }
  absl::StatusOr<std::vector<std::byte>> fill = FillElement(b, node, src.spec);
  if (absl::IsUnimplemented(fill.status()) && src.spec.quant.has_value()) {
    OCTET_ASSIGN_OR_RETURN(src, b.GetPlainF32(node.inputs[0]));
    fill = FillElement(b, node, src.spec);
  }
  if (!fill.ok()) return fill.status();
  params.fill = *std::move(fill);
  params.src = src.spec;
  const Location dst = SameForm(b, src, b.info(fused.output).shape, Layout::kPlain);
  params.dst = dst.spec;
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel, kernels::CreatePad(params, b.env()));
  std::vector<Location> operands = {src};
  if (params.mode == Mode::kConstant && params.fill.empty()) {
    OCTET_ASSIGN_OR_RETURN(const Location value, b.GetAs(node.inputs[2], Layout::kPlain, src.spec.dtype, std::nullopt));
    operands.push_back(value);
  }
  b.Emit(std::move(kernel), std::move(operands), {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::Status LowerDepthToSpace(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location src, MovableOperand(b, node.inputs[0]));
  using Mode = kernels::DepthToSpaceParams::Mode;
  kernels::DepthToSpaceParams params;
  params.mode = node.op == "SpaceToDepth"                ? Mode::kSpaceToDepth
                : node.GetString("mode", "DCR") == "CRD" ? Mode::kCrd
                                                         : Mode::kDcr;
  params.block = node.GetInt("blocksize", 1);
  params.src = src.spec;
  const Location dst = SameForm(b, src, b.info(fused.output).shape, Layout::kPlain);
  params.dst = dst.spec;
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreateDepthToSpace(params, b.env()));
  b.Emit(std::move(kernel), {src}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::Status ResizeModes(const Node& node, kernels::ResizeParams* params) {
  using P = kernels::ResizeParams;
  const std::string mode = node.GetString("mode", "nearest");
  if (mode != "nearest" && mode != "linear" && mode != "cubic") {
    return absl::InvalidArgumentError(absl::StrCat("mode '", mode, "'"));
  }
  params->mode = mode == "nearest" ? P::Mode::kNearest : mode == "linear" ? P::Mode::kLinear : P::Mode::kCubic;
  const std::string c = node.GetString("coordinate_transformation_mode", "half_pixel");
  if (c == "half_pixel") {
    params->coordinates = P::Coordinates::kHalfPixel;
  } else if (c == "half_pixel_symmetric") {
    params->coordinates = P::Coordinates::kHalfPixelSymmetric;
  } else if (c == "pytorch_half_pixel") {
    params->coordinates = P::Coordinates::kPytorchHalfPixel;
  } else if (c == "align_corners") {
    params->coordinates = P::Coordinates::kAlignCorners;
  } else if (c == "asymmetric") {
    params->coordinates = P::Coordinates::kAsymmetric;
  } else if (c == "tf_crop_and_resize") {
    params->coordinates = P::Coordinates::kTfCropAndResize;
  } else {
    return absl::UnimplementedError(absl::StrCat("coordinate_transformation_mode '", c, "'"));
  }
  const std::string n = node.GetString("nearest_mode", "round_prefer_floor");
  params->rounding = n == "floor"               ? P::Rounding::kFloor
                     : n == "ceil"              ? P::Rounding::kCeil
                     : n == "round_prefer_ceil" ? P::Rounding::kRoundPreferCeil
                                                : P::Rounding::kRoundPreferFloor;
  if (node.GetInt("antialias", 0) != 0) {
    if (mode == "nearest") return absl::UnimplementedError("antialias with mode 'nearest'");
    params->antialias = P::Antialias::kYes;
  }
  if (node.GetInt("exclude_outside", 0) != 0) params->border = P::Border::kExcludeOutside;
  params->cubic_coefficient = node.GetFloat("cubic_coeff_a", -0.75f);
  params->extrapolation_value = node.GetFloat("extrapolation_value", 0.0f);
  return absl::OkStatus();
}

absl::Status LowerResize(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  kernels::ResizeParams params;
  OCTET_RETURN_IF_ERROR(ResizeModes(node, &params));
  OCTET_ASSIGN_OR_RETURN(Location src, b.Get(node.inputs[0]));
  // The nearest element is taken as it is stored; all else computes on reals.
  const bool stored = (!src.spec.quant.has_value() || src.spec.quant->per_tensor()) && BitsOf(src.spec.dtype) >= 8 &&
                      params.mode == kernels::ResizeParams::Mode::kNearest;
  if (!stored) {
    OCTET_ASSIGN_OR_RETURN(src, b.GetF32(node.inputs[0]));
  }
  const Shape& in = src.spec.shape;
  const Shape& out = b.info(fused.output).shape;
  for (size_t i = 0; i < in.size(); ++i) {
    params.scales.push_back(in[i] == 0 ? 1.0f
                                       : static_cast<float>(out[i]) / static_cast<float>(in[i]));
  }
  std::vector<int64_t> axes = node.GetInts("axes");
  if (axes.empty()) {
    axes.resize(in.size());
    std::iota(axes.begin(), axes.end(), 0);
  }
  auto axis_of = [&](size_t i) {
    return static_cast<size_t>(axes[i] < 0 ? axes[i] + static_cast<int64_t>(in.size()) : axes[i]);
  };
  if (node.has_input(2)) {  // declared scales differ from out/in where the size was rounded down
    OCTET_ASSIGN_OR_RETURN(const std::vector<float> scales, b.ConstantFloats(node.inputs[2]));
    for (size_t i = 0; i < scales.size() && i < axes.size(); ++i) params.scales[axis_of(i)] = scales[i];
  } else if (const std::string policy = node.GetString("keep_aspect_ratio_policy", "stretch"); policy != "stretch") {
    // One scale for all axes; the sizes were rounded from it.
    OCTET_ASSIGN_OR_RETURN(const std::vector<int64_t> sizes, b.ConstantInts(node.inputs[3]));
    float scale = 0;
    for (size_t i = 0; i < sizes.size() && i < axes.size(); ++i) {
      const float ratio = static_cast<float>(sizes[i]) / static_cast<float>(std::max<int64_t>(in[axis_of(i)], 1));
      scale = i == 0 ? ratio : policy == "not_larger" ? std::min(scale, ratio) : std::max(scale, ratio);
    }
    for (size_t i = 0; i < axes.size(); ++i) params.scales[axis_of(i)] = scale;
  }
  if (params.coordinates == kernels::ResizeParams::Coordinates::kTfCropAndResize) {
    if (!node.has_input(1)) return absl::InvalidArgumentError("tf_crop_and_resize without roi");
    OCTET_ASSIGN_OR_RETURN(const std::vector<float> roi, b.ConstantFloats(node.inputs[1]));
    params.roi.assign(2 * in.size(), 0.0f);
    std::fill(params.roi.begin() + static_cast<std::ptrdiff_t>(in.size()), params.roi.end(), 1.0f);
    for (size_t i = 0; i < axes.size() && i + axes.size() < roi.size(); ++i) {
      params.roi[axis_of(i)] = roi[i];
      params.roi[in.size() + axis_of(i)] = roi[axes.size() + i];
    }
  }
  params.src = src.spec;
  const Location dst = SameForm(b, src, out, src.spec.layout);
  params.dst = dst.spec;
  params.dst.layout = params.src.layout;
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreateResize(params, b.env()));
  b.Emit(std::move(kernel), {src}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

}  // namespace

absl::StatusOr<kernels::ConstantSpec> DequantizedConstant(Builder& b, graph::ValueId id, bool* local) {
  // A key space of its own: the integers of the same constant may be packed as well.
  constexpr int kReals = 1 << 30;
  kernels::ConstantSpec spec = b.Constant(id, local);
  if (spec.tensor.valid() && spec.quant.has_value()) {
    OCTET_ASSIGN_OR_RETURN(spec.tensor, graph::DequantizeTensor(spec.tensor, *spec.quant));
  } else if (spec.tensor.valid()) {
    TensorSpec from = b.OutputSpec(id, Layout::kPlain);
    TensorSpec to = from;
    to.dtype = DType::kF32;
    OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                           kernels::CreateConvert({from, to}, b.env()));
    OCTET_ASSIGN_OR_RETURN(Buffer out, Buffer::Allocate(to.size_bytes()));
    OCTET_ASSIGN_OR_RETURN(Buffer in, Buffer::Allocate(from.size_bytes()));
    OCTET_ASSIGN_OR_RETURN(Buffer scratch, Buffer::Allocate(kernel->scratch_bytes()));
    std::memcpy(in.data(), spec.tensor.data(), static_cast<size_t>(from.size_bytes()));
    OpenMpFor team(b.env().threads);
    const void* src[] = {in.data()};
    void* dst[] = {out.data()};
    OCTET_ASSIGN_OR_RETURN(kernels::BoundKernel run,
                           kernel->Bind({src, dst, scratch.data(), &team}));
    OCTET_RETURN_IF_ERROR(run());
    spec.tensor = Tensor::FromBuffer(DType::kF32, to.shape, std::move(out));
  }
  spec.id = id + kReals;
  spec.quant.reset();
  return spec;
}

void AddMovementRules(LowerTable* table) {
  for (const char* op : {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}) table->Add(op, LowerView);
  table->Add("Identity", LowerIdentity);
  table->Add("Dropout", LowerIdentity);
  table->Add("Transpose", LowerTranspose);
  table->Add("Slice", LowerSlice);
  table->Add("Split", LowerSplit);
  table->Add("Expand", LowerExpand);
  table->Add("Tile", LowerTile);
  table->Add("Concat", LowerConcat);
  table->Add("Gather", LowerGather);
  table->Add("Where", LowerWhere);
  table->Add("Pad", LowerPad);
  table->Add("DepthToSpace", LowerDepthToSpace);
  table->Add("SpaceToDepth", LowerDepthToSpace);
  table->Add("Resize", LowerResize);
}

}  // namespace octet::engine
