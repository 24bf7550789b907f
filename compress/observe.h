// Runs a graph on samples and shows values inside it: what calibration and per-layer comparison look at.
#ifndef OCTET_COMPRESS_OBSERVE_H_
#define OCTET_COMPRESS_OBSERVE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/sample_reader.h"
#include "engine/program.h"
#include "graph/graph.h"

namespace octet::compress {

// One program with the observed values as further outputs; values with quant are shown as reals. Memory is that of one
// sample, however many are run. Thread-compatible; runs on the calling thread's team.
class Observer {
 public:
  // Errors: as Program::Compile.
  static absl::StatusOr<std::unique_ptr<Observer>> Create(graph::Graph graph,
                                                          absl::Span<const graph::ValueId> observed, int threads);

  // Runs one sample (a batch axis of 1 is added where the model's rank is one higher than the sample's).
  // Errors name the sample: kInvalidArgument for a wrong number of inputs, shape or dtype.
  absl::Status Run(const data::Sample& sample);

  // The i-th observed value, and the model's own output i, of the last Run; valid until the next.
  absl::Span<const float> observed(size_t i) const;
  const Shape& observed_shape(size_t i) const;
  absl::Span<const float> output(size_t i) const;
  size_t num_outputs() const { return num_outputs_; }

 private:
  Observer() = default;

  std::shared_ptr<engine::Program> program_;
  std::unique_ptr<engine::Context> context_;
  std::vector<Shape> shapes_;  // of context_
  size_t num_outputs_ = 0;     // the model's own; the observed ones follow
  int threads_ = 1;
};

// The input tensor as the model wants it: shape with batch axis, f32 where the model takes f32.
absl::StatusOr<Tensor> FitInput(const engine::Signature& signature, const Tensor& tensor);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_OBSERVE_H_
