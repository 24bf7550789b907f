// Time of every step of a specialisation, run in order as an inference runs them.
#ifndef OCTET_BENCH_ENGINE_PROFILE_H_
#define OCTET_BENCH_ENGINE_PROFILE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/program.h"

namespace octet::bench {

struct StepTime {
  engine::StepInfo info;
  double median_us = 0;
};

// Runs on the calling thread's team, which must be that of the specialisation, on inputs of zeros.
// Errors: kUnimplemented when the specialisation is not one of steps in a fixed order.
absl::StatusOr<std::vector<StepTime>> ProfileSteps(const engine::Specialisation& specialisation, absl::Duration time);

// A table, slowest first, at most `lines`: microseconds, share, GOP/s, operator, operands, implementation.
std::string ProfileString(std::vector<StepTime> times, int lines);

}  // namespace octet::bench

#endif  // OCTET_BENCH_ENGINE_PROFILE_H_
