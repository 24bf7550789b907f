// Lowering of convolution, matrix products and pooling, with what is fused into them.
#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/builder.h"
#include "engine/lower.h"
#include "engine/windows.h"
#include "kernels/conv/conv.h"
#include "kernels/matmul/matmul.h"
#include "kernels/narrow_weights.h"
#include "kernels/pool/pool.h"

namespace octet::engine {
namespace {

using graph::Node;
using kernels::ConstantSpec;
using kernels::Layout;
using kernels::TensorSpec;

// The output location of a product and its kernel post-ops: in the residual's memory when one is added.
struct Destination {
  Location location;
  std::vector<kernels::PostOp> post_ops;
};

bool IsDynamic(const Node& node) { return node.op == "DynamicConv" || node.op == "DynamicMatMul"; }

// What a product is computed in: oneDNN writes 8 bits from float operands with its reference only, so a rounded result of a
// float product is a conversion behind it.
enum class Arithmetic : uint8_t { kFloat, kInteger };

absl::StatusOr<Destination> MakeDestination(Builder& b, const FusedNode& fused, Layout layout, Arithmetic arithmetic) {
  Destination destination;
  TensorSpec spec = b.OutputSpec(fused.output, layout);
  if (arithmetic == Arithmetic::kFloat) spec.quant.reset();
  // Products are computed in f32 or into 8 bits; other storage types are a conversion behind it (Builder::Bind).
  const bool accumulator = IsDynamic(*fused.node) && !fused.node->has_input(2);
  if (!spec.quant.has_value()) spec.dtype = accumulator ? DType::kS32 : DType::kF32;
  bool placed = false;
  for (const FusedPostOp& op : fused.post_ops) {
    kernels::PostOp post;
    post.kind = op.kind;
    post.activation = op.activation;
    if (op.kind == kernels::PostOp::Kind::kAdd) {
      OCTET_ASSIGN_OR_RETURN(Location residual, b.GetLayout(op.residual, spec.layout));
      if (arithmetic == Arithmetic::kFloat && residual.spec.quant.has_value()) {
        OCTET_ASSIGN_OR_RETURN(residual, b.GetAs(op.residual, spec.layout, DType::kF32, std::nullopt));
      }
      post.residual = residual.spec;
      destination.location = Builder::View(residual, spec.shape, spec.layout);
      destination.location.spec = spec;
      placed = true;
    }
    destination.post_ops.push_back(std::move(post));
  }
  if (!placed) destination.location = b.NewBuffer(spec);
  return destination;
}

// Operand `id` for a product: quantized as it is when both sides are, else f32.
bool IsInt8(const Location& l) {
  return l.spec.quant.has_value() && l.spec.quant->per_tensor() &&
         (l.spec.dtype == DType::kU8 || l.spec.dtype == DType::kS8);
}

// Zero points of weights: engine/passes has taken them apart but for one of a matrix, which its kernel subtracts.
enum class ZeroPoints : uint8_t { kNone, kOne };

bool IsInt8Weights(const Builder& b, graph::ValueId id, ZeroPoints allowed = ZeroPoints::kNone) {
  const graph::Value& value = b.graph().value(id);
  if (!value.quant.has_value() || value.dtype != DType::kS8 || value.quant->block != 0) return false;
  if (allowed == ZeroPoints::kOne && value.quant->per_tensor()) return true;
  return std::all_of(value.quant->zero_point.begin(), value.quant->zero_point.end(),
                     [](int32_t z) { return z == 0; });
}

// Constants that kernels read as they are: f32, or integers with quant. Other floats are taken as f32 reals.
bool IsKernelType(const Builder& b, graph::ValueId id) {
  const graph::Value& value = b.graph().value(id);
  return value.quant.has_value() || !IsFloat(value.dtype) || value.dtype == DType::kF32;
}

// Bias operand: f32 reals or s32 with quant. A computed one is refused.
absl::StatusOr<ConstantSpec> BiasOf(Builder& b, const Node& node, size_t index, bool* local) {
  if (!node.has_input(index)) return ConstantSpec{};
  const graph::ValueId id = node.inputs[index];
  if (!b.info(id).is_constant) {
    return absl::UnimplementedError(
        absl::StrCat("bias '", b.graph().value(id).name, "' must be a constant"));
  }
  if (!IsKernelType(b, id)) return DequantizedConstant(b, id, local);
  return b.Constant(id, local);
}

// Scale and zero point of a dynamic product as further operands behind `src`.
absl::StatusOr<kernels::RuntimeQuant> RuntimeOperands(Builder& b, const Node& node,
                                                      std::vector<Location>* src) {
  kernels::RuntimeQuant quant;
  if (node.has_input(2)) {
    OCTET_ASSIGN_OR_RETURN(const Location scale, b.GetPlainF32(node.inputs[2]));
    quant.scale = static_cast<int>(src->size());
    src->push_back(scale);
  }
  if (node.has_input(3)) {
    OCTET_ASSIGN_OR_RETURN(const Location zero_point,
                           b.GetAs(node.inputs[3], Layout::kPlain, DType::kS32, std::nullopt));
    quant.zero_point = static_cast<int>(src->size());
    src->push_back(zero_point);
  }
  return quant;
}

// Weights of less than 8 bits whose scales a convolution of s8 weights can have.
bool IsNarrowWeights(const Builder& b, graph::ValueId id) {
  const graph::Value& value = b.graph().value(id);
  return b.info(id).is_constant && value.quant.has_value() && kernels::IsNarrow(value.dtype) &&
         kernels::FactorScales({value.dtype, b.info(id).shape, Layout::kPlain, value.quant}).ok();
}

// How a convolution takes weights of less than 8 bits.
enum class Narrow : uint8_t {
  kCodes,  // as they are
  kReals,  // as f32, in memory, too: a float source has no use for integers
};

absl::Status LowerConvWith(Builder& b, const FusedNode& fused, Narrow narrow) {
  const Node& node = *fused.node;
  const graph::ValueId weights_id = node.inputs[1];
  const bool dynamic = IsDynamic(node);
  if (!b.info(weights_id).is_constant) {
    return absl::UnimplementedError("weights must be constant");
  }
  OCTET_ASSIGN_OR_RETURN(Location src, b.GetLayout(node.inputs[0], Layout::kChannelsLast));
  const bool codes = narrow == Narrow::kCodes && (dynamic || IsInt8(src));
  const bool quantized = codes || ((dynamic || IsInt8(src)) && IsInt8Weights(b, weights_id));
  std::vector<Location> operands;
  if (!quantized) {
    OCTET_ASSIGN_OR_RETURN(src, b.GetAs(node.inputs[0], Layout::kChannelsLast, DType::kF32,
                                        std::nullopt));
  }
  kernels::ConvParams params;
  bool local = false;
  params.weights_shape = b.info(weights_id).shape;
  if (quantized || (b.graph().value(weights_id).quant == std::nullopt && IsKernelType(b, weights_id))) {
    params.weights = b.Constant(weights_id, &local);
    params.weights_dtype = b.info(weights_id).dtype;
    if (quantized && !codes) params.weights_dtype = DType::kS8;
  } else {
    OCTET_ASSIGN_OR_RETURN(params.weights, DequantizedConstant(b, weights_id, &local));
    params.weights_dtype = DType::kF32;
  }
  OCTET_ASSIGN_OR_RETURN(params.bias, BiasOf(b, node, dynamic ? 4 : 2, &local));
  operands.push_back(src);
  if (dynamic) {
    OCTET_ASSIGN_OR_RETURN(params.runtime_quant, RuntimeOperands(b, node, &operands));
  }
  OCTET_ASSIGN_OR_RETURN(const Window window,
                         WindowOf(node, src.spec.shape, b.info(node.outputs[0]).shape,
                                  absl::MakeConstSpan(params.weights_shape).subspan(2)));
  params.strides = window.strides;
  params.dilations = window.dilations;
  params.pads_begin = window.pads_begin;
  params.pads_end = window.pads_end;
  params.groups = node.GetInt("group", 1);
  OCTET_ASSIGN_OR_RETURN(Destination dst, MakeDestination(b, fused, Layout::kChannelsLast,
                                                        quantized ? Arithmetic::kInteger : Arithmetic::kFloat));
  params.src = src.spec;
  params.dst = dst.location.spec;
  params.post_ops = dst.post_ops;
  // Where both orders are the same bytes, channels-last is the one with fast kernels.
  params.src.layout = params.dst.layout = Layout::kChannelsLast;
  for (kernels::PostOp& op : params.post_ops) op.residual.layout = Layout::kChannelsLast;
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreateConv(params, b.env(local)));
  const int64_t weights = NumElements(params.weights_shape);
  const int64_t outputs = NumElements(params.dst.shape) / std::max<int64_t>(params.dst.shape[1], 1);
  b.Emit(std::move(kernel), std::move(operands), {dst.location}, &fused, weights * outputs,
         ByteSize(params.weights_dtype, params.weights_shape));
  return b.Bind(fused.output, dst.location);
}

absl::Status LowerConv(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  if (NeedsPlainProduct(b, node)) return LowerPlainConv(b, fused);
  if (IsNarrowWeights(b, node.inputs[1])) {
    OCTET_ASSIGN_OR_RETURN(const Location src, b.Get(node.inputs[0]));
    if (IsDynamic(node) || IsInt8(src)) {
      // Refused where a weight times its multiplier does not fit 8 bits, which only the kernel sees.
      const absl::Status status = LowerConvWith(b, fused, Narrow::kCodes);
      if (!absl::IsUnimplemented(status)) return status;
    }
  }
  return LowerConvWith(b, fused, Narrow::kReals);
}

struct ProductOptions {
  bool transpose_a = false;
  bool transpose_b = false;
  float alpha = 1;
  size_t bias_index = 2;
};

// Shapes of rank 1 become matrices; the result keeps its inferred shape through a view.
absl::Status LowerProduct(Builder& b, const FusedNode& fused, const ProductOptions& options) {
  using Transpose = kernels::MatmulParams::Transpose;
  const Node& node = *fused.node;
  const graph::ValueId a_id = node.inputs[0], b_id = node.inputs[1];
  OCTET_ASSIGN_OR_RETURN(Location a, b.GetPlain(a_id));
  const bool constant = b.info(b_id).is_constant;
  kernels::MatmulParams params;
  bool local = false;
  Location right;
  const bool dynamic = IsDynamic(node);
  bool quantized = dynamic || IsInt8(a);
  if (constant) {
    quantized = quantized && IsInt8Weights(b, b_id, ZeroPoints::kOne);
  } else {
    OCTET_ASSIGN_OR_RETURN(right, b.GetPlain(b_id));
    quantized = quantized && IsInt8(right);
    if (quantized && right.spec.dtype == DType::kU8) {
      // Kernels read s8 on the right: the same reals, 128 lower.
      QuantParams lowered = *right.spec.quant;
      lowered.zero_point = {lowered.zero_point_at(0) - 128};
      OCTET_ASSIGN_OR_RETURN(right, b.GetAs(b_id, Layout::kPlain, DType::kS8, lowered));
    }
  }
  if (!quantized) {
    OCTET_ASSIGN_OR_RETURN(a, b.GetPlainF32(a_id));
    if (!constant) {
      OCTET_ASSIGN_OR_RETURN(right, b.GetPlainF32(b_id));
    }
  }
  if (constant) {
    params.b.shape = b.info(b_id).shape;
    const graph::Value& value = b.graph().value(b_id);
    if (quantized || (!value.quant.has_value() && IsKernelType(b, b_id))) {
      params.b_constant = b.Constant(b_id, &local);
      params.b.dtype = quantized ? DType::kS8 : b.info(b_id).dtype;
      params.b.quant = quantized ? value.quant : std::nullopt;
    } else {
      OCTET_ASSIGN_OR_RETURN(params.b_constant, DequantizedConstant(b, b_id, &local));
      params.b.dtype = DType::kF32;
    }
  } else {
    params.b = right.spec;
  }
  OCTET_ASSIGN_OR_RETURN(params.bias, BiasOf(b, node, options.bias_index, &local));
  std::vector<Location> src = {a};
  if (!constant) src.push_back(right);
  if (dynamic) {
    OCTET_ASSIGN_OR_RETURN(params.runtime_quant, RuntimeOperands(b, node, &src));
  }
  OCTET_ASSIGN_OR_RETURN(Destination dst, MakeDestination(b, fused, Layout::kPlain,
                                                        quantized ? Arithmetic::kInteger : Arithmetic::kFloat));
  params.a = a.spec;
  params.dst = dst.location.spec;
  if (params.b.shape.size() == 1) {
    params.b.shape.push_back(1);
    params.dst.shape.push_back(1);
  }
  if (params.a.shape.size() == 1) {
    params.a.shape.insert(params.a.shape.begin(), 1);
    params.dst.shape.insert(params.dst.shape.end() - 1, 1);
  }
  // [.., M, K] x [K, N] is one product of all rows: what oneDNN's 2-D kernels are best at.
  if (params.b.shape.size() == 2 && params.a.shape.size() > 2 && !options.transpose_a) {
    const int64_t k = params.a.shape.back(), n = params.dst.shape.back();
    const int64_t rows = k == 0 ? 0 : NumElements(params.a.shape) / k;
    params.a.shape = {rows, k};
    params.dst.shape = {rows, n};
  }
  for (kernels::PostOp& op : dst.post_ops) op.residual.shape = params.dst.shape;
  params.transpose_a = options.transpose_a ? Transpose::kYes : Transpose::kNo;
  params.transpose_b = options.transpose_b ? Transpose::kYes : Transpose::kNo;
  params.alpha = options.alpha;
  params.post_ops = dst.post_ops;
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreateMatmul(params, b.env(local)));
  const int64_t k = options.transpose_a ? params.a.shape[params.a.shape.size() - 2]
                                        : params.a.shape.back();
  b.Emit(std::move(kernel), std::move(src), {dst.location}, &fused, NumElements(params.dst.shape) * k,
         constant ? ByteSize(params.b.dtype, params.b.shape) : 0);
  return b.Bind(fused.output, dst.location);
}

