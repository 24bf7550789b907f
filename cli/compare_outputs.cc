// Sums over samples.
#include "cli/compare_outputs.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cli/inputs.h"
#include "client/top_k.h"
#include "compress/compare.h"

namespace octet::cli {
namespace {

// Sums of one output of one variant.
struct OutputSums {
  double signal = 0, noise = 0, cosine = 0;
  int64_t samples = 0;
};

// Length of the single row of class scores, 0 where there is none.
int64_t Classes(const Tensor& output) {
  Shape shape = output.shape();
  while (shape.size() > 2 && shape.back() == 1) shape.pop_back();
  return shape.size() == 2 && shape[0] == 1 && shape[1] > 1 ? shape[1] : 0;
}

absl::Span<const float> Values(const Tensor& tensor) {
  return {reinterpret_cast<const float*>(tensor.data()), static_cast<size_t>(tensor.num_elements())};
}

int64_t Best(const Tensor& scores) { return client::TopK(Values(scores), 1)[0].index; }

void AddOutput(const Tensor& reference, const Tensor& found, OutputSums* sums, OutputAgreement* out) {
  const absl::Span<const float> a = Values(reference), b = Values(found);
  const bool same = a.size() == b.size();  // data may decide sizes: then the variant is as wrong as zeros
  double dot = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = a[i], y = same ? b[i] : 0;
    sums->signal += x * x;
    sums->noise += (x - y) * (x - y);
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  sums->cosine += aa > 0 && bb > 0 ? dot / std::sqrt(aa * bb) : (aa == bb ? 1.0 : 0.0);
  ++sums->samples;
  out->classes = Classes(reference) > 0;
  if (!out->classes) return;
  ++out->rows;
  out->agreeing += same && Best(reference) == Best(found) ? 1 : 0;
}

void AddLabel(const Tensor& scores, int64_t label, bool reference_right, Accuracy* accuracy) {
  const std::vector<client::Scored> five = client::TopK(Values(scores), 5);
  const bool right = !five.empty() && five[0].index == label;
  ++accuracy->labelled;
  accuracy->top1 += right ? 1 : 0;
  accuracy->top5 +=
      std::any_of(five.begin(), five.end(), [&](const client::Scored& s) { return s.index == label; }) ? 1 : 0;
  accuracy->only_this += right && !reference_right ? 1 : 0;
  accuracy->only_reference += !right && reference_right ? 1 : 0;
}

absl::StatusOr<std::vector<Tensor>> Answer(Subject& subject, const data::Sample& sample) {
  const absl::StatusOr<std::vector<Tensor>> inputs = FitSample(subject.inputs(), sample.inputs);
  if (!inputs.ok()) return Annotate(inputs.status(), absl::StrCat(subject.name(), ": ", sample.name));
  OCTET_RETURN_IF_ERROR(subject.Prepare(*inputs));
  OCTET_RETURN_IF_ERROR(subject.Run());
  return subject.Outputs();
}

// For each output of the reference, its index among the variant's.
absl::StatusOr<std::vector<size_t>> Match(const Subject& reference, const Subject& variant) {
  std::vector<size_t> matched;
  const std::vector<std::string>& names = variant.output_names();
  for (const std::string& name : reference.output_names()) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) {
      return absl::InvalidArgumentError(absl::StrCat("variant '", variant.name(), "' has no output '", name,
                                                     "', which '", reference.name(), "' has"));
    }
    matched.push_back(static_cast<size_t>(found - names.begin()));
  }
  return matched;
}

}  // namespace

absl::Status CompareOutputs(absl::Span<Subject* const> subjects, size_t reference, data::SampleReader& samples,
                            int64_t count, absl::Span<const int64_t> labels, const std::function<absl::Status()>& step,
                            std::vector<VariantFigures>* figures) {
  const size_t num_outputs = subjects[reference]->output_names().size();
  std::vector<std::vector<size_t>> matched;
  for (size_t v = 0; v < subjects.size(); ++v) {
    OCTET_ASSIGN_OR_RETURN(std::vector<size_t> one, Match(*subjects[reference], *subjects[v]));
    matched.push_back(std::move(one));
    (*figures)[v].outputs.clear();
    if (!labels.empty()) (*figures)[v].accuracy = Accuracy();
    if (v == reference) continue;
    for (const std::string& name : subjects[reference]->output_names()) (*figures)[v].outputs.push_back({.name = name});
  }
  std::vector<std::vector<OutputSums>> sums(subjects.size(), std::vector<OutputSums>(num_outputs));
  for (int64_t i = 0; i < count; ++i) {
    OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples.Read(i));
    OCTET_ASSIGN_OR_RETURN(const std::vector<Tensor> expected, Answer(*subjects[reference], sample));
    const bool labelled = i < static_cast<int64_t>(labels.size()) && !expected.empty() && Classes(expected[0]) > 0;
    const int64_t label = labelled ? labels[static_cast<size_t>(i)] : -1;
    const bool right = labelled && Best(expected[0]) == label;
    if (labelled) AddLabel(expected[0], label, right, &*(*figures)[reference].accuracy);
    for (size_t v = 0; v < subjects.size(); ++v) {
      if (v == reference) continue;
      OCTET_ASSIGN_OR_RETURN(const std::vector<Tensor> found, Answer(*subjects[v], sample));
      for (size_t o = 0; o < num_outputs; ++o) {
        AddOutput(expected[o], found[matched[v][o]], &sums[v][o], &(*figures)[v].outputs[o]);
      }
      if (labelled) AddLabel(found[matched[v][0]], label, right, &*(*figures)[v].accuracy);
    }
    if (step) OCTET_RETURN_IF_ERROR(step());
  }
  for (size_t v = 0; v < subjects.size(); ++v) {
    for (size_t o = 0; o < (*figures)[v].outputs.size(); ++o) {
      OutputAgreement& out = (*figures)[v].outputs[o];
      out.sqnr_db = compress::SqnrDb(sums[v][o].signal, sums[v][o].noise);
      out.cosine = sums[v][o].cosine / static_cast<double>(std::max<int64_t>(sums[v][o].samples, 1));
    }
  }
  return absl::OkStatus();
}

}  // namespace octet::cli
