// Constant evaluation of single nodes.
#include "engine/evaluate.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/host_nodes.h"
#include "graph/constant_quantization.h"
#include "engine/specialise.h"
#include "graph/shape_inference.h"

namespace octet::engine {
namespace {

using graph::Node;

const ValueInfo& InfoOf(absl::Span<const ValueInfo> infos, graph::ValueId id) {
  return infos[static_cast<size_t>(id)];
}

Tensor EvaluateShape(const Node& node, const Shape& shape) {
  const auto rank = static_cast<int64_t>(shape.size());
  auto clamp = [&](int64_t i) { return std::min(std::max<int64_t>(i < 0 ? i + rank : i, 0), rank); };
  const int64_t start = clamp(node.GetInt("start", 0));
  const int64_t end = std::max(clamp(node.GetInt("end", rank)), start);
  return Tensor::FromS64({end - start}, absl::MakeConstSpan(shape).subspan(
                                            static_cast<size_t>(start), static_cast<size_t>(end - start)));
}

absl::StatusOr<Tensor> EvaluateConstantOfShape(const Node& node, const Shape& shape) {
  Tensor fill = Tensor::FromF32({1}, {0.0f});
  if (auto it = node.attributes.find("value"); it != node.attributes.end()) {
    if (const Tensor* t = std::get_if<Tensor>(&it->second)) fill = *t;
  }
  if (fill.num_elements() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("attribute value has ", fill.num_elements(), " elements, expected 1"));
  }
  const auto size = static_cast<size_t>(BytesOf(fill.dtype()));
  OCTET_ASSIGN_OR_RETURN(Buffer out, Buffer::Allocate(ByteSize(fill.dtype(), shape)));
  for (int64_t i = 0; i < NumElements(shape); ++i) {
    std::memcpy(out.data() + static_cast<size_t>(i) * size, fill.data(), size);
  }
  return Tensor::FromBuffer(fill.dtype(), shape, std::move(out));
}

template <typename T>
Tensor RangeOf(DType dtype, T start, T delta, int64_t n) {
  std::vector<T> values(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) values[static_cast<size_t>(i)] = static_cast<T>(start + static_cast<T>(i) * delta);
  return Tensor::FromValues<T>(dtype, {n}, values);
}

absl::StatusOr<Tensor> EvaluateRange(const Node& node, absl::Span<const ValueInfo> infos,
                                     const Shape& shape) {
  const Tensor& start = *InfoOf(infos, node.inputs[0]).constant;
  const Tensor& delta = *InfoOf(infos, node.inputs[2]).constant;
  switch (start.dtype()) {
    case DType::kF32:
      return RangeOf<float>(DType::kF32, start.ToF32()[0], delta.ToF32()[0], shape[0]);
    case DType::kF64:
      return RangeOf<double>(DType::kF64, start.ToF64()[0], delta.ToF64()[0], shape[0]);
    case DType::kS32:
      return RangeOf<int32_t>(DType::kS32, static_cast<int32_t>(start.ToS64()[0]),
                              static_cast<int32_t>(delta.ToS64()[0]), shape[0]);
    case DType::kS64:
      return RangeOf<int64_t>(DType::kS64, start.ToS64()[0], delta.ToS64()[0], shape[0]);
    default:
      return absl::UnimplementedError(absl::StrCat("Range of ", NameOf(start.dtype())));
  }
}

absl::StatusOr<Tensor> EvaluateShapeOperator(const Node& node, absl::Span<const ValueInfo> infos) {
  const ValueInfo& out = InfoOf(infos, node.outputs[0]);
  if (node.op == "Shape") return EvaluateShape(node, InfoOf(infos, node.inputs[0]).shape);
  if (node.op == "Size") {
    return Tensor::FromS64({}, {NumElements(InfoOf(infos, node.inputs[0]).shape)});
  }
  if (node.op == "ConstantOfShape") return EvaluateConstantOfShape(node, out.shape);
  return EvaluateRange(node, infos, out.shape);
}

// Addresses of buffers that lie elsewhere.
using Outside = std::vector<std::pair<int, const std::byte*>>;

// Runs the builder's steps once on an arena where nothing is reused.
absl::Status RunSteps(Builder& builder, std::vector<Buffer>* buffers, const Outside& outside) {
  std::vector<std::byte*> addresses(builder.buffer_bytes().size(), nullptr);
  for (const auto& [buffer, address] : outside) {
    addresses[static_cast<size_t>(buffer)] = const_cast<std::byte*>(address);
  }
  for (size_t i = 0; i < addresses.size(); ++i) {
    buffers->emplace_back();
    if (addresses[i] != nullptr) continue;
    OCTET_ASSIGN_OR_RETURN(buffers->back(), Buffer::Allocate(builder.buffer_bytes()[i]));
    addresses[i] = buffers->back().data();
  }
  OCTET_ASSIGN_OR_RETURN(Buffer scratch, Buffer::Allocate(builder.scratch_bytes()));
  SerialFor serial;
  for (const Step& step : builder.steps()) {
    std::vector<const void*> src;
    std::vector<void*> dst;
    for (const Location& l : step.src) {
      src.push_back(l.buffer >= 0 ? addresses[static_cast<size_t>(l.buffer)] : l.constant->data.data());
    }
    for (const Location& l : step.dst) dst.push_back(addresses[static_cast<size_t>(l.buffer)]);
    OCTET_ASSIGN_OR_RETURN(kernels::BoundKernel run,
                           step.kernel->Bind({src, dst, scratch.data(), &serial}));
    OCTET_RETURN_IF_ERROR(run());
  }
  return absl::OkStatus();
}

// EvaluateNode where `computed` operands are read where they lie and all others are constant.
absl::StatusOr<std::vector<Tensor>> Evaluate(const graph::Graph& graph, const Node& node,
                                             absl::Span<const ValueInfo> infos, int64_t max_bytes,
                                             const std::vector<std::pair<graph::ValueId, const std::byte*>>& computed) {
  for (graph::ValueId id : node.outputs) {
    if (id == graph::kNoValue) continue;
    const ValueInfo& out = InfoOf(infos, id);
    OCTET_ASSIGN_OR_RETURN(const int64_t bytes, CheckedByteSize(out.dtype, out.shape));
    if (bytes > max_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat(Describe(graph, node), ": result of ", bytes,
                                                       " bytes is larger than ", max_bytes));
    }
  }
  if (IsShapeOperator(node)) {
    OCTET_ASSIGN_OR_RETURN(Tensor out, EvaluateShapeOperator(node, infos));
    return std::vector<Tensor>{std::move(out)};
  }
  kernels::WeightStore store;
  Builder builder(graph, infos, &store, &store, CurrentTeamSize());
  Outside outside;
  for (const auto& [id, address] : computed) outside.emplace_back(builder.AddInput(id).buffer, address);
  FusedNode fused;
  fused.node = &node;
  fused.output = node.outputs[0];
  OCTET_RETURN_IF_ERROR(builder.Lower(fused));
  std::vector<int> results;
  for (graph::ValueId id : node.outputs) {
    if (id == graph::kNoValue) {
      results.push_back(-1);
      continue;
    }
    OCTET_ASSIGN_OR_RETURN(const int buffer, builder.AddOutput(id));
    results.push_back(buffer);
  }
  std::vector<Buffer> buffers;
  OCTET_RETURN_IF_ERROR(RunSteps(builder, &buffers, outside));
  std::vector<Tensor> out;
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i] < 0) {
      out.emplace_back();
      continue;
    }
    const kernels::TensorSpec spec = builder.OutputSpec(node.outputs[i], kernels::Layout::kPlain);
    const std::byte* from = buffers[static_cast<size_t>(results[i])].data();
    for (const auto& [buffer, address] : outside) {
      if (buffer == results[i]) from = address;  // a view of an operand
    }
    // Copied: two outputs may share a buffer, and a view's buffer may be larger than the result.
    OCTET_ASSIGN_OR_RETURN(Buffer copy, Buffer::Allocate(spec.size_bytes()));
    if (spec.size_bytes() > 0) {
      std::memcpy(copy.data(), from, static_cast<size_t>(spec.size_bytes()));
    }
    out.push_back(Tensor::FromBuffer(spec.dtype, spec.shape, std::move(copy)));
  }
  return out;
}

}  // namespace

