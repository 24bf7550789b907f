// Times of several subjects, taken in turns so that what disturbs the machine hits all alike.
#ifndef OCTET_CLI_COMPARE_MEASURE_H_
#define OCTET_CLI_COMPARE_MEASURE_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "cli/compare_subject.h"
#include "cli/comparison.h"

namespace octet::cli {

struct TimingOptions {
  absl::Duration time = absl::Seconds(2);               // of counted runs per subject and batch size
  int rounds = 6;                                       // turns over which that is spread
  std::vector<int64_t> batches = {1, 2, 4, 8, 16, 32};  // ascending
  bool own_process = true;                              // the work is done here: CPU time and joules mean something
};

// Times single runs of each subject at its own batch size (batches[i] of subjects[i]): alternating blocks, each with
// uncounted runs first. Errors: the subject's, with its name.
absl::StatusOr<std::vector<BatchTiming>> TimeInTurns(absl::Span<Subject* const> subjects,
                                                     const std::vector<std::vector<Tensor>>& samples,
                                                     absl::Span<const int64_t> batches, const TimingOptions& options);

// Batch 1, a short sweep over batch sizes, and the best batch of each subject, into `figures` (one per subject). The
// best is the smallest batch within 3 % of the highest throughput. Subjects that cannot be batched, and samples whose
// shapes differ, have batch 1 only.
absl::Status MeasureSpeed(absl::Span<Subject* const> subjects, const std::vector<std::vector<Tensor>>& samples,
                          const TimingOptions& options, std::vector<VariantFigures>* figures);

}  // namespace octet::cli

#endif  // OCTET_CLI_COMPARE_MEASURE_H_
