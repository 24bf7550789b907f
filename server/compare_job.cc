// Sample by sample: the reference first, then each variant against it.
#include "server/compare_job.h"

#include <time.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/parallel_for.h"
#include "base/status.h"
#include "base/tensor.h"
#include "data/sample_reader.h"
#include "server/comparison/window.h"

namespace octet::server {
namespace {

constexpr int64_t kDefaultSamples = 256;

absl::Duration ThreadCpu() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return absl::DurationFromTimespec(now);
}

// The samples of a request: uploaded ones, or the calibration folder's. Tensors come in the order of `signature`, batch
// first.
class Samples {
 public:
  static absl::StatusOr<Samples> Open(const CompareJob& job, const ModelSignature& signature) {
    Samples samples(job.request, signature);
    const int64_t most = job.request.max_samples() > 0 ? job.request.max_samples() : kDefaultSamples;
    if (job.request.samples_size() > 0) {
      samples.size_ = std::min<int64_t>(job.request.samples_size(), most);
      return samples;
    }
    std::vector<std::string> names;
    for (const engine::Signature& input : signature.inputs) names.push_back(input.name);
    OCTET_ASSIGN_OR_RETURN(const data::ImageOptions image, data::ImageOptions::Parse(job.request.image_options()));
    OCTET_ASSIGN_OR_RETURN(samples.reader_, data::OpenSamples(job.calibration, image, names));
    samples.size_ = std::min(samples.reader_->size(), most);
    return samples;
  }

  int64_t size() const { return size_; }

  absl::StatusOr<std::vector<Tensor>> Read(int64_t i) {
    if (reader_ == nullptr) return Uploaded(request_->samples(static_cast<int>(i)), i);
    OCTET_ASSIGN_OR_RETURN(data::Sample sample, reader_->Read(i));
    std::vector<Tensor> inputs;
    for (size_t k = 0; k < signature_->inputs.size(); ++k) {
      const engine::Signature& want = signature_->inputs[k];
      Tensor tensor = k < sample.inputs.size() ? sample.inputs[k] : Tensor();
      Shape shape = tensor.shape();
      if (shape.size() + 1 == want.shape.size()) shape.insert(shape.begin(), 1);
      OCTET_RETURN_IF_ERROR(Check(want, tensor.dtype(), shape, absl::StrCat("sample '", sample.name, "'")));
      inputs.push_back(tensor.Reshaped(shape));
    }
    return inputs;
  }

 private:
  Samples(const v1::CompareRequest& request, const ModelSignature& signature)
      : request_(&request), signature_(&signature) {}

  static absl::Status Check(const engine::Signature& want, DType dtype, const Shape& shape, const std::string& where) {
    bool fits = dtype == want.dtype && shape.size() == want.shape.size();
    for (size_t i = 0; fits && i < shape.size(); ++i) fits = want.shape[i] == kUnknownDim || want.shape[i] == shape[i];
    if (fits && NumElements(shape) > 0) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(where, ": input '", want.name, "' is ", NameOf(want.dtype),
                                                   ShapeString(want.shape), ", found ", NameOf(dtype),
                                                   ShapeString(shape)));
  }

  absl::StatusOr<std::vector<Tensor>> Uploaded(const v1::UploadedSample& sample, int64_t i) const {
    const std::string where = absl::StrCat("samples[", i, "]");
    if (sample.inputs_size() != static_cast<int>(signature_->inputs.size())) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, " has ", sample.inputs_size(), " inputs, the model takes ", signature_->inputs.size()));
    }
    std::vector<Tensor> inputs;
    for (size_t k = 0; k < signature_->inputs.size(); ++k) {
      const engine::Signature& want = signature_->inputs[k];
      const std::string& bytes = sample.inputs(static_cast<int>(k));
      Shape shape = want.shape;
      for (size_t d = signature_->batchable ? 1 : 0; d < shape.size(); ++d) {
        if (shape[d] == kUnknownDim) {
          return absl::InvalidArgumentError(absl::StrCat("input '", want.name, "' has the free shape ",
                                                         ShapeString(shape),
                                                         ": only the calibration folder's samples can be compared"));
        }
      }
      if (!shape.empty() && shape[0] == kUnknownDim) shape[0] = 1;
      const auto row = static_cast<size_t>(ByteSize(want.dtype, shape));
      const bool whole = row > 0 && !bytes.empty() && bytes.size() % row == 0;
      if (!whole || (bytes.size() != row && !signature_->batchable)) {
        return absl::InvalidArgumentError(
            absl::StrCat(where, ": input '", want.name, "' needs ", signature_->batchable ? "a multiple of " : "", row,
                         " bytes (", NameOf(want.dtype), ShapeString(want.shape), "), found ", bytes.size()));
      }
      if (signature_->batchable) shape[0] = static_cast<int64_t>(bytes.size() / row);
      inputs.emplace_back(want.dtype, shape, reinterpret_cast<const std::byte*>(bytes.data()), nullptr);
    }
    return inputs;
  }

  const v1::CompareRequest* request_;
  const ModelSignature* signature_;
  std::unique_ptr<data::SampleReader> reader_;
  int64_t size_ = 0;
};

