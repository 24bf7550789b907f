// Blocks of runs.
#include "bench/engine/measure.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"

namespace octet::bench {
namespace {

constexpr int kSettleRuns = 2;

absl::StatusOr<double> TimedMs(Runner& runner) {
  if (absl::Status prepared = runner.Prepare(); !prepared.ok()) return Annotate(prepared, runner.engine());
  const absl::Time start = absl::Now();
  absl::Status ran = runner.Run();
  const double ms = absl::ToDoubleMilliseconds(absl::Now() - start);
  if (!ran.ok()) return Annotate(ran, runner.engine());
  return ms;
}

absl::Status Block(Runner& runner, const MeasureOptions& options, std::vector<double>* times_ms) {
  absl::Time start = absl::Now();
  for (int i = 0; i < kSettleRuns || absl::Now() - start < options.settle; ++i) {
    OCTET_RETURN_IF_ERROR(TimedMs(runner).status());
  }
  start = absl::Now();
  do {
    OCTET_ASSIGN_OR_RETURN(const double ms, TimedMs(runner));
    times_ms->push_back(ms);
  } while (absl::Now() - start < options.time / options.rounds);
  return absl::OkStatus();
}

absl::Status MeasureIdle(Runner& runner, const MeasureOptions& options, Timing* timing) {
  std::vector<double> times_ms;
  for (int i = 0; i < options.idle_runs; ++i) {
    absl::SleepFor(options.idle);
    OCTET_ASSIGN_OR_RETURN(const double ms, TimedMs(runner));
    times_ms.push_back(ms);
  }
  timing->idle_ms = Quantile(times_ms, 0.5);
  timing->idle_worst_ms = Quantile(times_ms, 1);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Timing>> Alternate(absl::Span<Runner* const> runners, const MeasureOptions& options) {
  std::vector<std::vector<double>> times_ms(runners.size());
  for (int round = 0; round < options.rounds; ++round) {
    for (size_t k = 0; k < runners.size(); ++k) {
      const size_t r = round % 2 == 0 ? k : runners.size() - 1 - k;  // nobody always runs after the same other
      OCTET_RETURN_IF_ERROR(Block(*runners[r], options, &times_ms[r]));
    }
  }
  std::vector<Timing> timings(runners.size());
  for (size_t r = 0; r < runners.size(); ++r) {
    timings[r].median_ms = Quantile(times_ms[r], 0.5);
    timings[r].p10_ms = Quantile(times_ms[r], 0.1);
    timings[r].p90_ms = Quantile(times_ms[r], 0.9);
    timings[r].runs = static_cast<int>(times_ms[r].size());
    OCTET_RETURN_IF_ERROR(MeasureIdle(*runners[r], options, &timings[r]));
  }
  return timings;
}

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(std::lround(q * static_cast<double>(values.size() - 1)))];
}

absl::StatusOr<double> OutputSqnrDb(const std::vector<std::vector<float>>& reference,
                                    const std::vector<std::vector<float>>& found) {
  if (reference.size() != found.size()) {
    return absl::InternalError(absl::StrCat(found.size(), " outputs, the peer has ", reference.size()));
  }
  double signal = 0, noise = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    if (reference[i].size() != found[i].size()) {
      return absl::InternalError(absl::StrCat("output ", i, " has ", found[i].size(), " elements, the peer's ",
                                              reference[i].size()));
    }
    for (size_t k = 0; k < reference[i].size(); ++k) {
      if (!std::isfinite(reference[i][k]) && !std::isfinite(found[i][k])) continue;
      const double a = reference[i][k], b = found[i][k];
      signal += a * a;
      noise += (a - b) * (a - b);
    }
  }
  if (!std::isfinite(noise)) return absl::InternalError("an output is not finite in one engine only");
  if (noise == 0) return 200.0;
  return std::clamp(10 * std::log10(signal / noise), -200.0, 200.0);
}

}  // namespace octet::bench
