// The noise of changed forms of a network at its outputs, relative to what the outputs have to say.
//
//   e = mean over outputs of  sum_s |f_s - c_s|^2 / P,   P = sum over elements of S / (S - 1) (sum_s f_s^2 - (sum_s f_s)^2 / S)
//
// f_s and c_s are the float network's and the changed one's output for sample s of S: P is the power of what differs between
// samples; a detector's many boxes without an object would drown it. With one sample only: its own power.
#ifndef OCTET_COMPRESS_OUTPUT_NOISE_H_
#define OCTET_COMPRESS_OUTPUT_NOISE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/sample_reader.h"
#include "graph/graph.h"

namespace octet::compress {

// Keeps the float network's outputs. Not thread-safe.
class OutputNoise {
 public:
  // Runs `reference` on the samples `indices`, which outlive this. Errors: those of the samples and the engine.
  static absl::StatusOr<OutputNoise> Create(const graph::Graph& reference, data::SampleReader& samples,
                                            absl::Span<const int64_t> indices, int threads);

  // e of a network with the same outputs in the same order. An output whose size differs counts as zeros; one without power
  // not at all.
  absl::StatusOr<double> Of(graph::Graph changed) const;

 private:
  explicit OutputNoise(data::SampleReader& samples) : samples_(&samples) {}

  data::SampleReader* samples_;
  std::vector<int64_t> indices_;
  int threads_ = 1;
  std::vector<std::vector<std::vector<float>>> outputs_;  // [sample][output]
  std::vector<double> power_;                             // P, per output
};

// `most` of `indices`, or all where there are no more, in equal steps.
std::vector<int64_t> Spread(absl::Span<const int64_t> indices, size_t most);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_OUTPUT_NOISE_H_