// One output of one run.
struct Output {
  Shape shape;
  std::vector<float> values;
};
using Outputs = std::map<std::string, Output>;

// One variant at work.
struct Runner {
  std::string name;
  std::shared_ptr<const ServedVariant> served;
  std::unique_ptr<engine::Context> context;  // for the latest shapes
  std::vector<Shape> shapes;
  std::vector<double> cpu_seconds;
  std::map<std::string, AgreementWindow> windows;
  int64_t labelled = 0, top1 = 0, top5 = 0;
};

absl::StatusOr<Outputs> Run(const ContextFactory& make_context, const ModelSignature& order,
                            const std::vector<Tensor>& inputs, Runner* runner) {
  const ModelSignature& signature = runner->served->signature;
  std::vector<const Tensor*> mine;
  std::vector<Shape> shapes;
  for (const engine::Signature& input : signature.inputs) {
    for (size_t i = 0; i < order.inputs.size(); ++i) {
      if (order.inputs[i].name == input.name) mine.push_back(&inputs[i]);
    }
    shapes.push_back(mine.back()->shape());
  }
  const bool fresh = runner->context == nullptr || shapes != runner->shapes;
  if (fresh) {
    runner->context.reset();
    OCTET_ASSIGN_OR_RETURN(runner->context, make_context(*runner->served->program, shapes, 1));
    runner->shapes = shapes;
  }
  engine::Context& context = *runner->context;
  const auto fill = [&] {
    for (size_t i = 0; i < mine.size(); ++i) {
      std::memcpy(context.input(static_cast<int>(i)).data(), mine[i]->data(),
                  static_cast<size_t>(mine[i]->size_bytes()));
    }
  };
  if (fresh) {  // the first run touches the context's memory
    fill();
    OCTET_RETURN_IF_ERROR(context.Run());
  }
  fill();
  const absl::Duration start = ThreadCpu();
  OCTET_RETURN_IF_ERROR(context.Run());
  runner->cpu_seconds.push_back(absl::ToDoubleSeconds(ThreadCpu() - start));
  Outputs outputs;
  for (size_t i = 0; i < signature.outputs.size(); ++i) {
    const DType dtype = signature.outputs[i].dtype;
    if (!IsFloat(dtype)) continue;
    const int index = static_cast<int>(i);
    Output& output = outputs[signature.outputs[i].name];
    output.shape = context.output_shape(index);
    output.values = Tensor(dtype, output.shape, context.output(index).data(), nullptr).ToF32();
  }
  return outputs;
}

void CountLabels(const Outputs& outputs, int64_t label, Runner* runner) {
  for (const auto& [name, output] : outputs) {
    if (output.shape.size() != 2 || output.shape[0] != 1 || output.shape[1] < 2) continue;
    if (label < 0 || label >= output.shape[1]) return;
    const float score = output.values[static_cast<size_t>(label)];
    const int64_t better =
        std::count_if(output.values.begin(), output.values.end(), [score](float v) { return v > score; });
    ++runner->labelled;
    if (better < 1) ++runner->top1;
    if (better < 5) ++runner->top5;
    return;
  }
}

