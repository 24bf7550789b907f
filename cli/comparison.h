// What `octet compare` finds: every figure with its unit, and which of them could not be seen.
#ifndef OCTET_CLI_COMPARISON_H_
#define OCTET_CLI_COMPARISON_H_

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/statistics.h"
#include "cli/compare_subject.h"
#include "compress/layer_errors.h"

namespace octet::cli {

// Runs of one batch size, one at a time.
struct BatchTiming {
  int64_t batch = 1;
  std::vector<double> seconds = {};        // of each run
  std::optional<double> cpu_seconds = {};  // of an inference: process time over the timed runs; nullopt: not ours
  std::optional<double> joules = {};       // of an inference, by the CPU packages' counters
  std::optional<int64_t> activations_bytes = {};  // arena at this batch

  double Total() const;
  double InferencesPerSecond() const {
    return static_cast<double>(batch * static_cast<int64_t>(seconds.size())) / Total();
  }
  double P(double q) const { return Quantile(seconds, q); }
};

// One output against the reference's, on the same samples.
struct OutputAgreement {
  std::string name;
  bool classes = false;            // rows of class scores; top-1 counts exist
  int64_t rows = 0, agreeing = 0;  // same largest element
  double sqnr_db = 0, cosine = 0;  // over all samples; mean over samples
};

struct Accuracy {
  int64_t labelled = 0, top1 = 0, top5 = 0;   // samples with a label; right first, right among the first five
  int64_t only_reference = 0, only_this = 0;  // right in one of both only
};

struct VariantFigures {
  std::string name, path;  // path: "" behind a server
  SubjectFacts facts;
  std::optional<int64_t> walked_bytes;   // bytes of weights that one inference of batch 1 reads
  BatchTiming single, best;              // batch 1; the batch with the highest throughput
  std::vector<BatchTiming> sweep;        // every batch that was tried, shortly
  std::vector<OutputAgreement> outputs;  // empty for the reference
  std::optional<Accuracy> accuracy;      // with labels

  // The highest rate, in inferences per second, among batches whose p99 is at most kFrameSeconds; 0 where none is.
  double FramesPerSecond() const;
  // Models of this size in 4 GB (4 * 10^9 bytes) beside a program of `baseline` bytes; nullopt when bytes are not
  // known.
  std::optional<int64_t> FitIn4GB(int64_t baseline) const;
};

inline constexpr double kFrameSeconds = 0.033;

struct Comparison {
  std::string model, data, machine;
  std::string server;  // address; "": in this process
  int threads = 1;
  int64_t samples = 0, layer_samples = 0;
  int64_t baseline_bytes = 0;  // resident before the first load
  size_t reference = 0;        // index into variants
  std::vector<VariantFigures> variants;
  std::vector<compress::LayerComparison> layers;  // variants in the order of `variants`, without the reference
  std::vector<std::string> absent;                // figures that could not be seen, each with its reason

  // Index of variant v among LayerComparison::variants. Requires: v is not the reference.
  size_t LayerIndex(size_t v) const { return v > reference ? v - 1 : v; }
};

enum class Goal : unsigned char { kThroughput, kLatency, kBytes };

struct Bounds {
  double min_agreement = 0.99;  // of output 0's top-1 agreement: the lower end of its 95 % interval must reach it
  double min_sqnr_db = 20;      // of every output that has no classes
  Goal goal = Goal::kThroughput;
};

struct Recommendation {
  size_t variant = 0;
  std::string reason;                 // one sentence with the figures it rests on
  std::vector<std::string> rejected;  // why not the others, one each
};

// The variant that is best by `goal` (10 % better than the reference at least) among those that keep the bounds.
Recommendation Recommend(const Comparison& comparison, const Bounds& bounds);

std::string ComparisonTable(const Comparison& comparison);
std::string ComparisonJson(const Comparison& comparison, const Recommendation& recommendation, const Bounds& bounds);
// A page of its own: no scripts, no external resources.
std::string ComparisonHtml(const Comparison& comparison, const Recommendation& recommendation, const Bounds& bounds);

}  // namespace octet::cli

#endif  // OCTET_CLI_COMPARISON_H_
