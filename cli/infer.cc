// `octet infer`: samples to any Open Inference Protocol server, answers as top classes or .npy files.
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "absl/flags/declare.h"
#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "client/client.h"
#include "client/top_k.h"
#include "data/sample_reader.h"

ABSL_FLAG(std::string, data, "", "infer, compare, bench: samples (.npy, .npz, IDX, folder of images or .npy)");
ABSL_FLAG(std::string, labels, "", "infer, compare: labels of the samples; prints the share that is right");
ABSL_FLAG(std::string, save, "", "infer: folder that gets one .npy per sample and output, instead of top classes");
ABSL_FLAG(int64_t, top, 3, "infer: how many classes to print");
ABSL_FLAG(int64_t, first, 0, "infer: first sample");
ABSL_FLAG(int64_t, count, 10, "infer: number of samples (0: all)");
ABSL_DECLARE_FLAG(std::string, address);
ABSL_DECLARE_FLAG(absl::Duration, timeout);
ABSL_DECLARE_FLAG(std::string, image);

namespace octet::cli {
namespace {

// The sample as the server's metadata wants it: a batch axis where the rank is one lower, the datatype it names.
absl::StatusOr<client::InferRequest> RequestOf(const data::Sample& sample, const client::ModelMetadata& model,
                                               const std::string& name) {
  client::InferRequest request;
  request.model = name;
  for (size_t i = 0; i < model.inputs.size() && i < sample.inputs.size(); ++i) {
    const client::TensorSpec& spec = model.inputs[i];
    Tensor tensor = sample.inputs[i];
    Shape shape = tensor.shape();
    if (shape.size() + 1 == spec.shape.size()) shape.insert(shape.begin(), 1);
    tensor = tensor.Reshaped(shape);
    if (spec.datatype == "FP32" && tensor.dtype() != DType::kF32) {
      tensor = Tensor::FromF32(shape, tensor.ToF32());
    }
    request.inputs.push_back({spec.name, tensor});
  }
  return request;
}

absl::Status PrintTop(const std::string& sample, const client::InferResult& result, int64_t* best) {
  for (const client::NamedTensor& output : result.outputs) {
    OCTET_ASSIGN_OR_RETURN(const auto rows, client::TopKOfRows(output.tensor, absl::GetFlag(FLAGS_top)));
    for (const auto& row : rows) {
      std::printf("%s %s", sample.c_str(), output.name.c_str());
      for (const client::Scored& s : row) std::printf("  %d:%.4f", static_cast<int>(s.index), s.score);
      std::printf("\n");
    }
    if (&output == &result.outputs[0] && !rows.empty() && !rows[0].empty()) *best = rows[0][0].index;
  }
  return absl::OkStatus();
}

absl::Status Save(const std::string& folder, int64_t i, const client::InferResult& result) {
  for (const client::NamedTensor& output : result.outputs) {
    std::string name = output.name;
    std::replace(name.begin(), name.end(), '/', '_');
    OCTET_RETURN_IF_ERROR(data::WriteNpy(absl::StrCat(folder, "/", i, ".", name, ".npy"), output.tensor));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Infer(const Words& words) {
  if (words.size() != 1) return absl::InvalidArgumentError("expected one model name");
  if (absl::GetFlag(FLAGS_data).empty()) return absl::InvalidArgumentError("--data is missing");
  client::ClientOptions options;
  options.deadline = absl::GetFlag(FLAGS_timeout);
  OCTET_ASSIGN_OR_RETURN(auto client, client::Client::Connect(absl::GetFlag(FLAGS_address), options));
  OCTET_ASSIGN_OR_RETURN(const client::ModelMetadata model, client->Metadata(words[0]));
  std::vector<std::string> inputs;
  for (const client::TensorSpec& spec : model.inputs) inputs.push_back(spec.name);
  OCTET_ASSIGN_OR_RETURN(const data::ImageOptions image, data::ImageOptions::Parse(absl::GetFlag(FLAGS_image)));
  OCTET_ASSIGN_OR_RETURN(auto samples, data::OpenSamples(absl::GetFlag(FLAGS_data), image, inputs));
  std::vector<int64_t> labels;
  if (!absl::GetFlag(FLAGS_labels).empty()) {
    OCTET_ASSIGN_OR_RETURN(labels, data::ReadLabels(absl::GetFlag(FLAGS_labels)));
  }
  const std::string save = absl::GetFlag(FLAGS_save);
  if (!save.empty()) std::filesystem::create_directories(save);
  const int64_t first = absl::GetFlag(FLAGS_first), wanted = absl::GetFlag(FLAGS_count);
  const int64_t end = wanted > 0 ? std::min(first + wanted, samples->size()) : samples->size();
  int64_t right = 0, seen = 0;
  for (int64_t i = first; i < end; ++i) {
    OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples->Read(i));
    OCTET_ASSIGN_OR_RETURN(const client::InferRequest request, RequestOf(sample, model, words[0]));
    absl::StatusOr<client::InferResult> result = client->Infer(request);
    if (!result.ok()) return Annotate(result.status(), sample.name);
    int64_t best = -1;
    if (save.empty()) {
      OCTET_RETURN_IF_ERROR(PrintTop(sample.name, *result, &best));
    } else {
      OCTET_RETURN_IF_ERROR(Save(save, i, *result));
    }
    if (i < static_cast<int64_t>(labels.size())) {
      ++seen;
      right += labels[static_cast<size_t>(i)] == best ? 1 : 0;
    }
  }
  if (seen > 0 && save.empty()) {
    std::printf("%d of %d right (%s %%)\n", static_cast<int>(right), static_cast<int>(seen),
                Fixed(100.0 * static_cast<double>(right) / static_cast<double>(seen), 2).c_str());
  }
  return absl::OkStatus();
}

}  // namespace octet::cli
