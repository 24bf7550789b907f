// Alternating measurements of several runners, and statistics of their times and outputs.
//
// Engines spin after a run: their workers would take the other's CPUs. So each engine runs in blocks; the runs at the
// start of a block, at least `settle`, are not counted, and by then the others' workers sleep.
#ifndef OCTET_BENCH_ENGINE_MEASURE_H_
#define OCTET_BENCH_ENGINE_MEASURE_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "bench/engine/runner.h"

namespace octet::bench {

struct MeasureOptions {
  absl::Duration time = absl::Seconds(1);           // of counted runs per runner
  absl::Duration settle = absl::Milliseconds(20);   // of uncounted runs at the start of each block
  int rounds = 6;                                   // blocks per runner
  absl::Duration idle = absl::Milliseconds(20);     // pause before each of the runs that measure waking up
  int idle_runs = 15;                               // 0: not measured
};

struct Timing {
  double median_ms = 0, p10_ms = 0, p90_ms = 0;
  double idle_ms = 0;       // median of runs after a pause
  double idle_worst_ms = 0; // the slowest of them
  int runs = 0;
};

// Timings in the order of `runners`. Errors: of the first failing run, with the engine's name.
absl::StatusOr<std::vector<Timing>> Alternate(absl::Span<Runner* const> runners, const MeasureOptions& options);

// The q-quantile (0 to 1) by nearest rank; sorts. 0 when empty.
double Quantile(std::vector<double> values, double q);

// 10 log10(sum reference^2 / sum (reference - found)^2) over all outputs; 200 when equal.
// Errors: kInternal when counts or sizes differ, or a value is not finite in one of them only.
absl::StatusOr<double> OutputSqnrDb(const std::vector<std::vector<float>>& reference,
                                    const std::vector<std::vector<float>>& found);

}  // namespace octet::bench

#endif  // OCTET_BENCH_ENGINE_MEASURE_H_