absl::Status LowerGemm(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  if (NeedsPlainProduct(b, node)) return LowerPlainMatmul(b, fused);
  if (IsNBitsProduct(b, node)) return LowerNBitsProduct(b, fused);
  if (node.has_input(2) && !b.info(node.inputs[2]).is_constant) return LowerGemmWithComputedBias(b, fused, LowerGemm);
  return LowerProduct(b, fused,
                      {node.GetInt("transA", 0) != 0, node.GetInt("transB", 0) != 0,
                       node.GetFloat("alpha", 1.0f), 2});
}

absl::Status LowerMatMul(Builder& b, const FusedNode& fused) {
  if (NeedsPlainProduct(b, *fused.node)) return LowerPlainMatmul(b, fused);
  if (IsNBitsProduct(b, *fused.node)) return LowerNBitsProduct(b, fused);
  return LowerProduct(b, fused, {});
}

absl::Status LowerDynamicMatMul(Builder& b, const FusedNode& fused) {
  ProductOptions options;
  options.bias_index = 4;
  return LowerProduct(b, fused, options);
}

absl::Status EmitPool(Builder& b, const FusedNode& fused, kernels::PoolParams::Kind kind,
                      const Location& src, const Window& window) {
  kernels::PoolParams params;
  params.kind = kind;
  params.src = src.spec;
  params.dst = b.OutputSpec(fused.output, Layout::kChannelsLast);
  if (!params.dst.quant.has_value()) params.dst.dtype = DType::kF32;
  // Without keepdims the result has lost its spatial dimensions of 1: the same bytes.
  const Shape result = params.dst.shape;
  params.dst.shape = src.spec.shape;
  for (size_t i = 0; i < window.kernel.size(); ++i) {
    params.dst.shape[i + 2] = result.size() == params.dst.shape.size() ? result[i + 2] : 1;
  }
  const Location dst = b.NewBuffer(params.dst);
  params.src.layout = params.dst.layout = Layout::kChannelsLast;
  params.kernel = window.kernel;
  params.strides = window.strides;
  params.dilations = window.dilations;
  params.pads_begin = window.pads_begin;
  params.pads_end = window.pads_end;
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreatePool(params, b.env()));
  b.Emit(std::move(kernel), {src}, {dst}, &fused);
  return b.Bind(fused.output, Builder::View(dst, result, LayoutIsTrivial(result) ? Layout::kPlain
                                                                                 : Layout::kChannelsLast));
}

