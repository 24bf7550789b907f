// How a compressed graph's values differ from the float graph's over samples.
#ifndef OCTET_COMPRESS_COMPARE_H_
#define OCTET_COMPRESS_COMPARE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/sample_reader.h"
#include "graph/graph.h"

namespace octet::compress {

// How a network's output differs from the float one's.
struct OutputReport {
  std::string name;
  double top1_agreement = 0;  // share of rows (last axis) with the same largest element; NaN where there are no classes
  double sqnr_db = 0;
  double cosine = 0;          // mean over samples
};

struct Comparison {
  std::vector<double> sqnr_db;  // of each observed value
  std::vector<OutputReport> outputs;
};

// Runs both graphs on the samples `indices` and compares the values `observed` (the same ids in both) and the outputs.
// `step`, when set, is called after each sample; an error it returns ends the comparison.
absl::StatusOr<Comparison> CompareGraphs(const graph::Graph& reference, const graph::Graph& compressed,
                                         absl::Span<const graph::ValueId> observed, data::SampleReader& samples,
                                         absl::Span<const int64_t> indices, int threads,
                                         const std::function<absl::Status()>& step);

// Elements of one row of class scores of an output, [N, C] or [N, C, 1, ...]; 0 where it has none.
int64_t ClassesOf(const graph::Value& output);

// 10 log10(sum reference^2 / sum (reference - found)^2); 200 when equal.
double SqnrDb(double signal, double noise);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_COMPARE_H_
