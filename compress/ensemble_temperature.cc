// Golden section over the ensemble's likelihood.
#include "compress/ensemble_temperature.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/golden_section.h"
#include "base/status.h"
#include "compress/compare.h"
#include "compress/observe.h"
#include "compress/softmax.h"
#include "graph/draws.h"
#include "graph/ensemble.h"

namespace octet::compress {
namespace {

constexpr int kMostDraws = 8;

double CrossEntropy(absl::Span<const float> reference, absl::Span<const std::vector<float>> draws, size_t classes, double t) {
  std::vector<double> q(classes), p(classes), mean(classes);
  double sum = 0;
  for (size_t at = 0; at < reference.size(); at += classes) {
    Softmax(reference.data() + at, 1, &q);
    std::fill(mean.begin(), mean.end(), 0.0);
    for (const std::vector<float>& draw : draws) {
      Softmax(draw.data() + at, t, &p);
      for (size_t c = 0; c < classes; ++c) mean[c] += p[c] / static_cast<double>(draws.size());
    }
    for (size_t c = 0; c < classes; ++c) sum -= q[c] * std::log(std::max<double>(mean[c], graph::kLeastProbability));
  }
  return sum;
}

// Output 0 on all samples; probabilities as their logarithms.
absl::StatusOr<std::vector<float>> Answers(const graph::Graph& graph, data::SampleReader& samples,
                                           const std::vector<int64_t>& indices, int threads) {
  OCTET_ASSIGN_OR_RETURN(const auto observer, Observer::Create(graph, {}, threads));
  const bool probabilities = GivesProbabilities(graph);
  std::vector<float> out;
  for (int64_t i : indices) {
    OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples.Read(i));
    OCTET_RETURN_IF_ERROR(observer->Run(sample));
    for (float x : observer->output(0)) out.push_back(ScoreOf(x, probabilities));
  }
  return out;
}

}  // namespace

double FitTemperature(absl::Span<const float> reference, absl::Span<const std::vector<float>> draws, int64_t classes) {
  return std::exp(LeastByGoldenSection(
      [&](double log_t) { return CrossEntropy(reference, draws, static_cast<size_t>(classes), std::exp(log_t)); },
      std::log(0.1), std::log(10.0), 1e-3));
}

absl::StatusOr<std::string> FitTemperatures(const graph::Graph& reference, const graph::Graph& compressed,
                                            data::SampleReader& samples, const std::vector<int64_t>& indices, int threads) {
  const int64_t classes = ClassesOf(reference.value(reference.outputs[0]));
  if (classes == 0 || indices.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("a temperature of '", reference.value(reference.outputs[0]).name, "' from ", indices.size(),
                     " samples: expected rows of class scores and a sample"));
  }
  OCTET_ASSIGN_OR_RETURN(const std::vector<float> wanted, Answers(reference, samples, indices, threads));
  std::vector<std::vector<float>> draws;
  std::string text;
  for (int t = 0; t < kMostDraws; ++t) {
    const graph::Graph draw = graph::DrawSample(compressed, 0, static_cast<uint32_t>(t));
    OCTET_ASSIGN_OR_RETURN(std::vector<float> answers, Answers(draw, samples, indices, threads));
    if (answers.size() != wanted.size()) return absl::InternalError("a draw answers in another shape than the float network");
    draws.push_back(std::move(answers));
    const auto n = draws.size();
    if (n < 2 || (n & (n - 1)) != 0) continue;
    absl::StrAppend(&text, text.empty() ? "" : " ", n, ":", absl::StrFormat("%.3f", FitTemperature(wanted, draws, classes)));
  }
  return text;
}

}  // namespace octet::compress