// Source of a pooling: int8 when stored so, else f32.
absl::StatusOr<Location> PoolSource(Builder& b, graph::ValueId id) {
  OCTET_ASSIGN_OR_RETURN(Location src, b.GetLayout(id, Layout::kChannelsLast));
  if (IsInt8(src)) return src;
  return b.GetAs(id, Layout::kChannelsLast, DType::kF32, std::nullopt);
}

absl::Status LowerPool(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  if (node.op == "MaxPool" && node.outputs.size() > 1 && node.outputs[1] != graph::kNoValue) {
    return LowerMaxPoolIndex(b, fused);
  }
  OCTET_ASSIGN_OR_RETURN(const Location src, PoolSource(b, node.inputs[0]));
  const std::vector<int64_t> kernel = node.GetInts("kernel_shape");
  OCTET_ASSIGN_OR_RETURN(
      const Window window,
      WindowOf(node, src.spec.shape, b.info(fused.output).shape, absl::MakeConstSpan(kernel)));
  using Kind = kernels::PoolParams::Kind;
  const Kind kind = node.op == "MaxPool"                          ? Kind::kMax
                    : node.GetInt("count_include_pad", 0) != 0    ? Kind::kAverageIncludePad
                                                                  : Kind::kAverage;
  return EmitPool(b, fused, kind, src, window);
}