absl::StatusOr<std::vector<Runner>> RunnersOf(const CompareJob& job, const std::string& reference) {
  const VersionEntry& version = *job.found.version;
  std::vector<std::string> names(job.request.variants().begin(), job.request.variants().end());
  if (names.empty()) {
    for (const auto& [name, entry] : version.variants) {
      if (entry.served != nullptr) names.push_back(name);
    }
  }
  std::erase(names, reference);
  names.insert(names.begin(), reference);
  std::vector<Runner> runners;
  for (const std::string& name : names) {
    auto it = version.variants.find(name);
    if (it == version.variants.end()) return absl::NotFoundError(absl::StrCat("there is no variant '", name, "'"));
    if (it->second.served == nullptr) {
      return absl::FailedPreconditionError(absl::StrCat("variant '", name, "' is not in memory: ", it->second.reason));
    }
    Runner& runner = runners.emplace_back();
    runner.name = name;
    runner.served = it->second.served;
  }
  return runners;
}

v1::ComparedVariant ResultOf(const Runner& runner) {
  v1::ComparedVariant result;
  result.set_variant(runner.name);
  FillMemory(*runner.served, result.mutable_memory());
  result.set_load_seconds(absl::ToDoubleSeconds(runner.served->load_time));
  std::vector<double> sorted = runner.cpu_seconds;
  std::sort(sorted.begin(), sorted.end());
  if (!sorted.empty()) {
    const auto at = [&](double share) {
      return sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5)];
    };
    double sum = 0;
    for (double seconds : sorted) sum += seconds;
    result.set_p50_cpu_seconds(at(0.5));
    result.set_p99_cpu_seconds(at(0.99));
    result.set_mean_cpu_seconds(sum / static_cast<double>(sorted.size()));
  }
  for (const auto& [name, window] : runner.windows) {
    *result.add_outputs() = AgreementMessage(name, window.Summary(absl::UnixEpoch()));
  }
  if (runner.labelled > 0) {
    result.set_top1_accuracy(static_cast<double>(runner.top1) / static_cast<double>(runner.labelled));
    result.set_top5_accuracy(static_cast<double>(runner.top5) / static_cast<double>(runner.labelled));
  }
  return result;
}

}  // namespace

absl::StatusOr<v1::CompareResult> RunCompareJob(const CompareJob& job) {
  SetTeamSize(1);
  const std::string reference =
      job.request.reference().empty() ? job.found.version->reference : job.request.reference();
  if (reference.empty()) return absl::FailedPreconditionError("the model has no reference: name one");
  OCTET_ASSIGN_OR_RETURN(std::vector<Runner> runners, RunnersOf(job, reference));
  const ModelSignature& order = runners[0].served->signature;
  OCTET_ASSIGN_OR_RETURN(Samples samples, Samples::Open(job, order));
  const int64_t total = samples.size();
  if (job.request.labels_size() > 0 && job.request.labels_size() < total) {
    return absl::InvalidArgumentError(
        absl::StrCat(total, " samples need as many labels, found ", job.request.labels_size()));
  }
  const WindowLimits unlimited = {std::numeric_limits<int64_t>::max(), absl::InfiniteDuration()};
  for (int64_t i = 0; i < total; ++i) {
    OCTET_RETURN_IF_ERROR(job.step(i, total));
    OCTET_ASSIGN_OR_RETURN(const std::vector<Tensor> inputs, samples.Read(i));
    Outputs wanted;
    for (Runner& runner : runners) {
      OCTET_ASSIGN_OR_RETURN(Outputs outputs, Run(job.make_context, order, inputs, &runner));
      if (job.request.labels_size() > 0) CountLabels(outputs, job.request.labels(static_cast<int>(i)), &runner);
      if (&runner == &runners[0]) {
        wanted = std::move(outputs);
        continue;
      }
      for (const auto& [name, want] : wanted) {
        const Output& found = outputs[name];
        if (found.values.size() != want.values.size()) {
          return absl::InternalError(absl::StrCat("output '", name, "' of variant '", runner.name, "' has ",
                                                  found.values.size(), " elements, the reference's ",
                                                  want.values.size()));
        }
        runner.windows.try_emplace(name, unlimited)
            .first->second.Add(CompareOutput(want.values, found.values, want.shape), absl::UnixEpoch());
      }
    }
  }
  v1::CompareResult result;
  result.set_reference(reference);
  result.set_samples(total);
  for (const Runner& runner : runners) *result.add_variants() = ResultOf(runner);
  return result;
}

}  // namespace octet::server
