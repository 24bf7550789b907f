// Lowering of element functions, broadcasts, reductions, Softmax and type conversions.
#include <algorithm>
#include <cfloat>
#include <limits>
#include <numeric>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/builder.h"
#include "engine/lower.h"
#include "kernels/activation/activation.h"
#include "kernels/binary/binary.h"
#include "kernels/dynamic_quantize/dynamic_quantize.h"
#include "kernels/quantize/quantize.h"
#include "kernels/reduce/reduce.h"
#include "kernels/softmax/softmax.h"

namespace octet::engine {

using graph::Node;
using kernels::Activation;
using kernels::ActivationKind;
using kernels::BinaryKind;
using kernels::Layout;
using kernels::TensorSpec;

namespace {

// A scalar operand's value; `absent` when omitted; nullopt when computed.
std::optional<float> ScalarOperand(const Node& node, size_t i, float absent,
                                   absl::Span<const ValueInfo> infos) {
  if (!node.has_input(i)) return absent;
  const Tensor* constant = infos[static_cast<size_t>(node.inputs[i])].constant;
  if (constant == nullptr || constant->num_elements() != 1) return std::nullopt;
  return constant->ToF32()[0];
}

const absl::flat_hash_map<std::string, ActivationKind>& PlainActivations() {
  static const auto* const kTable = new absl::flat_hash_map<std::string, ActivationKind>{
      {"Relu", ActivationKind::kRelu},         {"Sigmoid", ActivationKind::kSigmoid},
      {"Tanh", ActivationKind::kTanh},         {"Exp", ActivationKind::kExp},
      {"Log", ActivationKind::kLog},           {"Sqrt", ActivationKind::kSqrt},
      {"Abs", ActivationKind::kAbs},           {"Neg", ActivationKind::kNeg},
      {"Reciprocal", ActivationKind::kReciprocal}, {"Erf", ActivationKind::kErf},
      {"Floor", ActivationKind::kFloor},       {"Ceil", ActivationKind::kCeil},
      {"Round", ActivationKind::kRound},       {"Softplus", ActivationKind::kSoftplus},
      {"Mish", ActivationKind::kMish},         {"Sin", ActivationKind::kSin},
      {"Cos", ActivationKind::kCos},           {"Sign", ActivationKind::kSign},
      {"Softsign", ActivationKind::kSoftsign}};
  return *kTable;
}

const absl::flat_hash_map<std::string, BinaryKind>& Binaries() {
  static const auto* const kTable = new absl::flat_hash_map<std::string, BinaryKind>{
      {"Add", BinaryKind::kAdd},       {"Sub", BinaryKind::kSub},
      {"Mul", BinaryKind::kMul},       {"Div", BinaryKind::kDiv},
      {"Pow", BinaryKind::kPow},       {"Max", BinaryKind::kMax},
      {"Min", BinaryKind::kMin},       {"PRelu", BinaryKind::kPrelu},
      {"Equal", BinaryKind::kEqual},   {"Less", BinaryKind::kLess},
      {"LessOrEqual", BinaryKind::kLessOrEqual}, {"Greater", BinaryKind::kGreater},
      {"GreaterOrEqual", BinaryKind::kGreaterOrEqual}, {"And", BinaryKind::kAnd},
      {"Or", BinaryKind::kOr},         {"Xor", BinaryKind::kXor},
      {"Mod", BinaryKind::kMod}};
  return *kTable;
}

// f32 reals, or 8-bit reals as they are: what the element kernels read. Integers without quant and f64 stay themselves.
absl::StatusOr<Location> Reals(Builder& b, graph::ValueId id) {
  OCTET_ASSIGN_OR_RETURN(const Location l, b.Get(id));
  const bool int8 = l.spec.quant.has_value() && l.spec.quant->per_tensor() &&
                    (l.spec.dtype == DType::kU8 || l.spec.dtype == DType::kS8);
  if (int8 || l.spec.dtype == DType::kF64 || (!l.spec.quant.has_value() && !IsFloat(l.spec.dtype))) return l;
  return b.GetF32(id);
}

absl::Status LowerClip(Builder& b, const FusedNode& fused);

absl::Status LowerActivation(Builder& b, const FusedNode& fused) {
  const std::optional<Activation> activation =
      ActivationOf(*fused.node, absl::MakeConstSpan(&b.info(0), b.graph().values.size()));
  OCTET_ASSIGN_OR_RETURN(const Location src, Reals(b, fused.node->inputs[0]));
  const DType own = src.spec.dtype;
  const bool exact = own == DType::kF64 || (!src.spec.quant.has_value() && !IsFloat(own));
  if (fused.node->op == "Clip" && (exact || !activation.has_value())) return LowerClip(b, fused);
  if (!activation.has_value()) {
    return absl::UnimplementedError("parameters that are computed at run time");
  }
  if (exact) return LowerPlainActivation(b, fused, *activation);
  TensorSpec spec = b.OutputSpec(fused.output, src.spec.layout);
  if (!spec.quant.has_value()) spec.dtype = DType::kF32;
  const Location dst = b.NewBuffer(spec);
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreateActivation({src.spec, spec, *activation}, b.env()));
  b.Emit(std::move(kernel), {src}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

// Gives an operand the rank of the result (leading ones) and the layout chosen for all operands.
absl::StatusOr<Location> Align(Builder& b, const Location& operand, size_t rank, Layout layout) {
  Location l = operand;
  if (l.spec.shape.size() < rank) {
    if (l.spec.layout != Layout::kPlain && !LayoutIsTrivial(l.spec.shape)) {
      TensorSpec plain = l.spec;
      plain.layout = Layout::kPlain;
      OCTET_ASSIGN_OR_RETURN(l, b.Convert(l, plain));
    }
    Shape shape(rank - l.spec.shape.size(), 1);
    shape.insert(shape.end(), l.spec.shape.begin(), l.spec.shape.end());
    l = Builder::View(l, std::move(shape), Layout::kPlain);
  }
  if (l.spec.layout == layout) return l;
  if (LayoutIsTrivial(l.spec.shape)) return Builder::View(l, l.spec.shape, layout);
  TensorSpec to = l.spec;
  to.layout = layout;
  return b.Convert(l, to);
}

absl::Status EmitBinary(Builder& b, const FusedNode& fused, BinaryKind kind, Location x, Location y,
                        const Location& dst) {
  kernels::BinaryParams params;
  params.kind = kind;
  params.dst = dst.spec;
  const size_t rank = params.dst.shape.size();
  OCTET_ASSIGN_OR_RETURN(x, Align(b, x, rank, params.dst.layout));
  OCTET_ASSIGN_OR_RETURN(y, Align(b, y, rank, params.dst.layout));
  params.a = x.spec;
  params.b = y.spec;
  for (const FusedPostOp& op : fused.post_ops) {
    kernels::PostOp post;
    post.activation = op.activation;
    params.post_ops.push_back(post);
  }
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreateBinary(params, b.env()));
  b.Emit(std::move(kernel), {x, y}, {dst}, &fused);
  return absl::OkStatus();
}

// Both operands in one kind of numbers: all reals, or all of one integer type.
absl::Status UnifyOperands(Builder& b, graph::ValueId x_id, graph::ValueId y_id, Location* x,
                           Location* y) {
  OCTET_ASSIGN_OR_RETURN(*x, Reals(b, x_id));
  OCTET_ASSIGN_OR_RETURN(*y, Reals(b, y_id));
  auto real = [](const Location& l) { return l.spec.quant.has_value() || IsFloat(l.spec.dtype); };
  if (x->spec.dtype == DType::kF64 || y->spec.dtype == DType::kF64) {
    OCTET_ASSIGN_OR_RETURN(*x, b.GetAs(x_id, x->spec.layout, DType::kF64, std::nullopt));
    OCTET_ASSIGN_OR_RETURN(*y, b.GetAs(y_id, y->spec.layout, DType::kF64, std::nullopt));
  } else if (real(*x) != real(*y)) {
    OCTET_ASSIGN_OR_RETURN(*x, b.GetF32(x_id));
    OCTET_ASSIGN_OR_RETURN(*y, b.GetF32(y_id));
  }
  return absl::OkStatus();
}

Layout CommonLayout(const Location& x, const Location& y, size_t rank) {
  for (const Location* l : {&x, &y}) {
    if (l->spec.layout == Layout::kChannelsLast && l->spec.shape.size() == rank &&
        !LayoutIsTrivial(l->spec.shape)) {
      return Layout::kChannelsLast;
    }
  }
  return Layout::kPlain;
}

absl::Status LowerBinary(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  BinaryKind kind = Binaries().at(node.op);
  if (kind == BinaryKind::kMod && node.GetInt("fmod", 0) != 0) kind = BinaryKind::kFmod;
  if (node.inputs.size() == 1) {  // Max and Min of one operand
    OCTET_ASSIGN_OR_RETURN(const Location only, b.Get(node.inputs[0]));
    return b.Bind(fused.output, only);
  }
  Location x, y;
  OCTET_RETURN_IF_ERROR(UnifyOperands(b, node.inputs[0], node.inputs[1], &x, &y));
  const size_t rank = b.info(fused.output).shape.size();
  const Layout layout = CommonLayout(x, y, rank);
  if (node.inputs.size() == 2) {
    TensorSpec spec = b.OutputSpec(fused.output, layout);
    if (!spec.quant.has_value() && IsFloat(spec.dtype) && spec.dtype != DType::kF64) spec.dtype = DType::kF32;
    const Location dst = b.NewBuffer(spec);
    OCTET_RETURN_IF_ERROR(EmitBinary(b, fused, kind, x, y, dst));
    return b.Bind(fused.output, dst);
  }
  // Variadic Max and Min: a chain of f32 results, rounded once at the end.
  Location result = x;
  for (size_t i = 1; i < node.inputs.size(); ++i) {
    OCTET_RETURN_IF_ERROR(UnifyOperands(b, node.inputs[0], node.inputs[i], &x, &y));
    TensorSpec spec = b.OutputSpec(fused.output, layout);
    if (i + 1 < node.inputs.size() || !spec.quant.has_value()) {
      spec.quant.reset();
      const bool real = x.spec.quant.has_value() || IsFloat(x.spec.dtype);
      if (real && x.spec.dtype != DType::kF64) spec.dtype = DType::kF32;
    }
    OCTET_ASSIGN_OR_RETURN(spec.shape, BroadcastShapes(i == 1 ? x.spec.shape : result.spec.shape,
                                                       y.spec.shape));
    if (LayoutIsTrivial(spec.shape)) spec.layout = Layout::kPlain;
    const Location dst = b.NewBuffer(spec);
    OCTET_RETURN_IF_ERROR(EmitBinary(b, fused, kind, i == 1 ? x : result, y, dst));
    result = dst;
  }
  return b.Bind(fused.output, result);
}

// min(max(x, low), high) with bounds that are computed, or in a type that f32 does not hold.
absl::Status LowerClip(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(Location result, Reals(b, node.inputs[0]));
  if (result.spec.quant.has_value()) {
    OCTET_ASSIGN_OR_RETURN(result, b.GetF32(node.inputs[0]));
  }
  for (size_t i : {size_t{1}, size_t{2}}) {
    if (!node.has_input(i)) continue;
    OCTET_ASSIGN_OR_RETURN(const Location bound,
                           b.GetAs(node.inputs[i], Layout::kPlain, result.spec.dtype, std::nullopt));
    const Location dst = b.NewBuffer(result.spec);
    OCTET_RETURN_IF_ERROR(EmitBinary(b, fused, i == 1 ? BinaryKind::kMax : BinaryKind::kMin, result, bound, dst));
    result = dst;
  }
  return b.Bind(fused.output, result);
}

absl::Status LowerSoftmax(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location src, b.GetF32(node.inputs[0]));
  kernels::SoftmaxParams params;
  params.form = node.op == "Softmax" ? kernels::SoftmaxParams::Form::kSoftmax
                                     : kernels::SoftmaxParams::Form::kLogSoftmax;
  params.src = src.spec;
  params.dst = src.spec;
  const int rank = static_cast<int>(src.spec.shape.size());
  int64_t axis = node.GetInt("axis", -1);
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) {
    return absl::InvalidArgumentError(absl::StrCat("axis ", node.GetInt("axis", -1),
                                                   " of an input of rank ", rank));
  }
  params.axis = static_cast<int>(axis);
  const Location dst = b.NewBuffer(params.dst);
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreateSoftmax(params, b.env()));
  b.Emit(std::move(kernel), {src}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

using kernels::ReduceKind;
const absl::flat_hash_map<std::string, ReduceKind>& Reductions() {
  static const auto* const kTable = new absl::flat_hash_map<std::string, ReduceKind>{
      {"ReduceSum", ReduceKind::kSum},       {"ReduceMean", ReduceKind::kMean},
      {"ReduceMax", ReduceKind::kMax},       {"ReduceMin", ReduceKind::kMin},
      {"ReduceProd", ReduceKind::kProd},     {"ReduceL1", ReduceKind::kL1},
      {"ReduceL2", ReduceKind::kL2},         {"ReduceLogSum", ReduceKind::kLogSum},
      {"ReduceLogSumExp", ReduceKind::kLogSumExp}, {"ReduceSumSquare", ReduceKind::kSumSquare}};
  return *kTable;
}

absl::Status EmitReduce(Builder& b, const FusedNode& fused, ReduceKind kind, std::vector<int> axes) {
  const bool arg = kind >= ReduceKind::kArgMaxFirst;
  OCTET_ASSIGN_OR_RETURN(Location src, b.GetPlain(fused.node->inputs[0]));
  const bool int8_sum = src.spec.quant.has_value() && src.spec.quant->per_tensor() &&
                        (kind == ReduceKind::kSum || kind == ReduceKind::kMean);
  const bool integer =
      !src.spec.quant.has_value() && (!IsFloat(src.spec.dtype) || src.spec.dtype == DType::kF64);
  if (!int8_sum && !integer) {
    OCTET_ASSIGN_OR_RETURN(src, b.GetPlainF32(fused.node->inputs[0]));
  }
  kernels::ReduceParams params;
  params.kind = kind;
  params.src = src.spec;
  params.dst = b.OutputSpec(fused.output, Layout::kPlain);
  params.dst.shape = src.spec.shape;
  for (int axis : axes) params.dst.shape[static_cast<size_t>(axis)] = 1;
  if (!arg && !params.dst.quant.has_value() && !integer) params.dst.dtype = DType::kF32;
  params.axes = std::move(axes);
  const Location dst = b.NewBuffer(params.dst);
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreateReduce(params, b.env()));
  b.Emit(std::move(kernel), {src}, {dst}, &fused);
  return b.Bind(fused.output, Builder::View(dst, b.info(fused.output).shape, Layout::kPlain));
}

