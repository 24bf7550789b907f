// Blocks of runs, alternating.
#include "cli/compare_measure.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/energy.h"
#include "base/status.h"
#include "cli/inputs.h"

namespace octet::cli {
namespace {

constexpr int kSettleRuns = 3;
constexpr absl::Duration kSettle = absl::Milliseconds(20);

double ProcessCpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// What one subject has used in its counted runs.
struct Used {
  double cpu = 0, joules = 0;
};

absl::Status Block(Subject& subject, const std::vector<Tensor>& inputs, absl::Duration time, EnergyMeter& meter,
                   BatchTiming* timing, Used* used) {
  OCTET_RETURN_IF_ERROR(subject.Prepare(inputs));
  absl::Time start = absl::Now();
  for (int i = 0; i < kSettleRuns || absl::Now() - start < std::min(kSettle, time); ++i) {
    OCTET_RETURN_IF_ERROR(subject.Run());
  }
  timing->activations_bytes = subject.activations_bytes();
  const double joules = meter.Joules().value_or(0), cpu = ProcessCpuSeconds();
  start = absl::Now();
  do {
    const absl::Time before = absl::Now();
    OCTET_RETURN_IF_ERROR(subject.Run());
    timing->seconds.push_back(absl::ToDoubleSeconds(absl::Now() - before));
  } while (absl::Now() - start < time);
  used->cpu += ProcessCpuSeconds() - cpu;
  used->joules += meter.Joules().value_or(0) - joules;
  return absl::OkStatus();
}

int64_t BestBatch(const std::vector<BatchTiming>& sweep) {
  double most = 0;
  for (const BatchTiming& t : sweep) most = std::max(most, static_cast<double>(t.batch) / t.P(0.5));
  for (const BatchTiming& t : sweep) {
    if (static_cast<double>(t.batch) / t.P(0.5) >= 0.97 * most) return t.batch;
  }
  return 1;
}

bool SameShapes(const std::vector<std::vector<Tensor>>& samples) {
  return std::all_of(samples.begin(), samples.end(), [&](const std::vector<Tensor>& s) {
    return std::equal(s.begin(), s.end(), samples[0].begin(), samples[0].end(),
                      [](const Tensor& a, const Tensor& b) { return a.shape() == b.shape(); });
  });
}

}  // namespace

absl::StatusOr<std::vector<BatchTiming>> TimeInTurns(absl::Span<Subject* const> subjects,
                                                     const std::vector<std::vector<Tensor>>& samples,
                                                     absl::Span<const int64_t> batches, const TimingOptions& options) {
  std::vector<BatchTiming> timings(subjects.size());
  std::vector<Used> used(subjects.size());
  std::vector<std::vector<Tensor>> inputs;
  for (size_t i = 0; i < subjects.size(); ++i) {
    timings[i].batch = batches[i];
    OCTET_ASSIGN_OR_RETURN(std::vector<Tensor> one, BatchOf(subjects[i]->inputs(), samples, 0, batches[i]));
    inputs.push_back(std::move(one));
  }
  EnergyMeter meter;
  const bool metered = options.own_process && meter.Joules().has_value();
  for (int round = 0; round < options.rounds; ++round) {
    for (size_t k = 0; k < subjects.size(); ++k) {
      const size_t i = round % 2 == 0 ? k : subjects.size() - 1 - k;  // nobody always runs after the same other
      const absl::Status ran =
          Block(*subjects[i], inputs[i], options.time / options.rounds, meter, &timings[i], &used[i]);
      if (!ran.ok()) return Annotate(ran, absl::StrCat(subjects[i]->name(), ", batch ", batches[i]));
    }
  }
  for (size_t i = 0; i < subjects.size(); ++i) {
    const double inferences = static_cast<double>(timings[i].batch) * static_cast<double>(timings[i].seconds.size());
    if (options.own_process) timings[i].cpu_seconds = used[i].cpu / inferences;
    if (metered) timings[i].joules = used[i].joules / inferences;
  }
  return timings;
}

absl::Status MeasureSpeed(absl::Span<Subject* const> subjects, const std::vector<std::vector<Tensor>>& samples,
                          const TimingOptions& options, std::vector<VariantFigures>* figures) {
  const bool same = SameShapes(samples);
  TimingOptions brief = options;
  brief.time = options.time / 4;
  brief.rounds = 2;
  for (int64_t batch : options.batches) {
    std::vector<Subject*> some;
    std::vector<size_t> which;
    for (size_t i = 0; i < subjects.size(); ++i) {
      if (batch != 1 && !(same && subjects[i]->batchable())) continue;
      some.push_back(subjects[i]);
      which.push_back(i);
    }
    if (some.empty()) continue;
    std::fprintf(stderr, "timing batch %d\n", static_cast<int>(batch));
    OCTET_ASSIGN_OR_RETURN(std::vector<BatchTiming> timings,
                           TimeInTurns(some, samples, std::vector<int64_t>(some.size(), batch), brief));
    for (size_t k = 0; k < which.size(); ++k) (*figures)[which[k]].sweep.push_back(std::move(timings[k]));
  }
  const std::vector<int64_t> ones(subjects.size(), 1);
  std::vector<int64_t> best;
  for (const VariantFigures& v : *figures) best.push_back(BestBatch(v.sweep));
  std::fprintf(stderr, "timing batch 1 in %d rounds\n", options.rounds);
  OCTET_ASSIGN_OR_RETURN(std::vector<BatchTiming> single, TimeInTurns(subjects, samples, ones, options));
  for (size_t i = 0; i < subjects.size(); ++i) {
    (*figures)[i].single = std::move(single[i]);
    OCTET_ASSIGN_OR_RETURN(const std::vector<Tensor> one, BatchOf(subjects[i]->inputs(), samples, 0, 1));
    OCTET_RETURN_IF_ERROR(subjects[i]->Prepare(one));
    (*figures)[i].walked_bytes = subjects[i]->walked_bytes();
  }
  if (best == ones) {
    for (VariantFigures& v : *figures) v.best = v.single;
    return absl::OkStatus();
  }
  std::fprintf(stderr, "timing the best batch of each in %d rounds\n", options.rounds);
  OCTET_ASSIGN_OR_RETURN(std::vector<BatchTiming> most, TimeInTurns(subjects, samples, best, options));
  for (size_t i = 0; i < subjects.size(); ++i) (*figures)[i].best = std::move(most[i]);
  return absl::OkStatus();
}

}  // namespace octet::cli
