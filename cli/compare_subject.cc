// Variants in this process (an engine context) and behind a server (a client).
#include "cli/compare_subject.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/parallel_for.h"
#include "base/statistics.h"
#include "base/status.h"
#include "cli/inputs.h"
#include "client/client.h"
#include "engine/program.h"
#include "onnx/import.h"

namespace octet::cli {
namespace {

class LocalSubject final : public Subject {
 public:
  LocalSubject(std::string name, std::shared_ptr<engine::Program> program, int threads)
      : name_(std::move(name)), program_(std::move(program)), threads_(threads) {
    for (const engine::Signature& s : program_->outputs()) output_names_.push_back(s.name);
  }

  const std::string& name() const override { return name_; }
  bool batchable() const override { return program_->batch_proof().batchable; }
  const std::vector<engine::Signature>& inputs() const override { return program_->inputs(); }
  const SubjectFacts& facts() const override { return facts_; }
  const std::vector<std::string>& output_names() const override { return output_names_; }

  absl::Status Prepare(const std::vector<Tensor>& inputs) override {
    std::vector<Shape> shapes;
    for (const Tensor& input : inputs) shapes.push_back(input.shape());
    SetTeamSize(threads_);
    if (context_ == nullptr || shapes != context_->specialisation().input_shapes()) {
      context_.reset();
      OCTET_ASSIGN_OR_RETURN(auto specialisation, program_->Specialise(shapes, threads_));
      program_->ReleaseInitializers();
      OCTET_ASSIGN_OR_RETURN(context_, engine::Context::Create(specialisation));
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      const absl::Span<std::byte> to = context_->input(static_cast<int>(i));
      std::memcpy(to.data(), inputs[i].data(), to.size());
    }
    return absl::OkStatus();
  }

  absl::Status Run() override { return context_->Run(); }

  absl::StatusOr<std::vector<Tensor>> Outputs() override {
    std::vector<Tensor> outputs;
    for (size_t i = 0; i < output_names_.size(); ++i) {
      const absl::Span<const std::byte> bytes = context_->output(static_cast<int>(i));
      const Shape& shape = context_->output_shape(static_cast<int>(i));
      const Tensor view(program_->outputs()[i].dtype, shape, bytes.data(), nullptr);
      outputs.push_back(Tensor::FromF32(shape, view.ToF32()));
    }
    return outputs;
  }

  std::optional<int64_t> activations_bytes() const override { return context_->specialisation().arena_bytes(); }
  std::optional<int64_t> walked_bytes() const override {
    int64_t sum = 0;
    for (const engine::StepInfo& step : context_->specialisation().Steps()) sum += step.weights_bytes;
    return sum;
  }

  const engine::Program& program() const { return *program_; }
  SubjectFacts facts_;

 private:
  const std::string name_;
  const std::shared_ptr<engine::Program> program_;
  const int threads_;
  std::vector<std::string> output_names_;
  std::unique_ptr<engine::Context> context_;
};

// Zeros for every input, free dimensions other than the batch as 1: shapes that a load can be timed with. Models whose
// free dimensions cannot be 1 are specialised at their first run instead.
absl::StatusOr<std::vector<Tensor>> AnyInputs(const engine::Program& program) {
  std::vector<Tensor> inputs;
  for (const engine::Signature& s : program.inputs()) {
    Shape shape = s.shape;
    for (int64_t& d : shape) d = d == kUnknownDim ? 1 : d;
    OCTET_ASSIGN_OR_RETURN(Buffer zeros, Buffer::Allocate(ByteSize(s.dtype, shape)));
    inputs.push_back(Tensor::FromBuffer(s.dtype, shape, std::move(zeros)));
  }
  return inputs;
}

class RemoteSubject final : public Subject {
 public:
  RemoteSubject(std::string name, std::string model, client::ModelMetadata metadata,
                std::unique_ptr<client::Client> client)
      : name_(std::move(name)), model_(std::move(model)), metadata_(std::move(metadata)), client_(std::move(client)) {
    inputs_ = SignaturesOf(metadata_.inputs);
    for (const client::TensorSpec& s : metadata_.outputs) output_names_.push_back(s.name);
  }

  const std::string& name() const override { return name_; }
  const std::vector<engine::Signature>& inputs() const override { return inputs_; }
  // As far as a client can tell: the batch axis is free.
  bool batchable() const override {
    return std::all_of(metadata_.inputs.begin(), metadata_.inputs.end(),
                       [](const client::TensorSpec& s) { return !s.shape.empty() && s.shape[0] == kUnknownDim; });
  }
  const SubjectFacts& facts() const override { return facts_; }
  const std::vector<std::string>& output_names() const override { return output_names_; }