bool IsShapeOperator(const Node& node) {
  return node.domain.empty() && (node.op == "Shape" || node.op == "Size" ||
                                 node.op == "ConstantOfShape" || node.op == "Range");
}

absl::StatusOr<std::vector<Tensor>> EvaluateNode(const graph::Graph& graph, const Node& node,
                                                 absl::Span<const ValueInfo> infos,
                                                 int64_t max_bytes) {
  if (!IsHostOperator(node)) return Evaluate(graph, node, infos, max_bytes, {});
  std::vector<Tensor> operands;
  for (graph::ValueId id : node.inputs) {
    operands.push_back(id == graph::kNoValue ? Tensor() : *InfoOf(infos, id).constant);
    if (id == graph::kNoValue || !graph.value(id).quant.has_value()) continue;
    OCTET_ASSIGN_OR_RETURN(operands.back(), graph::DequantizeTensor(operands.back(), *graph.value(id).quant));
  }
  absl::StatusOr<std::vector<Tensor>> results = RunHostNode(node, operands);
  if (!results.ok()) return Annotate(results.status(), Describe(graph, node));
  return results;
}

absl::StatusOr<std::vector<Tensor>> RunNodeAlone(const graph::Graph& alone, absl::Span<const Tensor> operands,
                                                 int64_t max_bytes) {
  const Node& node = alone.nodes[0];
  if (IsHostOperator(node)) {
    std::vector<Tensor> read(operands.begin(), operands.end());
    for (size_t i = 0; i < read.size(); ++i) {
      if (!read[i].valid() || !HasLevels(alone.value(node.inputs[i]))) continue;
      OCTET_ASSIGN_OR_RETURN(read[i], graph::DequantizeTensor(read[i], *alone.value(node.inputs[i]).quant));
    }
    return RunHostNode(node, read);
  }
  std::vector<ValueInfo> infos(alone.values.size());
  std::vector<graph::OperandInfo> known;
  std::vector<std::pair<graph::ValueId, const std::byte*>> computed;
  for (size_t i = 0; i < operands.size(); ++i) {
    const Tensor& t = operands[i];
    graph::OperandInfo operand;
    operand.present = t.valid();
    if (t.valid()) {
      ValueInfo& info = infos[static_cast<size_t>(node.inputs[i])];
      const bool seen = info.dtype != DType::kInvalid;
      info.dtype = t.dtype();
      info.shape = t.shape();
      info.local = true;
      // Constants are copied, so slices of a file get aligned on the way.
      const bool aligned = reinterpret_cast<uintptr_t>(t.data()) % Buffer::kAlignment == 0;
      // Codes become reals on the way, too.
      info.is_constant = IsShapeOperator(node) || !aligned || t.size_bytes() <= kSmallConstantBytes ||
                         HasLevels(alone.value(node.inputs[i]));
      if (info.is_constant) info.constant = &t;
      if (!info.is_constant && !seen) computed.emplace_back(node.inputs[i], t.data());
      operand.dtype = alone.value(node.inputs[i]).quant.has_value() ? DType::kF32 : t.dtype();
      operand.shape = t.shape();
      operand.constant = &t;
    }
    known.push_back(std::move(operand));
  }
  OCTET_ASSIGN_OR_RETURN(const std::vector<graph::ResultInfo> results, graph::InferNode(node, known));
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == graph::kNoValue) continue;
    if (!results[i].shape.has_value() || !IsConcrete(*results[i].shape)) {
      return absl::UnimplementedError(absl::StrCat("the shape of output ", i, " does not follow from the operands"));
    }
    ValueInfo& info = infos[static_cast<size_t>(node.outputs[i])];
    const graph::Value& value = alone.value(node.outputs[i]);
    info.dtype = value.quant.has_value() ? value.dtype : results[i].dtype;
    info.shape = *results[i].shape;
  }
  return Evaluate(alone, node, infos, max_bytes, computed);
}

}  // namespace octet::engine