absl::Status LowerGlobalPool(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location src, PoolSource(b, node.inputs[0]));
  if (src.spec.shape.size() < 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("input has shape ", ShapeString(src.spec.shape), ", expected rank 3 or more"));
  }
  return EmitPool(b, fused,
                  node.op == "GlobalMaxPool" ? kernels::PoolParams::Kind::kMax
                                             : kernels::PoolParams::Kind::kAverage,
                  src, GlobalWindow(src.spec.shape));
}

}  // namespace

absl::Status LowerSpatialMean(Builder& b, const FusedNode& fused) {
  OCTET_ASSIGN_OR_RETURN(const Location src, PoolSource(b, fused.node->inputs[0]));
  return EmitPool(b, fused, kernels::PoolParams::Kind::kAverage, src, GlobalWindow(src.spec.shape));
}

void AddProductRules(LowerTable* table) {
  table->Add("Conv", LowerConv);
  table->Add("Gemm", LowerGemm);
  table->Add("MatMul", LowerMatMul);
  table->Add("DynamicConv", LowerConv);
  table->Add("DynamicMatMul", LowerDynamicMatMul);
  table->Add("MaxPool", LowerPool);
  table->Add("AveragePool", LowerPool);
  table->Add("GlobalAveragePool", LowerGlobalPool);
  table->Add("GlobalMaxPool", LowerGlobalPool);
}

}  // namespace octet::engine
