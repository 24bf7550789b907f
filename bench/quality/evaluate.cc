// Batches through Octet's engine.
#include "bench/quality/evaluate.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/parallel_for.h"
#include "base/status.h"
#include "engine/program.h"
#include "onnx/import.h"

namespace octet::bench {
namespace {

// Activations are a multiple of the input: a batch of 4 MB leaves them some hundred MB even in wide networks.
int64_t BatchSize(const Tensor& sample) {
  constexpr int64_t kBatchBytes = 4 << 20, kLargest = 64;
  return std::clamp<int64_t>(kBatchBytes / sample.size_bytes(), 1, kLargest);
}

absl::StatusOr<std::unique_ptr<engine::Context>> MakeContext(engine::Program& program, Shape shape, int threads) {
  OCTET_ASSIGN_OR_RETURN(auto specialisation, program.Specialise({shape}, threads));
  return engine::Context::Create(std::move(specialisation));
}

// Appends the rows of the last run's outputs.
absl::Status Gather(const engine::Program& program, const engine::Context& context, int64_t rows, Predictions* p) {
  for (size_t o = 0; o < p->outputs.size(); ++o) {
    const Shape& shape = context.output_shape(static_cast<int>(o));
    PredictedOutput& output = p->outputs[o];
    if (shape.empty() || shape[0] != rows) {
      return absl::UnimplementedError(absl::StrCat("output '", program.outputs()[o].name, "' has shape ",
                                                   ShapeString(shape), ", expected a batch axis of ", rows));
    }
    const Shape row(shape.begin() + 1, shape.end());
    if (p->samples > 0 && row != output.shape) {
      return absl::UnimplementedError(absl::StrCat("output '", program.outputs()[o].name, "' changes its shape"));
    }
    output.shape = row;
    const Tensor tensor(program.outputs()[o].dtype, shape, context.output(static_cast<int>(o)).data(), nullptr);
    const std::vector<float> values = tensor.ToF32();
    output.values.insert(output.values.end(), values.begin(), values.end());
  }
  p->samples += rows;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Predictions> Evaluate(const std::string& model, const std::vector<Tensor>& samples, int threads,
                                     const graph::EnsembleOptions* ensemble) {
  OCTET_ASSIGN_OR_RETURN(graph::Graph graph, onnx_io::ImportFile(model));
  if (ensemble != nullptr) {
    OCTET_ASSIGN_OR_RETURN(graph, graph::MakeEnsemble(graph, *ensemble));
  }
  OCTET_ASSIGN_OR_RETURN(const std::shared_ptr<engine::Program> program, engine::Program::Compile(std::move(graph)));
  if (program->inputs().size() != 1) {
    return absl::UnimplementedError(absl::StrCat(model, " has ", program->inputs().size(), " inputs, expected one"));
  }
  SetTeamSize(threads);
  const int64_t largest = program->batch_proof().batchable && !samples.empty() ? BatchSize(samples[0]) : 1;
  Predictions p;
  p.outputs.resize(program->outputs().size());
  std::unique_ptr<engine::Context> context;
  int64_t context_rows = 0;
  for (size_t begin = 0; begin < samples.size();) {
    const int64_t rows = std::min(largest, static_cast<int64_t>(samples.size() - begin));
    if (rows != context_rows) {
      Shape shape = samples[0].shape();
      shape.insert(shape.begin(), rows);
      context.reset();
      OCTET_ASSIGN_OR_RETURN(context, MakeContext(*program, std::move(shape), threads));
      context_rows = rows;
    }
    std::byte* to = context->input(0).data();
    for (int64_t r = 0; r < rows; ++r, ++begin) {
      std::memcpy(to, samples[begin].data(), static_cast<size_t>(samples[begin].size_bytes()));
      to += samples[begin].size_bytes();
    }
    OCTET_RETURN_IF_ERROR(context->Run());
    OCTET_RETURN_IF_ERROR(Gather(*program, *context, rows, &p));
  }
  return p;
}

}  // namespace octet::bench