// Axes in [0, rank), ascending, without repeats.
absl::StatusOr<std::vector<int>> NormalizedAxes(const std::vector<int64_t>& axes, size_t rank) {
  std::vector<int> out;
  const auto r = static_cast<int64_t>(rank);
  for (int64_t axis : axes) {
    if (axis < -r || axis >= r) {
      return absl::InvalidArgumentError(absl::StrCat("axis ", axis, " of an input of rank ", r));
    }
    out.push_back(static_cast<int>(axis < 0 ? axis + r : axis));
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

absl::Status LowerReduce(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  const size_t rank = b.info(node.inputs[0]).shape.size();
  std::vector<int64_t> given;
  if (node.has_input(1)) {
    OCTET_ASSIGN_OR_RETURN(given, b.ConstantInts(node.inputs[1]));
  }
  std::vector<int> axes;
  if (given.empty() && node.GetInt("noop_with_empty_axes", 0) == 0) {
    axes.resize(rank);
    std::iota(axes.begin(), axes.end(), 0);
  } else {
    OCTET_ASSIGN_OR_RETURN(axes, NormalizedAxes(given, rank));
  }
  bool spatial = rank >= 3 && axes.size() == rank - 2;
  for (size_t i = 0; spatial && i < axes.size(); ++i) spatial = axes[i] == static_cast<int>(i) + 2;
  const DType dtype = b.info(node.inputs[0]).dtype;
  if (node.op == "ReduceMean" && spatial && (IsFloat(dtype) || b.graph().value(node.inputs[0]).quant)) {
    return LowerSpatialMean(b, fused);
  }
  return EmitReduce(b, fused, Reductions().at(node.op), std::move(axes));
}

absl::Status LowerArg(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(std::vector<int> axes,
                         NormalizedAxes({node.GetInt("axis", 0)}, b.info(node.inputs[0]).shape.size()));
  const bool last = node.GetInt("select_last_index", 0) != 0;
  const ReduceKind kind =
      node.op == "ArgMax" ? (last ? ReduceKind::kArgMaxLast : ReduceKind::kArgMaxFirst)
                          : (last ? ReduceKind::kArgMinLast : ReduceKind::kArgMinFirst);
  return EmitReduce(b, fused, kind, std::move(axes));
}

// Quantize, Dequantize and Cast: the output's declared form says what to do.
absl::Status LowerConvert(Builder& b, const FusedNode& fused) {
  OCTET_ASSIGN_OR_RETURN(const Location src, b.Get(fused.node->inputs[0]));
  const TensorSpec to = b.OutputSpec(
      fused.output, fused.node->op == "Quantize" && src.spec.shape.size() >= 4 ? Layout::kChannelsLast
                                                                             : src.spec.layout);
  if (to.dtype == src.spec.dtype && to.quant == src.spec.quant) return b.Bind(fused.output, src);
  Location from = src;
  if (fused.node->op == "Cast" && src.spec.quant.has_value()) {
    OCTET_ASSIGN_OR_RETURN(from, b.GetF32(fused.node->inputs[0]));
  }
  const Location dst = b.NewBuffer(to);
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreateConvert({from.spec, to}, b.env()));
  b.Emit(std::move(kernel), {from}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

// The same bytes in another meaning.
absl::Status LowerReinterpret(Builder& b, const FusedNode& fused) {
  OCTET_ASSIGN_OR_RETURN(Location src, b.Get(fused.node->inputs[0]));
  const TensorSpec to = b.OutputSpec(fused.output, src.spec.layout);
  if (to.dtype != src.spec.dtype) {
    return absl::InternalError(absl::StrCat(NameOf(src.spec.dtype), " reinterpreted as ", NameOf(to.dtype)));
  }
  src.spec.quant = to.quant;
  return b.Bind(fused.output, src);
}

absl::Status LowerDynamicQuantize(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location src, b.GetF32(node.inputs[0]));
  TensorSpec spec = src.spec;
  spec.dtype = DType::kU8;
  std::vector<Location> dst = {b.NewBuffer(spec), b.NewBuffer({DType::kF32, {}, Layout::kPlain, {}}),
                               b.NewBuffer({DType::kU8, {}, Layout::kPlain, {}})};
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreateDynamicQuantize({src.spec, spec}, b.env()));
  b.Emit(std::move(kernel), {src}, dst, &fused);
  for (size_t i = 0; i < std::min(node.outputs.size(), dst.size()); ++i) {
    if (node.outputs[i] == graph::kNoValue) continue;
    OCTET_RETURN_IF_ERROR(b.Bind(node.outputs[i], dst[i]));
  }
  return absl::OkStatus();
}

}  // namespace

