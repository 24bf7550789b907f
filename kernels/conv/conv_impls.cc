// The ordered list of Conv and the rules its parameters obey.
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/conv/conv.h"
#include "kernels/elements.h"
#include "kernels/narrow_weights.h"

namespace octet::kernels {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
Result CreateConvAmxCodes(const ConvParams&, const KernelEnv&);
Result CreateConvOneDnn(const ConvParams&, const KernelEnv&);
Result CreateConvOneDnnCodes(const ConvParams&, const KernelEnv&);
Result CreateConvReference(const ConvParams&, const KernelEnv&);

namespace {

absl::Status Bad(absl::string_view rule) {
  return absl::InvalidArgumentError(absl::StrCat("conv: ", rule));
}

absl::Status ValidateShapes(const ConvParams& p) {
  const size_t rank = p.src.shape.size();
  if (rank < 3 || rank > 5 || p.weights_shape.size() != rank || p.dst.shape.size() != rank) {
    return Bad(absl::StrCat("ranks of src ", ShapeString(p.src.shape), ", weights ",
                            ShapeString(p.weights_shape), " and dst ", ShapeString(p.dst.shape),
                            " must be equal, 3 to 5"));
  }
  const size_t spatial = rank - 2;
  for (const auto* list : {&p.strides, &p.dilations, &p.pads_begin, &p.pads_end}) {
    if (list->size() != spatial)
      return Bad("strides, dilations and pads need one entry per spatial dimension");
  }
  if (p.groups < 1 || p.src.shape[1] != p.weights_shape[1] * p.groups ||
      p.weights_shape[0] % p.groups != 0 || p.dst.shape[1] != p.weights_shape[0] ||
      p.dst.shape[0] != p.src.shape[0]) {
    return Bad(absl::StrCat("channels of src ", ShapeString(p.src.shape), ", weights ",
                            ShapeString(p.weights_shape), ", dst ", ShapeString(p.dst.shape),
                            " do not fit ", p.groups, " groups"));
  }
  for (size_t i = 0; i < spatial; ++i) {
    if (p.strides[i] < 1 || p.dilations[i] < 1 || p.pads_begin[i] < 0 || p.pads_end[i] < 0) {
      return Bad("strides and dilations start at 1, pads at 0");
    }
    const int64_t extent = (p.weights_shape[i + 2] - 1) * p.dilations[i] + 1;
    const int64_t room = p.src.shape[i + 2] + p.pads_begin[i] + p.pads_end[i] - extent;
    if (room < 0 || p.dst.shape[i + 2] != room / p.strides[i] + 1) {
      return Bad(absl::StrCat("dst ", ShapeString(p.dst.shape), " does not follow from src ",
                              ShapeString(p.src.shape), " in spatial dimension ", i));
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateTypes(const ConvParams& p) {
  const bool f32 = IsPlainF32(p.src) && p.weights_dtype == DType::kF32;
  const bool bytes = !p.src.quant && (p.src.dtype == DType::kU8 || p.src.dtype == DType::kS8);
  const bool int8 = (p.runtime_quant ? bytes : IsQuantized8(p.src)) &&
                    (p.weights_dtype == DType::kS8 || IsNarrow(p.weights_dtype)) && p.weights.quant;
  if (!f32 && !int8) {
    return absl::UnimplementedError(absl::StrCat("conv: ", NameOf(p.src.dtype), " with ",
                                                 NameOf(p.weights_dtype),
                                                 " weights is neither f32 nor quantized 8 bits"));
  }
  const bool accumulator = p.runtime_quant && p.dst.dtype == DType::kS32 && !p.dst.quant &&
                           !p.bias.present() && p.post_ops.empty();
  if (!accumulator && !IsPlainF32(p.dst) && !IsQuantized8(p.dst)) {
    return absl::UnimplementedError(absl::StrCat("conv: dst of type ", NameOf(p.dst.dtype)));
  }
  if (int8 && p.weights_dtype == DType::kS8) {
    const QuantParams& q = *p.weights.quant;
    const size_t scales = q.per_tensor() ? 1 : static_cast<size_t>(p.weights_shape[0]);
    if (q.axis > 0 || q.block != 0 || q.scale.size() != scales) {
      return absl::UnimplementedError(
          "conv: weights scales must be per tensor or per output channel");
    }
    for (int32_t z : q.zero_point) {
      if (z != 0) return absl::UnimplementedError("conv: weights with a zero point");
    }
  }
  for (const PostOp& op : p.post_ops) {
    if (op.kind != PostOp::Kind::kAdd) continue;
    if (op.residual.shape != p.dst.shape || op.residual.layout != p.dst.layout ||
        BitsOf(op.residual.dtype) != BitsOf(p.dst.dtype) ||
        IsQuantized8(op.residual) != IsQuantized8(p.dst)) {
      return Bad("a residual lies in dst's memory: shape, layout and element size must agree");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Span<const Implementation<ConvParams>> ConvImplementations() {
  static constexpr Implementation<ConvParams> kList[] = {
      {"amx_codes", CreateConvAmxCodes},
      {"onednn_codes", CreateConvOneDnnCodes},
      {"onednn", CreateConvOneDnn},
      {"reference", CreateConvReference},
  };
  return kList;
}

absl::StatusOr<ConvParams> ConvOfS8(const ConvParams& params) {
  const TensorSpec weights{params.weights_dtype, params.weights_shape, Layout::kPlain, params.weights.quant};
  OCTET_ASSIGN_OR_RETURN(const ChannelScales scales, FactorScales(weights));
  ConvParams out = params;
  out.weights_dtype = DType::kS8;
  out.weights.quant = QuantParams{scales.scale, {}, 0, 0, {}, 1};
  if (!params.weights.tensor.valid()) return out;
  OCTET_ASSIGN_OR_RETURN(const NarrowElements elements, ExpandNarrow(weights, scales, params.weights.tensor.data()));
  out.weights.tensor = Tensor::FromValues<int8_t>(DType::kS8, params.weights_shape, elements.values);
  return out;
}

Result CreateConv(const ConvParams& params, const KernelEnv& env) {
  OCTET_RETURN_IF_ERROR(ValidateShapes(params));
  for (const TensorSpec* spec : {&params.src, &params.dst}) {
    OCTET_RETURN_IF_ERROR(ValidateQuant(*spec));
  }
  OCTET_RETURN_IF_ERROR(ValidateTypes(params));
  return Select(ConvImplementations(), params, env);
}

}  // namespace octet::kernels
