// Predictions of a model file on samples, by Octet's engine.
#ifndef OCTET_BENCH_QUALITY_EVALUATE_H_
#define OCTET_BENCH_QUALITY_EVALUATE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "bench/quality/predictions.h"

namespace octet::bench {

// Imports the file, runs all samples (equal shapes, without batch axis) in batches that stay in the cache (one by one
// where the network is not batchable) and gathers the outputs as f32.
// Errors: kUnimplemented for a network of several inputs or whose output shapes depend on data; of import and engine.
absl::StatusOr<Predictions> Evaluate(const std::string& model, const std::vector<Tensor>& samples, int threads);

}  // namespace octet::bench

#endif  // OCTET_BENCH_QUALITY_EVALUATE_H_
