// Lowering of the transposed convolution.
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/builder.h"
#include "engine/lower.h"
#include "kernels/deconv/deconv.h"

namespace octet::engine {
namespace {

using graph::Node;
using kernels::DeconvParams;
using kernels::Layout;

// Where the outputs begin. ONNX: total = stride (in - 1) + output_padding + span - out is cut, with SAME_* or
// output_shape split over both ends; a negative total (an output beyond the last window) cuts nothing.
absl::Status ReadWindow(const Node& node, const Shape& src, const Shape& dst, DeconvParams* params) {
  const size_t rank = src.size() - 2;
  params->groups = node.GetInt("group", 1);
  params->strides = node.GetInts("strides", std::vector<int64_t>(rank, 1));
  params->dilations = node.GetInts("dilations", std::vector<int64_t>(rank, 1));
  const std::vector<int64_t> pads = node.GetInts("pads", std::vector<int64_t>(2 * rank, 0));
  const std::vector<int64_t> output_padding = node.GetInts("output_padding", std::vector<int64_t>(rank, 0));
  if (params->strides.size() != rank || params->dilations.size() != rank || pads.size() != 2 * rank ||
      output_padding.size() != rank || params->weights_shape.size() != rank + 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("strides, dilations, pads or output_padding do not fit an input of shape ", ShapeString(src)));
  }
  const std::string auto_pad = node.GetString("auto_pad", "NOTSET");
  const bool given = !node.GetInts("output_shape").empty();
  for (size_t i = 0; i < rank; ++i) {
    const int64_t span = (params->weights_shape[i + 2] - 1) * params->dilations[i] + 1;
    const int64_t total = std::max<int64_t>(
        params->strides[i] * (src[i + 2] - 1) + output_padding[i] + span - dst[i + 2], 0);
    int64_t begin = pads[i];
    if (auto_pad == "SAME_UPPER" || (given && auto_pad == "NOTSET")) begin = total / 2;
    if (auto_pad == "SAME_LOWER") begin = total - total / 2;
    if (auto_pad == "VALID") begin = 0;
    params->pads_begin.push_back(begin);
  }
  return absl::OkStatus();
}

// A parameter as a constant of the program where it is one in f32 or with quant, else as an operand in f32.
absl::StatusOr<kernels::ConstantSpec> Parameter(Builder& b, graph::ValueId id, bool* local, std::vector<Location>* src) {
  const bool quantized = b.graph().value(id).quant.has_value();
  if (b.info(id).is_constant && quantized) return DequantizedConstant(b, id, local);
  if (b.info(id).is_constant && b.info(id).dtype == DType::kF32) return b.Constant(id, local);
  OCTET_ASSIGN_OR_RETURN(const Location l, b.GetPlainF32(id));
  src->push_back(l);
  return kernels::ConstantSpec{};
}

absl::Status LowerConvTranspose(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location x, b.GetAs(node.inputs[0], Layout::kChannelsLast, DType::kF32, std::nullopt));
  DeconvParams params;
  params.weights_shape = b.info(node.inputs[1]).shape;
  params.dst = b.OutputSpec(fused.output, Layout::kChannelsLast);
  if (!params.dst.quant.has_value()) params.dst.dtype = DType::kF32;
  OCTET_RETURN_IF_ERROR(ReadWindow(node, x.spec.shape, params.dst.shape, &params));
  bool local = false;
  std::vector<Location> src = {x};
  OCTET_ASSIGN_OR_RETURN(params.weights, Parameter(b, node.inputs[1], &local, &src));
  params.has_bias = node.has_input(2);
  if (params.has_bias) {
    OCTET_ASSIGN_OR_RETURN(params.bias, Parameter(b, node.inputs[2], &local, &src));
  }
  for (const FusedPostOp& op : fused.post_ops) {
    if (op.kind != kernels::PostOp::Kind::kActivation) return absl::InternalError("a residual behind ConvTranspose");
    params.post_ops.push_back({op.kind, op.activation, {}});
  }
  const Location dst = b.NewBuffer(params.dst);
  params.src = x.spec;
  // Where both orders are the same bytes, channels-last is the one with fast kernels.
  params.src.layout = params.dst.layout = Layout::kChannelsLast;
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel, kernels::CreateDeconv(params, b.env(local)));
  const int64_t weights = NumElements(params.weights_shape);
  const int64_t inputs = NumElements(params.src.shape) / std::max<int64_t>(params.src.shape[1], 1);
  b.Emit(std::move(kernel), std::move(src), {dst}, &fused, weights * inputs,
         params.weights.present() ? weights * BytesOf(DType::kF32) : 0);
  return b.Bind(fused.output, dst);
}

}  // namespace

void AddDeconvRule(LowerTable* table) { table->Add("ConvTranspose", LowerConvTranspose); }

}  // namespace octet::engine
