// Sums of signal and noise over two observers.
#include "compress/compare.h"

#include <algorithm>
#include <cmath>

#include "base/status.h"
#include "compress/observe.h"

namespace octet::compress {
namespace {

using graph::Graph;

struct ErrorSum {
  double signal = 0, noise = 0;
  void Add(absl::Span<const float> reference, absl::Span<const float> found) {
    for (size_t i = 0; i < reference.size() && i < found.size(); ++i) {
      const double d = static_cast<double>(reference[i]) - found[i];
      signal += static_cast<double>(reference[i]) * reference[i];
      noise += d * d;
    }
  }
};

// Where data decides sizes, those of the compressed network may differ: then it is as wrong as zeros.
std::vector<float> Sized(absl::Span<const float> found, size_t size) {
  if (found.size() != size) return std::vector<float>(size, 0.0f);
  return std::vector<float>(found.begin(), found.end());
}

struct OutputSum {
  ErrorSum error;
  double cosine = 0;
  int64_t samples = 0, rows = 0, agreeing = 0;

  // `columns`: length of a row of class scores, 0 where there are none.
  void Add(absl::Span<const float> reference, absl::Span<const float> found, int64_t columns) {
    error.Add(reference, found);
    double dot = 0, a = 0, b = 0;
    for (size_t i = 0; i < reference.size(); ++i) {
      dot += static_cast<double>(reference[i]) * found[i];
      a += static_cast<double>(reference[i]) * reference[i];
      b += static_cast<double>(found[i]) * found[i];
    }
    cosine += a > 0 && b > 0 ? dot / std::sqrt(a * b) : (a == b ? 1.0 : 0.0);
    ++samples;
    for (size_t row = 0; columns > 0 && row + static_cast<size_t>(columns) <= reference.size();
         row += static_cast<size_t>(columns)) {
      auto argmax = [&](absl::Span<const float> v) {
        const auto* begin = v.data() + row;
        return std::max_element(begin, begin + columns) - begin;
      };
      agreeing += argmax(reference) == argmax(found) ? 1 : 0;
      ++rows;
    }
  }
};

}  // namespace

int64_t ClassesOf(const graph::Value& output) {
  if (!output.shape.has_value() || output.shape->size() < 2) return 0;
  Shape shape = *output.shape;
  while (shape.size() > 2 && shape.back() == 1) shape.pop_back();
  return shape.back() > 1 ? shape.back() : 0;
}

double SqnrDb(double signal, double noise) {
  if (!(noise > 0)) return 200;
  if (!(signal > 0)) return -200;
  return std::clamp(10 * std::log10(signal / noise), -200.0, 200.0);
}

absl::StatusOr<Comparison> CompareGraphs(const Graph& reference, const Graph& compressed,
                                         absl::Span<const graph::ValueId> observed, data::SampleReader& samples,
                                         absl::Span<const int64_t> indices, int threads,
                                         const std::function<absl::Status()>& step) {
  OCTET_ASSIGN_OR_RETURN(auto a, Observer::Create(reference, observed, threads));
  OCTET_ASSIGN_OR_RETURN(auto b, Observer::Create(compressed, observed, threads));
  std::vector<ErrorSum> layers(observed.size());
  std::vector<OutputSum> outputs(reference.outputs.size());
  for (int64_t i : indices) {
    OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples.Read(i));
    OCTET_RETURN_IF_ERROR(a->Run(sample));
    OCTET_RETURN_IF_ERROR(b->Run(sample));
    for (size_t r = 0; r < observed.size(); ++r) {
      layers[r].Add(a->observed(r), Sized(b->observed(r), a->observed(r).size()));
    }
    for (size_t o = 0; o < outputs.size(); ++o) {
      outputs[o].Add(a->output(o), Sized(b->output(o), a->output(o).size()),
                     ClassesOf(reference.value(reference.outputs[o])));
    }
    if (step) OCTET_RETURN_IF_ERROR(step());
  }
  Comparison comparison;
  for (const ErrorSum& sum : layers) comparison.sqnr_db.push_back(SqnrDb(sum.signal, sum.noise));
  for (size_t o = 0; o < outputs.size(); ++o) {
    const OutputSum& sum = outputs[o];
    comparison.outputs.push_back(
        {reference.value(reference.outputs[o]).name,
         sum.rows > 0 ? static_cast<double>(sum.agreeing) / static_cast<double>(sum.rows) : NAN,
         SqnrDb(sum.error.signal, sum.error.noise), sum.cosine / static_cast<double>(std::max<int64_t>(sum.samples, 1))});
  }
  return comparison;
}

}  // namespace octet::compress
