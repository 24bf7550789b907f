// Scores of class probabilities in plain loops.
#include "bench/quality/uncertainty.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/golden_section.h"

namespace octet::bench {
namespace {

constexpr double kLeast = 1e-30;

int64_t Samples(const PredictedOutput& output) {
  return static_cast<int64_t>(output.values.size()) / NumElements(output.shape);
}

size_t Largest(absl::Span<const float> row) {
  return static_cast<size_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

}  // namespace

PredictedOutput LogProbabilities(const PredictedOutput& output) {
  PredictedOutput out = output;
  const auto classes = static_cast<size_t>(NumElements(output.shape));
  for (int64_t i = 0; i < Samples(output); ++i) {
    const absl::Span<const float> row = output.Sample(i);
    const double sum = std::accumulate(row.begin(), row.end(), 0.0);
    const bool probabilities = *std::min_element(row.begin(), row.end()) >= 0 && std::fabs(sum - 1) < 1e-3;
    const double largest = row[Largest(row)];
    double exponentials = 0;
    for (float x : row) exponentials += std::exp(x - largest);
    for (size_t c = 0; c < classes; ++c) {
      const double log_p = probabilities ? std::log(std::max<double>(row[c], kLeast)) : row[c] - largest - std::log(exponentials);
      out.values[static_cast<size_t>(i) * classes + c] = static_cast<float>(std::max(log_p, std::log(kLeast)));
    }
  }
  return out;
}

PredictedOutput AtTemperature(const PredictedOutput& log_p, double t) {
  PredictedOutput scaled = log_p;
  for (float& x : scaled.values) x = static_cast<float>(x / t);
  return LogProbabilities(scaled);
}

double BestTemperature(const PredictedOutput& log_p, absl::Span<const int64_t> labels) {
  return std::exp(LeastByGoldenSection(
      [&](double log_t) { return NegativeLogLikelihood(AtTemperature(log_p, std::exp(log_t)), labels); }, std::log(0.1),
      std::log(10.0), 1e-3));
}

double NegativeLogLikelihood(const PredictedOutput& log_p, absl::Span<const int64_t> labels) {
  double sum = 0;
  for (size_t i = 0; i < labels.size(); ++i) sum -= log_p.Sample(static_cast<int64_t>(i))[static_cast<size_t>(labels[i])];
  return sum / static_cast<double>(labels.size());
}

double BrierScore(const PredictedOutput& log_p, absl::Span<const int64_t> labels) {
  double sum = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    const absl::Span<const float> row = log_p.Sample(static_cast<int64_t>(i));
    for (size_t c = 0; c < row.size(); ++c) {
      const double d = std::exp(row[c]) - (static_cast<int64_t>(c) == labels[i] ? 1 : 0);
      sum += d * d;
    }
  }
  return sum / static_cast<double>(labels.size());
}

double CalibrationErrorPercent(const PredictedOutput& log_p, absl::Span<const int64_t> labels) {
  constexpr size_t kBins = 15;
  std::array<double, kBins> right = {}, confidence = {};
  for (size_t i = 0; i < labels.size(); ++i) {
    const absl::Span<const float> row = log_p.Sample(static_cast<int64_t>(i));
    const size_t best = Largest(row);
    const double p = std::exp(row[best]);
    const size_t bin = std::min(kBins - 1, static_cast<size_t>(p * kBins));
    right[bin] += static_cast<int64_t>(best) == labels[i] ? 1 : 0;
    confidence[bin] += p;
  }
  double sum = 0;
  for (size_t b = 0; b < kBins; ++b) sum += std::fabs(right[b] - confidence[b]);
  return 100 * sum / static_cast<double>(labels.size());
}

double SelectiveAccuracyPercent(const PredictedOutput& log_p, absl::Span<const int64_t> labels, double coverage) {
  const std::vector<double> entropies = Entropies(log_p);
  std::vector<size_t> order(labels.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return entropies[a] < entropies[b]; });
  order.resize(std::max<size_t>(1, static_cast<size_t>(coverage * static_cast<double>(labels.size()))));
  int64_t right = 0;
  for (size_t i : order) right += static_cast<int64_t>(Largest(log_p.Sample(static_cast<int64_t>(i)))) == labels[i] ? 1 : 0;
  return 100.0 * static_cast<double>(right) / static_cast<double>(order.size());
}

std::vector<double> Entropies(const PredictedOutput& log_p) {
  std::vector<double> out;
  for (int64_t i = 0; i < Samples(log_p); ++i) {
    double sum = 0;
    for (float x : log_p.Sample(i)) sum -= std::exp(x) * x;
    out.push_back(sum);
  }
  return out;
}

double AreaUnderRocPercent(absl::Span<const double> low, absl::Span<const double> high) {
  // The rank sum of Mann and Whitney; equal numbers share their mean rank.
  std::vector<std::pair<double, bool>> all;
  for (double x : low) all.emplace_back(x, false);
  for (double x : high) all.emplace_back(x, true);
  std::sort(all.begin(), all.end());
  double ranks = 0;
  for (size_t begin = 0; begin < all.size();) {
    size_t end = begin;
    while (end < all.size() && all[end].first == all[begin].first) ++end;
    const double rank = 0.5 * static_cast<double>(begin + end + 1);
    for (size_t i = begin; i < end; ++i) ranks += all[i].second ? rank : 0;
    begin = end;
  }
  const double n = static_cast<double>(high.size()), m = static_cast<double>(low.size());
  return 100 * (ranks - n * (n + 1) / 2) / (n * m);
}

std::vector<int64_t> MostProbable(const PredictedOutput& output) {
  std::vector<int64_t> out;
  for (int64_t i = 0; i < Samples(output); ++i) out.push_back(static_cast<int64_t>(Largest(output.Sample(i))));
  return out;
}

}  // namespace octet::bench