  absl::Status Prepare(const std::vector<Tensor>& inputs) override {
    client::InferRequest request;
    request.model = model_;
    for (size_t i = 0; i < inputs.size(); ++i) request.inputs.push_back({metadata_.inputs[i].name, inputs[i]});
    request.outputs = output_names_;  // in this order, and no others
    OCTET_ASSIGN_OR_RETURN(request_, client::PreparedRequest::Create(request));
    return absl::OkStatus();
  }

  absl::Status Run() override {
    OCTET_ASSIGN_OR_RETURN(result_, client_->Infer(request_));
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<Tensor>> Outputs() override {
    std::vector<Tensor> outputs;
    for (const std::string& name : output_names_) {
      const auto found = std::find_if(result_.outputs.begin(), result_.outputs.end(),
                                      [&](const client::NamedTensor& t) { return t.name == name; });
      if (found == result_.outputs.end()) {
        return absl::DataLossError(absl::StrCat("the answer of '", model_, "' lacks output '", name, "'"));
      }
      outputs.push_back(Tensor::FromF32(found->tensor.shape(), found->tensor.ToF32()));
    }
    return outputs;
  }

  std::optional<int64_t> activations_bytes() const override { return std::nullopt; }
  std::optional<int64_t> walked_bytes() const override { return std::nullopt; }

  // What the server says of its memory: Octet does, most others do not.
  absl::Status ReadMemory() {
    OCTET_ASSIGN_OR_RETURN(const std::vector<client::ModelStatistics> all, client_->Statistics(model_));
    for (const client::ModelStatistics& s : all) {
      if (s.memory_bytes.empty()) continue;
      int64_t sum = 0;
      for (const auto& [kind, bytes] : s.memory_bytes) {
        if (kind == "file") facts_.file_bytes = static_cast<int64_t>(bytes);
        if (kind == "weights") facts_.weights_bytes = static_cast<int64_t>(bytes);
        if (kind != "file") sum += static_cast<int64_t>(bytes);
      }
      facts_.model_bytes = sum;
    }
    return absl::OkStatus();
  }

 private:
  const std::string name_, model_;
  const client::ModelMetadata metadata_;
  const std::unique_ptr<client::Client> client_;
  std::vector<engine::Signature> inputs_;
  std::vector<std::string> output_names_;
  SubjectFacts facts_;
  client::PreparedRequest request_;
  client::InferResult result_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Subject>> LoadSubject(const std::string& name, const std::string& path, int threads,
                                                     int loads, graph::Graph* graph) {
  std::unique_ptr<LocalSubject> subject;
  std::vector<double> seconds;
  for (int i = 0; i < std::max(loads, 1); ++i) {
    subject.reset();
    const absl::Time start = absl::Now();
    OCTET_ASSIGN_OR_RETURN(graph::Graph imported, onnx_io::ImportFile(path));
    if (graph != nullptr) *graph = imported;
    absl::StatusOr<std::shared_ptr<engine::Program>> program = engine::Program::Compile(std::move(imported));
    if (!program.ok()) return Annotate(program.status(), path);
    subject = std::make_unique<LocalSubject>(name, *program, threads);
    OCTET_ASSIGN_OR_RETURN(const std::vector<Tensor> inputs, AnyInputs(**program));
    const absl::Status first = subject->Prepare(inputs);
    seconds.push_back(absl::ToDoubleSeconds(absl::Now() - start));
    if (!first.ok()) continue;
    const engine::MemoryReport memory = (*program)->Memory();
    subject->facts_.weights_bytes = memory.weights;
    subject->facts_.model_bytes =
        memory.weights + memory.activations + memory.scratchpad + memory.code + memory.metadata;
  }
  subject->facts_.load_seconds = Quantile(seconds, 0.5);
  std::error_code error;
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(path, error));
  if (!error) subject->facts_.file_bytes = bytes;
  return subject;
}

absl::StatusOr<std::unique_ptr<Subject>> ConnectSubject(const std::string& address, const std::string& model,
                                                        const std::string& variant) {
  const std::string full = variant.empty() ? model : absl::StrCat(model, "@", variant);
  OCTET_ASSIGN_OR_RETURN(auto client, client::Client::Connect(address));
  absl::StatusOr<client::ModelMetadata> metadata = client->Metadata(full);
  if (!metadata.ok()) return Annotate(metadata.status(), absl::StrCat(full, " on ", address));
  auto subject =
      std::make_unique<RemoteSubject>(variant.empty() ? model : variant, full, *std::move(metadata), std::move(client));
  // A server without statistics is measured all the same.
  if (const absl::Status read = subject->ReadMemory(); !read.ok() && absl::IsUnavailable(read)) return read;
  return subject;
}

}  // namespace octet::cli