std::optional<Activation> ActivationOf(const Node& node, absl::Span<const ValueInfo> infos) {
  if (!node.domain.empty()) return std::nullopt;
  if (auto it = PlainActivations().find(node.op); it != PlainActivations().end()) {
    return Activation{it->second, 0, 0};
  }
  if (node.op == "Clip") {
    const auto low = ScalarOperand(node, 1, -FLT_MAX, infos);
    const auto high = ScalarOperand(node, 2, FLT_MAX, infos);
    if (!low.has_value() || !high.has_value()) return std::nullopt;
    return Activation{ActivationKind::kClip, *low, *high};
  }
  if (node.op == "LeakyRelu") return Activation{ActivationKind::kLeakyRelu, node.GetFloat("alpha", 0.01f), 0};
  if (node.op == "Elu") return Activation{ActivationKind::kElu, node.GetFloat("alpha", 1.0f), 0};
  if (node.op == "Swish") return Activation{ActivationKind::kSwish, node.GetFloat("alpha", 1.0f), 0};
  if (node.op == "HardSwish") return Activation{ActivationKind::kHardSwish, 1.0f / 6, 0.5f};
  if (node.op == "HardSigmoid") {
    return Activation{ActivationKind::kHardSigmoid, node.GetFloat("alpha", 0.2f),
                      node.GetFloat("beta", 0.5f)};
  }
  if (node.op == "Gelu") {
    return Activation{node.GetString("approximate", "none") == "tanh" ? ActivationKind::kGeluTanh
                                                                      : ActivationKind::kGelu, 0, 0};
  }
  return std::nullopt;
}

void AddElementwiseRules(LowerTable* table) {
  for (const auto& [op, kind] : PlainActivations()) table->Add(op, LowerActivation);
  for (const char* op : {"Clip", "LeakyRelu", "Elu", "HardSwish", "HardSigmoid", "Gelu", "Swish"}) {
    table->Add(op, LowerActivation);
  }
  for (const auto& [op, kind] : Binaries()) table->Add(op, LowerBinary);
  for (const auto& [op, kind] : Reductions()) table->Add(op, LowerReduce);
  for (const char* op : {"ArgMax", "ArgMin"}) table->Add(op, LowerArg);
  for (const char* op : {"Softmax", "LogSoftmax"}) table->Add(op, LowerSoftmax);
  for (const char* op : {"Quantize", "Dequantize", "Cast"}) table->Add(op, LowerConvert);
  table->Add("Reinterpret", LowerReinterpret);
  table->Add("DynamicQuantizeLinear", LowerDynamicQuantize);
}

}  // namespace octet::engine
