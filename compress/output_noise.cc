// Float outputs once, changed networks against them.
#include "compress/output_noise.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/status.h"
#include "compress/compare.h"
#include "compress/observe.h"
#include "compress/softmax.h"
#include "graph/ensemble.h"

namespace octet::compress {
namespace {

constexpr double kWorst = std::numeric_limits<double>::infinity();

// P of each output over [sample][output].
std::vector<double> Powers(const std::vector<std::vector<std::vector<float>>>& outputs) {
  const auto samples = static_cast<double>(outputs.size());
  std::vector<double> powers;
  for (size_t o = 0; o < outputs[0].size(); ++o) {
    const size_t size = outputs[0][o].size();
    const bool same = std::all_of(outputs.begin(), outputs.end(), [&](const auto& of) { return of[o].size() == size; });
    double power = 0;
    for (size_t k = 0; k < size && same; ++k) {
      double sum = 0, squares = 0;
      for (const auto& of : outputs) {
        const double x = of[o][k];
        sum += x;
        squares += x * x;
      }
      power += outputs.size() > 1 ? (squares - sum * sum / samples) * samples / (samples - 1) : squares;
    }
    for (size_t s = 0; s < outputs.size() && !same; ++s) {
      for (const float x : outputs[s][o]) power += static_cast<double>(x) * x;
    }
    powers.push_back(power);
  }
  return powers;
}

// Sum over rows of `classes` outputs of the divergence.
double Divergences(absl::Span<const float> reference, absl::Span<const float> changed, size_t classes, bool probabilities) {
  std::vector<double> p(classes), q(classes);
  std::vector<float> scores(classes);
  const auto softmax = [&](const float* row, std::vector<double>* to) {
    for (size_t c = 0; c < classes; ++c) scores[c] = ScoreOf(row[c], probabilities);
    Softmax(scores.data(), 1, to);
  };
  double sum = 0;
  for (size_t at = 0; at + classes <= reference.size(); at += classes) {
    softmax(reference.data() + at, &p);
    softmax(changed.data() + at, &q);
    for (size_t c = 0; c < classes; ++c) {
      if (p[c] > 0) sum += p[c] * std::log(p[c] / std::max<double>(q[c], graph::kLeastProbability));
    }
  }
  return sum;
}

}  // namespace

absl::StatusOr<OutputNoise> OutputNoise::Create(const graph::Graph& reference, data::SampleReader& samples,
                                                absl::Span<const int64_t> indices, int threads) {
  OutputNoise noise(samples);
  noise.indices_.assign(indices.begin(), indices.end());
  noise.threads_ = threads;
  noise.classes_ = ClassesOf(reference.value(reference.outputs[0]));
  noise.probabilities_ = GivesProbabilities(reference);
  OCTET_ASSIGN_OR_RETURN(const auto observer, Observer::Create(reference, {}, threads));
  for (int64_t i : indices) {
    OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples.Read(i));
    OCTET_RETURN_IF_ERROR(observer->Run(sample));
    noise.outputs_.emplace_back();
    for (size_t o = 0; o < observer->num_outputs(); ++o) {
      noise.outputs_.back().emplace_back(observer->output(o).begin(), observer->output(o).end());
    }
  }
  if (!noise.outputs_.empty()) noise.power_ = Powers(noise.outputs_);
  return noise;
}

absl::StatusOr<OutputNoise::Difference> OutputNoise::Of(graph::Graph changed) const {
  OCTET_ASSIGN_OR_RETURN(const auto observer, Observer::Create(std::move(changed), {}, threads_));
  std::vector<double> noise(power_.size(), 0);
  double divergence = 0, rows = 0;
  for (size_t s = 0; s < indices_.size(); ++s) {
    OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples_->Read(indices_[s]));
    OCTET_RETURN_IF_ERROR(observer->Run(sample));
    for (size_t o = 0; o < noise.size(); ++o) {
      const std::vector<float>& expected = outputs_[s][o];
      const absl::Span<const float> found = observer->output(o);
      // Where data decides sizes, those may differ.
      const bool same = found.size() == expected.size();
      for (size_t k = 0; k < expected.size(); ++k) {
        const double d = static_cast<double>(expected[k]) - (same ? found[k] : 0.0f);
        noise[o] += d * d;
      }
      if (o > 0 || classes_ == 0) continue;
      divergence += same ? Divergences(expected, found, static_cast<size_t>(classes_), probabilities_) : kWorst;
      rows += static_cast<double>(expected.size()) / static_cast<double>(classes_);
    }
  }
  Difference difference;
  if (rows > 0) difference.divergence = divergence / rows;
  for (size_t o = 0; o < noise.size(); ++o) {
    if (power_[o] > 0) difference.noise += noise[o] / power_[o] / static_cast<double>(noise.size());
  }
  if (!std::isfinite(difference.noise)) difference.noise = kWorst;
  if (!std::isfinite(difference.divergence)) difference.divergence = kWorst;
  return difference;
}

std::vector<int64_t> Spread(absl::Span<const int64_t> indices, size_t most) {
  const size_t count = std::min(most, indices.size());
  std::vector<int64_t> chosen;
  for (size_t i = 0; i < count; ++i) chosen.push_back(indices[(2 * i + 1) * indices.size() / (2 * count)]);
  return chosen;
}

}  // namespace octet::compress
