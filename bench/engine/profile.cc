// Binds the steps of a plan to memory of its own and times them.
#include "bench/engine/profile.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/buffer.h"
#include "base/parallel_for.h"
#include "base/status.h"
#include "bench/engine/measure.h"
#include "engine/specialise.h"

namespace octet::bench {

absl::StatusOr<std::vector<StepTime>> ProfileSteps(const engine::Specialisation& specialisation, absl::Duration time) {
  const auto* planned = dynamic_cast<const engine::PlannedSpecialisation*>(&specialisation);
  if (planned == nullptr) return absl::UnimplementedError("only planned specialisations have steps to time");
  const engine::Plan& plan = planned->plan();
  OCTET_ASSIGN_OR_RETURN(Buffer arena, Buffer::Allocate(plan.memory.arena_bytes + 1));
  OCTET_ASSIGN_OR_RETURN(Buffer scratch, Buffer::Allocate(plan.scratch_bytes + 1));
  OpenMpFor team(plan.threads);
  std::vector<kernels::BoundKernel> bound;
  std::vector<StepTime> times;
  for (const engine::Step& step : plan.steps) {
    const auto at = [&](int buffer) { return arena.data() + plan.memory.offsets[static_cast<size_t>(buffer)]; };
    std::vector<const void*> src;
    std::vector<void*> dst;
    for (const engine::Location& l : step.src) src.push_back(l.buffer >= 0 ? at(l.buffer) : l.constant->data.data());
    for (const engine::Location& l : step.dst) dst.push_back(at(l.buffer));
    OCTET_ASSIGN_OR_RETURN(kernels::BoundKernel kernel, step.kernel->Bind({src, dst, scratch.data(), &team}));
    bound.push_back(std::move(kernel));
    times.push_back({step.info, 0});
  }
  std::vector<std::vector<double>> us(bound.size());
  const absl::Time end = absl::Now() + time;
  for (int run = 0; run < 3 || absl::Now() < end; ++run) {
    for (size_t i = 0; i < bound.size(); ++i) {
      const int64_t start = absl::GetCurrentTimeNanos();
      OCTET_RETURN_IF_ERROR(bound[i]());
      if (run > 0) us[i].push_back(1e-3 * static_cast<double>(absl::GetCurrentTimeNanos() - start));
    }
  }
  for (size_t i = 0; i < us.size(); ++i) times[i].median_us = Quantile(us[i], 0.5);
  return times;
}

std::string ProfileString(std::vector<StepTime> times, int lines) {
  double sum = 0;
  for (const StepTime& t : times) sum += t.median_us;
  std::stable_sort(times.begin(), times.end(),
                   [](const StepTime& a, const StepTime& b) { return a.median_us > b.median_us; });
  std::string out = absl::StrFormat("%d steps, %.1f us in all\n", static_cast<int>(times.size()), sum);
  for (const StepTime& t : times) {
    if (lines-- == 0) break;
    absl::StrAppendFormat(&out, "%9.1f us %5.1f%% %8.1f GOP/s  %-18s %s -> %s  %s\n", t.median_us,
                          sum > 0 ? 100 * t.median_us / sum : 0.0,
                          t.median_us > 0 ? 2e-3 * static_cast<double>(t.info.multiply_adds) / t.median_us : 0.0,
                          t.info.op, t.info.src_types, t.info.dst_types, t.info.implementation);
  }
  return out;
}

}  // namespace octet::bench
