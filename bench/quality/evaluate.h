// Predictions of a model file on samples, by Octet's engine.
#ifndef OCTET_BENCH_QUALITY_EVALUATE_H_
#define OCTET_BENCH_QUALITY_EVALUATE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "bench/quality/predictions.h"
#include "graph/ensemble.h"

namespace octet::bench {

// Imports the file, runs all samples (equal shapes, without batch axis) in batches that stay in the cache (one by one
// where the network is not batchable) and gathers the outputs as f32.
// Errors: kUnimplemented for a network of several inputs or whose output shapes depend on data; of import and engine.
// With `ensemble`, the file's distributions are drawn from and the ensemble is run: its outputs behind the network's own are
// those of uncertainty (graph/ensemble.h).
absl::StatusOr<Predictions> Evaluate(const std::string& model, const std::vector<Tensor>& samples, int threads,
                                     const graph::EnsembleOptions* ensemble = nullptr);

}  // namespace octet::bench

#endif  // OCTET_BENCH_QUALITY_EVALUATE_H_
