// Metrics in plain loops.
#include "bench/quality/metrics.h"

#include <algorithm>
#include <cmath>

#include "compress/compress.h"

namespace octet::bench {
namespace {

int64_t Largest(absl::Span<const float> values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

double Percent(int64_t part, int64_t whole) {
  return 100 * static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

double Top1Percent(const PredictedOutput& output, absl::Span<const int64_t> labels) {
  int64_t right = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    right += Largest(output.Sample(static_cast<int64_t>(i))) == labels[i] ? 1 : 0;
  }
  return Percent(right, static_cast<int64_t>(labels.size()));
}

double AgreementPercent(const PredictedOutput& reference, const PredictedOutput& found) {
  const int64_t samples = static_cast<int64_t>(reference.values.size()) / NumElements(reference.shape);
  int64_t equal = 0;
  for (int64_t i = 0; i < samples; ++i) equal += Largest(reference.Sample(i)) == Largest(found.Sample(i)) ? 1 : 0;
  return Percent(equal, samples);
}

double PredictionsSqnrDb(const Predictions& reference, const Predictions& found) {
  double signal = 0, noise = 0;
  for (size_t o = 0; o < reference.outputs.size(); ++o) {
    const std::vector<float>&a = reference.outputs[o].values, &b = found.outputs[o].values;
    for (size_t i = 0; i < a.size(); ++i) {
      if (!std::isfinite(b[i])) return -200;
      const double x = a[i], d = x - b[i];
      signal += x * x;
      noise += d * d;
    }
  }
  return compress::SqnrDb(signal, noise);
}

double MaskIouPercent(const PredictedOutput& reference, const PredictedOutput& found, float threshold) {
  int64_t both = 0, either = 0;
  for (size_t i = 0; i < reference.values.size(); ++i) {
    const bool a = reference.values[i] > threshold, b = found.values[i] > threshold;
    both += a && b ? 1 : 0;
    either += a || b ? 1 : 0;
  }
  return either == 0 ? 100 : Percent(both, either);
}

}  // namespace octet::bench
