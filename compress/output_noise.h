// How far changed forms of a network are from it at its outputs, relative to what the outputs have to say.
//
//   noise e = mean over outputs of  sum_s |f_s - c_s|^2 / P,   P = sum over elements of S / (S - 1) (sum_s f_s^2 - (sum_s f_s)^2 / S)
//
// f_s and c_s are the float network's and the changed one's output for sample s of S: P is the power of what differs between
// samples; a detector's many boxes without an object would drown it. With one sample only: its own power.
//
//   divergence = mean over rows of sum_k p_k log(p_k / q_k),   p and q = softmax of the float and the changed network's scores
//
// of an output 0 of classes: noise on classes that nobody takes for an answer does not count there.
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

  struct Difference {
    double noise = 0;
    double divergence = 0;  // nats; 0 where output 0 is no rows of class scores
  };
  // Of a network with the same outputs in the same order. An output whose size differs is as noisy as zeros and diverges
  // infinitely, as what is not finite does; an output without power adds nothing to the mean.
  absl::StatusOr<Difference> Of(graph::Graph changed) const;
  bool has_classes() const { return classes_ > 0; }

 private:
  explicit OutputNoise(data::SampleReader& samples) : samples_(&samples) {}

  data::SampleReader* samples_;
  std::vector<int64_t> indices_;
  int threads_ = 1;
  int64_t classes_ = 0;         // of output 0; 0: it has none
  bool probabilities_ = false;  // it gives them, not scores
  std::vector<std::vector<std::vector<float>>> outputs_;  // [sample][output]
  std::vector<double> power_;                             // P, per output
};

// `most` of `indices`, or all where there are no more, in equal steps.
std::vector<int64_t> Spread(absl::Span<const int64_t> indices, size_t most);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_OUTPUT_NOISE_H_
