// What a network answered on a set of samples: the common ground of engines and metrics.
#ifndef OCTET_BENCH_QUALITY_PREDICTIONS_H_
#define OCTET_BENCH_QUALITY_PREDICTIONS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/shape.h"

namespace octet::bench {

// One output over all samples: values has samples * NumElements(shape) elements, sample by sample.
struct PredictedOutput {
  Shape shape;  // of one sample, without the batch axis
  std::vector<float> values;

  // The elements of sample i.
  absl::Span<const float> Sample(int64_t i) const {
    const int64_t size = NumElements(shape);
    return {values.data() + i * size, static_cast<size_t>(size)};
  }
};

struct Predictions {
  int64_t samples = 0;
  std::vector<PredictedOutput> outputs;  // in the model's order
};

}  // namespace octet::bench

#endif  // OCTET_BENCH_QUALITY_PREDICTIONS_H_
