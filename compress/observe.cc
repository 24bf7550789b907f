// Observation of values by declaring them outputs.
#include "compress/observe.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/parallel_for.h"
#include "base/status.h"

namespace octet::compress {

absl::StatusOr<std::unique_ptr<Observer>> Observer::Create(graph::Graph graph,
                                                           absl::Span<const graph::ValueId> observed,
                                                           int threads) {
  auto observer = std::unique_ptr<Observer>(new Observer);
  observer->num_outputs_ = graph.outputs.size();
  observer->threads_ = threads;
  for (graph::ValueId id : observed) {
    graph::ValueId shown = id;
    if (graph.value(id).quant.has_value()) {
      graph::Value real;
      real.name = graph.UniqueName(absl::StrCat(graph.value(id).name, "_real"));
      real.dtype = DType::kF32;
      real.shape = graph.value(id).shape;
      shown = graph.AddValue(std::move(real));
      graph::Node node;
      node.op = "Dequantize";
      node.inputs = {id};
      node.outputs = {shown};
      graph.nodes.push_back(std::move(node));
    }
    graph.outputs.push_back(shown);
  }
  OCTET_ASSIGN_OR_RETURN(observer->program_, engine::Program::Compile(std::move(graph)));
  return observer;
}

absl::StatusOr<Tensor> FitInput(const engine::Signature& signature, const Tensor& tensor) {
  auto refuse = [&] {
    return absl::InvalidArgumentError(absl::StrCat("input '", signature.name, "' got ", NameOf(tensor.dtype()),
                                                   ShapeString(tensor.shape()), ", expected ",
                                                   NameOf(signature.dtype), ShapeString(signature.shape)));
  };
  Shape shape = tensor.shape();
  if (shape.size() + 1 == signature.shape.size()) shape.insert(shape.begin(), 1);
  if (shape.size() != signature.shape.size()) return refuse();
  for (size_t i = 0; i < shape.size(); ++i) {
    if (signature.shape[i] != kUnknownDim && signature.shape[i] != shape[i]) return refuse();
  }
  if (tensor.dtype() == signature.dtype) return tensor.Reshaped(std::move(shape));
  if (signature.dtype == DType::kF32) return Tensor::FromF32(std::move(shape), tensor.ToF32());
  if (signature.dtype == DType::kS64 && IsInteger(tensor.dtype())) {
    return Tensor::FromS64(std::move(shape), tensor.ToS64());
  }
  return refuse();
}

absl::Status Observer::Run(const data::Sample& sample) {
  const auto& inputs = program_->inputs();
  if (sample.inputs.size() != inputs.size()) {
    return absl::InvalidArgumentError(absl::StrCat("sample ", sample.name, " has ", sample.inputs.size(),
                                                   " tensors, the model has ", inputs.size(), " inputs"));
  }
  std::vector<Tensor> tensors;
  std::vector<Shape> shapes;
  for (size_t i = 0; i < inputs.size(); ++i) {
    absl::StatusOr<Tensor> fitted = FitInput(inputs[i], sample.inputs[i]);
    if (!fitted.ok()) return Annotate(fitted.status(), absl::StrCat("sample ", sample.name));
    shapes.push_back(fitted->shape());
    tensors.push_back(*std::move(fitted));
  }
  if (context_ == nullptr || shapes != shapes_) {
    context_.reset();
    OCTET_ASSIGN_OR_RETURN(auto specialisation, program_->Specialise(shapes, threads_));
    OCTET_ASSIGN_OR_RETURN(context_, engine::Context::Create(specialisation));
    shapes_ = shapes;
  }
  SetTeamSize(threads_);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const absl::Span<std::byte> to = context_->input(static_cast<int>(i));
    std::memcpy(to.data(), tensors[i].data(), to.size());
  }
  return context_->Run();
}

absl::Span<const float> Observer::output(size_t i) const {
  const absl::Span<const std::byte> bytes = context_->output(static_cast<int>(i));
  return {reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float)};
}

absl::Span<const float> Observer::observed(size_t i) const { return output(num_outputs_ + i); }

const Shape& Observer::observed_shape(size_t i) const {
  return context_->output_shape(static_cast<int>(num_outputs_ + i));
}

}  // namespace octet::compress
